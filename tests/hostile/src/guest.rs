//! Small modules, written as text: a guest that does nothing, with some of its parts replaced.

/// The parts of a guest. Each is text of the WebAssembly text format.
pub(crate) struct Guest<'a> {
    pub(crate) imports: &'a str,
    pub(crate) memory: &'a str,
    /// Body of `tg_buffer`.
    pub(crate) buffer: &'a str,
    /// Body of `tg_init`.
    pub(crate) init: &'a str,
    /// Body of `tg_handle`; its parameters are `$ptr` and `$len`.
    pub(crate) handle: &'a str,
    /// Further fields of the module.
    pub(crate) fields: &'a str,
}

/// A guest that does nothing.
pub(crate) const QUIET: Guest<'_> = Guest {
    imports: "",
    memory: r#"(memory (export "memory") 1)"#,
    buffer: "(i32.const 32768)",
    init: "(i32.const 0)",
    handle: "(i64.const 0)",
    fields: "",
};

/// All imports that there are.
pub(crate) const IMPORTS: &str = r#"
    (import "tg1" "kv_get" (func $kv_get (param i32 i32 i32 i32) (result i32)))
    (import "tg1" "kv_scan" (func $kv_scan (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "tg1" "now" (func $now (param i32) (result i64)))
    (import "tg1" "random" (func $random (param i32 i32) (result i32)))
    (import "tg1" "json_find" (func $json_find (param i32 i32 i32 i32 i32) (result i32)))
    (import "tg1" "json_find_each"
        (func $json_find_each (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "tg1" "log" (func $log (param i32 i32 i32)))"#;

/// The most memory that the default limits allow.
pub(crate) const FULL_MEMORY: &str = r#"(memory (export "memory") 256)"#;

impl Guest<'_> {
    /// The module.
    pub(crate) fn module(&self) -> Vec<u8> {
        let Guest { imports, memory, buffer, init, handle, fields } = self;
        translated(&format!(
            r#"(module {imports} {memory}
                (func (export "tg_abi_1"))
                (func (export "tg_buffer") (param $min i32) (result i32) {buffer})
                (func (export "tg_init") (param i32 i32) (result i32) {init})
                (func $handle (export "tg_handle") (param $ptr i32) (param $len i32) (result i64)
                    {handle})
                {fields})"#
        ))
    }
}

/// A guest with this body of `tg_handle`.
pub(crate) fn handling(handle: &str) -> Vec<u8> {
    Guest { handle, ..QUIET }.module()
}

/// A guest with this body of `tg_handle`, all imports and all the memory.
pub(crate) fn asking(handle: &str) -> Vec<u8> {
    Guest { imports: IMPORTS, memory: FULL_MEMORY, handle, ..QUIET }.module()
}

/// A guest that returns these bytes as its output.
pub(crate) fn returning(output: &[u8]) -> Vec<u8> {
    let bytes: String = output.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let code = (1024_u64 << 32) | output.len() as u64;
    // The input comes behind it, into a page of its own.
    let pages = 3 + output.len() / 65_536;
    Guest {
        memory: &format!(r#"(memory (export "memory") {pages})"#),
        buffer: &format!("(i32.const {})", (pages - 1) * 65_536),
        handle: &format!("(i64.const {code})"),
        fields: &format!(r#"(data (i32.const 1024) "{bytes}")"#),
        ..QUIET
    }
    .module()
}

/// The bytes of a module's text.
#[allow(clippy::expect_used, reason = "the texts are constants of this crate; its tests make all")]
pub(crate) fn translated(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the text of a hostile module is WebAssembly")
}
