//! Guides that are followed in a root file system of their own: the Debian package, OpenRC, a container, and what
//! else touches a machine.

use super::page::{Book, Script};
use super::{FLASH, INSTALL, QUICK_START, SECURE};
use anyhow::Result;

/// What systemd says of the service, as the page has it: of 10, as installed and with the drop-in for serial ports.
const EXPOSED: (&str, &str) = ("1.2", "1.6");

/// Installs the package, and goes with it through all that the page does until it is purged. A stand-in for
/// systemd starts the service; the package's own scripts call it, as they would the real one.
pub(super) fn package(book: &Book) -> Result<Script<'_>> {
    let mut script = Script::new(book);
    script.add(
        "dpkg --add-architecture arm64
# Scripts of packages find the stand-in, too.
printf 'APT::Get::Assume-Yes \"true\";\\nDPkg::Path \"%s\";\\nDPkg::Use-Pty \"false\";\\n' \"$PATH\" > /etc/apt/apt.conf.d/90guide
echo field-7 > /etc/hostname
# The package's scripts take this for a machine with systemd.
mkdir -p /run/systemd/system
config=/etc/tidegate/tidegate.toml
pid() { cat /run/tidegate.pid; }",
    );
    script.add(&format!("as_installed={} with_serial_ports={}", EXPOSED.0, EXPOSED.1));
    script.follow(INSTALL, "sudo apt-get install ./tidegate_0")?;
    script.add(
        "exposed() {
    systemd-analyze security --offline=true tidegate.service |
        sed -n 's/.*exposure level for tidegate.service: \\([0-9.]*\\).*/\\1/p'
}
test \"$(exposed)\" = \"$as_installed\"
grep '^id = \"field-7\"$' $config
test \"$(stat -c %a:%u /etc/tidegate/secrets)\" = 700:0
change() {",
    );
    script.follow(INSTALL, "sudo tidegate check && ")?;
    script.add(
        "}
echo '# mine' >> $config
change
echo mistake >> $config
! change || exit 1
! systemctl reload tidegate || exit 1
sed -i '$d' $config
# Any authority will do.
cp \"$(readlink -f /etc/ssl/certs/ISRG_Root_X1.pem)\" ca.pem",
    );
    script.append(INSTALL, "[uplink.cloud]", "$config")?;
    script.follow(INSTALL, "sudo install -m 600 ca.pem ")?;
    script.add(
        "cmp ca.pem /run/credentials/tidegate.service/secret_ca.pem
change
tidegate status | grep cloud
before=$(pid)",
    );
    script.follow(INSTALL, "sudo install -D -m 644 ")?;
    script.add(
        "test \"$before\" != \"$(pid)\"
test \"$(exposed)\" = \"$with_serial_ports\"
dpkg-deb --raw-extract tidegate_0*_arm64.deb newer
sed -i 's/^Version: .*/&+1/' newer/DEBIAN/control
dpkg-deb --build newer tidegate_NEW_arm64.deb
before=$(pid)",
    );
    script.follow(INSTALL, "sudo apt-get install ./tidegate_NEW")?;
    script.add(
        "dpkg-query --show --showformat '${Version}\\n' tidegate | grep +1
test \"$before\" != \"$(pid)\"
grep -x '# mine' $config
test -s /etc/tidegate/secrets/ca.pem
tidegate status
before=$(pid)
{",
    );
    script.follow(INSTALL, "sudo apt-get remove ")?;
    script.add(
        "} | tee said
grep 'kept /etc/tidegate ' said
for path in /etc/tidegate /var/lib/tidegate /etc/systemd/system/tidegate.service.d; do
    grep \"removing $path$\" said
    test ! -e $path
done
! kill -0 $before || exit 1",
    );
    Ok(script)
}

