//! `cargo xtask vm`: starts the card of a board in an emulated machine, with a first-boot file, and holds
//! the gateway in it to what the demo promises, from outside.
//!
//! The machine is QEMU's `virt`: the same kernel, initramfs and root file system as on the board, other
//! devices. The card itself is not changed: a copy of it is started.

use crate::cli::Usage;
use crate::image::machine::{Boot, console_text, end};
use crate::image::{card_of, contents, first_partition, space};
use crate::progress::quietly;
use crate::workspace::Workspace;
use crate::{debian, emulator, wasm};
use anyhow::{Context, Result, bail, ensure};
use space::Folder;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The id and the name that the first-boot file gives.
const GATEWAY: &str = "gw-vm-7";
/// From the start of the machine to a gateway that answers: about half a minute on a free machine.
const BOOT_PATIENCE: Duration = Duration::from_secs(900);
/// From the request to power off to the end of the machine.
const END_PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(500);
/// Between two looks at the gateway's memory.
const LOOK: Duration = Duration::from_secs(5);
/// The card grows by this much, as if it had been written to a larger one.
const LARGER_BY: u64 = 512 << 20;
const SECONDS: &str = "60";
/// A reload, one of a file with a mistake, and the file as it was.
const RELOADS: &str = "file=/etc/tidegate/tidegate.toml
systemctl reload tidegate && echo taken
echo mistake >>$file
systemctl reload tidegate 2>/dev/null || echo refused
sed -i '$d' $file";
/// What the journal has of that mistake among errors.
const MISTAKES: &str =
    "journalctl -u tidegate -p err -o cat --no-pager | grep -c '^/etc/tidegate/tidegate.toml:'";
/// A backup, and the gateway's return from it, by the guide for operators.
const RECOVERY: &str = "set -e
tidegate backup /root/backup >/dev/null
systemctl stop tidegate
find /var/lib/tidegate/ -mindepth 1 -delete
tidegate restore /root/backup --to /var/lib/tidegate | grep -o 'new records get epoch'
systemctl start tidegate
tidegate status --json | grep -o '\"gateway\":\"[^\"]*\"'
systemctl is-active tidegate";
/// What the gateway and the functions are made of.
const SOURCES: &[&str] = &["gateway", "functions", "device-sdk", "Cargo.toml", "Cargo.lock"];

/// What the command line asks for.
struct Wanted {
    card: PathBuf,
    seconds: String,
}

/// Starts the card and checks it.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let wanted = parse(workspace, arguments)?;
    debian::ensure(&[("mcopy", "mtools"), ("debugfs", "e2fsprogs"), ("ssh", "openssh-client")])?;
    let emulator = emulator::find_64(workspace)?;
    same_gateway(workspace, &wanted.card)?;
    let function = wasm::build(workspace)?.join("threshold.wasm");
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--package", "tidegate-rig"]);
    quietly("building the rig", &mut cargo)?;
    let folder = Folder::empty(workspace.target().join("image/vm"))?;
    let ports = Ports::free()?;
    let machine = prepare(&wanted.card, &folder, &ports, &function, emulator)?;
    let started = Instant::now();
    let mut machine = machine.start(&folder, &ports)?;
    wait_for_gateway(&mut machine, &folder, &ports)?;
    println!("answers after            {:.0} s", started.elapsed().as_secs_f64());
    let ssh = Ssh { key: folder.file("key"), port: ports.ssh };
    let mut good = inspect(&ssh, &ports)?;
    good &= demo(workspace, &wanted, &ports, &ssh)?;
    good &= recover(&ssh)?;
    let _ = ssh.ask("systemctl poweroff"); // The connection may be gone before the answer.
    machine.end()?;
    good &= applied_once(&folder.file("card.img"))?;
    println!("{}", if good { "as promised" } else { "NOT as promised" });
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parse(workspace: &Workspace, arguments: &[String]) -> Result<Wanted> {
    let mut wanted = Wanted { card: card_of(workspace, "rpi4"), seconds: SECONDS.to_owned() };
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let value = rest.next().ok_or_else(|| Usage(format!("{option} lacks its value")))?;
        match option.as_str() {
            "--image" => wanted.card = value.into(),
            "--seconds" if value.parse::<u32>().is_ok() => wanted.seconds.clone_from(value),
            _ => {
                let text = format!("{option} {value} is not known; see cargo xtask vm --help");
                return Err(Usage(text).into());
            }
        }
    }
    if !wanted.card.is_file() {
        let text =
            format!("there is no {}: run cargo xtask image --board rpi4", wanted.card.display());
        return Err(Usage(text).into());
    }
    Ok(wanted)
}

