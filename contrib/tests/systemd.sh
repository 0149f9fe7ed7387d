#!/bin/bash
# contrib/systemd/knockd.service: checks it with systemd-analyze, then runs it under a
# separate systemd: doors that call each firewall, reload, stop, a crash.
# shellcheck disable=SC2317 # functions that are passed as arguments
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

UNIT=$CONTRIB/systemd/knockd.service
# The highest allowed score of `systemd-analyze security` (3.8); Debian's unit has 7.4.
EXPOSURE=38

# ----------------------------------------------- inside, run by that systemd
property() { systemctl show -P "$1" knockd; }
main_pid() { property MainPID; }
is() { [ "$(property "$1")" = "$2" ]; }
logged() { grep -qF -- "$1" /run/knockd.log; }
state() {
    systemctl status --no-pager -n 0 knockd 2>&1 | head -n 12
    tail -n 8 /run/knockd.log
    tail -n 8 /run/knockd.said
}
# Knocks from the client's network.
knock() { at_client "$KNOCK" "$@"; }
# holds WHAT COMMAND...: the command must succeed within ten seconds
holds() {
    local what=$1
    shift
    if soon "$@"; then passed "$what"; else failed "$what" "$("$@" 2>&1; state)"; fi
}
# opens WHAT PORTS COMMAND...: after these knocks, the command must succeed
opens() {
    local what=$1 ports=$2
    shift 2
    # shellcheck disable=SC2086 # split the ports
    knock 10.83.0.1 $ports
    holds "$what" "$@"
}
door() {
    printf '[%s]\n\tSequence = %s\n\tTCPFlags = syn\n\tStart_Command = %s\n' "$1" "$2" "$3"
    [ -z "${4:-}" ] || printf '\tCmd_Timeout = %s\n\tStop_Command = %s\n' "${5:-1}" "$4"
}
has_rule() { iptables -C INPUT -s 10.83.0.2 -p tcp --dport 22 -j ACCEPT; }
has_rule6() { ip6tables -C INPUT -s 2001:db8:83::2 -p tcp --dport 22 -j ACCEPT; }
has_rule_legacy() { iptables-legacy -C INPUT -s 10.83.0.2 -p tcp --dport 23 -j ACCEPT; }
has_element() { nft list set inet mine friends | grep -q 10.83.0.2; }
ufw_has() { grep -q '^### tuple.*10.83.0.2' /etc/ufw/user.rules; }
firewalld_has() { firewall-cmd --list-rich-rules | grep -q 10.83.0.2; }
woke() { nft list chain netdev seen out | grep -q 'packets 1 '; }
# own LINES: tests a simple unit of a user, without notification.
own() {
    local type=${1%%\\n*}
    # shellcheck disable=SC2016 # for systemd
    printf '[Unit]\nDefaultDependencies=no\n[Service]\nEnvironmentFile=-/etc/default/knockd\n%b\n%s\n' \
        "$1" 'ExecReload=/bin/kill -HUP $MAINPID' >/run/units/own.service
    systemctl daemon-reload
    : >/run/knockd.log
    systemctl start own
    holds "a simple unit, $type, starts" logged 'starting up, listening on knock0'
    rm -f /run/long
    opens "its door opens" "7081 7082" grep -q opened /run/long
    systemctl reload own
    holds "it reloads" logged 're-reading config file'
    check "it is active" systemctl -q is-active own
    systemctl stop own
    same "it closes its doors when it is stopped" closed "$(cat /run/long)"
    same "and counts as a success" success "$(systemctl show -P Result own)"
}
restarted() { is ActiveState active && [ "$(main_pid)" != "$pid" ] && [ "$(main_pid)" != 0 ]; }

