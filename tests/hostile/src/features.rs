//! Files that are no such module as a function must be.

use crate::Fate::Refused;
use crate::guest::{Guest, QUIET, translated};
use crate::{Hostile, hostile};

const INVALID: &str = "is not valid";

pub(crate) const SET: &[Hostile] = &[
    hostile("empty", "is empty", Refused("it is empty"), Vec::new),
    hostile("text", "is text", Refused("text format"), || b"(module)".to_vec()),
    hostile("program", "is an ELF program", Refused("no WebAssembly"), || {
        b"\x7fELF\x02\x01\x01\0".to_vec()
    }),
    hostile("component", "is a component", Refused("component"), || b"\0asm\x0d\0\x01\0".to_vec()),
    hostile("version-2", "is of another version", Refused(INVALID), || b"\0asm\x02\0\0\0".to_vec()),
    hostile("cut-off", "ends in the middle", Refused(INVALID), || {
        let mut module = QUIET.module();
        module.truncate(module.len() / 2);
        module
    }),
    hostile("no-exports", "exports nothing", Refused("tg_abi_1"), || translated("(module)")),
    hostile("no-memory", "exports no memory", Refused("`memory`"), || {
        Guest { memory: "(memory 1)", ..QUIET }.module()
    }),
    hostile("memory-that-is-none", "exports a function as memory", Refused("`memory`"), || {
        Guest { memory: r#"(func (export "memory"))"#, ..QUIET }.module()
    }),
    hostile("start-function", "runs before its limits", Refused("start function"), || {
        Guest { fields: "(func $s (loop $l (br $l))) (start $s)", ..QUIET }.module()
    }),
    hostile("unknown-import", "imports what there is not", Refused("does not exist"), || {
        Guest { imports: r#"(import "tg1" "spawn" (func))"#, ..QUIET }.module()
    }),
    hostile("wasi-import", "wants to write files", Refused("does not exist"), || {
        let import = r#"(import "wasi_snapshot_preview1" "path_open" (func (param i32)))"#;
        Guest { imports: import, ..QUIET }.module()
    }),
    hostile("import-of-another-type", "imports `now` otherwise", Refused("as a function"), || {
        Guest { imports: r#"(import "tg1" "now" (func (param i64)))"#, ..QUIET }.module()
    }),
    hostile("import-of-memory", "imports a memory", Refused("a memory"), || {
        Guest {
            imports: r#"(import "tg1" "memory" (memory 1))"#,
            memory: r#"(export "memory" (memory 0))"#,
            ..QUIET
        }
        .module()
    }),
    hostile("wide-memory", "has a 64-bit memory", Refused(INVALID), || {
        Guest { memory: r#"(memory (export "memory") i64 1)"#, ..QUIET }.module()
    }),
    hostile("shared-memory", "shares its memory with threads", Refused(INVALID), || {
        Guest { memory: r#"(memory (export "memory") 1 1 shared)"#, ..QUIET }.module()
    }),
    hostile("two-memories", "has two memories", Refused(INVALID), || {
        Guest { fields: "(memory 1)", ..QUIET }.module()
    }),
    hostile("vectors", "computes with vectors", Refused(INVALID), || {
        let handle = "(drop (v128.const i64x2 0 0)) (i64.const 0)";
        Guest { handle, ..QUIET }.module()
    }),
    hostile("atomics", "waits for another thread", Refused(INVALID), || {
        let handle = "(drop (memory.atomic.notify (i32.const 0) (i32.const 0))) (i64.const 0)";
        Guest { handle, ..QUIET }.module()
    }),
    hostile("exceptions", "throws", Refused(INVALID), || {
        Guest { fields: "(tag $t)", handle: "(throw $t)", ..QUIET }.module()
    }),
];
