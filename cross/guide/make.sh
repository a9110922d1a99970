#!/usr/bin/env bash
# Makes a Debian root file system to try the guides' commands in. As root, on Debian.
#
# Usage:  cross/guide/make.sh FOLDER
# The package lists stay in it, so that apt needs no network inside.
set -euo pipefail

[[ $# -eq 1 && $1 != -* ]] || { sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; }
packages=(
  busybox              # brings up the loopback interface
  ca-certificates      # recommended by the package
  systemd              # what it says of the unit; it does not run
  openrc logrotate
  podman crun
  xz-utils
)
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
  awk '$2 == "bookworm" && $3 == "main" && !done { print $1; done = 1 }')
[[ -n $mirror ]] || { echo "make.sh: apt knows no mirror of bookworm" >&2; exit 1; }
include=$(IFS=,; echo "${packages[*]}")
rm -rf "$1" "$1.new"
mmdebstrap --quiet --mode=root --variant=apt --format=directory --include="$include" --skip=cleanup/apt/lists \
  bookworm "$1.new" "$mirror"
mv "$1.new" "$1"
