#!/bin/bash
# Knocks with real clients: nc, curl, and two connections at once, like a browser.
# At ports that answer with a reset, and at ports where the firewall drops the SYN,
# so that the client repeats it after a second.
#
# Daemons with different rules listen side by side, and knockd 0.8 with them, where it
# is installed: doors without rules must open exactly when those of 0.8 do.
# shellcheck disable=SC2317 # functions that are passed as arguments
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

SERVER=10.83.0.1
ORIGINAL=/usr/sbin/knockd
cable eth0 eth0

doors() {
    local door
    for door in closed:7001,7002,7003 udp:7001:udp,7002:udp \
        dropped:8001,8002,8003 udp-dropped:8001:udp,8002:udp mark:9009:udp "$@"; do
        printf '[%s]\n\tSequence = %s\n\tSeq_Timeout = 20\n\tTCPFlags = syn\n\tStart_Command = true\n' \
            "${door%%:*}" "${door#*:}"
    done
}
nft -f - <<'END_OF_RULES'
table inet filter {
    chain input {
        type filter hook input priority 0; policy accept;
        meta l4proto { tcp, udp } th dport 8001-8003 drop
    }
}
END_OF_RULES

# ------------------------------------------------------------------- daemons
daemons=()
# listens NAME PROGRAM: with the doors and the rules that are on standard input
listens() {
    # Pings are stages here, and an error in 0.8.
    local pings=('ping:1000:icmp,333:icmp')
    [ "$1" != original ] || pings=()
    { printf '[options]\n' && cat && doors "${pings[@]}"; } >"$1.conf"
    chmod 600 "$1.conf"
    "$2" -i eth0 -c "$1.conf" -g "$1.log" -p "$1.pid" >"$1.said" 2>&1 &
    daemons+=("$1")
    soon grep -q 'listening on eth0' "$1.log" || failed "$1 listens" "$(cat "$1.said")"
}
listens plain "$KNOCKD" </dev/null
listens duplicates "$KNOCKD" <<<'Allow_Duplicates = yes'
listens strict "$KNOCKD" <<<'Strict = yes'
listens except "$KNOCKD" <<<$'Strict = yes\nStrict_Except = tcp/8443, udp/5353'
listens both "$KNOCKD" <<<$'Strict = yes\nAllow_Duplicates = yes'
if [ "$("$ORIGINAL" -V 2>/dev/null | head -n 1)" = 'knockd 0.8' ]; then
    listens original "$ORIGINAL" </dev/null
else
    skipped "the same knocks at knockd 0.8" "$ORIGINAL is missing or another version"
fi

# Waits until all daemons have read all knocks: knocks at another door, and waits for that.
marks=0
marked() { [ "$(grep -c 'mark: OPEN SESAME' "$1.log")" = "$marks" ]; }
all_read() {
    marks=$((marks + 1))
    at_client "$KNOCK" $SERVER 9009:udp
    local daemon
    for daemon in "${daemons[@]}"; do
        soon marked "$daemon" || failed "$daemon reads all knocks" "$(tail -n 5 "$daemon.log")"
    done
}

# Each knock comes from a new address.
knocker=10.83.0.10
number=10
next_knocker() {
    number=$((number + 1))
    knocker=10.83.0.$number
    at_client ip addr add "$knocker/24" dev eth0
}

# opens DOOR WHAT DAEMONS: checks that exactly these opened it for the last knocker
opens() {
    local daemon wanted="${3:+$3 }" seen=''
    all_read
    [ "$1" = ping ] || case "$wanted ${daemons[*]} " in 'plain '*' original '*) wanted="${wanted}original " ;; esac
    for daemon in "${daemons[@]}"; do
        if grep -q "$knocker: $1: OPEN SESAME" "$daemon.log"; then seen="$seen$daemon "; fi
    done
    same "$2: ${wanted:-none }opened" "$wanted" "$seen"
    next_knocker
}
EVERY='plain duplicates strict except both'
next_knocker

