//! Modules that are refused, and what the operator reads.

use super::*;
use crate::InstallError;

fn refusal(wasm: &[u8]) -> InstallError {
    Module::compile(wasm, &Limits::default()).unwrap_err()
}

fn refusal_of(text: &str) -> InstallError {
    refusal(&wat::parse_str(text).unwrap())
}

const REST: &str = r#"(func (export "tg_abi_1"))
    (func (export "tg_buffer") (param i32) (result i32) (i32.const 0))
    (func (export "tg_init") (param i32 i32) (result i32) (i32.const 0))"#;
const HANDLE: &str = r#"(func (export "tg_handle") (param i32 i32) (result i64) (i64.const 0))"#;
const MEMORY: &str = r#"(memory (export "memory") 1)"#;

#[test]
fn a_module_above_the_size_limit_is_refused_before_it_is_parsed() {
    let limits = Limits { module_bytes: 100, ..Limits::default() };
    let error = Module::compile(&[0; 101], &limits).unwrap_err();
    assert_eq!(error, InstallError::TooLarge { bytes: 101, max: 100 });
}

#[test]
fn other_files_are_told_from_modules() {
    let said = |bytes: &[u8]| refusal(bytes).to_string();
    assert!(said(b"").contains("it is empty"));
    assert!(said(b"(module)").contains("translate it with wat2wasm"));
    assert!(said(b"\x7fELF and so on").contains("starts with [7f, 45, 4c, 46]"));
    assert_eq!(refusal(b"\0asm\x0d\0\x01\0"), InstallError::Component);
    assert!(matches!(refusal(b"\0asm\x01\0\0\0\xff\xff\xff"), InstallError::Invalid { .. }));
    assert!(matches!(refusal(b"\0asm"), InstallError::Invalid { .. }));
}

#[test]
fn missing_exports_are_named() {
    assert_eq!(refusal_of("(module)"), InstallError::NoMarker);
    let error = refusal_of(&format!("(module {REST} {HANDLE})"));
    assert_eq!(error.to_string(), "the module does not export `memory` (its linear memory)");
    let error = refusal_of(&format!("(module {MEMORY} {REST})"));
    assert_eq!(error.to_string(), "the module does not export `tg_handle` (i32, i32) -> i64");
}