/// The function that is put onto the card is of the sources here: the gateway on it has to be as well.
fn same_gateway(workspace: &Workspace, card: &Path) -> Result<()> {
    if workspace.commit().is_none() {
        eprintln!("git tells no commit here: the gateway on the card may be of other sources");
        return Ok(());
    }
    let why = match contents::commit(card) {
        Ok(commit) if !workspace.differs_from(&commit, SOURCES)? => return Ok(()),
        Ok(commit) => format!("is of commit {commit}, and the sources here are others"),
        Err(error) => format!("does not tell its commit ({error:#})"),
    };
    let text = format!(
        "the gateway on {} {why}. Commit what you have changed, then run\n    cargo xtask dist aarch64-unknown-linux-musl --deb\n    cargo xtask image --board rpi4\nand then this command again",
        card.display()
    );
    Err(Usage(text).into())
}

/// Ports of this machine that lead to the gateway, and one that leads from it to here.
struct Ports {
    mqtt: u16,
    http: u16,
    ssh: u16,
    uplink: u16,
}

impl Ports {
    fn free() -> Result<Self> {
        // All are held until all are known, so that none is given twice.
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(TcpListener::bind("127.0.0.1:0").context("no port is free")?);
        }
        let port = |number: usize| -> Result<u16> { Ok(held[number].local_addr()?.port()) };
        Ok(Self { mqtt: port(0)?, http: port(1)?, ssh: port(2)?, uplink: port(3)? })
    }
}

/// Copies the card, puts the first-boot files on it, and takes from it what a board would start.
fn prepare(
    card: &Path,
    folder: &Folder,
    ports: &Ports,
    function: &Path,
    emulator: PathBuf,
) -> Result<Boot> {
    let copy = folder.file("card.img");
    space::copy(card, &copy)?;
    let file = OpenOptions::new().write(true).open(&copy)?;
    file.set_len(file.metadata()?.len() + LARGER_BY)?;
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "vm", "-f"]).arg(folder.file("key"));
    quietly("making a key for ssh", &mut keygen)?;
    let key = fs::read_to_string(folder.file("key.pub"))?;
    let first_boot = format!(
        "[gateway]\nid = \"{GATEWAY}\"\n\n[system]\nssh_keys = [\"{}\"]\n\n[network]\ndhcp = true\n",
        key.trim()
    );
    let own = Folder::at(folder.file("tidegate"))?;
    fs::write(folder.file("tidegate-firstboot.toml"), first_boot)?;
    fs::write(own.file("tidegate.toml"), config(ports))?;
    fs::copy(function, own.file("threshold.wasm"))
        .with_context(|| format!("no {}", function.display()))?;
    let boot = first_partition(&copy)?;
    let mut copy_on = Command::new("mcopy");
    copy_on.args(["-o", "-s", "-i", &boot]).arg(folder.file("tidegate-firstboot.toml"));
    quietly("putting the first-boot files onto the card", copy_on.arg(own.path()).arg("::"))?;
    let config = text_of(&boot, "config.txt")?;
    let named = |key: &str| {
        let line = config.lines().find_map(|line| line.strip_prefix(key));
        line.map(str::trim).with_context(|| format!("config.txt has no {key}"))
    };
    for (key, file) in [("kernel=", "kernel"), ("initramfs ", "initramfs")] {
        let mut copy_off = Command::new("mcopy");
        copy_off.args(["-o", "-i", &boot, &format!("::{}", named(key)?)]).arg(folder.file(file));
        quietly(&format!("taking {} from the card", named(key)?), &mut copy_off)?;
    }
    Ok(Boot {
        emulator,
        kernel: folder.file("kernel"),
        initramfs: folder.file("initramfs"),
        command_line: text_of(&boot, "cmdline.txt")?.trim().to_owned(),
    })
}