# ------------------------------------------------------------------- clients
with_nc() { at_client nc -z -w 2 -s "$knocker" $SERVER "$1"; }
with_curl() { at_client curl -s -m 2 --interface "$knocker" -o /dev/null "http://$SERVER:$1/"; }
# Two at once, as a browser connects.
with_pair() {
    local one two
    with_curl "$1" &
    one=$!
    with_curl "$1" &
    two=$!
    wait "$one"
    wait "$two"
}
with_nc_udp() { echo x | at_client nc -u -q 0 -w 1 -s "$knocker" $SERVER "$1"; }
# nc that is stopped before it repeats the SYN.
once() { at_client timeout 0.4 nc -z -s "$knocker" $SERVER "$1"; }
# each CLIENT PORT...
each() {
    local with=with_$1 port
    shift
    for port in "$@"; do $with "$port"; done
}

# Closed ports: a reset is sent at once, and nothing is repeated.
each nc 7001 7002 7003
opens closed "nc -z at closed ports" "$EVERY"
each curl 7001 7002 7003
opens closed "curl at closed ports" "$EVERY"
each pair 7001 7002 7003
opens closed "two connections at once at closed ports" "duplicates both"
each nc_udp 7001 7002
opens udp "nc -u" "$EVERY"

# Pings of the system, by the length of their data.
with_ping() { at_client busybox ping -c 1 -W 1 -s "$1" -I "$knocker" "$SERVER" >/dev/null; }
each ping 1000 333
opens ping "two pings" "$EVERY"
each ping 1000 56 333
opens ping "a ping of another length between two" "plain duplicates"

# Dropped ports: the client repeats the SYN after a second.
each nc 8001 8002 8003
opens dropped "nc -z at dropped ports" "duplicates both"
each curl 8001 8002 8003
opens dropped "curl at dropped ports" "duplicates both"
each pair 8001 8002 8003
opens dropped "two connections at once at dropped ports" "duplicates both"
# Two lines are two datagrams if no ICMP error comes back.
for port in 8001 8002; do
    { echo x && sleep 0.1 && echo x; } | at_client nc -u -q 0 -w 1 -s "$knocker" $SERVER $port
done
opens udp-dropped "nc -u with two lines" "duplicates both"
once 8001
once 8002
once 8003
opens dropped "nc that is stopped before it repeats the SYN" "$EVERY"

# A repeated SYN of the first stage, after the second stage has been reached.
with_nc 8001 &
late=$!
sleep 0.2
once 8002
wait $late
once 8003
opens dropped "a late repeat of the first stage" ""

# ----------------------------------------------- other traffic of the knocker
mkdir www && echo page >www/index.html
for port in 8080 8443; do busybox httpd -f -p $port -h www & done
page() { [ "$(at_client curl -s --interface "$knocker" "http://$SERVER:$1/")" = page ]; }
soon page 8080
soon page 8443
next_knocker

each nc 7001 7002
check "a page from the excepted port" page 8443
each nc 7003
opens closed "a page from an excepted port in between" "plain duplicates except"

each nc 7001 7002
check "a page from another port" page 8080
each nc 7003
opens closed "a page from another port in between" "plain duplicates"

each nc 7001
with_nc_udp 5353
each nc 7002 7003
opens closed "a datagram to an excepted port in between" "plain duplicates except"

each nc 7001
with_nc_udp 5354
each nc 7002 7003
opens closed "a datagram to another port in between" "plain duplicates"

# An established connection that is used at each stage.
mkfifo typed
nc -l -k -p 7777 >received &
soon grep -q ':1E61 .* 0A ' /proc/net/tcp # 7777, listening
at_client nc -s "$knocker" $SERVER 7777 <typed &
exec 7>typed
for port in 7001 7002 7003; do
    echo "before $port" >&7
    soon grep -q "before $port" received || failed "the connection carries data"
    each nc $port
done
exec 7>&-
# It was established before the first knock, so its packets fail no attempt.
opens closed "an established connection in use" "$EVERY"
exit 0