inside() {
    cable knock0 knock1
    nft add table inet mine
    nft add set inet mine friends '{ type ipv4_addr; }'

    {
        printf '[options]\n\tLogFile = /run/knockd.log\n'
        door iptables 7001,7002 'iptables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT' \
            'iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT'
        printf '\tStart_Command_6 = %s\n\tStop_Command_6 = %s\n' \
            'ip6tables -I INPUT -s %IP% -p tcp --dport 22 -j ACCEPT' \
            'ip6tables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT'
        door legacy 7005,7006 'iptables-legacy -I INPUT -s %IP% -p tcp --dport 23 -j ACCEPT'
        door nft 7011,7012 'nft add element inet mine friends { %IP% }' 'nft delete element inet mine friends { %IP% }'
        door ufw 7021,7022 "$CONTRIB/knock_helper.sh -b ufw -i -f %IP% -d 22"
        door ufw-shut 7031,7032 'ufw delete allow proto tcp from %IP% to any port 22'
        door firewalld 7041,7042 "$CONTRIB/knock_helper.sh -b firewalld -i -f %IP% -d 22"
        door wake 7051,7052 'etherwake -i knock0 00:00:5e:00:53:01'
        door unit 7061,7062 'systemctl start woken.service'
        # shellcheck disable=SC2016 # for the shell of the command
        door look 7071,7072 'grep -E "^(CapBnd|NoNewPrivs|Seccomp):" /proc/self/status >/run/rights; (: >/home/x) && echo home >>/run/rights; chroot / setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set -all true && echo drops >>/run/rights; echo looked >>/run/rights'
        door slow 7083,7084 true 'echo closing >/run/slow; sleep 2; echo closed >/run/slow' 1
        door long 7081,7082 'echo opened >/run/long' 'echo closed >/run/long' 3600
        printf '[once]\n\tOne_Time_Sequences = /etc/knockd-once\n\tTCPFlags = syn\n\tStart_Command = true\n'
    } >/etc/knockd.conf
    chmod 600 /etc/knockd.conf
    printf ' 7091,7092\n 7095,7096\n' >/etc/knockd-once
    printf 'START_KNOCKD=0\nKNOCKD_OPTS="-v -i knock0"\n' >/etc/default/knockd

    systemctl start knockd
    # systemctl returns when knockd is ready, so this does not wait.
    check "when the start is complete, it listens, with KNOCKD_OPTS of /etc/default/knockd" \
        logged 'starting up, listening on knock0'
    check "it is active" is ActiveState active
    same "it notifies systemd when it is ready" notify "$(property Type)"

    # ----------------------------------------------- what commands can do
    opens "a door with iptables" "7001 7002" has_rule
    holds "its stop command removes the rule" lacks has_rule
    knock 2001:db8:83::1 7001 7002
    holds "a door with ip6tables" has_rule6
    holds "its stop command removes the rule" lacks has_rule6
    if iptables-legacy -S >/dev/null 2>&1; then
        opens "a door with iptables-legacy" "7005 7006" has_rule_legacy
    else
        skipped "a door with iptables-legacy" "it does not work here outside of the unit either"
    fi
    opens "a door with nft" "7011 7012" has_element
    holds "its stop command removes the element" lacks has_element
    # Rules that ufw leaves behind do no harm: knockd sees knocks before the firewall.
    if said=$(ufw --force enable 2>&1); then
        opens "a door with ufw, which rewrites /etc/ufw" "7021 7022" ufw_has
        opens "a door that removes it with ufw" "7031 7032" lacks ufw_has
        ufw --force disable >/dev/null
    else
        skipped "a door with ufw" "ufw cannot be switched on here: $said"
    fi
    systemctl start firewalld
    if soon firewall-cmd --state; then
        opens "a door with firewalld, over D-Bus" "7041 7042" firewalld_has
        systemctl stop firewalld
    else
        failed "firewalld starts" "$(systemctl status --no-pager firewalld 2>&1 | tail -n 12)"
    fi
    nft add table netdev seen
    if nft add chain netdev seen out '{ type filter hook egress device knock0 priority 0; }' 2>/dev/null; then
        nft add rule netdev seen out ether type 0x0842 counter
        opens "a door with etherwake" "7051 7052" woke
    else
        skipped "a door with etherwake" "this kernel has no egress hook to count its packet"
    fi
    opens "a door that starts a unit" "7061 7062" test -e /run/woken
    opens "a one-time sequence is struck in /etc" "7091 7092" grep -q '^#7091' /etc/knockd-once

    # ------------------------------------------- what commands cannot do
    opens "a door that looks at its rights" "7071 7072" grep -q looked /run/rights
    check "a command can drop privileges: chroot, setuid, capabilities" grep -q drops /run/rights
    same "the bounding set has eight capabilities" 00000000000531e0 "$(sed -n 's/^CapBnd:.//p' /run/rights)"
    check "no_new_privs is set" grep -q '^NoNewPrivs:.1' /run/rights
    check "a system call filter is active" grep -q '^Seccomp:.2' /run/rights
    check "/home is read-only" lacks grep -q home /run/rights

    # -------------------------------------------------------------- reload
    pid=$(main_pid)
    check "systemctl reload succeeds" systemctl reload knockd
    holds "a reload is a SIGHUP" logged 're-reading config file'
    same "the process stays the same" "$pid" "$(main_pid)"
    sleep 0.5
    same "the configuration is reread once" 1 "$(grep -c 're-reading config file' /run/knockd.log)"
    cp /etc/knockd.conf /run/good
    echo nonsense >>/etc/knockd.conf
    check "a reload fails if the configuration has an error" lacks systemctl reload knockd
    check "the journal names the line" grep -q "line $(wc -l </etc/knockd.conf): .*nonsense" /run/knockd.said
    same "the daemon does not reread it" 1 "$(grep -c 're-reading config file' /run/knockd.log)"
    check "the service stays active" is ActiveState active
    kill -HUP "$(main_pid)"
    holds "SIGHUP with an error keeps the configuration" logged 'keeping the configuration that was in force'
    check "the service stays active after that" is ActiveState active
    cp /run/good /etc/knockd.conf

    # ---------------------------------------------------------------- stop
    opens "a door that is open for an hour" "7081 7082" grep -q opened /run/long
    began=$SECONDS
    check "systemctl stop succeeds" systemctl stop knockd
    same "stopping closes the door" closed "$(cat /run/long)"
    check "stopping takes at most 12 seconds" test $((SECONDS - began)) -le 12
    check "stopping counts as a success" is Result success
    same "no process is left" "" "$(pgrep -x knockd)"

    # --------------------------------------------------------------- crash
    systemctl start knockd
    soon is ActiveState active
    sleep 1
    pid=$(main_pid)
    rm -f /run/long
    opens "the door opens again" "7081 7082" grep -q opened /run/long
    opens "a door whose stop command is slow opens" "7083 7084" grep -q closing /run/slow
    kill -KILL "$pid"
    holds "systemd restarts it after a crash" restarted
    holds "the stop command that was running finishes" grep -q closed /run/slow
    # Until then the heir of the daemon before the crash holds the door, and would close it.
    holds "the new daemon takes over the open door" logged 'still open, closing it in its time'
    systemctl stop knockd
    same "the door is closed when the service is stopped" closed "$(cat /run/long)"
    same "no process is left after a crash" "" "$(pgrep -x knockd)"

    # ---------------------------------------------------------- an error
    echo nonsense >>/etc/knockd.conf
    check "the start fails if the configuration has an error" lacks systemctl start knockd
    holds "the exit code is 1" is ExecMainStatus 1
    systemctl stop knockd
    cp /run/good /etc/knockd.conf

    # ------------------------------------- simple units that users have
    # shellcheck disable=SC2016 # for systemd
    own 'Type=simple\nExecStart=/usr/sbin/knockd $KNOCKD_OPTS'
    # shellcheck disable=SC2016 # for systemd
    own 'Type=forking\nPIDFile=/run/knockd.pid\nExecStart=/usr/sbin/knockd -d $KNOCKD_OPTS'
}

