#!/bin/sh
# Runs a server, has it sleep, and wakes it when somebody knocks.
#
#     entrypoint.sh SERVER [ARGUMENT...]
#
# KNOCK_INTERFACE is where to listen (eth0 or, as containers without root do not
# have it, the interface of the default route), KNOCK_CONFIG the doors
# (/etc/knockd.conf), KNOCK_STATE a folder for the numbers of processes (/run).
set -u

state=${KNOCK_STATE:-/run}
interface=${KNOCK_INTERFACE:-auto}
if [ -z "${KNOCK_INTERFACE:-}" ] && [ -e /sys/class/net/eth0 ]; then interface=eth0; fi

# What the doors run.
if [ "${1:-}" = --wake ]; then
    echo "woken by $2"
    kill -CONT "$(cat "$state/server.pid")"
    exit
fi

[ $# -gt 0 ] || {
    echo "entrypoint.sh: say which server to run: entrypoint.sh SERVER [ARGUMENT...]" >&2
    exit 1
}

"$@" &
server=$!
echo "$server" >"$state/server.pid" || {
    echo "entrypoint.sh: $state has to be a folder that can be written: mount a tmpfs there" >&2
    kill "$server"
    exit 1
}

# It comes back with 0 when packets are listened for, and not before; so from
# here on no knock is lost, and the server may sleep.
if ! knockd -c "${KNOCK_CONFIG:-/etc/knockd.conf}" -d -i "$interface" -p "$state/knockd.pid"; then
    echo "entrypoint.sh: knockd does not listen (the reason is above), so nothing could wake the server" >&2
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
