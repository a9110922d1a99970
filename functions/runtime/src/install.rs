//! From the bytes of a module to something that can be started.

use crate::failure::{Failure, StartFailure};
use crate::imports::{self, Guest};
use crate::instance::Instance;
use crate::limits::{Grants, Limits};
use crate::outline;
use crate::secrets::Secrets;
use std::fmt;
use std::sync::Arc;
use tidegate_abi::{export, import};
use wasmi::{
    CompilationMode, Config, EnforcedLimits, Engine, ExternType, FuncType, Linker, Store, ValType,
};

/// Bytes of a page of linear memory.
const PAGE_BYTES: u64 = 65_536;

/// A translated module, ready to be started as often as needed.
///
/// Each module has an engine of its own, so that dropping it gives everything back.
pub struct Module {
    module: wasmi::Module,
    linker: Linker<Guest>,
    limits: Limits,
}

/// Why a module cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// More bytes than a module may have. Nothing of it was parsed.
    #[error("the module has {bytes} bytes, the limit is {max} (module_bytes)")]
    TooLarge {
        /// Bytes of the module.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// No WebAssembly at all.
    #[error(
        "this is no WebAssembly module: it starts with {start:02x?}, not with 00 61 73 6d{hint}"
    )]
    NotWasm {
        /// The first bytes.
        start: Vec<u8>,
        /// What it looks like instead.
        hint: &'static str,
    },
    /// A component, not a core module.
    #[error(
        "this is a WebAssembly component; build a core module instead (Rust: --target wasm32-unknown-unknown, not wasm32-wasip2)"
    )]
    Component,
    /// A start function would run before any limit is set for it.
    #[error("the module has a start function; export `_initialize` instead")]
    StartFunction,
    /// More of something than any compiler makes of a real source, and than is cheap to translate.
    #[error("the module has {count} {what}, the limit is {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// The engine refuses it: broken, or it uses a feature that is switched off.
    #[error("the module is not valid: {text}")]
    Invalid {
        /// The engine's words.
        text: String,
    },
    /// The marker is missing.
    #[error(
        "the module does not export `tg_abi_1`: it was not written for this gateway, or for another version of the contract"
    )]
    NoMarker,
    /// An export is missing.
    #[error("the module does not export `{name}` {expected}")]
    MissingExport {
        /// Its name.
        name: &'static str,
        /// What it should be.
        expected: String,
    },
    /// An export is there, but it is something else.
    #[error("the module exports `{name}` as {found}, it must be {expected}")]
    WrongExport {
        /// Its name.
        name: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// An import that this gateway does not have.
    #[error(
        "the module imports `{module}.{name}` ({kind}), which does not exist here; only `tg1.kv_get`, `kv_scan`, `now`, `random`, `log`, `secret_get`, `json_find` and `json_find_each` do{hint}"
    )]
    UnknownImport {
        /// The module part of its name.
        module: String,
        /// The field part of its name.
        name: String,
        /// What it is.
        kind: String,
        /// Where it may come from.
        hint: &'static str,
    },
    /// An import of the right name and a wrong type.
    #[error("the module imports `tg1.{name}` as {found}, it is a function {expected}")]
    WrongImport {
        /// Its name.
        name: String,
        /// What the module takes it for.
        found: String,
        /// What it is.
        expected: String,
    },
    /// More memory from the start than the function may ever have.
    #[error(
        "the module declares {bytes} bytes of memory, the limit is {max} (memory_bytes); build it with `-C link-arg=-zstack-size=65536`"
    )]
    TooMuchMemory {
        /// Bytes declared.
        bytes: u64,
        /// The limit.
        max: usize,
    },
    /// It cannot be instantiated within its limits.
    #[error("the module cannot be instantiated: {text}")]
    Instantiation {
        /// The engine's words.
        text: String,
    },
    /// The limits themselves make no sense.
    #[error("memory_bytes is {bytes}, the most is {max}")]
    Limits {
        /// `memory_bytes` as given.
        bytes: usize,
        /// The most it can be.
        max: usize,
    },
}