# ------------------------------------------- prepares the namespaces of systemd
machine() {
    set -e
    mount -t proc proc /proc
    # Keep the systemd in the test from changing settings of the whole kernel.
    mount --bind /proc/sys/net /proc/sys/net
    mount --bind /proc/sys /proc/sys
    mount -o remount,bind,ro /proc/sys
    while mountpoint -q /sys/fs/cgroup; do umount -R /sys/fs/cgroup; done
    if [ "$1" = unified ]; then
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
    else
        mount -t tmpfs cgroup /sys/fs/cgroup
        mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
        mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
        mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
    fi
    mkdir -p /run/copy && mount -t tmpfs tmpfs /run/copy && mkdir /run/copy/upper /run/copy/work
    mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/copy/upper,workdir=/run/copy/work /etc
    mount -t overlay overlay -o lowerdir=/run/here/bin:/usr/sbin /usr/sbin

    # Only these units exist: those of the machine would change it.
    mkdir -p /run/units /run/lock /run/dbus
    cp "$UNIT" /run/units/knockd.service
    for target in sysinit basic network shutdown umount multi-user sockets; do
        printf '[Unit]\nDefaultDependencies=no\n' >/run/units/$target.target
    done
    unit() { printf '[Unit]\nDefaultDependencies=no\n%b\n' "$2" >"/run/units/$1"; }
    unit dbus.socket '[Socket]\nListenStream=/run/dbus/system_bus_socket'
    unit dbus.service 'Requires=dbus.socket\n[Service]\nExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation'
    unit firewalld.service 'After=dbus.socket\nRequires=dbus.socket\n[Service]\nType=dbus\nBusName=org.fedoraproject.FirewallD1\nExecStart=/usr/sbin/firewalld --nofork --nopid'
    unit woken.service '[Service]\nType=oneshot\nExecStart=/bin/touch /run/woken'
    unit small.target 'Wants=test.service\nRequires=dbus.socket'
    unit test.service "After=dbus.socket\n[Service]\nType=oneshot\nTimeoutStartSec=280
Environment=RESULTS=$RESULTS CONTRIB=$CONTRIB KNOCKD=$KNOCKD KNOCK=$KNOCK
ExecStart=/bin/bash $CONTRIB/tests/systemd.sh --inside\nExecStopPost=/bin/touch $PWD/ended
StandardOutput=file:$PWD/said\nStandardError=file:$PWD/said"
    mkdir /run/units/knockd.service.d
    printf '[Service]\nStandardOutput=append:/run/knockd.said\nStandardError=append:/run/knockd.said\n' \
        >/run/units/knockd.service.d/test.conf
    exec env -i container=unshare PATH="$PATH" SYSTEMD_UNIT_PATH=/run/units SYSTEMD_GENERATOR_PATH=/run/none \
        /lib/systemd/systemd --system --unit=small.target --log-target=console --log-level=warning --show-status=no
}

