#!/bin/bash
# Runs the tests of contrib/: the helper, the unit, the OpenWrt package, the
# container, each in namespaces of its own. Needs root and changes nothing.
#
#     contrib/tests/run.sh [TEST...]
#
# KNOCKD=PATH and KNOCK=PATH test other programs than those of this folder.
#
# Exit code: 0 if all passed, 1 otherwise.
set -euo pipefail

die() {
    printf 'contrib/tests: %s\n' "$*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || die "this makes network namespaces and firewalls: run it as root"
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
CONTRIB=$(cd "$(dirname "$0")/.." && pwd)
export CONTRIB

missing=()
# The command, and the Debian package that brings it.
want() {
    command -v "$1" >/dev/null 2>&1 || missing+=("$2")
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
want shellcheck shellcheck
want busybox busybox
if [ ${#missing[@]} -gt 0 ]; then
    die "this is missing: apt-get install --no-install-recommends ${missing[*]}"
fi

if [ -z "${KNOCKD:-}" ] || [ -z "${KNOCK:-}" ]; then
    (cd "$CONTRIB/.." && cargo build --release --locked --quiet) </dev/null
    target=$(cd "$CONTRIB/.." && cd "${CARGO_TARGET_DIR:-target}" && pwd)
fi
KNOCKD=$(realpath "${KNOCKD:-$target/release/knockd}")
KNOCK=$(realpath "${KNOCK:-$target/release/knock}")
[ -x "$KNOCKD" ] || die "$KNOCKD cannot be run"
[ -x "$KNOCK" ] || die "$KNOCK cannot be run"
export KNOCKD KNOCK

SCRATCH=$(mktemp -d)
RESULTS=$SCRATCH/results
export SCRATCH RESULTS
chmod 755 "$SCRATCH"
: >"$RESULTS"
trap 'rm -rf "$SCRATCH"' EXIT

tests=("$@")
[ ${#tests[@]} -gt 0 ] || tests=(knock_helper systemd openwrt container)
for test in "${tests[@]}"; do
    file=$CONTRIB/tests/$test.sh
    [ -f "$file" ] || die "there is no test '$test'; there are: knock_helper systemd openwrt container"
    printf '%s\n' "$test"
    mkdir "$SCRATCH/$test"
    # When the first process of the namespace ends, so does all that it started.
    if ! (cd "$SCRATCH/$test" && timeout -k 5 300 unshare --net --mount --pid --fork --kill-child \
        --mount-proc bash "$file" </dev/null); then
        echo fail >>"$RESULTS"
        printf '  FAILED  %s did not come to its end\n' "$test"
    fi
done

count() {
    grep -c "^$1\$" "$RESULTS" || true
}
failures=$(count fail)
skips=$(count skip)
printf '%s passed, %s failed' "$(count pass)" "$failures"
[ "$skips" = 0 ] || printf ' (%s skipped)' "$skips"
echo
[ "$failures" = 0 ]
