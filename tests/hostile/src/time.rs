//! Guests that do not come to an end, and guests that end badly.

use crate::Fate::{Fails, NotStarted};
use crate::guest::{FULL_MEMORY, Guest, QUIET, handling};
use crate::{Hostile, hostile};

const LOOP: &str = "(loop $l (br $l)) (i32.const 0)";
const LATE: &str = "was stopped after";
const DEEP: &str = "nested too deep";
const TRAP: &str = "trapped";

pub(crate) const SET: &[Hostile] = &[
    hostile("loop-in-handle", "loops for ever", Fails(LATE), || {
        handling("(loop $l (br $l)) (i64.const 0)")
    }),
    hostile("loop-in-init", "loops for ever at its start", NotStarted(LATE), || {
        Guest { init: LOOP, ..QUIET }.module()
    }),
    hostile("loop-in-initialize", "loops before its start", NotStarted(LATE), || {
        Guest { fields: r#"(func (export "_initialize") (loop $l (br $l)))"#, ..QUIET }.module()
    }),
    hostile("loop-in-buffer", "loops when asked for a buffer", NotStarted(LATE), || {
        Guest { buffer: LOOP, ..QUIET }.module()
    }),
    hostile("loop-by-tail-calls", "calls itself without a stack", Fails(LATE), || {
        handling("(return_call $handle (local.get $ptr) (local.get $len))")
    }),
    hostile("loop-over-a-long-block", "pays 100 KB of square roots at once", Fails(LATE), || {
        let roots = "(drop (f64.sqrt (f64.const 2)))".repeat(9_000);
        handling(&format!("(loop $l {roots} (br $l)) (i64.const 0)"))
    }),
    hostile("loop-over-a-jump-table", "jumps by a table of 20,000 places", Fails(LATE), || {
        let targets = "1 0 ".repeat(10_000);
        handling(&format!(
            "(loop $l (block $a (block $b (br_table {targets} 0 (i32.const 7)))) (br $l))
             (i64.const 0)"
        ))
    }),
    hostile(
        "loop-over-wide-calls",
        "calls a function of 1,000 locals each time",
        Fails(LATE),
        || {
            let locals = "i64 ".repeat(1_000);
            Guest {
                fields: &format!("(func $wide (local {locals}))"),
                handle: "(loop $l (call $wide) (br $l)) (i64.const 0)",
                ..QUIET
            }
            .module()
        },
    ),
    hostile("loop-over-fills", "fills 16 MiB again and again", Fails(LATE), || {
        bulk("(memory.fill (i32.const 0) (i32.const 7) (i32.const 16777216))")
    }),
    hostile("loop-over-copies", "copies 16 MiB again and again", Fails(LATE), || {
        bulk("(memory.copy (i32.const 0) (i32.const 1) (i32.const 16777215))")
    }),
    hostile("loop-over-table-fills", "fills a table again and again", Fails(LATE), || {
        Guest {
            fields: "(table $t 10000 funcref)",
            handle: "(loop $l (table.fill $t (i32.const 0) (ref.null func) (i32.const 10000))
                (br $l)) (i64.const 0)",
            ..QUIET
        }
        .module()
    }),
    hostile("loop-over-no-growth", "grows its memory by nothing", Fails(LATE), || {
        bulk("(drop (memory.grow (i32.const 0)))")
    }),
    hostile("recursion", "calls itself", Fails(DEEP), || {
        handling("(call $handle (local.get $ptr) (local.get $len))")
    }),
    hostile("recursion-of-two", "two functions call each other", Fails(DEEP), || {
        Guest {
            fields: "(func $a (call $b)) (func $b (call $a))",
            handle: "(call $a) (i64.const 0)",
            ..QUIET
        }
        .module()
    }),
    hostile("recursion-by-table", "calls itself through a table", Fails(DEEP), || {
        Guest {
            fields: "(type $f (func)) (table 1 funcref) (elem (i32.const 0) $a)
                (func $a (call_indirect (type $f) (i32.const 0)))",
            handle: "(call $a) (i64.const 0)",
            ..QUIET
        }
        .module()
    }),
    hostile("recursion-with-wide-frames", "fills the stack of values", Fails(DEEP), || {
        let locals = "i64 ".repeat(1_000);
        Guest {
            fields: &format!("(func $wide (local {locals}) (call $wide))"),
            handle: "(call $wide) (i64.const 0)",
            ..QUIET
        }
        .module()
    }),
    hostile("unreachable", "gives up", Fails(TRAP), || handling("(unreachable)")),
    hostile("division-by-zero", "divides by zero", Fails(TRAP), || {
        handling("(i64.div_s (i64.const 1) (i64.const 0))")
    }),
    hostile("division-overflow", "divides the least number by -1", Fails(TRAP), || {
        handling("(i64.div_s (i64.const 0x8000000000000000) (i64.const -1))")
    }),
    hostile("wild-load", "reads at the end of the address space", Fails(TRAP), || {
        handling("(i64.load offset=4294967295 (i32.const -1))")
    }),
    hostile("wild-store", "writes across the end of its memory", Fails(TRAP), || {
        handling("(i64.store (i32.const 65529) (i64.const -1)) (i64.const 0)")
    }),
    hostile("call-of-nothing", "calls an empty place of a table", Fails(TRAP), || {
        Guest {
            fields: "(type $f (func)) (table 1 funcref)",
            handle: "(call_indirect (type $f) (i32.const 0)) (i64.const 0)",
            ..QUIET
        }
        .module()
    }),
    hostile("call-of-another-type", "calls a function for another", Fails(TRAP), || {
        Guest {
            fields: "(type $f (func (param i64))) (table 1 funcref) (elem (i32.const 0) $handle)",
            handle: "(call_indirect (type $f) (i64.const 0) (i32.const 0)) (i64.const 0)",
            ..QUIET
        }
        .module()
    }),
    hostile("trap-in-buffer", "has no buffer", NotStarted(TRAP), || {
        Guest { buffer: "(unreachable)", ..QUIET }.module()
    }),
    hostile("refusal-at-start", "does not accept its configuration", NotStarted("tg_init"), || {
        Guest { init: "(i32.const -1)", ..QUIET }.module()
    }),
    hostile("result-below-the-meanings", "returns -3", Fails("returned -3"), || {
        handling("(i64.const -3)")
    }),
    hostile("least-result", "returns the least number", Fails("-9223372036854775808"), || {
        handling("(i64.const 0x8000000000000000)")
    }),
];

/// A guest with all its memory that repeats one instruction.
fn bulk(piece: &str) -> Vec<u8> {
    let handle = format!("(loop $l {piece} (br $l)) (i64.const 0)");
    Guest { memory: FULL_MEMORY, handle: &handle, ..QUIET }.module()
}
