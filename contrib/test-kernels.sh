#!/bin/bash
# Runs the tests that depend on the kernel (doors in its firewall, the confinement of the
# processes) on kernels of Debian for other versions and processors, emulated by qemu-system.
# The emulators of qemu-user have neither seccomp nor nf_tables.
#
#     contrib/test-kernels.sh [MACHINE...] [-- TESTS...]
#     contrib/test-kernels.sh --list
#
# MACHINE is one of those that --list prints; default: all. TESTS are modules or names of the
# tests; default: those of the machine in MACHINES below. Each machine boots Debian's kernel
# with a file system that it sees read-only: the host's own if it has the host's processor,
# else a small Debian with iproute2 and nftables. Nothing on the host is changed but
# target/kernels, where packages and file systems are kept for the next run.
#
# TESTS=PROGRAM runs these tests instead of building them, on machines of one processor. THREADS
# is how many run at once (2). SLOWNESS is how many times as long the tests wait for what they
# expect (4). LIMIT is how many seconds a machine runs at most (3600).
#
# It needs an x86_64 machine, root, rustup, cpio, debian-archive-keyring, debootstrap, kmod,
# nftables, xz-utils, qemu-system-x86, -arm, -mips and -misc, and the mirrors of Debian. For
# armv7, riscv64 and mipsel also what build-static.sh needs, for s390x gcc-s390x-linux-gnu and
# libc6-dev-s390x-cross.
#
# An emulated machine is ten to thirty times slower than a real one. Where a door is open for
# seconds only, a test may be too late to see it, and says so: run it alone (-- NAME) when
# nothing else runs.
#
# Exit code: 0 if every test passed on every machine.
set -euo pipefail

# Name, release of Debian, its architecture, kernel package, tests. Debian has no kernel for
# big-endian MIPS since buster; s390x is the big-endian machine, and none that the watcher has
# a list of system calls for.
ALL=daemon::intruder,wire::confinement,firewall::
MACHINES="
x86_64-5.10  bullseye amd64   linux-image-5.10.0-[0-9]+-amd64           $ALL
x86_64-6.1   bookworm amd64   linux-image-6.1.0-[0-9]+-amd64            $ALL
aarch64-6.1  bookworm arm64   linux-image-6.1.0-[0-9]+-arm64            $ALL
armv7-6.1    bookworm armhf   linux-image-6.1.0-[0-9]+-armmp            $ALL
riscv64-6.12 trixie   riscv64 linux-image-6.12.[0-9]+[+.]deb13-riscv64  $ALL
mipsel-6.1   bookworm mipsel  linux-image-6.1.0-[0-9]+-4kc-malta        $ALL
s390x-6.1    bookworm s390x   linux-image-6.1.0-[0-9]+-s390x            firewall::
"
MIRROR=${MIRROR:-http://deb.debian.org/debian}
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

die() {
    printf 'test-kernels: %s\n' "$*" >&2
    exit 1
}

say() {
    printf '%s\n' "$*" >&2
}

names=$(sed -n 's/^\([a-z0-9_.-]\+\) .*/\1/p' <<<"$MACHINES")
machines=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
    --list) printf '%s\n' "$names" && exit ;;
    *) grep -qxF -e "$1" <<<"$names" || die "$1: unknown machine; the machines are: ${names//$'\n'/ }" ;;
    esac
    machines+=("$1")
    shift
done
wanted=()
if [ "${1:-}" = -- ]; then shift && wanted=("$@"); fi
if [ ${#machines[@]} = 0 ]; then mapfile -t machines <<<"$names"; fi

[ "$(id -u)" = 0 ] || die "it unpacks packages with their owners: run it as root"
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin"
for program in cargo cpio depmod xz debootstrap apt-get dpkg-deb; do
    command -v "$program" >/dev/null || die "$program is missing"
done
for machine in "${machines[@]}"; do
    case $machine in
    armv7-*) emulator=qemu-system-arm ;;
    *) emulator=qemu-system-${machine%-*} ;;
    esac
    command -v "$emulator" >/dev/null || die "$emulator is missing, for $machine"
