#!/usr/bin/env bash
# Installs the Debian package of another machine into a root file system of that machine, as QEMU runs
# it: installs, starts, does the main job, is upgraded, removed and purged. As root, on Debian.
#
# Usage:  cross/check-package.sh PACKAGE.deb EMULATOR RIG FUNCTION.wasm
#   EMULATOR   qemu-aarch64-static or qemu-arm-static; not asked for where this machine is of that kind
#   RIG        tidegate-rig of this machine
# While it runs, the kernel runs programs of another machine by EMULATOR (binfmt_misc).
set -euo pipefail

fail() { printf 'check-package.sh: %s\n' "$*" >&2; exit 1; }
step() { printf 'check-package.sh: %s (%ss)\n' "$*" "$SECONDS"; }

[[ $# -eq 4 && $1 != -* ]] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
PACKAGE=$1 EMULATOR=$2 RIG=$3 FUNCTION=$4
ARCH=$(dpkg-deb -f "$PACKAGE" Architecture)
WORK=$(mktemp -d /tmp/tidegate-package.XXXXXX)
ROOT=$WORK/root
BINFMT=/proc/sys/fs/binfmt_misc
FORMAT=tidegate-check-$$
MOUNTED=

clean_up() {
  ! mountpoint -q "$ROOT/tmp" || umount "$ROOT/tmp"
  [[ ! -e $BINFMT/$FORMAT ]] || echo -1 >"$BINFMT/$FORMAT"
  [[ -z $MOUNTED ]] || umount "$BINFMT" || true
  rm -rf "$WORK"
}
trap clean_up EXIT

# Has the kernel run programs of the other machine, known by the bytes that they begin with.
emulate() {
  local class machine magic mask emulator
  case $ARCH in
    arm64) class='\x02' machine='\xb7' ;;
    armhf | armel) class='\x01' machine='\x28' ;;
    amd64) class='\x02' machine='\x3e' ;;
    *) fail "$PACKAGE is for $ARCH, which nothing emulates here" ;;
  esac
  emulator=$(command -v "$EMULATOR") || fail "there is no $EMULATOR"
  if [[ ! -e $BINFMT/register ]]; then
    mount -t binfmt_misc binfmt_misc "$BINFMT" || fail "the kernel has no binfmt_misc"
    MOUNTED=yes
  fi
  magic='\x7fELF'$class'\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00'$machine'\x00'
  mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  echo ":$FORMAT:M::$magic:$mask:$emulator:F" >"$BINFMT/register"
}
[[ $ARCH == "$(dpkg --print-architecture)" ]] || emulate

step "a root file system for $ARCH"
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
  awk '$2 == "bookworm" && $3 == "main" && !done { print $1; done = 1 }')
[[ -n $mirror ]] || fail "apt knows no mirror of bookworm"
mmdebstrap --quiet --mode=root --variant=essential --architectures="$ARCH" bookworm "$ROOT" "$mirror" ||
  fail "mmdebstrap made no root file system"

inside() { chroot "$ROOT" "$@"; }
has() { [[ -e $ROOT/$1 ]] || fail "there is no /$1 $2"; }

step "installing"
echo field-7 >"$ROOT/etc/hostname"
cp "$PACKAGE" "$ROOT/root/tidegate.deb"
inside dpkg --install /root/tidegate.deb
grep -q '^id = "field-7"$' "$ROOT/etc/tidegate/tidegate.toml" || fail "the id is not the machine's name"
for path in usr/bin/tidegate usr/share/man/man1/tidegate-run.1.gz etc/tidegate/secrets; do
  has $path "after the installation"
done
[[ $(stat -c %a:%u "$ROOT/etc/tidegate/secrets") == 700:0 ]] || fail "others may read secrets"
[[ -L $ROOT/etc/systemd/system/multi-user.target.wants/tidegate.service ]] || fail "the service is not enabled"
# At most 1.5 of 10, as systemd counts what a service may do to the machine.
systemd-analyze security --offline=true --threshold=15 --root="$ROOT" tidegate.service >"$WORK/exposed" ||
  fail "the service may do too much: $(tail -n 1 "$WORK/exposed")"
tail -n 1 "$WORK/exposed"
inside tidegate --version
inside tidegate check

step "the main job, with the installed program"
mount --bind /tmp "$ROOT/tmp"
cp "$FUNCTION" "$WORK/threshold.wasm"
printf '#!/bin/sh\nexec chroot %s /usr/bin/tidegate "$@"\n' "$ROOT" >"$WORK/gateway"
chmod +x "$WORK/gateway"
"$RIG" demo --gateway "$WORK/gateway" --function "$WORK/threshold.wasm" --seconds 30 --json
umount "$ROOT/tmp"

step "an upgrade keeps configuration and data"
echo '# mine' >>"$ROOT/etc/tidegate/tidegate.toml"
echo secret >"$ROOT/etc/tidegate/secrets/key"
mkdir -p "$ROOT/var/lib/private/tidegate"
echo record >"$ROOT/var/lib/private/tidegate/record"
kept() {
  grep -q '^# mine$' "$ROOT/etc/tidegate/tidegate.toml" || fail "the configuration was changed by $1"
  has etc/tidegate/secrets/key "after $1"
  has var/lib/private/tidegate/record "after $1"
}
inside dpkg --install /root/tidegate.deb
kept "an upgrade"

step "removing keeps them, purging does not, and both say so"
inside dpkg --remove tidegate | tee "$WORK/said"
grep -q 'kept /etc/tidegate' "$WORK/said" || fail "removing does not say what it keeps"
kept "removing"
inside dpkg --purge tidegate | tee "$WORK/said"
for path in /etc/tidegate /var/lib/private/tidegate; do
  grep -q "removing $path" "$WORK/said" || fail "purging does not say that it removes $path"
  [[ ! -e $ROOT$path ]] || fail "purging has left $path"
done
step "all is well"
