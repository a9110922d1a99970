#!/usr/bin/env bash
# Unpacks Debian's QEMU for ARM and RISC-V into a private directory. It is not installed, because its packages
# want another version of qemu-utils than a machine may have, and nothing is removed or upgraded here:
# only shared libraries that it needs and the machine lacks are added with apt-get.
#
# Usage:  cross/debian-qemu.sh DIR
# Leaves: DIR/qemu-system-arm, DIR/qemu-system-aarch64 and DIR/qemu-system-riscv32, wrappers
set -euo pipefail

fail() { printf 'debian-qemu.sh: %s\n' "$*" >&2; exit 1; }

[[ $# -eq 1 && $1 != -* ]] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
for tool in apt-get dpkg-deb ldd; do
  command -v $tool >/dev/null || fail "$tool is missing: this works on Debian only"
done
mkdir -p "$1"
DIR=$(cd "$1" && pwd)
DEBS=$(mktemp -d "$DIR/debs.XXXXXX")
trap 'rm -rf "$DEBS"' EXIT

[[ $(id -u) -ne 0 ]] || apt-get update -qq -o DPkg::Lock::Timeout=300 || fail "apt-get update failed"
PACKAGES=(qemu-system-arm qemu-system-misc qemu-system-common qemu-system-data)
(cd "$DEBS" && apt-get download -qq -o APT::Sandbox::User=root "${PACKAGES[@]}") ||
  fail "cannot download ${PACKAGES[*]}"

# The shared libraries that the packages depend on, and that are not installed. Those of displays and sound
# belong to modules that nothing here loads, but the package names them all.
missing=()
for library in $(for deb in "$DEBS"/qemu-system-{arm,misc}_*.deb; do dpkg-deb -f "$deb" Depends; done |
  tr ',|' '\n\n' | sed 's/^ *//; s/[ :(].*//' | grep '^lib' | sort -u); do
  [[ $(dpkg-query -W -f '${db:Status-Status}' "$library" 2>/dev/null) == installed ]] || missing+=("$library")
done
if [[ ${#missing[@]} -gt 0 ]]; then
  install="apt-get install -y --no-remove --no-upgrade --no-install-recommends ${missing[*]}"
  [[ $(id -u) -eq 0 ]] || fail "run this as root first: $install"
  DEBIAN_FRONTEND=noninteractive $install -qq -o DPkg::Lock::Timeout=300 >/dev/null ||
    fail "apt-get did not install ${missing[*]}"
fi

for deb in "$DEBS"/*.deb; do
  case $deb in
    # It has two dozen machines, 200 MB.
    */qemu-system-misc_*) dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$DIR" ./usr/bin/qemu-system-riscv32 ;;
    *) dpkg-deb -x "$deb" "$DIR" ;;
  esac || fail "cannot unpack $deb"
done
for name in qemu-system-arm qemu-system-aarch64 qemu-system-riscv32; do
  lacking=$(ldd "$DIR/usr/bin/$name" | sed -n 's/ => not found//p')
  [[ -z $lacking ]] || fail "$name lacks" $lacking
  cat >"$DIR/$name" <<WRAPPER
#!/bin/sh
# Written by cross/debian-qemu.sh.
here=\$(cd "\$(dirname "\$(readlink -f "\$0")")" && pwd)
exec "\$here/usr/bin/$name" -L "\$here/usr/share/qemu" "\$@"
WRAPPER
  chmod +x "$DIR/$name"
  "$DIR/$name" --version >/dev/null || fail "$DIR/$name does not run"
done
