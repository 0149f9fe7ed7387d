#!/bin/sh
# Starts a server, suspends it, and wakes it when somebody knocks.
#
#     entrypoint.sh SERVER [ARGUMENT...]
#
# KNOCK_INTERFACE is the interface to listen on (default: eth0 or, if there is none, as
# in rootless containers, the interface of the default route), KNOCK_CONFIG the
# configuration (/etc/knockd.conf), KNOCK_STATE a directory for pid files (/run).
set -u

state=${KNOCK_STATE:-/run}
interface=${KNOCK_INTERFACE:-auto}
if [ -z "${KNOCK_INTERFACE:-}" ] && [ -e /sys/class/net/eth0 ]; then interface=eth0; fi

# The doors run this.
if [ "${1:-}" = --wake ]; then
    echo "woken by $2"
    kill -CONT "$(cat "$state/server.pid")"
    exit
fi

[ $# -gt 0 ] || {
    echo "entrypoint.sh: the server to run is missing: entrypoint.sh SERVER [ARGUMENT...]" >&2
    exit 1
}

"$@" &
server=$!
echo "$server" >"$state/server.pid" || {
    echo "entrypoint.sh: $state must be a writable directory: mount a tmpfs there" >&2
    kill "$server"
    exit 1
}

# knockd -d returns 0 only when it is listening; so from here on no knock is lost, and
# the server may sleep.
if ! knockd -c "${KNOCK_CONFIG:-/etc/knockd.conf}" -d -i "$interface" -p "$state/knockd.pid"; then
    echo "entrypoint.sh: knockd could not start listening (see above), so nothing could wake the server" >&2
    kill "$server"
    exit 1
fi
kill -STOP "$server"

# shellcheck disable=SC2317 # the trap calls it
finish() {
    kill -TERM "$(cat "$state/knockd.pid")"
    kill -CONT "$server"
    kill -TERM "$server"
}
trap finish TERM INT
wait "$server"
code=$?
# A signal interrupts the wait, but not the server.
while kill -0 "$server" 2>/dev/null; do
    wait "$server"
    code=$?
done
exit "$code"
