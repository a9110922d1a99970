//! The commands of guides, as they are there: README.md, docs/quick-start.md, docs/guides/function-author.md for each
//! language, docs/guides/firmware-engineer.md, and docs/guides/operate.md.

use crate::progress::quietly;
use crate::toolchain::{DEVICE, Toolchain};
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest time that it may take; commands in it wait for what they show.
const PATIENCE_S: &str = "900";

/// Follows the quick start in a folder below `target`, with the functions of this folder.
pub(crate) fn follow_quick_start(workspace: &Workspace, functions: &Path) -> Result<()> {
    let text = read(workspace, "../quick-start.md")?;
    let place = workspace.target().join("guides/quick-start");
    let module = functions.join("threshold.wasm");
    let module = module.to_str().context("the path of the functions is not UTF-8")?;
    // What the page has its reader do by hand.
    let script = format!("cp '{module}' .\n{}", quick_start_script(&text)?);
    begin(workspace, &place)?;
    run(&place, "the quick start", &script, &[])
}

/// Follows the README in a folder below `target`, with the functions of this folder.
pub(crate) fn follow_readme(workspace: &Workspace, functions: &Path) -> Result<()> {
    let text = read(workspace, "../../README.md")?;
    let place = workspace.target().join("guides/readme");
    let module = functions.join("threshold.wasm");
    let module = module.to_str().context("the path of the functions is not UTF-8")?;
    let script = format!("cp '{module}' .\n{}", readme_script(&text)?);
    begin(workspace, &place)?;
    run(&place, "the README", &script, &[])
}

/// Follows the guide for operators in a folder below `target`, which stands for the folders of a machine.
pub(crate) fn follow_operator(workspace: &Workspace) -> Result<()> {
    let text = read(workspace, "operate.md")?;
    let place = workspace.target().join("guides/operator");
    let script = operator_script(&text, &place)?;
    begin(workspace, &place)?;
    run(&place, "the guide for operators", &script, &[])
}

/// Follows the guide for firmware in a folder below `target`, with a cargo that builds for devices, and on what
/// was built for the examples.
pub(crate) fn follow_firmware(workspace: &Workspace) -> Result<()> {
    let text = read(workspace, "firmware-engineer.md")?;
    let toolchain = Toolchain::find(workspace, &DEVICE)?;
    let place = workspace.target().join("guides/firmware");
    let bin = begin(workspace, &place)?;
    let (cargo, flags) = (toolchain.program(), toolchain.flags(&DEVICE).join(" "));
    let script = format!("#!/bin/sh\nexec '{}' \"$@\" {flags}\n", cargo.display());
    fs::write(bin.join("cargo"), script)?;
    fs::set_permissions(bin.join("cargo"), fs::Permissions::from_mode(0o755))?;
    let built = workspace.target().join("device");
    fs::create_dir_all(&built).with_context(|| format!("cannot make {}", built.display()))?;
    symlink(built, place.join("target"))?;
    let repository = workspace.root().display();
    let script = format!("export TIDEGATE='{repository}'\n{}", firmware_script(&text)?);
    run(&place, "the guide for firmware", &script, &[])
}

/// Follows the guide in a folder below `folder`. `variables` are for `make`: they say which
/// compilers this machine has.
pub(crate) fn follow(
    workspace: &Workspace,
    folder: &Path,
    lang: &str,
    variables: &[OsString],
) -> Result<()> {
    let script = script(&read(workspace, "function-author.md")?, lang)?;
    let what = format!("the guide for authors of functions, in {lang}");
    let place = folder.join(format!("guide-{lang}"));
    begin(workspace, &place)?;
    run(&place, &what, &script, variables)
}

fn read(workspace: &Workspace, guide: &str) -> Result<String> {
    let path = workspace.root().join("docs/guides").join(guide);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Makes an empty folder, but for one with programs, the gateway's debug build among them; answers that.
fn begin(workspace: &Workspace, place: &Path) -> Result<PathBuf> {
    if place.exists() {
        fs::remove_dir_all(place).with_context(|| format!("cannot remove {}", place.display()))?;
    }
    let bin = place.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
    symlink(workspace.binary("debug", "tidegate"), bin.join("tidegate"))?;
    Ok(bin)
}

/// Runs the commands in a folder, with its programs in the path.
fn run(place: &Path, what: &str, script: &str, variables: &[OsString]) -> Result<()> {
    let mut search = place.join("bin").into_os_string();
    search.push(":");
    search.push(std::env::var_os("PATH").unwrap_or_default());
    // The variables are the arguments of the script, which it hands to `make`.
    let mut bash = Command::new("timeout");
    bash.args([PATIENCE_S, "bash", "-c", script, "guide"]).args(variables);
    bash.current_dir(place).env("PATH", search);
    for flags in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "MAKEFLAGS"] {
        bash.env_remove(flags);
    }
    crate::workspace::clean(&mut bash);
    quietly(what, &mut bash)?;
    Ok(())
}

