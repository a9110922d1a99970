//! Tests of `tidegate-image/firstboot`, the script that applies the first-boot file of a card. It is run as
//! it is, below a folder.

use super::space::Folder;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const SCRIPT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../image/overlay/usr/lib/tidegate-image/firstboot");
const CONFIG: &str =
    "# a comment\n[gateway]\nid = \"gateway\"\ndata_dir = \"/d\"\n\n[mqtt]\nid = \"no\"\n";

/// A root file system with a boot partition in it, removed at the end.
struct Root(Folder);

impl Root {
    fn new(test: &str, file: &str) -> Self {
        let name = format!("xtask-firstboot-{test}-{}", std::process::id());
        let folder = Folder::empty(std::env::temp_dir().join(name)).unwrap();
        for name in ["boot/firmware", "etc/tidegate/secrets", "etc/systemd/network", "root"] {
            fs::create_dir_all(folder.file(name)).unwrap();
        }
        let root = Self(folder);
        root.write("etc/tidegate/tidegate.toml", CONFIG);
        root.write("boot/firmware/tidegate-firstboot.toml", file);
        root
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.file(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.0.file(name)).unwrap().permissions().mode() & 0o777
    }

    fn has(&self, name: &str) -> bool {
        self.0.file(name).exists()
    }

    /// Runs the script; whether it was content.
    fn apply(&self) -> bool {
        let mut script = Command::new("sh");
        script.arg(SCRIPT).env("TIDEGATE_ROOT", self.0.path());
        script.output().unwrap().status.success()
    }

    fn log(&self) -> String {
        self.text("boot/firmware/tidegate-firstboot.log")
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.path());
    }
}

#[test]
fn the_file_that_every_card_has_is_without_mistakes() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../image/firstboot.toml");
    let root = Root::new("template", &fs::read_to_string(Path::new(file)).unwrap());
    assert!(root.apply(), "{}", root.log());
    assert!(
        root.text("etc/tidegate/tidegate.toml").contains("[gateway]\nid = \"gw-01\"\ndata_dir")
    );
    assert!(root.text("etc/tidegate/tidegate.toml").contains("[mqtt]\nid = \"no\"\n"));
    assert_eq!(root.text("etc/hostname"), "gw-01\n");
    assert!(root.text("etc/systemd/network/20-wired.network").contains("DHCP=yes"));
}

#[test]
fn the_file_in_the_guide_is_applied_as_it_stands_there() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/flash.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (file, rest) = rest.split_once("```\n").unwrap();
    assert!(!rest.contains("```toml"), "only the first one is applied");
    // Whoever follows it has a key of their own.
    let root = Root::new("guide", &file.replace("AAAA... you", "AAAA you"));
    assert!(root.apply(), "{}", root.log());
    assert_eq!(root.text("etc/hostname"), "gw-01\n");
    assert_eq!(root.text("root/.ssh/authorized_keys"), "ssh-ed25519 AAAA you\n");
    let wifi = root.text("etc/wpa_supplicant/wpa_supplicant-wlan0.conf");
    assert!(wifi.contains("ssid=\"plant-2\"\n  psk=\"8 to 63 characters\"\n"), "{wifi}");
}

