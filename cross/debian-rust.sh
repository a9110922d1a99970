#!/usr/bin/env bash
# Unpacks Debian's current Rust (the packages rustc-web and cargo-web of the security suite)
# into a private directory, for builds where rustup may not install a target. Nothing of it is
# installed: the system's Rust and ~/.rustup stay as they are. Only shared libraries and a C
# compiler that the packages need and the machine lacks are added with apt-get, and nothing is
# ever removed or upgraded by that.
#
# Usage:  cross/debian-rust.sh DIR TARGET...
#   DIR     where to unpack to; created; about 500 MB, and 10 to 20 MB for each target with musl
#   TARGET  one of KNOWN_TARGETS below
# Leaves: DIR/cargo, a wrapper. Use it as
#   DIR/cargo build --target wasm32-unknown-unknown -Zbuild-std=std,panic_abort
# and for targets with musl DIR/musl/TARGET/cc, a C compiler. Those and aarch64-unknown-linux-gnu are
# linked by Debian's cross compilers, which are installed: `cargo xtask dist` names them to cargo.
set -euo pipefail

# Add a target by naming it here and giving it a case in `packages_for`.
KNOWN_TARGETS="wasm32-unknown-unknown aarch64-unknown-linux-gnu"
KNOWN_TARGETS+=" thumbv7em-none-eabihf thumbv6m-none-eabi riscv32imac-unknown-none-elf"
KNOWN_TARGETS+=" aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf"
KNOWN_TARGETS+=" arm-unknown-linux-musleabi x86_64-unknown-linux-musl"
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

fail() { printf 'debian-rust.sh: %s\n' "$*" >&2; exit 1; }
step() { printf 'debian-rust.sh: %s (%ss)\n' "$*" "$SECONDS"; }

# What a target needs from Debian beside the compiler itself, as package names.
packages_for() {
  case $1 in
    # rust-lld links them, and they need no C library
    wasm32-unknown-unknown | thumb*-none-* | riscv32*-none-*) ;;
    aarch64-*) echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;;
    armv7-*) echo gcc-arm-linux-gnueabihf libc6-dev-armhf-cross ;;
    arm-*) echo gcc-arm-linux-gnueabi libc6-dev-armel-cross ;;
    x86_64-*) echo gcc libc6-dev ;;
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
  rm -rf "$DIR/usr" "$DIR/musl" "$DIR/.version"
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

# The address from which this machine's apt takes the main component of a suite.
mirror_of() {
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v suite="$1" '$2 == suite && $3 == "main" && !done { print $1; done = 1 }'
}

# An apt configuration of its own, so that packages for other architectures can be fetched without
# dpkg --add-architecture. armhf and armel come from the main archive only: apt drops a whole suite
# for one broken index, and bookworm-security's of armhf is at times.
foreign_apt() {
  [[ -z ${APT_CONFIG:-} ]] || return 0
  local apt=$DEBS/apt codename main security
  # shellcheck source=/dev/null
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  main=$(mirror_of "$codename"); security=$(mirror_of "$codename-security")
  [[ -n $main && -n $security ]] || fail "apt knows no mirror of $codename and $codename-security"
  mkdir -p "$apt"/{parts,state/lists/partial,cache/archives/partial}
  : >"$apt/status"
  cat >"$apt/sources.list" <<LIST
deb [arch=amd64,arm64,armhf,armel signed-by=$KEYRING] $main $codename main
deb [arch=amd64,arm64 signed-by=$KEYRING] $security $codename-security main
LIST
  cat >"$apt/apt.conf" <<CONF
APT::Architectures { "$(dpkg --print-architecture)"; "amd64"; "arm64"; "armhf"; "armel"; };
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "$apt/parts";
Dir::Etc::preferences "$apt/none";
Dir::Etc::preferencesparts "$apt/parts";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
CONF
  export APT_CONFIG=$apt/apt.conf
  step "package lists of other architectures"
  apt-get update -qq -o APT::Sandbox::User=root || fail "apt-get update failed at $main or $security"
}

