//! The commands of pages, as they are there: README.md and those of the book. [`table`] has which block is followed
//! by which guide, and when; `cargo xtask guide` prints it, and follows single ones.

mod configurations;
mod machine;
mod page;
mod release;
mod root;
mod table;

use crate::cli::Usage;
use crate::dist::target::Machine;
use crate::progress::quietly;
use crate::toolchain::{DEVICE, Toolchain};
use crate::workspace::Workspace;
use crate::{debian, wasm};
use anyhow::{Context, Result, ensure};
use page::{Book, Script};
use root::Root;
use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use table::Guide;

const README: &str = "README.md";
const QUICK_START: &str = "docs/quick-start.md";
const SECURE: &str = "docs/guides/secure-the-broker.md";
const INSTALL: &str = "docs/guides/install.md";
const FLASH: &str = "docs/guides/flash.md";

const EXAMPLES: [&str; 2] =
    ["functions/examples/pipeline/README.md", "functions/examples/threshold/README.md"];

/// What the pages install on other machines.
const RELEASED: &str = "aarch64-unknown-linux-musl";

/// The longest time that it may take; commands in it wait for what they show.
const PATIENCE_S: u32 = 900;
/// The same where whole programs are optimised and whole machines emulated.
const MUCH_PATIENCE_S: u32 = 3 * 3600;

/// Prints which block is followed when, or follows guides.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    if arguments.is_empty() {
        print!("{}", table::shown());
        return Ok(ExitCode::SUCCESS);
    }
    let mut guides = Vec::new();
    for name in arguments {
        let guide = Guide::find(name).ok_or_else(|| {
            let known = Guide::ALL.map(Guide::name).join(", ");
            Usage(format!("there is no guide `{name}`; known are {known}"))
        })?;
        if guide.needs_release() && !guides.contains(&Guide::Release) {
            guides.push(Guide::Release);
        }
        guides.push(guide);
    }
    for guide in guides {
        follow_guide(workspace, guide)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn follow_guide(workspace: &Workspace, guide: Guide) -> Result<()> {
    match guide {
        Guide::QuickStart
        | Guide::Readme
        | Guide::Operator
        | Guide::Examples
        | Guide::Configurations => {
            let mut cargo = workspace.cargo();
            quietly("building the gateway", cargo.args(["build", "--package", "tidegate"]))?;
            let functions = wasm::build(workspace)?;
            match guide {
                Guide::QuickStart => follow_quick_start(workspace, &functions),
                Guide::Readme => follow_readme(workspace, &functions),
                Guide::Examples => follow_examples(workspace, &functions),
                Guide::Configurations => follow_configurations(workspace, &functions),
                _ => follow_operator(workspace),
            }
        }
        Guide::Firmware => follow_firmware(workspace),
        Guide::Release => follow_release(workspace),
        Guide::Package | Guide::OpenRc | Guide::Container | Guide::Machine => {
            follow_inside(workspace, guide)
        }
        Guide::Again | Guide::Card | Guide::Demo | Guide::Vm => {
            let book = Book::read(workspace.root())?;
            let place = workspace.target().join("guides").join(guide.name());
            begin(workspace, &place)?;
            let script = script_of(guide, &book, workspace)?;
            let mut bash = bash(workspace, &place, MUCH_PATIENCE_S, &script.text)?;
            // They take long, and say themselves how they come along.
            let status = bash.current_dir(workspace.root()).status()?;
            ensure!(status.success(), "{}: {status}", guide.name());
            Ok(())
        }
        Guide::Functions => {
            Err(Usage("it needs the compilers of three languages: cargo xtask test".to_owned())
                .into())
        }
    }
}

/// The guides to install and flash, as arguments of this program, after the gateway was built for arm64. Others
/// than root cannot follow most of them, and neither can all kernels: then that is said instead.
pub(crate) fn to_install() -> Result<[&'static str; 8], &'static str> {
    let missing = if debian::is_root() { root::missing() } else { Some("that needs root") };
    match missing {
        Some(missing) => Err(missing),
        None => {
            Ok(["guide", "release", "machine", "package", "openrc", "container", "card", "again"])
        }
    }
}

/// Builds what the pages build to install it elsewhere; it is below `target/guides/release/made`.
fn follow_release(workspace: &Workspace) -> Result<()> {
    let book = Book::read(workspace.root())?;
    let script = script_of(Guide::Release, &book, workspace)?;
    let place = workspace.target().join("guides/release");
    begin(workspace, &place)?;
    let mut bash = bash(workspace, &place, PATIENCE_S, &script.text)?;
    quietly("a release by the guides", bash.current_dir(workspace.root()))?;
    Ok(())
}

fn follow_inside(workspace: &Workspace, guide: Guide) -> Result<()> {
    let book = Book::read(workspace.root())?;
    let script = script_of(guide, &book, workspace)?;
    let place = workspace.target().join("guides").join(guide.name());
    begin(workspace, &place)?;
    let root = Root::new(workspace, &place, Machine::find(RELEASED)?)?;
    let made = workspace.target().join("guides/release/made");
    match guide {
        Guide::Package => {
            root.stand_in("systemctl", "systemctl")?;
            for entry in fs::read_dir(&made).with_context(|| format!("no {}", made.display()))? {
                let file = entry?.path();
                if file.extension().is_some_and(|ending| ending == "deb") {
                    let name = file.file_name().unwrap_or_default().to_string_lossy();
                    root.put(&file, &name)?;
                }
            }
        }
        Guide::OpenRc => {
            root.stand_in("adduser", "adduser")?;
            root.stand_in("adduser", "addgroup")?;
            root.put(&made.join("tidegate"), "tidegate")?;
            let ours = workspace.root().join("cross/openrc");
            root.put(&ours.join("tidegate"), "openrc")?;
            root.put(&ours.join("logrotate"), "logrotate")?;
        }
        Guide::Container => {
            root.put(&made.join("tidegate-arm64.oci.tar"), "tidegate-arm64.oci.tar")?;
            root.put(&workspace.root().join("cross/image/oci/tidegate.toml"), "tidegate.toml")?;
        }
        _ => {}
    }
    root.run(&format!("guide {}", guide.name()), &script.text)
}

/// The commands of the guides whose blocks are taken one by one.
fn script_of<'a>(guide: Guide, book: &'a Book, workspace: &Workspace) -> Result<Script<'a>> {
    match guide {
        Guide::Release => release::release(book, &workspace.target().join("dist")),
        Guide::Again => release::again(book),
        Guide::Card => release::card(book, &workspace.target().join("dist")),
        Guide::Vm => release::vm(book),
        Guide::Demo => release::demo(book),
        Guide::Package => machine::package(book),
        Guide::OpenRc => machine::openrc(book),
        Guide::Container => machine::container(book),
        Guide::Machine => machine::machine(book),
        Guide::QuickStart => quick_start_script(book),
        Guide::Readme => readme_script(book),
        Guide::Examples => release::examples(book),
        Guide::Configurations => configurations::configurations(book),
        Guide::Functions | Guide::Firmware | Guide::Operator => {
            anyhow::bail!("{} takes all blocks of its page", guide.name())
        }
    }
}

