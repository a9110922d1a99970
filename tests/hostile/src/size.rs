//! Modules that are large, or many times something: what translating them costs.

use crate::Fate::{Handled, Refused};
use crate::giant::{Giant, NOP, functions, jump_table, most, nested, repeating, too_long};
use crate::{Hostile, hostile};

pub(crate) const SET: &[Hostile] = &[
    hostile("9-mib", "has more bytes than a module may", Refused("the limit is"), || {
        Giant { data: 9 << 20, ..Giant::default() }.module()
    }),
    hostile("8-mib-of-data", "fills its memory with data", Handled, || {
        Giant { data: most(1), ..Giant::default() }.module()
    }),
    hostile("8-mib-of-junk", "carries a section that nobody reads", Handled, || {
        Giant { custom: most(1), ..Giant::default() }.module()
    }),
    hostile("8-mib-of-nops", "has more code than a module may", Refused("bytes of code"), too_long),
    hostile("2-mib-of-nops", "does nothing at length", Handled, || repeating(&[NOP])),
    hostile("2-mib-of-constants", "drops constants", Handled, || repeating(b"\x42\x07\x1a")),
    hostile("2-mib-of-loops", "has loops that are empty", Handled, || repeating(b"\x03\x40\x0b")),
    hostile("2-mib-of-calls", "calls a function", Handled, || repeating(b"\x10\x00")),
    hostile("2-mib-of-ifs", "has branches", Handled, || repeating(b"\x41\x01\x04\x40\x05\x0b")),
    hostile("2-mib-of-additions", "computes", Handled, || repeating(b"\x42\x07\x42\x09\x7c\x1a")),
    hostile("2-mib-of-fills", "fills nothing of its memory", Handled, || {
        repeating(b"\x41\x00\x41\x00\x41\x00\xfc\x0b\x00")
    }),
    hostile("2-mib-of-grows", "grows its memory", Handled, || repeating(b"\x41\x00\x40\x00\x1a")),
    hostile("2-mib-of-blocks-in-blocks", "nests 43,000 blocks", Handled, nested),
    hostile("2-mib-of-jump-tables", "has tables of 30,000 jumps", Handled, || {
        repeating(&jump_table(30_000))
    }),
    hostile("2-mib-of-small-jump-tables", "has tables of 3 jumps", Handled, || {
        repeating(&jump_table(3))
    }),
    hostile("a-giant-function", "has a function of 1 MiB", Handled, || functions(1, 0, 1 << 20)),
    hostile("40000-functions", "has 40,000 functions", Refused("10000"), || {
        functions(40_000, 0, 42)
    }),
    hostile("9000-functions", "has 9,000 functions of 200 bytes", Handled, || {
        functions(9_000, 0, 200)
    }),
    hostile("short-functions", "has 9,000 functions of 3 bytes", Refused("average"), || {
        functions(9_000, 0, 3)
    }),
    hostile("1001-locals", "has a function of 1,001 locals", Refused("locals in one"), || {
        functions(1, 1_001, 42)
    }),
    hostile("9-million-locals", "has 9,000 functions of 1,000 locals", Handled, || {
        functions(9_000, 1_000, 50)
    }),
    hostile("450-million-locals", "has 9,000 of 50,000", Refused("locals in one"), || {
        functions(9_000, 50_000, 50)
    }),
    hostile("million-types", "declares 900,000 types", Refused("types"), || {
        Giant { types: 900_000, ..Giant::default() }.module()
    }),
    hostile("thousand-types-and-exports", "has as many as it may", Handled, || {
        Giant { types: 990, exports: 990, ..Giant::default() }.module()
    }),
    hostile("many-exports", "exports a function 800,000 times", Refused("exports"), || {
        Giant { exports: 800_000, ..Giant::default() }.module()
    }),
    hostile("many-elements", "lists 8 million functions", Refused("bytes of elements"), || {
        Giant { elements: most(1), ..Giant::default() }.module()
    }),
    hostile("65000-elements", "lists as many as it may", Handled, || {
        Giant { elements: 65_000, ..Giant::default() }.module()
    }),
];
