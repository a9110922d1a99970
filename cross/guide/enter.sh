#!/bin/sh
# Runs a script in a root file system, as a machine of its own would. To be started in namespaces of its own:
#
# Usage:  unshare --mount --net --pid --ipc --uts --fork --kill-child enter.sh BASE PLACE EMULATOR MAGIC
#   BASE             the root file system, which stays as it is
#   PLACE            a folder; what is in PLACE/files is added, guide.sh among it, which is run in /root
#   EMULATOR MAGIC   runs programs of another machine, known by the two bytes MAGIC of their headers
# Everything that is written and mounted here ends with the namespaces. The kernel's knowledge of EMULATOR may be that of
# the whole machine, where binfmt_misc is mounted outside too: it is taken away at the end.
set -eu

base=$1 place=$2 emulator=$3 magic=$4
mount --make-rprivate /
mount -t tmpfs tmpfs "$place/layer"
mkdir "$place/layer/upper" "$place/layer/work" "$place/layer/root"
root=$place/layer/root
mount -t overlay -o "lowerdir=$base,upperdir=$place/layer/upper,workdir=$place/layer/work" overlay "$root"
cp -a "$place/files/." "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t binfmt_misc binfmt_misc "$root/proc/sys/fs/binfmt_misc"
# Devices that harm nobody; /dev/sdX is a file here.
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom tty; do
    touch "$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
bytes='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
known=$root/proc/sys/fs/binfmt_misc
# One that is there was left by a run that was killed.
[ ! -e "$known/tidegate-guide" ] || echo -1 > "$known/tidegate-guide"
echo ":tidegate-guide:M::$bytes$magic:$mask:$emulator:F" > "$known/register"
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
code=0
chroot "$root" /usr/bin/env -i PATH=$path HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    /bin/bash -c "cd /root && busybox ip link set lo up && . /guide.sh" || code=$?
echo -1 > "$known/tidegate-guide"
exit $code
