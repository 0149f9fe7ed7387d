#!/bin/bash
# `Guard` beside the firewalls that people have: it stays closed over their real
# reloads, and an open door stays open.
# shellcheck disable=SC2317 # functions that are passed as arguments
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

cable eth0 eth0
nc -l -k -p 22 </dev/null >/dev/null &
soon grep -q ':0016 .* 0A ' /proc/net/tcp
connects() { at_client timeout 2 bash -c 'exec 3<>/dev/tcp/10.83.0.1/22' 2>/dev/null; }
check "the port is open before" soon connects
cat >knockd.conf <<'END'
[options]
    Guard = yes
[ssh]
    Sequence = 7000:udp
    Open = tcp/22
    Cmd_Timeout = 600
END
"$KNOCKD" -v -i eth0 -c knockd.conf >said 2>&1 &
daemon=$!
soon grep -q 'listening on' said

# stays NAME COMMAND...: closed for the client, over the command; then open, over the same.
stays() {
    local name=$1
    shift
    check "$name: closed" lacks connects
    check "$name: reload" "$@"
    check "$name: closed after it" lacks connects
    at_client "$KNOCK" -u 10.83.0.1 7000
    check "$name: open after a knock" soon connects
    check "$name: reload" "$@"
    check "$name: open after it" soon connects
    # The next firewall finds a new guard, with nobody in it.
    kill $daemon
    wait $daemon
    check "$name: the guard goes" "$KNOCKD" --unguard -c knockd.conf
    rm said # what the last daemon said is not to be taken for the next one's
    "$KNOCKD" -v -i eth0 -c knockd.conf >said 2>&1 &
    daemon=$!
    soon grep -q 'listening on' said
}

# -------------------------------------------------------------- nft
stays "nft" nft flush ruleset

# -------------------------------------------------------------- ufw
# The copy of /etc is for this test only.
mkdir copy && mount -t tmpfs tmpfs copy && mkdir copy/upper copy/work
if mount -t overlay overlay -o "lowerdir=/etc,upperdir=$PWD/copy/upper,workdir=$PWD/copy/work" /etc; then
    if said=$(ufw --force enable 2>&1); then
        ufw allow 22/tcp >/dev/null
        stays "ufw" ufw reload
        ufw --force disable >/dev/null
    else
        skipped "ufw" "it cannot be switched on in a namespace here: $said"
    fi
    umount /etc
else
    skipped "ufw" "no overlay file system for a copy of /etc"
fi

# -------------------------------------------------------------- firewalld
mkdir -p /run/dbus
dbus-daemon --system --fork --nopidfile
firewalld --nopid >firewalld.log 2>&1
if soon firewall-cmd --state; then
    firewall-cmd --add-service=ssh >/dev/null 2>&1
    firewall-cmd --permanent --add-service=ssh >/dev/null 2>&1
    stays "firewalld" firewall-cmd --reload
    stays "firewalld" firewall-cmd --complete-reload
else
    failed "firewalld starts" "$(cat firewalld.log)"
fi

kill $daemon
wait $daemon
"$KNOCKD" --unguard -c knockd.conf >/dev/null
exit 0
