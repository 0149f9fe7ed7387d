#!/bin/bash
# Debian's init script for System V: `restart`, `reload` and `force-reload` with doors
# open. It sends SIGTERM, sleeps for a second and starts a daemon unless one runs, so
# the old daemon has to be gone by then, with every door closed.
# shellcheck disable=SC2317 # functions that are passed as arguments
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

# start-stop-daemon recognizes a daemon by the file that it runs.
mount --bind "$KNOCKD" /usr/sbin/knockd
cat >default <<'END'
START_KNOCKD=1
KNOCKD_OPTS="-i eth0"
END
mount --bind default /etc/default/knockd
# Doors whose time is over long after the restart, just after it, and during it.
{
    printf '[options]\n    LogFile = %s/log\n' "$PWD"
    port=7000
    for time in 3600 2 1; do
        port=$((port + 1))
        printf '[%s]\n    sequence = %s:udp\n    start_command = echo >>%s/opened.%s\n' $time $port "$PWD" $time
        printf '    cmd_timeout = %s\n    stop_command = echo >>%s/closed.%s\n' $time "$PWD" $time
    done
} >knockd.conf
mount --bind knockd.conf /etc/knockd.conf
cable eth0 eth0

# The daemon has a second to end, however busy this machine is.
knockd() { nice -n -15 /etc/init.d/knockd "$@"; }
# Daemons, not the processes that belong to one.
daemons() {
    local pid parent
    for pid in $(pgrep -x knockd); do
        parent=$(ps -o ppid= -p "$pid" | tr -d ' ')
        [ "$(cat "/proc/$parent/comm" 2>/dev/null)" = knockd ] || echo "$pid"
    done
}
one_daemon() { [ -s /run/knockd.pid ] && [ "$(daemons)" = "$(cat /run/knockd.pid)" ]; }
# all WHAT COUNT: each door was opened, or closed, so many times.
all() {
    local time
    for time in 3600 2 1; do
        [ -e "$1.$time" ] && [ "$(wc -l <"$1.$time")" = "$2" ] || return 1
    done
}
# One round; says what went wrong.
round() {
    at_client "$KNOCK" -d 0 10.83.0.1 7001:udp 7002:udp 7003:udp
    soon all opened "$rounds" || { echo "round $rounds: not every door opened, once" && return 1; }
    knockd "$1" || { echo "round $rounds: exit code $?" && return 1; }
    soon all closed "$rounds" || { echo "round $rounds: not every door is closed, once" && return 1; }
    soon one_daemon || { echo "round $rounds: not one daemon, but: $(daemons | tr '\n' ' ')" && return 1; }
}
rounds=0
twenty_times() {
    local _
    for _ in {1..20}; do
        rounds=$((rounds + 1))
        round "$1" || { tail -n 30 log && ps -eo pid,ppid,args && return 1; }
    done
}

check "start" knockd start
check "one daemon listens" soon one_daemon
for word in restart reload force-reload; do
    before=$rounds
    check "$word, 20 times with three doors open" twenty_times "$word"
    rounds=$((before + 20))
done
check "stop" knockd stop
gone() { [ -z "$(pgrep -x knockd)" ]; }
check "no process is left" soon gone
for file in opened closed; do
    check "each door was $file once in each round" all $file 60
done
exit 0