/// What a guide has for a shell.
fn commands(text: &str) -> String {
    blocks(text, "sh")
}

/// What a guide has in blocks of this language.
fn blocks(text: &str, language: &str) -> String {
    let mut commands = String::new();
    let mut inside = false;
    for line in text.lines() {
        match line {
            start if start.strip_prefix("```") == Some(language) => inside = true,
            "```" => inside = false,
            _ if inside => commands.extend([line, "\n"]),
            _ => {}
        }
    }
    commands
}

/// The commands of the quick start, for ports that are free.
fn quick_start_script(text: &str) -> Result<String> {
    let commands = commands(text);
    for part in ["tidegate check ", "tidegate run ", "tidegate status", "kill -9", "mosquitto_sub"]
    {
        ensure!(commands.contains(part), "the quick start has no `{part}`");
    }
    // The longer number first: the shorter one begins it.
    let commands = commands.replace("18830", &free_port()?);
    let commands = commands.replace("1883", &free_port()?).replace("8080", &free_port()?);
    Ok(format!(
        "set -ex -o pipefail\ntrap 'kill $(jobs -p) 2>/dev/null; tail -n 20 gateway.log || true' EXIT\n\
         {commands}"
    ))
}

/// How scripts begin: they end at the first failure, and nothing that they started outlives them.
const BEGIN: &str = "set -ex -o pipefail\n\
    trap 'kill $(jobs -p) 2>/dev/null || true; tail -n 20 gateway.log || true' EXIT\n";

/// The commands of the README, for ports that are free. What runs until it is stopped does not here, and what
/// cargo builds was built.
fn readme_script(text: &str) -> Result<String> {
    let commands = commands(text);
    for part in ["cargo xtask demo", "tidegate check ", "tidegate run ", "tidegate status"] {
        ensure!(commands.contains(part), "the README has no `{part}`");
    }
    let config = blocks(text, "toml").replace("/var/lib/tidegate", "data");
    ensure!(config.contains("data_dir = \"data\""), "the README has no configuration");
    let config = format!("{config}\n[http]\nlisten = \"127.0.0.1:8080\"\n");
    let config = config.replace("18830", &free_port()?);
    let config = config.replace("1883", &free_port()?).replace("8080", &free_port()?);
    Ok(format!(
        r#"{BEGIN}cat > tidegate.toml <<'END'
{config}END
cargo() {{ :; }}
tidegate() {{
    case "$*" in
        run*)
            command tidegate "$@" 2> gateway.log &
            until command tidegate status; do sleep 0.2; done ;;
        *--follow*) timeout 2 tidegate "$@" || test $? = 124 ;;
        *) command tidegate "$@" ;;
    esac
}}
{commands}kill %1
wait %1
"#
    ))
}

/// The commands of the guide for operators, with a place that stands for a machine's folders and functions that
/// stand for sudo and systemd. The record that is in the backup is there at the end, and that behind it is not.
fn operator_script(text: &str, place: &Path) -> Result<String> {
    let commands = commands(text);
    for part in ["check", "reload", "backup", "verify", "restore"] {
        ensure!(commands.contains(&format!("tidegate {part} ")), "the guide has no `{part}`");
    }
    ensure!(commands.contains("systemctl start tidegate"), "the guide starts no gateway");
    let place = place.to_str().context("the place is not UTF-8")?;
    let there = |text: &str| {
        let text = text.replace("/etc/tidegate", &format!("{place}/etc"));
        let text = text.replace("/var/lib/tidegate", &format!("{place}/data"));
        text.replace("/mnt/usb", &format!("{place}/usb"))
    };
    let backup = "tidegate backup ";
    let (before, behind) = commands.split_once(backup).context("the guide has no backup")?;
    let (taken, after) = behind.split_once('\n').context("the guide ends with the backup")?;
    let (before, taken, after) = (there(before), there(taken), there(after));
    let (mqtt, http) = (free_port()?, free_port()?);
    Ok(format!(
        r#"{BEGIN}sudo() {{ "$@"; }}
systemctl() {{
    case $1 in
        start)
            tidegate run 2>> gateway.log &
            until tidegate stream ls; do sleep 0.2; done ;;
        stop) kill %tidegate; wait %tidegate ;;
    esac
}}
say() {{ mosquitto_pub -p {mqtt} -t sensors/a -q 1 -m "$1"; }}
mkdir -m 700 etc data usb
cat > etc/tidegate.toml <<'END'
[gateway]
id = "gw-01"
data_dir = "{place}/data"

[mqtt]
listen = "127.0.0.1:{mqtt}"

[http]
listen = "127.0.0.1:{http}"

[stream.telemetry]
topics = ["sensors/#"]
END
ln -s etc/tidegate.toml tidegate.toml
systemctl start
say first
{before}{backup}{taken}
say second
{after}tidegate stream tail telemetry | tee there
grep first there
test "$(wc -l < there)" = 1
systemctl stop
"#
    ))
}