/// The demo's configuration, for a gateway that is reached from outside.
fn config(ports: &Ports) -> String {
    format!(
        r#"# id stands in tidegate-firstboot.toml
[gateway]
data_dir = "/var/lib/tidegate"

[mqtt]
listen = "0.0.0.0:1883"
allow_anonymous = true

[http]
listen = "0.0.0.0:8080"
allow_anonymous = true

[stream.telemetry]
topics = ["sensors/+/telemetry"]
max_bytes = "256MiB"
overflow = "drop-oldest"
retain = "24h"

[function.threshold]
module = "threshold.wasm"
input = {{ stream = "telemetry" }}
publish = ["alerts/#"]
config = {{ limit = 30.0, hysteresis = 1.0 }}

[stream.alerts]
topics = ["alerts/#"]

[uplink.cloud]
url = "mqtt://10.0.2.2:{}"
streams = ["telemetry", "alerts"]
ack_timeout = "5s"
backoff_max = "2s"
"#,
        ports.uplink
    )
}

/// A machine that runs; ended when dropped.
struct Machine(Child);

impl Boot {
    fn start(&self, folder: &Folder, ports: &Ports) -> Result<Machine> {
        let mut qemu = self.command(&folder.file("console.log"), &[&folder.file("card.img")]);
        let forward = |port: u16, to: u16| format!(",hostfwd=tcp:127.0.0.1:{port}-:{to}");
        let forwards = [(ports.mqtt, 1883), (ports.http, 8080), (ports.ssh, 22)];
        let forwards: String = forwards.iter().map(|(port, to)| forward(*port, *to)).collect();
        qemu.args(["-netdev", &format!("user,id=net{forwards}")]);
        qemu.args(["-device", "virtio-net-device,netdev=net"]);
        let child = qemu.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Machine(child.context("cannot start the emulator")?))
    }
}

