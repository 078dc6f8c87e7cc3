#!/bin/bash
# A machine for the user data: a network namespace, a root file system above that of this machine, a disk, and systemd, which
# is started again when it ends. It is called three times, each time deeper inside.
#
# The root file system is as new on the first start, and stays what it was on every later one. As a container's systemd mounts
# no devices that /etc/fstab names, that is done before it starts.
set -euo pipefail
stage=$1 folder=$2 name=$3 address=$4 volume=$5 disk=$6 aws=$7 endpoint=$8
root=$folder/root

case $stage in
start)
    if [[ ! -d $folder/disk ]]; then
        mkdir -p "$folder/disk" "$root"
        mount -t tmpfs tmpfs "$folder/disk"
        mkdir "$folder/disk/upper" "$folder/disk/work"
    fi
    ip netns add "$name"
    ip link add "$name" type veth peer name eth0 netns "$name"
    ip link set "$name" master br0 up
    ip -n "$name" address add "$address/16" dev eth0
    ip -n "$name" link set lo up
    ip -n "$name" link set eth0 up
    # Systemd wants a control group of its own. These are no part of the namespaces, so they have names that nobody else takes.
    group=/sys/fs/cgroup
    [[ -d $group/systemd ]] && group=$group/systemd
    group=$group/crucial-$(basename "$folder")
    mkdir -p "$group"
    echo $$ >"$group/cgroup.procs"
    echo "$group" >"$folder/group"
    shift
    exec nsenter --net="/run/netns/$name" unshare --mount --uts --ipc --cgroup bash "$0" power "$@"
    ;;
power)
    # The disk of a machine that lost its power is free when the kernel has ended all that ran there.
    for _ in {1..100}; do
        [[ -z $(losetup --associated "$disk") ]] && break
        sleep 0.1
    done
    loop=$(losetup --find --show "$disk")
    # It goes with this process, and what has mounted it.
    exec 9<>"$loop"
    losetup --detach "$loop"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/disk/upper,workdir=$folder/disk/work" "$root"
    hostname "$name"
    shift
    # Who is told to restart the machine sends this; systemd ends, and is started again.
    trap 'kill -s RTMIN+5 "$(cat "/proc/$system/task/$system/children")"' USR1
    while true; do
        unshare --mount --pid --fork --kill-child bash "$0" boot "$@" "$loop" &
        system=$!
        # A signal ends it early.
        while kill -0 "$system" 2>/dev/null; do wait "$system" || true; done
        sleep 0.1
    done
    ;;
boot)
    loop=$9
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    for place in run tmp dev; do mount -t tmpfs -o mode=1777 tmpfs "$root/$place"; done
    chmod 755 "$root/run" "$root/dev"
    for device in null zero full random urandom tty; do
        mknod --mode 666 "$root/dev/$device" c "$(stat --format 0x%t "/dev/$device")" "$(stat --format 0x%T "/dev/$device")"
    done
    mkdir -p "$root/dev/pts" "$root/dev/shm" "$root/dev/disk/by-id"
    mknod "$root/dev/nvme1n1" b "$(stat --format 0x%t "$loop")" "$(stat --format 0x%T "$loop")"
    ln -s /dev/nvme1n1 "$root/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_$volume"
    touch "$root/dev/console" "$folder/console"
    mount --bind "$folder/console" "$root/dev/console"
    if [[ -d /sys/fs/cgroup/systemd ]]; then
        mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
        mkdir "$root/sys/fs/cgroup/systemd"
        mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
    else
        mount -t cgroup2 cgroup "$root/sys/fs/cgroup"
    fi
    # What Amazon's image has and this machine has not: its `aws`, with the machine's rights; and what runs the user data once.
    if [[ ! -e $root/var/lib/first-start ]]; then
        touch "$root/var/lib/first-start"
        : >"$root/etc/fstab"
        rm -rf "$root"/etc/systemd/system/*.wants
        mkdir -p "$root/opt/aws" "$root/usr/local/bin"
        cat >"$root/usr/local/bin/aws" <<AWS
#!/bin/sh
AWS_ENDPOINT_URL=$endpoint AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret exec /opt/aws/bin/python -m awscli "\$@"
AWS
        chmod 755 "$root/usr/local/bin/aws"
        cp "$folder/user-data" "$root/var/lib/user-data"
        cat >"$root/etc/systemd/system/user-data.service" <<'UNIT'
[Unit]
After=network-online.target
ConditionPathExists=!/var/lib/user-data-was-run

[Service]
Type=oneshot
ExecStartPre=/bin/touch /var/lib/user-data-was-run
ExecStart=/bin/bash /var/lib/user-data

[Install]
WantedBy=multi-user.target
UNIT
        # All that is logged there is in the file `console`.
        mkdir -p "$root/etc/systemd/journald.conf.d"
        printf '[Journal]\nForwardToConsole=yes\n' >"$root/etc/systemd/journald.conf.d/console.conf"
        mkdir "$root/etc/systemd/system/multi-user.target.wants"
        ln -s ../user-data.service "$root/etc/systemd/system/multi-user.target.wants/user-data.service"
    fi
    mount --bind "$aws" "$root/opt/aws"
    # Python may be where only root looks.
    python=$(dirname "$(readlink --canonicalize "$aws/bin/python")")
    while [[ $python != / ]]; do
        chmod a+rx "$root$python"
        python=$(dirname "$python")
    done
    cd "$root"
    mkdir -p mnt/below
    pivot_root . mnt/below
    mount --all
    umount --lazy /mnt/below
    exec env -i container=lab PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --unit=multi-user.target --show-status=no
    ;;
esac