/// Follows the quick start in a folder below `target`, with the functions of this folder.
pub(crate) fn follow_quick_start(workspace: &Workspace, functions: &Path) -> Result<()> {
    follow_here(workspace, functions, Guide::QuickStart, "the quick start")
}

/// Follows the README in a folder below `target`, with the functions of this folder.
pub(crate) fn follow_readme(workspace: &Workspace, functions: &Path) -> Result<()> {
    follow_here(workspace, functions, Guide::Readme, "the README")
}

/// Follows the pages of example functions, in the repository.
pub(crate) fn follow_examples(workspace: &Workspace, functions: &Path) -> Result<()> {
    follow_here(workspace, functions, Guide::Examples, "the pages of example functions")
}

/// Checks the configurations on pages.
pub(crate) fn follow_configurations(workspace: &Workspace, functions: &Path) -> Result<()> {
    follow_here(workspace, functions, Guide::Configurations, "the configurations on pages")
}

fn follow_here(workspace: &Workspace, functions: &Path, guide: Guide, what: &str) -> Result<()> {
    let book = Book::read(workspace.root())?;
    let script = script_of(guide, &book, workspace)?;
    let place = workspace.target().join("guides").join(guide.name());
    begin(workspace, &place)?;
    // Where the quick start takes it from.
    let home = place.join("home/tidegate/target");
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    symlink(functions, home.join("functions"))?;
    quietly(what, &mut bash(workspace, &place, PATIENCE_S, &script.text)?)?;
    Ok(())
}

/// Follows the guide for operators in a folder below `target`, which stands for the folders of a machine.
pub(crate) fn follow_operator(workspace: &Workspace) -> Result<()> {
    let text = read(workspace, "operate.md")?;
    let place = workspace.target().join("guides/operator");
    let script = operator_script(&text, &place)?;
    begin(workspace, &place)?;
    follow_script(workspace, &place, "the guide for operators", &script, &[])
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
    follow_script(workspace, &place, "the guide for firmware", &script, &[])
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
    follow_script(workspace, &place, &what, &script, variables)
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
fn follow_script(
    workspace: &Workspace,
    place: &Path,
    what: &str,
    script: &str,
    variables: &[OsString],
) -> Result<()> {
    // The variables are the arguments of the script, which it hands to `make`.
    quietly(what, bash(workspace, place, PATIENCE_S, script)?.args(variables))?;
    Ok(())
}

/// A shell for commands, which begins in a folder, with its programs in the path. `xtask` is this program.
fn bash(workspace: &Workspace, place: &Path, patience_s: u32, script: &str) -> Result<Command> {
    let mut search = place.join("bin").into_os_string();
    search.push(":");
    search.push(std::env::var_os("PATH").unwrap_or_default());
    let mut bash = Command::new("timeout");
    bash.args([&patience_s.to_string(), "bash", "-c", &format!("{XTASK}{script}"), "guide"]);
    bash.current_dir(place).env("PATH", search);
    for flags in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "MAKEFLAGS"] {
        bash.env_remove(flags);
    }
    crate::workspace::clean(&mut bash);
    bash.env("XTASK", std::env::current_exe()?);
    bash.env("PLACE", place).env("TARGET", workspace.target());
    bash.env("REPOSITORY", workspace.root());
    Ok(bash)
}

