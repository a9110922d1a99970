//! Guests that misuse the imports.

use crate::Fate::{Fails, Handled};
use crate::guest::{FULL_MEMORY, Guest, IMPORTS, QUIET, asking};
use crate::{Hostile, hostile};

use tidegate_abi::{BatchWriter, Kind, MessageRef, import};

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
        let text = dear_text();
        json_flood(
            text.as_bytes(),
            &format!(
                "(call $json_find (i32.const 1024) (i32.const {}) (i32.const 0) (i32.const 8)
                    (i32.const 256))",
                text.len()
            ),
        )
    }),
    hostile("json-flood-of-a-frame", "has a whole frame read", Fails("was stopped after"), || {
        json_flood_of(&[dear_text().as_str()])
    }),
    hostile("json-flood-of-many", "has many payloads read", Fails("was stopped after"), || {
        json_flood_of(&[r#"{"a":[-1.5e-300,"\u0061"]}"#; import::JSON_ENTRIES])
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
                        (i32.const {a}) (i32.const {b})))
                     (drop (call $json_find_each (i32.const {a}) (i32.const {b}) (i32.const {b})
                        (i32.const {a}) (i32.const {b}) (i32.const {a}) (i32.const {b})))"
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

/// The longest text that is read for a guest. Each name has an escape, so each is resolved for each of the
/// paths.
fn dear_text() -> String {
    format!("{{{}\"a\":0}}", r#""\u0061":0,"#.repeat(1_488))
}

/// Has a frame with these payloads read for ever.
fn json_flood_of(payloads: &[&str]) -> Vec<u8> {
    let mut writer = BatchWriter::new(Kind::Messages, 0, 0);
    for payload in payloads {
        let message = MessageRef { payload: payload.as_bytes(), ..MessageRef::default() };
        // A frame that lacks some would be an easier one.
        assert!(writer.push(&message).is_ok(), "short payloads fit");
    }
    let frame = writer.finish();
    json_flood(
        &frame,
        &format!(
            "(i32.eqz (call $json_find_each (i32.const 1024) (i32.const {}) (i32.const 0)
                (i32.const 0) (i32.const 8) (i32.const 65536) (i32.const {})))",
            frame.len(),
            payloads.len()
        ),
    )
}

/// Asks for eight paths for ever; what is read lies at 1,024. The call gives 0.
fn json_flood(read: &[u8], call: &str) -> Vec<u8> {
    let bytes =
        |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("\\{byte:02x}")).collect() };
    let table: String = [512_u32, 1].map(|number| bytes(&number.to_le_bytes())).concat();
    Guest {
        imports: IMPORTS,
        memory: FULL_MEMORY,
        fields: &format!(
            r#"(data (i32.const 0) "{}") (data (i32.const 512) "a") (data (i32.const 1024) "{}")"#,
            table.repeat(8),
            bytes(read)
        ),
        handle: &format!("(loop $l (if {call} (then (unreachable))) (br $l)) (i64.const 0)"),
        ..QUIET
    }
    .module()
}