/// The commands of the guide for firmware, for ports that are free.
fn firmware_script(text: &str) -> Result<String> {
    let commands = commands(text);
    for part in ["cargo build --release -p pump", "objcopy"] {
        ensure!(commands.contains(part), "the guide has no `{part}`");
    }
    for part in ["keygen", "keyset", "sign", "delta", "inspect", "push", "status", "cancel"] {
        let command = format!("tidegate device firmware {part} ");
        ensure!(commands.contains(&command), "the guide has no `{part}`");
    }
    let commands = commands.replace("1883", &free_port()?).replace("8080", &free_port()?);
    Ok(format!(
        "set -ex -o pipefail\ntrap 'kill $(jobs -p) 2>/dev/null; tail -n 20 gateway.log || true' EXIT\n\
         {commands}"
    ))
}

/// The commands of the guide, for another language, and for ports that are free.
fn script(text: &str, lang: &str) -> Result<String> {
    let commands = commands(text);
    ensure!(commands.contains("--lang c\n"), "the guide has no `tidegate fn new ... --lang c`");
    for part in ["fn test", "fn replay", "fn pack", "fn push", "fn logs", "fn dead redrive"] {
        ensure!(commands.contains(&format!("tidegate {part}")), "the guide has no `{part}`");
    }
    let commands = commands.replace("--lang c\n", &format!("--lang {lang}\n"));
    let commands = commands.replace("1883", &free_port()?).replace("8080", &free_port()?);
    Ok(format!(
        "set -ex -o pipefail\ntrap 'kill $(jobs -p) 2>/dev/null; tail -n 20 gateway.log || true' EXIT\n\
         variables=(\"$@\")\nmake() {{ command make \"${{variables[@]}}\" \"$@\"; }}\n{commands}"
    ))
}

fn free_port() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port is free")?;
    Ok(listener.local_addr()?.port().to_string())
}

#[cfg(test)]
mod tests {
    use super::{firmware_script, operator_script, quick_start_script, readme_script, script};
    use std::path::Path;

    const GUIDE: &str = include_str!("../../../docs/guides/function-author.md");

    #[test]
    fn the_script_has_the_commands_of_the_guide_in_the_language_that_is_asked_for() {
        let script = script(GUIDE, "rust").unwrap();
        assert!(script.contains("\ntidegate fn new overheat --lang rust\ncd overheat\nmake\n"));
        assert!(!script.contains("127.0.0.1:1883") && !script.contains("127.0.0.1:8080"));
        assert!(!script.contains("static tg_result"), "only what is for a shell");
    }

    #[test]
    fn the_guide_for_firmware_has_every_command_and_is_run_as_it_stands() {
        let guide = include_str!("../../../docs/guides/firmware-engineer.md");
        let script = firmware_script(guide).unwrap();
        assert!(script.contains("\ntidegate device firmware keygen root.key | tee root.pub\n"));
        assert!(!script.contains("127.0.0.1:1883") && !script.contains("127.0.0.1:8080"));
        assert!(firmware_script("```sh\ntidegate device firmware keygen a\n```\n").is_err());
    }

    #[test]
    fn the_quick_start_is_run_on_ports_that_are_free() {
        let script = quick_start_script(include_str!("../../../docs/quick-start.md")).unwrap();
        assert!(!script.contains("18830") && !script.contains("-p 1883"));
        assert!(quick_start_script("```sh\ntidegate run --config a\n```\n").is_err());
    }

    #[test]
    fn the_readme_is_run_with_its_own_configuration() {
        let script = readme_script(include_str!("../../../README.md")).unwrap();
        assert!(
            script.contains("\ndata_dir = \"data\"\n") && script.contains("\n[uplink.cloud]\n")
        );
        assert!(script.contains("\ntidegate check --config tidegate.toml "), "{script}");
        assert!(!script.contains(":1883") && !script.contains(":18830"), "{script}");
        assert!(readme_script("```sh\ntidegate run --config a\n```\n").is_err());
    }

    #[test]
    fn the_guide_for_operators_touches_nothing_of_the_machine() {
        let guide = include_str!("../../../docs/guides/operate.md");
        let script = operator_script(guide, Path::new("/place")).unwrap();
        assert!(script.contains("\nsudo find /place/data/ -mindepth 1 -delete\n"), "{script}");
        let paths = script.split_whitespace().filter(|word| word.starts_with('/'));
        for path in paths {
            assert!(path.starts_with("/place/"), "{path}");
        }
        assert!(operator_script("```sh\ntidegate check a\n```\n", Path::new("/place")).is_err());
    }

    #[test]
    fn a_guide_without_one_of_its_steps_is_refused() {
        let error = script("```sh\ntidegate fn new f --lang c\n```\n", "c").unwrap_err();
        assert!(error.to_string().contains("has no `fn test`"), "{error}");
    }
}