const XTASK: &str = "xtask() { CARGO_TARGET_DIR=\"$TARGET\" \"$XTASK\" \"$@\"; }\n";

/// What a guide has for a shell.
fn commands(text: &str) -> String {
    let blocks = page::blocks(text);
    blocks.into_iter().filter(|block| block.language == "sh").map(|block| block.text).collect()
}

/// The commands of the quick start, for ports that are free.
fn quick_start_script(book: &Book) -> Result<Script<'_>> {
    let mut script = Script::new(book);
    script.text = format!("{BEGIN}(\nHOME=\"$PLACE/home\"\n");
    script.follow(QUICK_START, "cp ~/tidegate/target/functions/threshold.wasm ")?;
    script.add(")");
    script.follow_all(QUICK_START, "sh")?;
    // The longer number first: the shorter one begins it.
    for port in ["18830", "1883", "8080"] {
        script.text = script.text.replace(port, &free_port()?);
    }
    Ok(script)
}

/// How scripts begin: they end at the first failure, and nothing that they started outlives them.
const BEGIN: &str = "set -ex -o pipefail\n\
    trap 'kill $(jobs -p) 2>/dev/null || true; tail -n 20 gateway.log || true' EXIT\n";

/// The commands of the README, for ports that are free. What runs until it is stopped does not here, and cargo
/// builds what is quicker to build.
fn readme_script(book: &Book) -> Result<Script<'_>> {
    let mut script = Script::new(book);
    script.text = BEGIN.to_owned();
    script.append(README, "tidegate.toml\n", "tidegate.toml")?;
    script.text = script.text.replace("/var/lib/tidegate", "data");
    script.add(
        r#"printf '[http]\nlisten = "127.0.0.1:8080"\n' >> tidegate.toml
cp home/tidegate/target/functions/threshold.wasm .
cargo() {
    case $1 in
        build) test "$2" = --release; shift 2; set -- build "$@" ;;
    esac
    case $1 in
        xtask) xtask "${@:2}" ;;
        *) (cd "$REPOSITORY"; CARGO_TARGET_DIR="$TARGET" command "${CARGO:-cargo}" "$@") ;;
    esac
}
tidegate() {
    case "$*" in
        run*)
            command tidegate "$@" 2> gateway.log &
            until command tidegate status; do sleep 0.2; done ;;
        *--follow*) timeout 2 tidegate "$@" || test $? = 124 ;;
        *) command tidegate "$@" ;;
    esac
}"#,
    );
    script.follow(README, "cargo build --release -p tidegate")?;
    script.add("kill %1\nwait %1");
    for port in ["18830", "1883", "8080"] {
        script.text = script.text.replace(port, &free_port()?);
    }
    Ok(script)
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

    const GUIDE: &str = include_str!("../../../../docs/guides/function-author.md");

    #[test]
    fn the_script_has_the_commands_of_the_guide_in_the_language_that_is_asked_for() {
        let script = script(GUIDE, "rust").unwrap();
        assert!(script.contains("\ntidegate fn new overheat --lang rust\ncd overheat\nmake\n"));
        assert!(!script.contains("127.0.0.1:1883") && !script.contains("127.0.0.1:8080"));
        assert!(!script.contains("static tg_result"), "only what is for a shell");
    }

    #[test]
    fn the_guide_for_firmware_has_every_command_and_is_run_as_it_stands() {
        let guide = include_str!("../../../../docs/guides/firmware-engineer.md");
        let script = firmware_script(guide).unwrap();
        assert!(script.contains("\ntidegate device firmware keygen root.key | tee root.pub\n"));
        assert!(!script.contains("127.0.0.1:1883") && !script.contains("127.0.0.1:8080"));
        assert!(firmware_script("```sh\ntidegate device firmware keygen a\n```\n").is_err());
    }

    #[test]
    fn the_quick_start_and_the_readme_are_run_on_ports_that_are_free() {
        let book = super::table::tests::book();
        for script in [quick_start_script(&book), readme_script(&book)] {
            let text = script.unwrap().text;
            assert!(!text.contains(":1883") && !text.contains(":18830"), "{text}");
            assert!(!text.contains("-p 1883") && !text.contains(":8080"), "{text}");
            assert!(text.contains("\ntidegate check --config tidegate.toml"), "{text}");
        }
    }

    #[test]
    fn the_readme_is_run_with_its_own_configuration() {
        let book = super::table::tests::book();
        let text = readme_script(&book).unwrap().text;
        assert!(text.contains("\ndata_dir = \"data\"\n") && text.contains("\n[uplink.cloud]\n"));
    }

    #[test]
    fn the_guide_for_operators_touches_nothing_of_the_machine() {
        let guide = include_str!("../../../../docs/guides/operate.md");
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
