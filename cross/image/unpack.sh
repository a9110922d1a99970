#!/usr/bin/env bash
# Unpacks arm64 packages into a root file system and makes an ext4 file of it. Nothing of arm64 is
# run: dpkg unpacks, and configures later, in the machine that the image is assembled in. As root or
# under fakeroot, because files have to belong to root.
#
# Usage:  cross/image/unpack.sh DEBS ROOT EXT4 SIZE
# Leaves: ROOT, a folder, and EXT4, a file system labelled TIDEGATE of SIZE (such as 1200M)
set -euo pipefail

fail() { printf 'unpack.sh: %s\n' "$*" >&2; exit 1; }

[[ $# -eq 4 && $1 != -* ]] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
HERE=$(cd "$(dirname "$0")" && pwd)
DEBS=$1 ROOT=$2 EXT4=$3 SIZE=$4
PATH=$PATH:/usr/sbin:/sbin
[[ $(id -u) -eq 0 ]] || fail "run this as root or under fakeroot"
rm -rf "$ROOT" "$EXT4"
mkdir -p "$ROOT"/{usr/bin,usr/sbin,usr/lib,var/lib/dpkg/info,var/lib/dpkg/updates,boot/firmware}
ROOT=$(cd "$ROOT" && pwd)
for name in bin sbin lib; do ln -s usr/$name "$ROOT/$name"; done
: >"$ROOT/var/lib/dpkg/status"
cp -r "$HERE/overlay/etc/dpkg" "$ROOT/etc-dpkg"
mapfile -t exclude < <(sed -n 's/^path-/--path-/p' "$ROOT/etc-dpkg/dpkg.cfg.d/tidegate-image")
rm -r "$ROOT/etc-dpkg"

# A preinst would run as a program of arm64. On an empty root they have nothing to do, but for the
# one that makes the first users, which knows how to do that from outside.
strip=$(mktemp -d)
trap 'rm -rf "$strip"' EXIT
ready=()
for deb in "$DEBS"/*.deb; do
  if ! dpkg-deb -I "$deb" preinst >/dev/null 2>&1; then
    ready+=("$deb")
    continue
  fi
  name=$(basename "$deb")
  dpkg-deb -R "$deb" "$strip/tree"
  if [[ $name == base-passwd_* ]]; then
    mkdir -p "$ROOT/etc"
    DPKG_ROOT=$ROOT DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_PACKAGE=base-passwd \
      sh "$strip/tree/DEBIAN/preinst" install
  fi
  rm "$strip/tree/DEBIAN/preinst"
  dpkg-deb -Znone -b "$strip/tree" "$strip/$name" >/dev/null
  rm -rf "$strip/tree"
  ready+=("$strip/$name")
done
[[ -s $ROOT/etc/passwd ]] || fail "base-passwd made no users"
dpkg --root="$ROOT" --force-all --force-unsafe-io --no-triggers "${exclude[@]}" \
  --unpack "${ready[@]}" >"$ROOT.log" 2>&1 || { tail -20 "$ROOT.log"; fail "dpkg --unpack failed"; }
for kernel in "$ROOT"/usr/lib/modules/*; do
  touch "$kernel/.fresh-install"
  depmod -b "$ROOT" "$(basename "$kernel")"
done

cp -r --no-preserve=ownership "$HERE/overlay/." "$ROOT/"
mkdir -p "$ROOT/etc/apt"
cp "$DEBS/../sources.list" "$ROOT/etc/apt/sources.list"
: >"$ROOT/etc/machine-id"

mke2fs -q -t ext4 -L TIDEGATE -m 1 -d "$ROOT" "$EXT4" "$SIZE" || fail "mke2fs failed"