# GCC 12's libgcc_eh.a for aarch64 and x86-64 calls glibc's _dl_find_object, which musl lacks; without
# it, static programs do not link. This one finds the same facts with dl_iterate_phdr.
dl_find_object() {
  cat <<'SOURCE'
#define _GNU_SOURCE
#include <link.h>
struct dl_find_object {
  unsigned long long flags;
  void *map_start, *map_end;
  struct link_map *link_map;
  void *eh_frame;
  unsigned long long reserved[7];
};
struct query { unsigned long pc; struct dl_find_object *result; };
static int visit(struct dl_phdr_info *info, size_t size, void *data) {
  struct query *q = data;
  unsigned long low = -1UL, high = 0;
  void *eh_frame = 0;
  int hit = 0;
  for (int k = 0; k < info->dlpi_phnum; k++) {
    const ElfW(Phdr) *p = &info->dlpi_phdr[k];
    unsigned long at = info->dlpi_addr + p->p_vaddr;
    if (p->p_type == PT_GNU_EH_FRAME) eh_frame = (void *)at;
    if (p->p_type != PT_LOAD) continue;
    if (at < low) low = at;
    if (at + p->p_memsz > high) high = at + p->p_memsz;
    if (q->pc - at < p->p_memsz) hit = 1;
  }
  if (!hit || !eh_frame) return 0;
  *q->result = (struct dl_find_object){
    .map_start = (void *)low, .map_end = (void *)high, .eh_frame = eh_frame };
  return 1;
}
int _dl_find_object(void *pc, struct dl_find_object *result) {
  struct query q = { (unsigned long)pc, result };
  return dl_iterate_phdr(visit, &q) ? 0 : -1;
}
SOURCE
}

# Puts musl where rustc looks for what its own musl targets ship (start files, libc.a, an unwinder
# named libunwind.a), and leaves DIR/musl/TARGET/cc, a C compiler with musl's headers.
# set_up_musl TARGET ARCHITECTURE COMPILER MUSL
set_up_musl() {
  local target=$1 arch=$2 gnu=$3 musl=$4 name
  local root=$DIR/musl/$target own=$DIR/usr/lib/rustlib/$target/lib/self-contained
  [[ ! -x $root/cc ]] || return 0
  foreign_apt
  step "musl for $target"
  fetch_debs "musl-dev:$arch"
  rm -rf "$root"; mkdir -p "$root" "$own"
  dpkg -x "$DEBS"/musl-dev_*_"$arch".deb "$root"
  sed -i "s#/usr/\(include\|lib\)/$musl#$root/usr/\1/$musl#g" "$root/usr/lib/$musl/musl-gcc.specs"
  cp "$root/usr/lib/$musl"/*.o "$root/usr/lib/$musl/libc.a" "$own/"
  for name in crtbegin.o crtbeginS.o crtend.o crtendS.o; do
    cp "$("$gnu-gcc" -print-file-name=$name)" "$own/" || fail "$gnu-gcc has no $name"
  done
  name=$("$gnu-gcc" -print-file-name=libgcc_eh.a)
  cp "$name" "$own/libunwind.a" || fail "$gnu-gcc has no libgcc_eh.a"
  printf '#!/bin/sh\n# Written by cross/debian-rust.sh.\nexec %s-gcc "$@" -specs "%s"\n' \
    "$gnu" "$root/usr/lib/$musl/musl-gcc.specs" >"$DEBS/cc"
  chmod +x "$DEBS/cc"
  if [[ $("$gnu-nm" "$name" 2>/dev/null) == *" U _dl_find_object"* ]]; then
    dl_find_object >"$DEBS/find.c"
    "$DEBS/cc" -Os -c "$DEBS/find.c" -o "$DEBS/dl_find_object.o" || fail "$gnu-gcc cannot compile C"
    "$gnu-ar" r "$own/libunwind.a" "$DEBS/dl_find_object.o" || fail "$gnu-ar failed"
  fi
  # Last: it tells that everything else is there.
  mv "$DEBS/cc" "$root/cc"
}

# What a target needs beside the compiler's own files.
set_up() {
  case $1 in
    wasm32-unknown-unknown | thumb*-none-* | riscv32*-none-*) ;;
    aarch64-unknown-linux-gnu)
      [[ -d $DIR/usr/lib/rustlib/$1/lib ]] || {
        foreign_apt
        step "the standard library for $1"
        fetch_debs "libstd-rust-web-dev:arm64=$version"
        dpkg -x "$DEBS"/libstd-rust-web-dev_*_arm64.deb "$DIR"
      } ;;
    aarch64-unknown-linux-musl) set_up_musl "$1" arm64 aarch64-linux-gnu aarch64-linux-musl ;;
    armv7-unknown-linux-musleabihf) set_up_musl "$1" armhf arm-linux-gnueabihf arm-linux-musleabihf ;;
    arm-unknown-linux-musleabi) set_up_musl "$1" armel arm-linux-gnueabi arm-linux-musleabi ;;
    x86_64-unknown-linux-musl) set_up_musl "$1" amd64 x86_64-linux-gnu x86_64-linux-musl ;;
  esac
}

[[ $# -ge 2 && $1 != -* ]] || { sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 2; }
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
for target in "$@"; do set_up "$target"; done
step "ready: $("$DIR/cargo" --version)"
