#!/bin/bash
# contrib/container, without a container engine: with CAP_NET_RAW only and
# no_new_privs; and the exit code of `knockd -c CFG -d -i IF`.
# shellcheck disable=SC2034,SC2054,SC2317 # names and functions that are passed as arguments
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

check "shellcheck of the entry point" shellcheck "$CONTRIB/container/entrypoint.sh"

# Like in a container: the program is in PATH.
export PATH=$PWD/../bin:$PATH
export KNOCK_STATE=$PWD/state KNOCK_CONFIG=$PWD/knockd.conf KNOCK_INTERFACE=eth0
mkdir -m 777 state
# The command also counts how often it runs; the cooldown is longer than the test.
sed "s#/entrypoint.sh#echo woken >>$PWD/state/woken; $CONTRIB/container/entrypoint.sh#
    s/cooldown = 10$/cooldown = 100/I" "$CONTRIB/container/knockd.conf" >knockd.conf
chmod 755 .. . && chmod 644 knockd.conf
cable eth0 eth0
knock() { at_client "$KNOCK" 10.83.0.1 "$@"; }

# As root in the container, like docker; and as an ordinary user, like podman.
root=(setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,+net_raw)
user=(setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs
    --inh-caps=-all,+net_raw --ambient-caps=-all,+net_raw --bounding-set=-all,+net_raw)
nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs
    --inh-caps=-all --bounding-set=-all)
daemon=(knockd -c "$KNOCK_CONFIG" -d -i eth0 -p "$KNOCK_STATE/knockd.pid")
ends() { [ ! -e "/proc/$1" ]; }
stop() {
    local pid
    pid=$(cat state/knockd.pid)
    kill "$pid"
    soon ends "$pid"
}
# The capabilities that a process has, in hexadecimal: 2000 is NET_RAW.
rights() { sed -n 's/^CapEff:.*000\([0-9a-f]\{4\}\)$/\1/p; s/^NoNewPrivs:.//p' "/proc/$1/status" | tr '\n' ' '; }

# ------------------------------------------------------- exit codes of knockd
for who in root user; do
    declare -n as=$who
    check "as $who: -d returns 0" "${as[@]}" "${daemon[@]}"
    same "as $who: the doorkeeper has only CAP_NET_RAW and no_new_privs" "2000 1 " "$(rights "$(cat state/knockd.pid)")"
    same "as $who: the watcher has no capability" "0000 1 " "$(rights "$(pgrep -P "$(cat state/knockd.pid)")")"
    check "as $who: it stops" stop
    refused "as $who: -D works with -d" 0 "config: new section: 'wake-tcp'" "${as[@]}" "${daemon[@]}" -D
    check "as $who: it stops" stop
done
refused "a missing interface: 1, and a list of the existing ones" 1 "eth0" \
    "${user[@]}" knockd -c "$KNOCK_CONFIG" -d -i eth7 -p "$KNOCK_STATE/knockd.pid"
refused "without CAP_NET_RAW: 1, and what to do" 1 "CAP_NET_RAW" "${nobody[@]}" "${daemon[@]}"
refused "an error in the configuration: 1, and its line" 1 "line 1" \
    "${user[@]}" knockd -c /etc/hostname -d -i eth0 -p "$KNOCK_STATE/knockd.pid"
same "no process is left" "" "$(pgrep -x knockd)"

# ------------------------------------------------------ a server that is woken
asleep() { [ "$(sed 's/.*) //' "/proc/$(cat state/server.pid)/stat" | cut -c1)" = T ]; }
for who in root user; do
    declare -n as=$who
    rm -f state/*
    "${as[@]}" "$CONTRIB/container/entrypoint.sh" sleep 100 >said 2>&1 &
    entry=$!
    if soon asleep; then passed "as $who: the server sleeps"; else failed "as $who: the server sleeps" "$(cat said)"; fi
    # knockd is already listening: one packet, sent once, is enough.
    knock 8080
    if soon lacks asleep; then passed "as $who: a TCP packet wakes it"; else failed "as $who: a TCP packet wakes it" "$(cat said)"; fi
    kill -STOP "$(cat state/server.pid)"
    soon asleep
    knock 8081 19133:udp
    sleep 0.3
    check "as $who: other ports do not wake it" asleep
    knock 19132:udp
    if soon lacks asleep; then passed "as $who: a UDP packet wakes it"; else failed "as $who: a UDP packet wakes it" "$(cat said)"; fi
    for _ in {1..50}; do knock -d 1 19132:udp; knock -d 1 8080; done
    sleep 0.3
    same "as $who: each door runs its command once during the cooldown" 2 "$(wc -l <state/woken)"
    kill -TERM $entry
    if soon ends $entry; then passed "as $who: the container stops"; else failed "as $who: the container stops"; fi
    wait $entry
    gone() { [ -z "$(pgrep -x knockd)" ]; }
    check "as $who: knockd stops too" soon gone
done

# Some engines use another name for the interface.
mount -t sysfs sysfs /sys
called() { ip link set "$1" down && ip link set "$1" name "$2" && ip link set "$2" up; }
called eth0 podman0
ip route add default via 10.83.0.2
rm -f state/*
env -u KNOCK_INTERFACE "${root[@]}" "$CONTRIB/container/entrypoint.sh" sleep 100 >said 2>&1 &
entry=$!
if soon asleep; then
    passed "without eth0 it listens on the interface of the default route"
else
    failed "without eth0 it listens on the interface of the default route" "$(cat said)"
fi
kill -TERM $entry
check "without eth0 it stops too" soon ends $entry
called podman0 eth0
rm -f state/*
KNOCK_INTERFACE=eth7 refused "a container that cannot listen does not start" 1 "nothing could wake the server" \
    "${user[@]}" "$CONTRIB/container/entrypoint.sh" sleep 100
refused "the entry point needs a server to run" 1 "the server to run is missing" "${user[@]}" "$CONTRIB/container/entrypoint.sh"
exit 0