/// Installs the static binary with OpenRC, which runs.
pub(super) fn openrc(book: &Book) -> Result<Script<'_>> {
    let mut script = Script::new(book);
    script.add(
        "# Nothing is to be started here but what the guide starts.
rm -f /etc/runlevels/*/*
printf '#!/sbin/openrc-run\\n:\\n' > /etc/init.d/localmount
chmod +x /etc/init.d/localmount
openrc sysinit
openrc default
touch /run/openrc/softlevel",
    );
    script.follow(INSTALL, "install -m 755 tidegate ")?;
    script.add(
        "answers() { for try in $(seq 100); do tidegate status && return; sleep 0.2; done; false; }
answers
ps() { busybox ps -o user,pid,args | grep 'tidegate run --config' | grep -v -e supervise -e grep; }
ps | grep ^tidegate
rc-service tidegate reload
echo mistake >> /etc/tidegate/tidegate.toml
! rc-service tidegate reload || exit 1
! rc-service tidegate restart || exit 1
sed -i '$d' /etc/tidegate/tidegate.toml
before=$(ps)
kill -KILL $(ps | awk '{ print $2 }')
until ps && test \"$(ps)\" != \"$before\"; do sleep 0.2; done
answers
logrotate --force /etc/logrotate.d/tidegate
test -e /var/log/tidegate.log.1.gz
rc-service tidegate stop
! ps || exit 1",
    );
    Ok(script)
}

/// Loads the OCI image, and runs it.
pub(super) fn container(book: &Book) -> Result<Script<'_>> {
    let mut script = Script::new(book);
    script.add(
        "# No limits and no layers of the kernel: there is neither systemd nor a disk of its own here.
cat > /etc/containers/containers.conf <<'END'
[containers]
cgroups = \"disabled\"
[engine]
cgroup_manager = \"cgroupfs\"
events_logger = \"file\"
END
printf '[storage]\\ndriver = \"vfs\"\\nrunroot = \"/run/c\"\\ngraphroot = \"/var/lib/c\"\\n' > /etc/containers/storage.conf
podman() {
    case $1 in
        run)
            command podman \"$@\" &
            gateway=$!
            ;;
        *) command podman \"$@\" ;;
    esac
}",
    );
    script.follow(FLASH, "podman load ")?;
    script.add(
        "for try in $(seq 100); do
    ! busybox wget -q -O - http://127.0.0.1:8080/healthz || break
    sleep 0.2
done
busybox wget -q -O - http://127.0.0.1:8080/v1/status | grep '\"gateway\":\"gw-01\"'
test -n \"$(ls \"$(podman volume inspect --format '{{.Mountpoint}}' tidegate)\")\"
podman stop --all
wait $gateway",
    );
    Ok(script)
}

/// Has apt say what it would install, and writes a card: a file with a little in it to one that is called
/// like a disk.
pub(super) fn machine(book: &Book) -> Result<Script<'_>> {
    let mut script = Script::new(book);
    script.add(
        "printf 'APT::Get::Assume-Yes \"true\";\\nAPT::Get::Simulate \"true\";\\n' > /etc/apt/apt.conf.d/90guide",
    );
    script.follow(QUICK_START, "sudo apt-get install ")?;
    script.follow(SECURE, "sudo apt-get install ")?;
    script.follow(FLASH, "sudo apt-get install ")?;
    script.add(
        "mkdir -p target/dist
head -c 9000000 /dev/urandom > card.img
xz -0 --keep card.img
mv card.img.xz target/dist/tidegate-rpi4.img.xz",
    );
    script.follow(FLASH, "lsblk ")?;
    script.add("cmp card.img /dev/sdX");
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::EXPOSED;

    #[test]
    fn the_page_says_how_exposed_the_service_is() {
        let page = include_str!("../../../../docs/guides/install.md");
        let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
        let (installed, serial) = EXPOSED;
        let said = format!(
            "`systemd-analyze security tidegate`: {installed}; with the drop-in for serial ports {serial}"
        );
        assert!(page.contains(&said));
    }
}