done
[ -e "$KEYRING" ] || die "$KEYRING is missing: apt-get install debian-archive-keyring"
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/kernels"
target=$(cd "$target" && pwd)
folder=$target/kernels

# apt RELEASE ARCHITECTURE PROGRAM WORDS...: apt-get or apt-cache with settings and lists of its own.
apt() {
    local at=$folder/apt/$1-$2 program=$3 options=() it
    if [ ! -e "$at/sources.list" ]; then
        mkdir -p "$at"/{lists/partial,cache/archives/partial,preferences.d,trusted.gpg.d}
        : >"$at/status"
        cp "$KEYRING" "$at/trusted.gpg.d/"
        echo "deb $MIRROR $1 main" >"$at/sources.list"
    fi
    for it in Dir::State="$at" Dir::State::status="$at/status" Dir::State::lists="$at/lists" Dir::Cache="$at/cache" \
        Dir::Etc="$at" Dir::Etc::sourceparts=/none Dir::Etc::trustedparts="$at/trusted.gpg.d" \
        APT::Architecture="$2" APT::Architectures::="$2" Acquire::Languages=none APT::Sandbox::User=root; do
        options+=(-o "$it")
    done
    shift 3
    "$program" -q=2 "${options[@]}" "$@"
}

# fetch RELEASE ARCHITECTURE PATTERN FOLDER: unpacks the newest package of this name, once.
fetch() {
    local package
    [ ! -e "$4" ] || return 0
    if [ -z "$(find "$folder/apt/$1-$2/lists" -name '*Packages*' 2>/dev/null)" ]; then apt "$1" "$2" apt-get update; fi
    package=$(apt "$1" "$2" apt-cache search --names-only "^$3\$" | cut -d ' ' -f 1 | sort -V | tail -n 1)
    [ -n "$package" ] || die "$1 has no package $3 for $2"
    say "fetching $package ($2)"
    mkdir -p "$folder/packages"
    (cd "$folder/packages" && apt "$1" "$2" apt-get download "$package")
    rm -rf "$4.new" && mkdir -p "$4.new"
    dpkg-deb -x "$(find "$folder/packages" -name "${package}_*_$2.deb" | sort -V | tail -n 1)" "$4.new"
    mv "$4.new" "$4"
}

# A small Debian for another processor: unpacked, not installed, since nothing of it can run here.
debian() {
    local release=$1 architecture=$2 at=$3 it
    [ ! -e "$at" ] || return 0
    say "making a Debian $release for $architecture"
    rm -rf "$at.new" && mkdir -p "$at.new"
    debootstrap --foreign --variant=minbase --arch="$architecture" --keyring="$KEYRING" \
        --include=nftables,iproute2,netbase "$release" "$at.new" "$MIRROR" >"$folder/debootstrap.log" ||
        die "debootstrap: $(tail -n 1 "$folder/debootstrap.log")"
    for it in "$at.new"/var/cache/apt/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$it" | tar -x --keep-directory-symlink -C "$at.new"
    done
    rm -rf "$at.new"/usr/share/{doc,man,locale,info,i18n,zoneinfo} "$at.new"/var/cache/apt "$at.new"/var/lib/apt
    # In a container debootstrap makes it a link.
    rm -rf "$at.new/proc" && mkdir "$at.new/proc"
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n' >"$at.new/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$at.new/etc/group"
    mv "$at.new" "$at"
}

# Builds the tests for a processor; prints their path. The programs that they run stand beside them.
tests_for() {
    local said
    if [ -n "${TESTS:-}" ]; then realpath "$TESTS" && return; fi
    case $1 in
    "$(uname -m)") said=$(cargo test --no-run --locked --test tests 2>&1) || { say "$said" && return 1; } ;;
    s390x)
        rustup -q target add s390x-unknown-linux-gnu >/dev/null 2>&1 || true
        said=$(CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_LINKER=s390x-linux-gnu-gcc \
            cargo test --no-run --locked --test tests --target s390x-unknown-linux-gnu 2>&1) || { say "$said" && return 1; }
        ;;
    *)
        said=$(contrib/build-static.sh --tests "$1") && realpath "$said"
        return
        ;;
    esac
    realpath "$(sed -n 's/^ *Executable tests.main\.rs (\(.*\))$/\1/p' <<<"$said")"
}

