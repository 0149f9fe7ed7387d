#!/bin/bash
# Demonstrates a fleet with real packets: three gateways that share one address, a
# router that spreads connections over them, one knock, and 24 connections that are
# answered by all three; a list of one-time ports that is used up everywhere; the
# engine killed and back.  Everything has its own network namespace on this machine;
# nothing outside of them is touched.
#
#     contrib/demo-fleet.sh
#
# Needs root or user namespaces, iproute2, nftables, Python 3 and redis-server (or
# ENGINE=valkey-server); as root it installs what is missing (apt-get).  KNOCKD=PATH,
# KNOCK=PATH and KNOCKD_FLEET=PATH demonstrate other programs than those built here.
#
# Exit code: 0 if every step passed, 1 otherwise.
set -euo pipefail

export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)

die() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

case "${1:-}" in
'') ;;
-h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" && exit ;;
*) die "unknown argument: $1 (there are none)" ;;
esac

packages=()
want() {
    command -v "$1" >/dev/null 2>&1 || packages+=("$2")
}
want ip iproute2
want nft nftables
want unshare util-linux
want python3 python3
[ -n "${ENGINE:-}" ] || want redis-server redis-server
if [ ${#packages[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        die "missing packages: ${packages[*]}. Install them, or run this script as root."
    fi
    echo "Installing ${packages[*]} (apt-get)"
    export DEBIAN_FRONTEND=noninteractive
    # The demonstration starts an engine of its own; the package's must not run.
    policy=/usr/sbin/policy-rc.d
    if [ -e $policy ]; then policy=''; else printf '#!/bin/sh\nexit 101\n' | install -m 755 /dev/stdin $policy; fi
    apt-get -qq update >/dev/null || true # an outdated package list may be good enough
    apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null </dev/null || code=$?
    [ -z "$policy" ] || rm $policy
    [ "${code:-0}" = 0 ] || die "apt-get could not install ${packages[*]}"
fi

if [ -z "${KNOCKD:-}" ] || [ -z "${KNOCK:-}" ] || [ -z "${KNOCKD_FLEET:-}" ]; then
    command -v cargo >/dev/null || die "cargo is missing: install Rust, see https://rustup.rs"
    target=$(cd "$here/.." && mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
    echo "Building knockd, knock and knockd-fleet: some minutes the first time"
    (cd "$here/.." && cargo build --locked) </dev/null
    (cd "$here/fleet" && cargo build --locked --target-dir "$target/fleet") </dev/null
    : "${KNOCKD:=$target/debug/knockd}" "${KNOCK:=$target/debug/knock}"
    : "${KNOCKD_FLEET:=$target/fleet/debug/knockd-fleet}"
fi
KNOCKD=$(realpath "$KNOCKD") KNOCK=$(realpath "$KNOCK") KNOCKD_FLEET=$(realpath "$KNOCKD_FLEET")
export KNOCKD KNOCK KNOCKD_FLEET

new=(unshare --net --mount --pid --fork --kill-child --mount-proc)
[ "$(id -u)" = 0 ] || new+=(--user --map-root-user)
"${new[@]}" true 2>/dev/null ||
    die "network namespaces cannot be made here: run this as root, or allow user namespaces"
# A file system of its own for all that is made, gone with the demonstration.
# shellcheck disable=SC2016  # expanded inside
exec "${new[@]}" bash -c 'mount --make-rprivate / && mount -t tmpfs -o mode=700 tmpfs /mnt &&
    export TMPDIR=/mnt && exec python3 -B "$0/tests/fleet_demo.py"' "$here" </dev/null
