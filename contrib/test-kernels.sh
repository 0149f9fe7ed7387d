#!/bin/bash
# Runs the tests that depend on the kernel (doors in its firewall, the confinement of the
# processes) on Debian's older kernels, emulated by qemu-system-x86_64.
#
#     contrib/test-kernels.sh [MACHINE...] [-- TESTS...]
#     contrib/test-kernels.sh --list
#
# MACHINE is one of those that --list prints; default: all. TESTS are modules or names of the
# tests; default: MODULES below. Each machine boots Debian's kernel with the file system of
# the host, which it sees read-only. Nothing on the host is changed but target/kernels, where
# the packages are kept for the next run.
#
# TESTS=PROGRAM runs these tests instead of building them. THREADS is how many run at once (2).
#
# It needs x86_64, root, rustup, nftables, qemu-system-x86, cpio, kmod, debian-archive-keyring
# and the mirrors of Debian. An emulated machine is ten to thirty times slower than a real one:
# tests of what is over in a few seconds may be too late there, and say so. Run such a test
# alone (-- NAME) when nothing else runs.
#
# Exit code: 0 if every test passed on every machine.
set -euo pipefail

MODULES=(daemon::intruder wire::confinement firewall::)
# Name, release of Debian, its architecture, kernel package.
MACHINES='
x86_64-5.10  bullseye amd64   linux-image-5.10.0-[0-9]+-amd64
x86_64-6.1   bookworm amd64   linux-image-6.1.0-[0-9]+-amd64
'
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
if [ "${1:-}" = -- ]; then shift && MODULES=("$@"); fi
if [ ${#machines[@]} = 0 ]; then mapfile -t machines <<<"$names"; fi

[ "$(id -u)" = 0 ] || die "the machines read the whole file system of this one: run it as root"
[ "$(uname -m)" = x86_64 ] || die "the machines run the programs of this one: it has to be x86_64"
cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin"
for program in cargo cpio depmod nft apt-get dpkg-deb qemu-system-x86_64; do
    command -v "$program" >/dev/null || die "$program is missing"
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

# Builds the tests; prints their path. The programs that they run stand beside them.
built_tests() {
    local said
    if [ -n "${TESTS:-}" ]; then realpath "$TESTS" && return; fi
    said=$(cargo test --no-run --locked --test tests 2>&1) || { say "$said" && return 1; }
    realpath "$(sed -n 's/^ *Executable tests.main\.rs (\(.*\))$/\1/p' <<<"$said")"
}

# The first file system: busybox, the modules, and the script that mounts the shared one and runs the tests there.
initramfs() {
    local kernel=$1 busybox=$2 tests=$3 at=$4 modules version it
    modules=$(find "$kernel" -mindepth 3 -maxdepth 4 -path '*/lib/modules/*' -type d ! -path '*/kernel' | head -n 1)
    version=${modules##*/}
    rm -rf "$at" && mkdir -p "$at"/{bin,sbin,dev,proc,sys,host,tmp,lib/modules/"$version"}
    cp "$busybox/bin/busybox" "$at/bin/"
    # The tests look for the programs where they were built; a build meanwhile does not change them.
    cp "$tests" "${tests%/deps/*}"/{knock,knockd} "$at/tmp/"
    for it in sh mount modprobe cat chroot ip; do ln -s busybox "$at/bin/$it"; done
    ln -s /bin/busybox "$at/sbin/modprobe"
    cp "$modules"/modules.{order,builtin}* "$at/lib/modules/$version/"
    (cd "$modules" && find kernel -path 'kernel/net/*' -o -path 'kernel/fs/9p/*' -o -path 'kernel/fs/netfs/*' \
        -o -path 'kernel/fs/fscache/*' -o -path 'kernel/drivers/virtio/*' -o -path 'kernel/drivers/net/veth.ko*' \
        -o -path 'kernel/drivers/net/tun.ko*' -o -path 'kernel/drivers/net/dummy.ko*' -o -path 'kernel/lib/*' -o -path 'kernel/crypto/*' \
        -o -path 'kernel/arch/*/crypto/*') | grep '\.ko' |
        (cd "$modules" && cpio -o --quiet) | (cd "$at/lib/modules/$version" && cpio -id --quiet)
    depmod -b "$at" "$version"
    cat >"$at/init" <<END
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc && mount -t sysfs sysfs /sys && mount -t devtmpfs devtmpfs /dev
for module in virtio_pci virtio_mmio 9pnet_virtio 9p veth tun dummy nf_tables packet_diag inet_diag tcp_diag; do
    modprobe \$module 2>/dev/null
done
mount -t 9p -o ro,trans=virtio,version=9p2000.L,cache=loose,msize=262144 host /host || echo "MACHINE: no file system"
mount -t proc proc /host/proc && mount -t sysfs sysfs /host/sys && mount --bind /dev /host/dev
mount --bind /tmp/${tests##*/} /host$tests
for at in knock knockd; do mount --bind /tmp/\$at /host${tests%/deps/*}/\$at; done
for at in tmp run var/log; do mount -t tmpfs -o mode=1777 tmpfs /host/\$at; done
ip link set lo up
echo "MACHINE: \$(cat /proc/version)"
# Only a child changes its root: the kernel loads modules with the programs of this one.
cd /host && mount --move . / && chroot . /bin/sh -c '
    for module in ${MODULES[*]}; do
        echo "MACHINE: tests of \$module"
        $tests --color=never --test-threads=${THREADS:-2} \$module || echo "MACHINE: not all of \$module"
    done
    echo "MACHINE: end"
    sleep 2 # until the console has it
    echo b >/proc/sysrq-trigger
'
END
    chmod 755 "$at/init"
    (cd "$at" && find . | cpio -o -H newc --quiet) | gzip -1 >"$at.gz"
}

# boot KERNEL INITRAMFS LOG: runs a machine to its end, or for an hour.
boot() {
    local command=(qemu-system-x86_64 -M q35 -cpu max -m 2048 -smp 2 -nographic -no-reboot -nic none)
    command+=(-kernel "$(find "$1/boot" -name 'vmlinuz-*')" -initrd "$2.gz" -append 'console=ttyS0 quiet panic=-1'
        -fsdev 'local,id=host,path=/,security_model=none,readonly=on,multidevs=remap'
        -device 'virtio-9p-pci,fsdev=host,mount_tag=host')
    timeout "${LIMIT:-3600}" "${command[@]}" </dev/null >"$3" 2>&1 || true
}

tests=$(built_tests) || die "the tests could not be built, see above"
table=() failures=0
for machine in "${machines[@]}"; do
    read -r _ release architecture kernel <<<"$(grep "^$machine " <<<"$MACHINES")"
    say
    say "==> $machine"
    fetch "$release" "$architecture" "$kernel" "$folder/$machine"
    fetch "$release" "$architecture" busybox-static "$folder/busybox-$release-$architecture"
    initramfs "$folder/$machine" "$folder/busybox-$release-$architecture" "$tests" "$folder/$machine.initramfs"
    boot "$folder/$machine" "$folder/$machine.initramfs" "$folder/$machine.log"
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