# initramfs KERNEL BUSYBOX PROGRAM ROOT FOLDER TESTS...: the first file system: busybox, the modules, and the script that
# mounts the shared one and runs the tests there.
initramfs() {
    local kernel=$1 busybox=$2 tests=$3 root=$4 at=$5 modules version it
    shift 5
    # Newer packages have them in /usr/lib.
    modules=$(find "$kernel" -mindepth 3 -maxdepth 4 -path '*/lib/modules/*' -type d ! -path '*/kernel' | head -n 1)
    version=${modules##*/}
    rm -rf "$at" && mkdir -p "$at"/{bin,sbin,dev,proc,sys,host,tmp,lib/modules/"$version"}
    # Newer packages have it in /usr/bin.
    cp "$(find "$busybox" -path '*/bin/busybox' -type f)" "$at/bin/"
    # The tests look for the programs where they were built; a build meanwhile does not change them.
    cp "$tests" "${tests%/deps/*}"/{knock,knockd} "$at/tmp/"
    for it in sh mount umount mkdir cp modprobe cat chroot ip; do ln -s busybox "$at/bin/$it"; done
    ln -s /bin/busybox "$at/sbin/modprobe"
    cp "$modules"/modules.{order,builtin}* "$at/lib/modules/$version/"
    (cd "$modules" && find kernel -path 'kernel/net/*' -o -path 'kernel/fs/9p/*' -o -path 'kernel/fs/netfs/*' \
        -o -path 'kernel/fs/fscache/*' -o -path 'kernel/drivers/virtio/*' -o -path 'kernel/drivers/net/veth.ko*' \
        -o -path 'kernel/drivers/net/tun.ko*' -o -path 'kernel/drivers/net/dummy.ko*' -o -path 'kernel/lib/*' -o -path 'kernel/crypto/*' \
        -o -path 'kernel/arch/*/crypto/*') | grep '\.ko' |
        (cd "$modules" && cpio -o --quiet) | (cd "$at/lib/modules/$version" && cpio -id --quiet)
    find "$at/lib/modules" -name '*.ko.xz' -exec xz -d {} +
    depmod -b "$at" "$version"
    cat >"$at/init" <<END
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc && mount -t sysfs sysfs /sys && mount -t devtmpfs devtmpfs /dev
for module in virtio_pci virtio_mmio 9pnet_virtio 9p veth tun dummy nf_tables packet_diag inet_diag tcp_diag; do
    modprobe \$module 2>/dev/null
done
mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=262144 host /host || echo "MACHINE: no file system"
# A small one is copied: errors of 9p have the host's numbers, and MIPS has others.
if [ "$root" != / ]; then
    mkdir /copy && mount -t tmpfs -o size=80% tmpfs /copy && cp -a /host/. /copy
    umount /host && mount --move /copy /host
fi
mount -t proc proc /host/proc && mount -t sysfs sysfs /host/sys && mount --bind /dev /host/dev
mount --bind /tmp/${tests##*/} /host$tests
for at in knock knockd; do mount --bind /tmp/\$at /host${tests%/deps/*}/\$at; done
for at in tmp run var/log; do mount -t tmpfs -o mode=1777 tmpfs /host/\$at; done
ip link set lo up
echo "MACHINE: \$(cat /proc/version)"
# Only a child changes its root: the kernel loads modules with the programs of this one.
cd /host && mount --move . / && chroot . /bin/sh -c '
    for module in $*; do
        echo "MACHINE: tests of \$module"
        KNOCKD_TEST_SLOWNESS=${SLOWNESS:-4} $tests --color=never --test-threads=${THREADS:-2} \$module || echo "MACHINE: not all of \$module"
    done
    echo "MACHINE: end"
    sleep 2 # until the console has it
    echo b >/proc/sysrq-trigger
'
END
    chmod 755 "$at/init"
    (cd "$at" && find . | cpio -o -H newc --quiet) | gzip -1 >"$at.gz"
}

# boot MACHINE KERNEL INITRAMFS ROOT LOG: runs it to its end, or for an hour.
boot() {
    local image command console=ttyS0 disk=virtio-9p-pci
    image=$(find "$2/boot" -name 'vmlinu[xz]-*')
    case $1 in
    x86_64-*) command=(qemu-system-x86_64 -M q35 -cpu max -m 2048 -smp 2) ;;
    aarch64-*) command=(qemu-system-aarch64 -M virt -cpu cortex-a57 -m 2048 -smp 2) console=ttyAMA0 ;;
    armv7-*) command=(qemu-system-arm -M 'virt,highmem=off' -cpu cortex-a15 -m 1024 -smp 2) console=ttyAMA0 ;;
    riscv64-*) command=(qemu-system-riscv64 -M virt -m 2048 -smp 2) ;;
    mipsel-*) command=(qemu-system-mipsel -M malta -cpu 24Kf -m 1024) ;;
    s390x-*) command=(qemu-system-s390x -m 2048 -smp 2) console=ttysclp0 disk=virtio-9p-ccw ;;
    esac
    command+=(-nographic -no-reboot -nic none -kernel "$image" -initrd "$3.gz" -append "console=$console quiet panic=-1"
        -fsdev "local,id=host,path=$4,security_model=none,readonly=on,multidevs=remap" -device "$disk,fsdev=host,mount_tag=host")
    timeout "${LIMIT:-3600}" "${command[@]}" </dev/null >"$5" 2>&1 || true
}

table=() failures=0
for machine in "${machines[@]}"; do
    read -r _ release architecture kernel modules <<<"$(grep "^$machine " <<<"$MACHINES")"
    processor=${machine%-*}
    say
    say "==> $machine"
    if ! tests=$(tests_for "$processor"); then
        table+=("$machine|-|the tests could not be built, see above")
        failures=$((failures + 1))
        continue
    fi
    fetch "$release" "$architecture" "$kernel" "$folder/$machine"
    fetch "$release" "$architecture" busybox-static "$folder/busybox-$release-$architecture"
    root=/
    if [ "$processor" != "$(uname -m)" ]; then
        root=$folder/debian-$release-$architecture
        debian "$release" "$architecture" "$root"
        # The programs of this run go there, see initramfs.
        mkdir -p "$root${tests%/*}"
        touch "$root$tests" "$root${tests%/deps/*}"/{knock,knockd}
        # Tests read files of the repository.
        mkdir -p "$root$PWD"
        git ls-files -z | cpio -0pdu --quiet "$root$PWD"
    fi
    if [ ${#wanted[@]} = 0 ]; then IFS=, read -ra modules <<<"$modules"; else modules=("${wanted[@]}"); fi
    initramfs "$folder/$machine" "$folder/busybox-$release-$architecture" "$tests" "$root" "$folder/$machine.initramfs" "${modules[@]}"
    boot "$machine" "$folder/$machine" "$folder/$machine.initramfs" "$root" "$folder/$machine.log"
    log=$(tr -d '\r' <"$folder/$machine.log")
    version=$(sed -n 's/.*MACHINE: Linux version \([^ ]*\).*/\1/p' <<<"$log")
    passed=$(sed -n 's/^test result: .* \([0-9]\+\) passed;.*/\1/p' <<<"$log" | paste -sd+)
    bad=$(sed -n 's/^test \([^ ]*\) *\.\.\. FAILED$/\1/p' <<<"$log" | sort -u | paste -sd' ')
    if [ -n "$bad" ] || ! grep -q '^MACHINE: end' <<<"$log" || grep -q '^MACHINE: n' <<<"$log"; then
        failures=$((failures + 1))
        result="FAILED: ${bad:-see $folder/$machine.log}"
    else
        result=ok
    fi
    table+=("$machine|${version:--}|$((${passed:-0})) passed; $result")
done

printf '\n%-12s | %-24s | %s\n' machine kernel tests
for row in "${table[@]}"; do
    IFS='|' read -r name version result <<<"$row"
    printf '%-12s | %-24s | %s\n' "$name" "$version" "$result"
done
[ $failures = 0 ]