case ${1:-} in
--inside)
    inside
    exit
    ;;
--machine) machine "$2" ;;
esac

# ------------------------------------------------------------------- outside
if mount -t overlay overlay -o lowerdir=/run/here/bin:/usr/sbin /usr/sbin; then
    check "systemd-analyze verify" systemd-analyze verify --man=no "$UNIT"
    same "systemd-analyze verify has no warnings" "" \
        "$(systemd-analyze verify --man=no "$UNIT" 2>&1 | sed 's/^[^ ]*: //')"
    umount /usr/sbin
else
    skipped "systemd-analyze verify" "no overlay file system to put knockd into /usr/sbin"
fi
if score=$(systemd-analyze security --offline=yes --no-pager "$UNIT" 2>&1); then
    score=$(printf '%s\n' "$score" | sed -n 's/.*exposure level for .*: \([0-9.]*\) .*/\1/p')
    check "systemd-analyze security: $score, and ${EXPOSURE:0:1}.${EXPOSURE:1} is allowed" \
        test "${score/./}" -le $EXPOSURE
else
    skipped "systemd-analyze security" "systemd before 250 cannot analyze a file"
fi
check "it can be enabled" grep -q '^WantedBy=multi-user.target' "$UNIT"

# A separate control group for the systemd in namespaces.
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    kind=unified
    groups=(/sys/fs/cgroup)
else
    kind=hybrid
    groups=(/sys/fs/cgroup/systemd /sys/fs/cgroup/unified)
fi
group=knockd-test-$(date +%s)
for it in "${groups[@]}"; do
    if ! mkdir "$it/$group" 2>/dev/null; then
        skipped "the unit under systemd" "control groups cannot be made here"
        exit 0
    fi
done
(
    for it in "${groups[@]}"; do echo "$BASHPID" >"$it/$group/cgroup.procs"; done
    exec unshare --net --mount --uts --ipc --cgroup --pid --fork --kill-child \
        bash "$CONTRIB/tests/systemd.sh" --machine "$kind" >machine.log 2>&1
) &
machine=$!
for _ in {1..2800}; do
    if [ -e ended ] || ! kill -0 $machine 2>/dev/null; then break; fi
    sleep 0.1
done
if [ -e said ]; then
    cat said
    [ -e ended ] || failed "the test under systemd finishes" "$(tail -n 5 machine.log)"
else
    skipped "the unit under systemd" "systemd does not run in namespaces here: $(tail -n 5 machine.log)"
fi
exec 2>/dev/null
kill -KILL $machine
wait $machine 2>/dev/null
for it in "${groups[@]}"; do
    soon find "$it/$group" -depth -type d -exec rmdir {} +
done
exit 0
