//! Guests that misuse the imports.

use crate::Fate::{Fails, Handled};
use crate::guest::{FULL_MEMORY, Guest, IMPORTS, QUIET, asking};
use crate::{Hostile, hostile};

const TOO_OFTEN: &str = "more than 100000 times";

pub(crate) const SET: &[Hostile] = &[
    hostile("call-flood", "asks for the time for ever", Fails(TOO_OFTEN), || {
        repeating("(drop (call $now (i32.const 0)))")
    }),
    hostile("log-flood", "logs for ever", Fails(TOO_OFTEN), || {
        repeating("(call $log (i32.const 1) (i32.const 0) (i32.const 0))")
    }),
    hostile("log-flood-of-long-lines", "logs its whole memory for ever", Fails(""), || {
        repeating("(call $log (i32.const -1) (i32.const 0) (i32.const 16777216))")
    }),
    hostile("random-flood", "asks for 16 MiB of random numbers", Fails(""), || {
        repeating("(drop (call $random (i32.const 0) (i32.const 16777216)))")
    }),
    hostile("random-flood-of-64-kib", "asks for 64 KiB of them for ever", Fails(""), || {
        repeating("(drop (call $random (i32.const 0) (i32.const 65536)))")
    }),
    hostile("get-flood", "looks for a key of 16 MiB for ever", Fails(""), || {
        repeating(
            "(drop (call $kv_get (i32.const 0) (i32.const 16777216) (i32.const 0) (i32.const 0)))",
        )
    }),
    hostile("scan-flood", "reads all of its state for ever", Fails("was stopped after"), || {
        repeating(
            "(drop (call $kv_scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 16777216)))",
        )
    }),
    hostile("scan-flood-with-long-prefixes", "scans with prefixes of 16 MiB", Fails(""), || {
        repeating(
            "(drop (call $kv_scan (i32.const 0) (i32.const 16777216) (i32.const 0)
                (i32.const 16777216) (i32.const 0) (i32.const 16777216)))",
        )
    }),
    hostile("json-flood", "has the longest JSON read for ever", Fails("was stopped after"), || {
        // Each name has an escape, so each is resolved for each of the paths.
        let text = format!("{{{}\"a\":0}}", r#""\u0061":0,"#.repeat(1_488));
        let bytes =
            |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("\\{byte:02x}")).collect() };
        let table: String = [512_u32, 1].map(|number| bytes(&number.to_le_bytes())).concat();
        let (text_len, text, table) = (text.len(), bytes(text.as_bytes()), table.repeat(8));
        Guest {
            imports: IMPORTS,
            memory: FULL_MEMORY,
            fields: &format!(
                r#"(data (i32.const 0) "{table}") (data (i32.const 512) "a")
                    (data (i32.const 1024) "{text}")"#
            ),
            handle: &format!(
                "(loop $l (if (call $json_find (i32.const 1024) (i32.const {text_len})
                    (i32.const 0) (i32.const 8) (i32.const 256)) (then (unreachable))) (br $l))
                    (i64.const 0)"
            ),
            ..QUIET
        }
        .module()
    }),
    hostile("wild-arguments", "gives every import the ends of all ranges", Handled, || {
        let numbers = ["0", "-1", "-2147483648", "2147483647", "16777215", "16777217"];
        let mut text = String::new();
        for a in numbers {
            for b in numbers {
                text.push_str(&format!(
                    "(drop (call $random (i32.const {a}) (i32.const {b})))
                     (call $log (i32.const {a}) (i32.const {b}) (i32.const {a}))
                     (drop (call $now (i32.const {a})))
                     (drop (call $kv_get (i32.const {a}) (i32.const {b}) (i32.const {b})
                        (i32.const {a})))
                     (drop (call $kv_scan (i32.const {a}) (i32.const {b}) (i32.const {b})
                        (i32.const {a}) (i32.const {a}) (i32.const {b})))
                     (drop (call $json_find (i32.const {a}) (i32.const {b}) (i32.const {b})
                        (i32.const {a}) (i32.const {b})))"
                ));
            }
        }
        text.push_str("(i64.const 0)");
        asking(&text)
    }),
    hostile("imports-in-a-table", "calls an import through a table", Fails(TOO_OFTEN), || {
        Guest {
            imports: IMPORTS,
            fields: "(type $f (func (param i32) (result i64))) (table 1 funcref)
                (elem (i32.const 0) $now)",
            handle: "(loop $l
                (drop (call_indirect (type $f) (i32.const 0) (i32.const 0))) (br $l))
                (i64.const 0)",
            ..QUIET
        }
        .module()
    }),
    hostile("imports-as-exports", "gives the gateway its own import back", Handled, || {
        Guest { imports: IMPORTS, fields: r#"(export "tg_now" (func $now))"#, ..QUIET }.module()
    }),
    hostile("reentrance", "calls its own exports from within", Fails("nested too deep"), || {
        Guest {
            imports: IMPORTS,
            handle: "(drop (call $now (i32.const 0)))
                (call $handle (local.get $ptr) (local.get $len))",
            ..QUIET
        }
        .module()
    }),
];

/// A guest with all its memory and all imports that repeats one call.
fn repeating(call: &str) -> Vec<u8> {
    asking(&format!("(loop $l {call} (br $l)) (i64.const 0)"))
}
