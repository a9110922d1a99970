#!/usr/bin/env bash
# Downloads the arm64 packages of an image with apt, which checks their signatures. The machine's
# own package database and lists are not touched, and root is not needed.
#
# Usage:  cross/image/fetch.sh DIR
# Leaves: DIR/debs/*.deb, the packages, and DIR/sources.list, where they are from
set -euo pipefail

fail() { printf 'fetch.sh: %s\n' "$*" >&2; exit 1; }

[[ $# -eq 1 && $1 != -* ]] || { sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; }
HERE=$(cd "$(dirname "$0")" && pwd)
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
SUITE=bookworm
[[ -f $KEYRING ]] || fail "$KEYRING is missing; install debian-archive-keyring"
mkdir -p "$1"/{debs/partial,apt/parts,apt/state/lists/partial,apt/cache}
DIR=$(cd "$1" && pwd)

# Where this machine's apt takes a suite from, so that a mirror nearby is used; else Debian's own.
mirror() {
  local found
  found=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v suite="$1" '$2 == suite && $3 == "main" { print $1; exit }')
  echo "${found:-$2}"
}

MAIN=$(mirror $SUITE http://deb.debian.org/debian)
SECURITY=$(mirror $SUITE-security http://deb.debian.org/debian-security)
cat >"$DIR/apt/sources.list" <<SOURCES
deb [signed-by=$KEYRING] $MAIN $SUITE main non-free-firmware
deb [signed-by=$KEYRING] $MAIN $SUITE-updates main
deb [signed-by=$KEYRING] $SECURITY $SUITE-security main non-free-firmware
SOURCES
# What the image itself asks later.
cat >"$DIR/sources.list" <<SOURCES
deb http://deb.debian.org/debian $SUITE main non-free-firmware
deb http://deb.debian.org/debian $SUITE-updates main
deb http://deb.debian.org/debian-security $SUITE-security main non-free-firmware
SOURCES
: >"$DIR/apt/status"
cat >"$DIR/apt/apt.conf" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "3";
Dir::State "$DIR/apt/state";
Dir::State::status "$DIR/apt/status";
Dir::Cache "$DIR/apt/cache";
Dir::Cache::archives "$DIR/debs/";
Dir::Etc::sourcelist "$DIR/apt/sources.list";
Dir::Etc::sourceparts "$DIR/apt/parts";
Dir::Etc::preferences "$DIR/apt/none";
Dir::Etc::preferencesparts "$DIR/apt/parts";
CONF
export APT_CONFIG=$DIR/apt/apt.conf

apt-get update -qq || fail "apt-get update failed for arm64 at $MAIN or $SECURITY"
mapfile -t packages < <(sed 's/#.*//; /^ *$/d' "$HERE/packages.txt")
wanted=$(apt-get install --print-uris -qq '?essential' "${packages[@]}" | awk '{ print $2 }') ||
  fail "apt finds no set of packages for ${packages[*]}"
# Of an earlier download, what is in no set any more.
for deb in "$DIR"/debs/*.deb; do
  [[ ! -e $deb ]] || grep -qxF "$(basename "$deb")" <<<"$wanted" || rm "$deb"
done
apt-get install --download-only -y -qq '?essential' "${packages[@]}" >/dev/null ||
  fail "the packages could not be downloaded"