impl Module {
    /// Checks and translates a module, and tries an instance of it without running any of it.
    ///
    /// Translates all of it at once: then a call's fuel and time are the guest's own, and the
    /// same each time. Costs about 10 ms per 100 KB on a desktop; do it on the function's
    /// thread.
    ///
    /// # Errors
    /// Says what is wrong with the module.
    pub fn compile(wasm: &[u8], limits: &Limits) -> Result<Self, InstallError> {
        Self::compile_with(wasm, limits, Grants::ALL)
    }

    /// The same for a module that may use some of the imports only; the others are there and
    /// answer -EPERM.
    ///
    /// # Errors
    /// Says what is wrong with the module.
    pub fn compile_with(
        wasm: &[u8],
        limits: &Limits,
        grants: Grants,
    ) -> Result<Self, InstallError> {
        let max = Limits::MAX_MEMORY_BYTES;
        if limits.memory_bytes > max {
            return Err(InstallError::Limits { bytes: limits.memory_bytes, max });
        }
        check_bytes(wasm, limits)?;
        let engine = Engine::new(&config(limits));
        let module = wasmi::Module::new(&engine, wasm)
            .map_err(|error| InstallError::Invalid { text: error.to_string() })?;
        let mut linker = Linker::new(&engine);
        imports::define(&mut linker, grants)
            .map_err(|error| InstallError::Invalid { text: error.to_string() })?;
        check_exports(&module, limits)?;
        check_imports(&module)?;
        let module = Self { module, linker, limits: limits.clone() };
        module.bare_instance()?;
        Ok(module)
    }

    /// Starts an instance: `_initialize`, where there is one, then `tg_init` with the
    /// configuration, JSON.
    ///
    /// # Errors
    /// When the guest fails, or does not accept its configuration.
    pub fn instantiate(&self, config: &[u8]) -> Result<Instance, StartFailure> {
        self.instantiate_with(config, Arc::default())
    }

    /// The same for a function that may read secrets, from its start on.
    ///
    /// # Errors
    /// When the guest fails, or does not accept its configuration.
    pub fn instantiate_with(
        &self,
        config: &[u8],
        secrets: Arc<Secrets>,
    ) -> Result<Instance, StartFailure> {
        let (mut store, instance) = self.bare_instance().map_err(|error| StartFailure {
            failure: Failure::Trap { text: error.to_string() },
            logs: Vec::new(),
        })?;
        store.data_mut().secrets = secrets;
        Instance::start(store, &instance, config)
    }

    /// The limits it was compiled with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// An instance of which nothing has run yet.
    fn bare_instance(&self) -> Result<(Store<Guest>, wasmi::Instance), InstallError> {
        let mut store = Store::new(self.module.engine(), Guest::new(self.limits.clone()));
        store.limiter(|guest| guest);
        // Data and element segments are copied by instantiation and bounded by module_bytes.
        let text = |error: wasmi::Error| InstallError::Instantiation { text: error.to_string() };
        store.set_fuel(u64::MAX).map_err(text)?;
        let instance = self.linker.instantiate_and_start(&mut store, &self.module).map_err(text)?;
        store.data_mut().running = true;
        Ok((store, instance))
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("limits", &self.limits).finish_non_exhaustive()
    }
}

fn config(limits: &Limits) -> Config {
    let mut config = Config::default();
    config
        .consume_fuel(true)
        .compilation_mode(CompilationMode::Eager)
        .ignore_custom_sections(true)
        .allow_start_fn(false)
        .enforced_limits(EnforcedLimits::strict())
        .set_max_recursion_depth(limits.stack_depth)
        .set_min_stack_height(limits.stack_bytes.min(1_000))
        .set_max_stack_height(limits.stack_bytes)
        .set_max_cached_stacks(1)
        .wasm_multi_memory(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false);
    config
}

/// What can be said without the engine: size, magic, kind of binary, numbers of everything.
fn check_bytes(wasm: &[u8], limits: &Limits) -> Result<(), InstallError> {
    if wasm.len() > limits.module_bytes {
        return Err(InstallError::TooLarge { bytes: wasm.len(), max: limits.module_bytes });
    }
    let Some(rest) = wasm.strip_prefix(b"\0asm") else {
        let start = wasm[..wasm.len().min(4)].to_vec();
        let hint = match wasm.trim_ascii_start().first() {
            Some(b'(') => "; it looks like the text format: translate it with wat2wasm",
            None => "; it is empty",
            Some(_) => "",
        };
        return Err(InstallError::NotWasm { start, hint });
    };
    // Bytes 4 to 7: version and layer. Layer 1 is the component model.
    if rest.get(2..4) == Some(&[1, 0]) {
        return Err(InstallError::Component);
    }
    outline::check(rest.get(4..).unwrap_or(&[]), limits)
}

