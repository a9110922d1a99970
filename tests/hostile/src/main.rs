//! Judges every hostile module in a process of its own, and says what it cost.
//!
//! ```text
//! tidegate-hostile             all of them; fails when one is not what it must be
//! tidegate-hostile NAME        one of them, in this process
//! tidegate-hostile --write DIR all of them as files
//! ```
//!
//! In a release build also the clock counts: an installation within [`INSTALL_BOUND`] and
//! [`MEMORY_BOUND_KB`], a start and a call within their deadline and [`LATE`].

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{env, fs};

use tidegate_hostile::{Hostile, harsh_limits, judge, set};

/// How long a module may take to be installed or refused.
const INSTALL_BOUND: Duration = Duration::from_millis(500);
/// What a process that compiles and runs one module may have resident at most, the module's own
/// 8 MiB, its 16 MiB of memory and the bytes as built here included.
const MEMORY_BOUND_KB: u64 = 96 << 10;
/// How much later than its deadline a guest may be stopped.
const LATE: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        [] => all(),
        ["--write", folder] => write(Path::new(folder)),
        [name] => match set().iter().find(|one| one.name == name) {
            Some(one) => alone(one),
            None => Err(format!("there is no hostile module {name}")),
        },
        _ => Err("say nothing, a name, or --write DIR".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn all() -> Result<(), String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    println!("{:28} {:>9} {:>9} {:>9} {:>7}", "module", "install", "start", "call", "MB");
    let set = set();
    let mut wrong = 0;
    for one in &set {
        let output = Command::new(&program)
            .arg(one.name)
            .output()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        print!("{}", String::from_utf8_lossy(&output.stdout));
        if !output.status.success() {
            wrong += 1;
            println!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    println!("{} modules, {wrong} beyond their bounds", set.len());
    if wrong == 0 { Ok(()) } else { Err(format!("{wrong} modules are not held by their bounds")) }
}

fn alone(one: &Hostile) -> Result<(), String> {
    let limits = harsh_limits();
    let judgement = judge(&(one.module)(), &limits);
    let peak_kb = peak_resident_kb()?;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{:28} {:>9.2} {:>9.2} {:>9.2} {:>7.1}  {:.60}",
        one.name,
        ms(judgement.install),
        ms(judgement.start),
        ms(judgement.call),
        peak_kb as f64 / 1024.0,
        format!("{:?}", judgement.came)
    );
    if !one.fate.is(&judgement.came) {
        return Err(format!("it must be {:?}, and was {:?}", one.fate, judgement.came));
    }
    let late = judgement.start > limits.start_deadline + LATE
        || judgement.call > limits.deadline + LATE
        || judgement.install > INSTALL_BOUND
        || peak_kb > MEMORY_BOUND_KB;
    if late && !cfg!(debug_assertions) {
        return Err(format!("beyond its bounds: {judgement:?}, {peak_kb} KB resident"));
    }
    Ok(())
}

/// The most memory this process has had resident.
fn peak_resident_kb() -> Result<u64, String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .ok_or_else(|| "/proc/self/status has no VmHWM".to_owned())
}

fn write(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for one in set() {
        let file = folder.join(format!("{}.wasm", one.name));
        fs::write(&file, (one.module)()).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}
