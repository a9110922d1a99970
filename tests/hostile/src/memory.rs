//! Guests that want more memory, or lie about what they have.

use crate::Fate::{Fails, Handled, NotStarted, Refused};
use crate::guest::{Guest, QUIET, handling};
use crate::{Hostile, hostile};

const TOO_MUCH: &str = "bytes of memory, its limit is 16777216";
const DECLARED: &str = "declares";
const NO_INSTANCE: &str = "cannot be instantiated";
const OUTSIDE: &str = "outside of its memory";

pub(crate) const SET: &[Hostile] = &[
    hostile("grow-for-ever", "grows by a page at a time", Fails(TOO_MUCH), || {
        handling("(loop $l (drop (memory.grow (i32.const 1))) (br $l)) (i64.const 0)")
    }),
    hostile("grow-at-once", "grows by 4 GiB", Fails(TOO_MUCH), || {
        handling("(drop (memory.grow (i32.const 65535))) (i64.const 0)")
    }),
    hostile("grow-beyond-32-bits", "grows by 2^32 - 1 pages", Handled, || {
        handling("(drop (memory.grow (i32.const -1))) (i64.const 0)")
    }),
    hostile("grow-in-init", "grows at its start", NotStarted(TOO_MUCH), || {
        Guest { init: "(memory.grow (i32.const 256))", ..QUIET }.module()
    }),
    hostile("grow-a-table", "grows a table, and is told that it cannot", Handled, || {
        Guest {
            fields: "(table $t 1 funcref)",
            handle: "(i64.extend_i32_s (table.grow $t (ref.null func) (i32.const 1)))",
            ..QUIET
        }
        .module()
    }),
    hostile("all-addresses", "declares 4 GiB", Refused(DECLARED), || declaring("65536")),
    hostile("a-page-too-many", "declares 16 MiB and a page", Refused(DECLARED), || {
        declaring("257")
    }),
    hostile("huge-table", "declares a table of 10 million", Refused(NO_INSTANCE), || {
        Guest { fields: "(table 10000000 funcref)", ..QUIET }.module()
    }),
    hostile("many-tables", "declares 11 tables of 1,000", Refused(NO_INSTANCE), || {
        Guest { fields: &"(table 1000 funcref)".repeat(11), ..QUIET }.module()
    }),
    hostile("101-tables", "declares 101 tables", Refused("limit"), || {
        Guest { fields: &"(table 1 funcref)".repeat(101), ..QUIET }.module()
    }),
    hostile("1001-globals", "declares 1,001 globals", Refused("limit"), || {
        Guest { fields: &"(global i64 (i64.const 0))".repeat(1_001), ..QUIET }.module()
    }),
    hostile("1001-data-segments", "has 1,001 segments of data", Refused("limit"), || {
        Guest { fields: &r#"(data (i32.const 0) "x")"#.repeat(1_001), ..QUIET }.module()
    }),
    hostile("data-outside", "has data across the end of its memory", Refused(NO_INSTANCE), || {
        Guest { fields: r#"(data (i32.const 65535) "xx")"#, ..QUIET }.module()
    }),
    hostile("data-at-minus-one", "has data at address -1", Refused(NO_INSTANCE), || {
        Guest { fields: r#"(data (i32.const -1) "x")"#, ..QUIET }.module()
    }),
    hostile("elements-outside", "fills a table beyond its end", Refused(NO_INSTANCE), || {
        Guest { fields: "(table 1 funcref) (elem (i32.const 1) $handle)", ..QUIET }.module()
    }),
    hostile("buffer-outside", "names a buffer outside", NotStarted(OUTSIDE), || buffer("65536")),
    hostile("buffer-across-the-end", "names one across the end", NotStarted(OUTSIDE), || {
        buffer("65535")
    }),
    hostile("buffer-at-minus-one", "names one at -1", NotStarted(OUTSIDE), || buffer("-1")),
    hostile("buffer-at-the-least", "names one at -2^31", NotStarted(OUTSIDE), || {
        buffer("-2147483648")
    }),
    hostile("buffer-at-zero", "names one at 0, which is an address", Handled, || buffer("0")),
    hostile("buffer-that-moves", "names another one each time", Fails(OUTSIDE), || {
        Guest {
            fields: "(global $at (mut i32) (i32.const 0))",
            buffer: "(global.get $at)",
            init: "(global.set $at (i32.const 65500)) (i32.const 0)",
            ..QUIET
        }
        .module()
    }),
    hostile("buffer-over-itself", "has its buffer over its own data", Handled, || {
        Guest { buffer: "(i32.const 0)", fields: r#"(data (i32.const 0) "TGO1")"#, ..QUIET }
            .module()
    }),
    hostile("buffer-that-grows", "grows each time it is asked", Handled, || {
        Guest { buffer: "(i32.mul (memory.grow (i32.const 1)) (i32.const 65536))", ..QUIET }
            .module()
    }),
];

fn declaring(pages: &str) -> Vec<u8> {
    Guest { memory: &format!(r#"(memory (export "memory") {pages})"#), ..QUIET }.module()
}

fn buffer(at: &str) -> Vec<u8> {
    Guest { buffer: &format!("(i32.const {at})"), ..QUIET }.module()
}