fn check_exports(module: &wasmi::Module, limits: &Limits) -> Result<(), InstallError> {
    use ValType::{I32, I64};
    if module.get_export(export::MARKER).is_none() {
        return Err(InstallError::NoMarker);
    }
    check_memory(module, limits)?;
    let required: [(&'static str, &[ValType], &[ValType]); 4] = [
        (export::MARKER, &[], &[]),
        (export::BUFFER, &[I32], &[I32]),
        (export::INIT, &[I32, I32], &[I32]),
        (export::HANDLE, &[I32, I32], &[I64]),
    ];
    let optional: [(&'static str, &[ValType], &[ValType]); 2] =
        [(export::INITIALIZE, &[], &[]), (export::STOP, &[], &[])];
    for (name, params, results) in required {
        if module.get_export(name).is_none() {
            let expected = signature(&FuncType::new(params.to_vec(), results.to_vec()));
            return Err(InstallError::MissingExport { name, expected });
        }
    }
    for (name, params, results) in required.into_iter().chain(optional) {
        let Some(found) = module.get_export(name) else { continue };
        let expected = FuncType::new(params.to_vec(), results.to_vec());
        if !matches!(&found, ExternType::Func(ty) if *ty == expected) {
            let (found, expected) = (describe(&found), signature(&expected));
            return Err(InstallError::WrongExport { name, found, expected });
        }
    }
    Ok(())
}

fn check_memory(module: &wasmi::Module, limits: &Limits) -> Result<(), InstallError> {
    let name = export::MEMORY;
    match module.get_export(name) {
        None => {
            Err(InstallError::MissingExport { name, expected: "(its linear memory)".to_owned() })
        }
        Some(ExternType::Memory(memory)) => {
            let bytes = memory.minimum().saturating_mul(PAGE_BYTES);
            let max = limits.memory_bytes;
            if bytes > max as u64 {
                return Err(InstallError::TooMuchMemory { bytes, max });
            }
            Ok(())
        }
        Some(found) => Err(InstallError::WrongExport {
            name,
            found: describe(&found),
            expected: "a memory".to_owned(),
        }),
    }
}

fn check_imports(module: &wasmi::Module) -> Result<(), InstallError> {
    for wanted in module.imports() {
        let (found, name) = (describe(wanted.ty()), wanted.name().to_owned());
        let known = imports::SIGNATURES.iter().find(|(known, _, _)| *known == name);
        let Some((_, params, results)) = known.filter(|_| wanted.module() == import::MODULE) else {
            let hint = match wanted.module() {
                "wasi_snapshot_preview1" => "; build for wasm32-unknown-unknown, not for WASI",
                "env" => "; a symbol was left undefined when the module was linked",
                _ => "",
            };
            let module = wanted.module().to_owned();
            return Err(InstallError::UnknownImport { module, name, kind: found, hint });
        };
        let expected = FuncType::new(params.to_vec(), results.to_vec());
        if !matches!(wanted.ty(), ExternType::Func(ty) if *ty == expected) {
            let expected = signature(&expected);
            return Err(InstallError::WrongImport { name, found, expected });
        }
    }
    Ok(())
}

fn describe(ty: &ExternType) -> String {
    match ty {
        ExternType::Func(ty) => format!("a function {}", signature(ty)),
        ExternType::Memory(_) => "a memory".to_owned(),
        ExternType::Table(_) => "a table".to_owned(),
        ExternType::Global(_) => "a global variable".to_owned(),
    }
}

fn signature(ty: &FuncType) -> String {
    let list = |types: &[ValType]| {
        types.iter().map(|ty| format!("{ty:?}").to_lowercase()).collect::<Vec<_>>().join(", ")
    };
    match ty.results() {
        [] => format!("({})", list(ty.params())),
        results => format!("({}) -> {}", list(ty.params()), list(results)),
    }
}
