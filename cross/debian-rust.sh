#!/usr/bin/env bash
# Unpacks Debian's current Rust (the packages rustc-web and cargo-web of the security suite)
# into a private directory, for builds where rustup may not install a target. Nothing of it is
# installed: the system's Rust and ~/.rustup stay as they are. Only shared libraries and a C
# compiler that the packages need and the machine lacks are added with apt-get, and nothing is
# ever removed or upgraded by that.
#
# Usage:  cross/debian-rust.sh DIR TARGET...
#   DIR     where to unpack to; created; about 500 MB
#   TARGET  one of KNOWN_TARGETS below
# Leaves: DIR/cargo, a wrapper. Use it as
#   DIR/cargo build --target wasm32-unknown-unknown -Zbuild-std=std,panic_abort
set -euo pipefail

# Add a target by naming it here and giving it a case in `packages_for`.
KNOWN_TARGETS="wasm32-unknown-unknown thumbv7em-none-eabihf"

fail() { printf 'debian-rust.sh: %s\n' "$*" >&2; exit 1; }
step() { printf 'debian-rust.sh: %s (%ss)\n' "$*" "$SECONDS"; }

# What a target needs from Debian beside the compiler itself, as package names.
packages_for() {
  case $1 in
    # rust-lld links them, and they need no C library
    wasm32-unknown-unknown | thumbv7em-none-eabihf) ;;
  esac
}

# apt-get install for the packages that are missing. --no-remove --no-upgrade: a plain install
# may remove what is in its way.
install_missing() {
  local name missing=()
  for name in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
  done
  [[ ${#missing[@]} -gt 0 ]] || return 0
  local install="apt-get install -y --no-remove --no-upgrade --no-install-recommends ${missing[*]}"
  [[ $(id -u) -eq 0 ]] || fail "run this as root first: $install"
  step "$install"
  DEBIAN_FRONTEND=noninteractive $install -qq -o DPkg::Lock::Timeout=300 >/dev/null ||
    fail "apt-get did not install ${missing[*]}"
}

fetch_debs() {
  (cd "$DEBS" && apt-get download -qq -o APT::Sandbox::User=root "$@") || fail "cannot download $*"
}

# The shared libraries that the fetched packages depend on, Rust's own left out.
libraries_of_debs() {
  local deb
  for deb in "$DEBS"/*.deb; do dpkg-deb -f "$deb" Depends; done |
    tr ',|' '\n\n' | sed 's/^ *//; s/[ :(].*//' | grep '^lib' | grep -v -e rust -e '^libc-dev$' | sort -u
}

unpack() {
  local version=$1 series deb libraries llvm
  series=$(cut -d. -f1,2 <<<"$version")
  step "downloading Rust $series from Debian"
  rm -rf "$DIR/usr" "$DIR/.version"
  fetch_debs {rustc-web,cargo-web,rust-web-src,libstd-rust-web-dev,"libstd-rust-web-$series"}="$version"
  libraries=$(libraries_of_debs)
  # shellcheck disable=SC2086  # one word per package
  install_missing $libraries
  # The package's rust-lld is a link to the lld of the same LLVM, which it does not depend on.
  llvm=$(sed -n 's/^libllvm\([0-9][0-9]*\).*/\1/p' <<<"$libraries" | sort -n | tail -1)
  [[ -n $llvm ]] || fail "the packages name no libllvm, so it is unknown which lld fits"
  fetch_debs "rust-web-llvm=$version" "lld-$llvm"
  step "unpacking into $DIR"
  for deb in "$DEBS"/*.deb; do
    case $deb in
      # The sources are 434 MB; building std needs library/ alone.
      */rust-web-src_*) dpkg-deb --fsys-tarfile "$deb" |
        tar -x -C "$DIR" --wildcards './usr/lib*' './usr/src/*/library*' ;;
      *) dpkg -x "$deb" "$DIR" ;;
    esac || fail "cannot unpack $deb"
  done
  write_wrapper
  "$DIR/usr/bin/rust-lld" -flavor gnu --version >/dev/null ||
    fail "$DIR/usr/bin/rust-lld does not run; put a link to an lld of LLVM $llvm there"
  echo "$version" >"$DIR/.version"
}

# Rust's own wrapper variables for the private compiler. RUSTC_BOOTSTRAP lets a stable compiler
# build std from its sources; it is set here and nowhere else, for guests and firmware.
write_wrapper() {
  cat >"$DIR/cargo" <<WRAPPER
#!/bin/sh
# Written by cross/debian-rust.sh.
here=\$(cd "\$(dirname "\$(readlink -f "\$0")")" && pwd)
export LD_LIBRARY_PATH="\$here/usr/lib/$MULTIARCH\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export PATH="\$here/usr/bin:\$PATH"
export RUSTC="\$here/usr/bin/rustc" RUSTDOC="\$here/usr/bin/rustdoc" RUSTC_BOOTSTRAP=1
unset RUSTUP_TOOLCHAIN CARGO
exec "\$here/usr/bin/cargo" "\$@"
WRAPPER
  chmod +x "$DIR/cargo"
}

[[ $# -ge 2 && $1 != -* ]] || { sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$1"
DIR=$(cd "$1" && pwd); shift
for target in "$@"; do
  [[ " $KNOWN_TARGETS " == *" $target "* ]] || fail "unknown target $target; known: $KNOWN_TARGETS"
done
for tool in apt-get apt-cache dpkg dpkg-deb; do
  command -v $tool >/dev/null || fail "$tool is missing: this works on Debian only"
done
case $(dpkg --print-architecture) in
  amd64) MULTIARCH=x86_64-linux-gnu ;;
  arm64) MULTIARCH=aarch64-linux-gnu ;;
  *) fail "only amd64 and arm64 machines have these packages" ;;
esac
DEBS=$(mktemp -d "$DIR/debs.XXXXXX")
trap 'rm -rf "$DEBS"' EXIT

if [[ $(id -u) -eq 0 ]]; then
  step "apt-get update"
  apt-get update -qq -o DPkg::Lock::Timeout=300 || fail "apt-get update failed"
fi
version=$(LC_ALL=C apt-cache policy rustc-web | sed -n 's/^  Candidate: //p')
[[ -n $version && $version != "(none)" ]] ||
  fail "apt knows no rustc-web; Debian 12 with its security suite has it"
if [[ $(cat "$DIR/.version" 2>/dev/null) != "$version" ]]; then unpack "$version"; fi
packages=()
command -v cc >/dev/null || packages+=(gcc libc6-dev)   # build scripts are linked by it
for target in "$@"; do
  # shellcheck disable=SC2207  # one word per package
  packages+=($(packages_for "$target"))
done
install_missing "${packages[@]}"
step "ready: $("$DIR/cargo" --version)"
