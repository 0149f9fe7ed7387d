#!/bin/bash
# contrib/web/knock.html in real browsers: Chromium and Firefox, headless, each driven
# by its own driver, knock at our daemon behind a firewall that drops everything.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

cable eth0 eth0
at_client ip route add default via 10.83.0.1 # WebRTC uses the address of this route
at_client ip link set lo up # for the drivers

# What browsers refuse is counted: none of it may arrive.
nft -f - <<'END_OF_RULES'
table inet filter {
    set friends { type ipv4_addr; flags timeout; }
    set blocked { type inet_service; }
    counter refused {}
    chain input {
        type filter hook input priority 0; policy accept;
        iifname != "eth0" accept
        tcp dport @blocked counter name refused
        tcp dport 8090 ip saddr @friends accept
        udp dport { 3478, 3479 } accept
        meta l4proto tcp drop
    }
}
END_OF_RULES

cat >knockd.conf <<END
[options]
    logfile = $PWD/knockd.log
    strict = yes
[fixed]
    Sequence = 28101, 20411, 31007
    TCPFlags = syn
    Start_Command = nft add element inet filter friends { %IP% timeout 60s }
[long]
    Sequence = 28201, 20412, 31008, 22001, 29010, 23456, 21212, 30303, 20001, 27272, 24024, 29999
    TCPFlags = syn
    Start_Command = true
[off]
    OTP = 8xpBQxw0rN1mZ3vKf7Ls, 60, 40000, off, tcp, tcp, tcp, tcp
    TCPFlags = syn
    Start_Command = true
[on]
    OTP = qK2vYw9sT5uRb8XeMc4D, 60, 50000, on, tcp, tcp
    OTP_Digest = sha256
    TCPFlags = syn
    Start_Command = true
[mark]
    Sequence = 9009:udp
    Start_Command = true
END
# A door made up for this page. Its port does not matter here.
(umask 077 && "$KNOCKD" -c knockd.conf --new-door made --web --host 10.83.0.1 --port 8091 >./made)
sed '/^# Client/,$d' made >>knockd.conf
chmod 600 knockd.conf
"$KNOCKD" -i eth0 -c knockd.conf -p "$PWD/knockd.pid" >said 2>&1 &
soon grep -q 'listening on eth0' knockd.log || failed "the daemon listens" "$(cat said)"

python3 "$CONTRIB/tests/web_servers.py" >servers.log 2>&1 &
soon grep -q ready servers.log || failed "the servers behind the door listen" "$(cat servers.log)"

for browser in chromium firefox; do
    case $browser in
    chromium) programs='chromium chromedriver' ;;
    firefox) programs=firefox-esr ;;
    esac
    for program in $programs; do
        if ! command -v "$program" >/dev/null; then
            skipped "the page in $browser" "$program is not there, nor within reach"
            continue 2
        fi
    done
    # Each line of it is a result: pass or fail, a tab, what it is about, and what was seen.
    if ! at_client timeout -k 5 420 python3 "$CONTRIB/tests/web.py" $browser "$PWD/knockd.log" "$(grep '^knock\.html#' made)" >$browser.results 2>$browser.said; then
        failed "$browser: all was tried" "$(tail -n 20 $browser.said)"
    fi
    while IFS=$'\t' read -r result what seen; do
        if [ "$result" = pass ]; then passed "$browser: $what"; else failed "$browser: $what" "$seen"; fi
    done <$browser.results
done
exit 0