#[test]
fn everything_is_applied_once_and_passwords_do_not_stay() {
    let file = r#"
[gateway]
id = "Line_4"   # a comment
[system]
hostname = "line-4"
ssh_keys = ["ssh-ed25519 AAAA one@a", 'ssh-rsa BBBB two "2"']
[network]
address = "192.168.7.20/24"
gateway = "192.168.7.1"
dns = ["192.168.7.1", "9.9.9.9"]
[wifi]
country = "DE"
ssid = "plant 2]"
password = "not a \\ secret"
"#;
    let root = Root::new("all", file);
    root.write("boot/firmware/tidegate/threshold.wasm", "module");
    root.write("boot/firmware/tidegate/secrets/cloud", "password");
    assert!(root.apply(), "{}", root.log());
    assert!(root.text("etc/tidegate/tidegate.toml").contains("\nid = \"Line_4\"\n"));
    assert_eq!(root.text("etc/hostname"), "line-4\n");
    let keys = root.text("root/.ssh/authorized_keys");
    assert_eq!(keys, "ssh-ed25519 AAAA one@a\nssh-rsa BBBB two \"2\"\n");
    assert_eq!(root.mode("root/.ssh/authorized_keys"), 0o600);
    assert_eq!(
        root.text("etc/systemd/network/20-wired.network"),
        "[Match]\nName=eth* en*\n\n[Network]\nAddress=192.168.7.20/24\nGateway=192.168.7.1\n\
         DNS=192.168.7.1\nDNS=9.9.9.9\n"
    );
    let wifi = "etc/wpa_supplicant/wpa_supplicant-wlan0.conf";
    assert!(root.text(wifi).contains("ssid=\"plant 2]\"\n  psk=\"not a \\ secret\"\n"));
    assert_eq!(root.mode(wifi), 0o600);
    assert_eq!(root.mode("etc/tidegate/threshold.wasm"), 0o644);
    assert_eq!(root.mode("etc/tidegate/secrets/cloud"), 0o600);
    assert!(!root.has("boot/firmware/tidegate/secrets"));
    assert!(!root.has("boot/firmware/tidegate-firstboot.toml"));
    let kept = root.text("boot/firmware/tidegate-firstboot.applied.toml");
    assert!(kept.contains("ssid = \"plant 2]\"") && !kept.contains("secret"));
    // The next start finds nothing to do.
    root.write("etc/hostname", "by-hand\n");
    assert!(root.apply());
    assert_eq!(root.text("etc/hostname"), "by-hand\n");
}

#[test]
fn a_file_with_mistakes_changes_nothing_and_all_of_them_are_told() {
    let file = "id = \"a\"\n[gateway]\nid = \"a b\"\n[network]\ndhcp = maybe\nadress = \"1\"\n\
        [system]\nssh_keys = [\"AAAA\"]\nhostname = \"a\" b\nwhat\n[wifi]\npassword = \"short\"\n";
    let root = Root::new("mistakes", file);
    assert!(!root.apply());
    let log = root.log();
    for (line, what) in [
        (1, "id stands in no section"),
        (3, "gateway.id = \"a b\": has to be"),
        (5, "network.dhcp: the value has to be"),
        (6, "network.adress: there is no such key"),
        (8, "system.ssh_keys: \"AAAA\" is no public key"),
        (9, "system.hostname: \"b\" is behind the value"),
        (10, "neither a section nor key = value"),
        (12, "wifi.password: has to be 8 to 63"),
    ] {
        assert!(log.contains(&format!("line {line}: {what}")), "line {line} in:\n{log}");
    }
    assert!(!log.contains("short"), "a password is in the log:\n{log}");
    assert_eq!(root.text("etc/tidegate/tidegate.toml"), CONFIG);
    assert!(!root.has("etc/hostname"));
    assert!(root.has("boot/firmware/tidegate-firstboot.toml"));
}

#[test]
fn an_id_is_added_where_the_configuration_has_none() {
    let root = Root::new("added", "[gateway]\nid = \"gw-9\"\n");
    root.write("boot/firmware/tidegate/tidegate.toml", "[gateway]\ndata_dir = \"/d\"\n[mqtt]\n");
    assert!(root.apply(), "{}", root.log());
    let expected = "[gateway]\ndata_dir = \"/d\"\nid = \"gw-9\"\n[mqtt]\n";
    assert_eq!(root.text("etc/tidegate/tidegate.toml"), expected);
    root.write("etc/tidegate/tidegate.toml", "[mqtt]\n");
    root.write("boot/firmware/tidegate-firstboot.toml", "[gateway]\nid = \"gw-8\"\n");
    fs::remove_dir_all(root.0.file("boot/firmware/tidegate")).unwrap();
    assert!(root.apply(), "{}", root.log());
    let expected = "[mqtt]\n\n[gateway]\nid = \"gw-8\"\n";
    assert_eq!(root.text("etc/tidegate/tidegate.toml"), expected);
}