#[test]
fn wrong_signatures_are_shown_beside_the_right_ones() {
    let wrong = r#"(func (export "tg_handle") (param i32) (result i32) (i32.const 0))"#;
    let error = refusal_of(&format!("(module {MEMORY} {REST} {wrong})"));
    assert_eq!(
        error.to_string(),
        "the module exports `tg_handle` as a function (i32) -> i32, it must be (i32, i32) -> i64"
    );
    let stop = r#"(func (export "tg_stop") (result i32) (i32.const 0))"#;
    let error = refusal_of(&format!("(module {MEMORY} {REST} {HANDLE} {stop})"));
    assert!(matches!(error, InstallError::WrongExport { name: "tg_stop", .. }), "{error}");
    let error = refusal_of(&format!(r#"(module (func (export "memory")) {REST} {HANDLE})"#));
    assert!(matches!(error, InstallError::WrongExport { name: "memory", .. }), "{error}");
}

#[test]
fn unknown_imports_are_named_with_a_hint() {
    let with = |import: &str| {
        refusal_of(&format!("(module {import} {MEMORY} {REST} {HANDLE})")).to_string()
    };
    let said = with(
        r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))"#,
    );
    assert!(
        said.contains("`wasi_snapshot_preview1.fd_write` (a function (i32, i32, i32, i32) -> i32)"),
        "{said}"
    );
    assert!(said.ends_with("build for wasm32-unknown-unknown, not for WASI"), "{said}");
    let said = with(r#"(import "tg1" "emit" (func))"#);
    assert!(said.contains("`tg1.emit`"), "{said}");
    let said = with(r#"(import "env" "g" (global i32))"#);
    assert!(said.contains("`env.g` (a global variable)"), "{said}");
    let said = with(r#"(import "tg1" "now" (func (result i64)))"#);
    assert_eq!(
        said,
        "the module imports `tg1.now` as a function () -> i64, it is a function (i32) -> i64"
    );
    let said = with(r#"(import "tg1" "now" (table 1 funcref))"#);
    assert_eq!(said, "the module imports `tg1.now` as a table, it is a function (i32) -> i64");
}

#[test]
fn a_start_function_is_refused() {
    let error = refusal_of(&format!("(module {MEMORY} {REST} {HANDLE} (func $s) (start $s))"));
    assert_eq!(error, InstallError::StartFunction);
}

#[test]
fn declared_memory_and_tables_must_fit() {
    let error = refusal_of(&format!(r#"(module (memory (export "memory") 300) {REST} {HANDLE})"#));
    assert_eq!(error, InstallError::TooMuchMemory { bytes: 300 * 65_536, max: 16 << 20 });
    let error = refusal_of(&format!("(module {MEMORY} (table 9999999 funcref) {REST} {HANDLE})"));
    assert!(matches!(error, InstallError::Instantiation { .. }), "{error}");
    let tables = "(table 1000 funcref)".repeat(11);
    let error = refusal_of(&format!("(module {MEMORY} {tables} {REST} {HANDLE})"));
    assert!(matches!(error, InstallError::Instantiation { .. }), "{error}");
}

#[test]
fn a_large_data_segment_is_refused_by_its_size() {
    let data = "x".repeat(9 << 20);
    let wasm =
        wat::parse_str(format!(r#"(module (memory 200) (data (i32.const 0) "{data}"))"#)).unwrap();
    let error = refusal(&wasm);
    assert_eq!(error, InstallError::TooLarge { bytes: wasm.len(), max: 8 << 20 });
}

#[test]
fn data_outside_of_the_memory_is_refused_at_install() {
    let error = refusal_of(&format!(
        r#"(module {MEMORY} (data (i32.const 65530) "0123456789") {REST} {HANDLE})"#
    ));
    assert!(matches!(error, InstallError::Instantiation { .. }), "{error}");
}

#[test]
fn features_that_are_switched_off_are_refused() {
    for text in [
        r#"(module (memory i64 1))"#,
        r#"(module (memory 1) (memory 1))"#,
        r#"(module (func (param v128)))"#,
        r#"(module (memory 1 1 shared))"#,
    ] {
        let wasm = wat::parse_str(text).unwrap();
        assert!(matches!(refusal(&wasm), InstallError::Invalid { .. }), "{text}");
    }
}

#[test]
fn more_of_anything_than_compilers_make_is_refused() {
    let many = |field: &str, count| {
        refusal_of(&format!("(module {MEMORY} {REST} {HANDLE} {})", field.repeat(count)))
    };
    // REST and HANDLE have three other types.
    let types = many("(type (func))", 998);
    assert_eq!(types, InstallError::TooMany { what: "types", count: 1_001, max: 1_000 });
    let locals = format!("(func (local {}))", "i64 f32 ".repeat(501));
    let error = many(&locals, 1);
    assert_eq!(error.to_string(), "the module has 1001 locals in one function, the limit is 1000");
    let code = many(&format!("(func {})", "nop ".repeat(100_000)), 21);
    assert!(matches!(code, InstallError::TooMany { max: 2_097_152, .. }), "{code}");
    let elements = "$f ".repeat(66_000);
    let error = many(&format!("(func $f) (elem func {elements})"), 1);
    assert!(matches!(error, InstallError::TooMany { max: 65_536, .. }), "{error}");
}

#[test]
fn memory_above_two_gibibytes_cannot_be_configured() {
    let limits = Limits { memory_bytes: 1 << 31, ..Limits::default() };
    let error = Module::compile(&guest("(i64.const 0)"), &limits).unwrap_err();
    assert!(matches!(error, InstallError::Limits { .. }));
}

#[test]
fn no_cut_or_flipped_module_gets_further_than_an_error_or_its_limits() {
    let wasm = guest("(i64.const 0)");
    for end in 0..wasm.len() {
        // A cut between the last sections, names, leaves a whole module.
        let _ = Module::compile(&wasm[..end], &Limits::default());
    }
    for at in 0..wasm.len() {
        for bit in 0..8 {
            let mut flipped = wasm.clone();
            flipped[at] ^= 1 << bit;
            if let Ok(module) = Module::compile(&flipped, &Limits::default())
                && let Ok(mut instance) = module.instantiate(b"{}")
            {
                instance.call(&frame(1), Arc::default());
            }
        }
    }
}