impl Machine {
    fn ended(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Waits until it is off.
    fn end(mut self) -> Result<()> {
        let deadline = Instant::now() + END_PATIENCE;
        while !self.ended()? {
            ensure!(Instant::now() < deadline, "the machine is not off after {END_PATIENCE:?}");
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for_gateway(machine: &mut Machine, folder: &Folder, ports: &Ports) -> Result<()> {
    let deadline = Instant::now() + BOOT_PATIENCE;
    eprintln!("starting the card ... (its console: {})", folder.file("console.log").display());
    while !get(ports.http, "/healthz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ")) {
        let over = machine.ended()?;
        if over || Instant::now() > deadline {
            let said = console_text(&folder.file("console.log")).unwrap_or_default();
            let what = if over { "the machine ended" } else { "no gateway answers" };
            bail!("{what}; the end of its console:\n{}", end(&said));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// One answer of the gateway's HTTP, header and body.
fn get(port: u16, path: &str) -> Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, LOOK)?;
    stream.set_read_timeout(Some(LOOK))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: vm\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Commands in the machine, as root by the key of the first-boot file.
struct Ssh {
    key: PathBuf,
    port: u16,
}

impl Ssh {
    fn ask(&self, command: &str) -> Result<String> {
        let mut ssh = Command::new("ssh");
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=60",
            "BatchMode=yes",
        ] {
            ssh.args(["-o", option]);
        }
        ssh.arg("-i").arg(&self.key).args([
            "-p",
            &self.port.to_string(),
            "root@127.0.0.1",
            command,
        ]);
        let output = ssh.stdin(Stdio::null()).output().context("cannot start ssh")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "in the machine, {command}: {}", said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A number of kB that the kernel tells of the gateway's process.
    fn memory(&self, field: &str) -> Result<u64> {
        let pid = "$(systemctl show --property MainPID --value tidegate)";
        let line = self.ask(&format!("grep {field}: /proc/{pid}/status"))?;
        let number = line.split_whitespace().nth(1).and_then(|number| number.parse().ok());
        number.with_context(|| format!("no {field} in \"{line}\""))
    }
}

/// Looks at the machine: what the first-boot file asked for, and what ought to be so on each board.
fn inspect(ssh: &Ssh, ports: &Ports) -> Result<bool> {
    let status = get(ports.http, "/v1/status")?;
    let id = format!("\"gateway\":\"{GATEWAY}\"");
    let mut good = told("id of the gateway", GATEWAY, status.contains(&id));
    let hostname = ssh.ask("hostname")?;
    good &= told("name of the machine", &hostname, hostname == GATEWAY);
    let state = ssh.ask("systemctl is-active tidegate tidegate-firstboot tidegate-grow; true")?;
    good &= told("units", &state.replace('\n', " "), state.lines().all(|line| line == "active"));
    let failed = ssh.ask("systemctl list-units --failed --plain --no-legend --no-pager")?;
    good &= told(
        "units that failed",
        if failed.is_empty() { "none" } else { &failed },
        failed.is_empty(),
    );
    let reloads = ssh.ask(RELOADS)?;
    good &=
        told("reload, with a mistake", &reloads.replace('\n', ", "), reloads == "taken\nrefused");
    let mistakes = ssh.ask(MISTAKES)?;
    good &= told("mistakes in the journal", &mistakes, mistakes != "0");
    let root = ssh.ask("findmnt -no OPTIONS /; df -m --output=size / | tail -1")?;
    good &= told("root file system, MiB", &root.replace('\n', " "), root.contains("noatime"));
    let swap = ssh.ask("cat /proc/swaps | wc -l")?;
    good &= told("swap", "none", swap == "1");
    told("kernel", &ssh.ask("uname -rm")?, true);
    told("memory of the machine", &ssh.ask("free -m | sed -n 2p")?, true);
    told("gateway, kB idle", &ssh.memory("VmRSS")?.to_string(), true);
    told("first start", &ssh.ask("systemd-analyze | head -1")?, true);
    println!("{}", indented(&ssh.ask("cat /boot/firmware/tidegate-firstboot.log")?));
    Ok(good)
}

/// The demo from outside, and the gateway's memory meanwhile.
fn demo(workspace: &Workspace, wanted: &Wanted, ports: &Ports, ssh: &Ssh) -> Result<bool> {
    let address = |port: u16| format!("127.0.0.1:{port}");
    let mut rig = Command::new(workspace.binary("debug", "tidegate-rig"));
    rig.args(["demo", "--running", &address(ports.mqtt), &address(ports.http)])
        .args([&address(ports.uplink), "--seconds", &wanted.seconds, "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut rig = rig.spawn().context("cannot start the rig")?;
    let (mut most, mut looks) = (0, 0);
    while rig.try_wait()?.is_none() {
        most = ssh.memory("VmRSS")?.max(most);
        looks += 1;
        thread::sleep(LOOK);
    }
    let output = rig.wait_with_output()?;
    let counts = String::from_utf8_lossy(&output.stdout);
    let good = told("the demo's counts", counts.trim(), output.status.success());
    told("gateway, kB under load", &format!("{most} at most in {looks} looks"), true);
    told("gateway, kB at its peak", &ssh.memory("VmHWM")?.to_string(), true);
    Ok(good)
}

/// A backup comes back as the package's service, whose user exists while it runs.
fn recover(ssh: &Ssh) -> Result<bool> {
    let said = ssh.ask(RECOVERY)?.replace('\n', ", ");
    let expected = format!("new records get epoch, \"gateway\":\"{GATEWAY}\", active");
    Ok(told("backup and restore", &said, said == expected))
}

/// The first-boot file must be gone, and what was applied be kept beside it.
fn applied_once(card: &Path) -> Result<bool> {
    let boot = first_partition(card)?;
    let gone = text_of(&boot, "tidegate-firstboot.toml").is_err();
    let kept = text_of(&boot, "tidegate-firstboot.applied.toml").is_ok();
    Ok(told("first-boot file", "applied once", gone && kept))
}

fn text_of(boot: &str, name: &str) -> Result<String> {
    let mut copy = Command::new("mcopy");
    copy.args(["-i", boot, &format!("::{name}"), "-"]);
    let output = copy.stdin(Stdio::null()).output().context("cannot start mcopy")?;
    ensure!(output.status.success(), "the boot partition has no {name}");
    Ok(String::from_utf8(output.stdout)?)
}

fn told(what: &str, value: &str, good: bool) -> bool {
    println!("{what:<24} {value}{}", if good { "" } else { "   <-- WRONG" });
    good
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
