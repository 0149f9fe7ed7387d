#!/bin/bash
# Single packets against fwknop itself: our client opens the door of Debian's
# fwknopd, and Debian's client opens ours.
# shellcheck disable=SC2317 # functions that are handed to others
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

if ! command -v fwknopd >/dev/null || ! command -v fwknop >/dev/null; then
    skipped "single packets against fwknop" "fwknop-server and fwknop-client are not installed"
    exit 0
fi

SERVER=10.83.0.1
CLIENT=10.83.0.2
KEY=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
HMAC_KEY=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==
cable eth0 eth0
export HOME=$PWD LOGNAME=alice

# ------------------------------------------------- our client, fwknop's server
# fwknopd_with DIGEST: a fwknopd that takes packets with this HMAC.
fwknopd_with() {
    mkdir -p "run-$1"
    cat >"access-$1" <<END
SOURCE ANY
KEY_BASE64 $KEY
HMAC_KEY_BASE64 $HMAC_KEY
HMAC_DIGEST_TYPE $1
OPEN_PORTS tcp/22, tcp/80, udp/53
FW_ACCESS_TIMEOUT 60
END
    printf 'PCAP_INTF eth0;\n' >fwknopd.conf
    chmod 600 "access-$1" fwknopd.conf
    fwknopd -f -c "$PWD/fwknopd.conf" -a "$PWD/access-$1" -i eth0 -r "$PWD/run-$1" >"fwknopd-$1.said" 2>&1 &
    fwknopd=$!
    soon iptables -C INPUT -j FWKNOP_INPUT || failed "fwknopd starts" "$(cat "fwknopd-$1.said")"
    soon grep -q 'Starting fwknopd main event loop' "fwknopd-$1.said" || failed "fwknopd listens" "$(cat "fwknopd-$1.said")"
}

fwknopd_ends() {
    kill $fwknopd 2>/dev/null
    wait $fwknopd 2>/dev/null
    iptables -F
    iptables -X
}

# stanza DIGEST LINE...: what fwknop's client reads, and ours.
stanza() {
    printf '[door]\nSPA_SERVER %s\nACCESS tcp/22\nKEY_BASE64 %s\nHMAC_KEY_BASE64 %s\nHMAC_DIGEST_TYPE %s\nUSE_HMAC Y\n' \
        "$SERVER" "$KEY" "$HMAC_KEY" "$1" >.fwknoprc
    shift
    [ $# = 0 ] || printf '%s\n' "$@" >>.fwknoprc
    chmod 600 .fwknoprc
}

# fwknopd lets this address in at this port.
lets_in() {
    iptables -S FWKNOP_INPUT | grep -q -- "-s $1/32 -p $2 -m $2 --dport $3 .*-j ACCEPT"
}

for digest in MD5 SHA1 SHA256 SHA384 SHA512; do
    fwknopd_with $digest
    stanza $digest
    check "knock -n door ($digest)" at_client "$KNOCK" -n door
    check "  opens fwknopd's door" soon lets_in $CLIENT tcp 22
    fwknopd_ends
done

fwknopd_with SHA256
stanza SHA256
check "several ports, for somebody else" at_client "$KNOCK" -n door --spa tcp/80,udp/53 --allow-ip 192.0.2.7 $SERVER
check "  open the first" soon lets_in 192.0.2.7 tcp 80
check "  and the second" soon lets_in 192.0.2.7 udp 53
stanza SHA256 'FW_TIMEOUT 17' 'DIGEST_TYPE SHA512'
check "for 17 s, with another digest inside" at_client "$KNOCK" -n DOOR --spa tcp/80
check "  opens" soon lets_in $CLIENT tcp 80
at_client "$KNOCK" -n door --spa tcp/23
check "a port that is not granted stays closed" soon grep -q 'denied' fwknopd-SHA256.said
fwknopd_ends

# ------------------------------------------------- fwknop's client, our server
mkdir opened
# daemon_with LINE...: our daemon with these lines in its door.
daemon_with() {
    rm -f opened/* knockd.log
    {
        printf '[options]\n\tStateFile = %s/state\n\tPidFile = %s/pid\n[door]\n' "$PWD" "$PWD"
        printf '\t%s\n' "$@"
        # shellcheck disable=SC2016 # for the shell of the command
        printf '\tCmd_Timeout = 30\n\tStart_Command = echo $KNOCKD_IP $KNOCKD_USER $KNOCKD_TIMEOUT >>%s/opened/$KNOCKD_PROTO-$KNOCKD_PORT\n' "$PWD"
    } >knockd.conf
    chmod 600 knockd.conf
    "$KNOCKD" -i eth0 -c knockd.conf -g knockd.log >knockd.said 2>&1 &
    ours=$!
    soon grep -q 'listening on eth0' knockd.log || failed "our daemon listens" "$(cat knockd.said)"
}

daemon_ends() {
    kill $ours
    wait $ours
}

opened() {
    [ "$(cat "opened/$1" 2>/dev/null)" = "$2" ]
}

fwknop_sends() {
    at_client fwknop --rc-file "$PWD/.fwknoprc" -n door --no-save-args "$@"
}

for digest in MD5 SHA1 SHA256 SHA384 SHA512; do
    stanza $digest
    daemon_with "SPA_Key_Base64 = $KEY" "SPA_HMAC_Key_Base64 = $HMAC_KEY" "SPA_HMAC_Digest = $digest" \
        'SPA_Open = tcp/22, udp/53' 'SPA_Max_Timeout = 90'
    check "fwknop ($digest)" fwknop_sends -a 192.0.2.7
    check "  opens our door" soon opened tcp-22 '192.0.2.7 alice 30'
    daemon_ends
done
stanza SHA256
daemon_with "SPA_Key_Base64 = $KEY" "SPA_HMAC_Key_Base64 = $HMAC_KEY" 'SPA_Open = tcp/22, udp/53' 'SPA_Max_Timeout = 90'
check "fwknop -s -f 70, two ports" fwknop_sends -s -f 70 -A tcp/22,udp/53
check "  opens the first" soon opened tcp-22 "$CLIENT alice 70"
check "  and the second" soon opened udp-53 "$CLIENT alice 70"
fwknop_sends -s -A tcp/23 >/dev/null
check "  a port that is not granted stays shut" soon grep -q 'refused, it asks for a port that is not granted' knockd.log
check "fwknop -C: a command" fwknop_sends -s -C 'touch /run/here/fwknop/run'
check "  is not run" soon grep -q 'refused, it asks for a command' knockd.log
[ ! -e run ] || failed "a command of a packet was run"
# A packet that is kept is sent again, also after a restart.
daemon_ends
daemon_with "SPA_Key_Base64 = $KEY" "SPA_HMAC_Key_Base64 = $HMAC_KEY" 'SPA_Open = any'
check "a packet that is kept" fwknop_sends -s -A tcp/22 -B "$PWD/kept" -b
check "  opens" soon opened tcp-22 "$CLIENT alice 30"
kept=$(tail -n 1 kept)
again() {
    at_client sh -c "printf %s '$kept' | nc -u -w 1 $SERVER 62201"
}
again
check "  is refused the second time" soon grep -q 'refused, it came before' knockd.log
same "  and opens nothing" 1 "$(grep -c 'OPEN SESAME' knockd.log)"
daemon_ends
daemon_with "SPA_Key_Base64 = $KEY" "SPA_HMAC_Key_Base64 = $HMAC_KEY" 'SPA_Open = any'
again
check "  nor after a restart" soon grep -q 'refused, it was used before' knockd.log
same "  which opens nothing either" 0 "$(grep -c 'OPEN SESAME' knockd.log)"
daemon_ends

# The file of Debian's fwknopd, with keys in it.
sed -e "s|^\(KEY_BASE64\) .*|\1 $KEY|; s|^\(HMAC_KEY_BASE64\) .*|\1 $HMAC_KEY|" \
    /etc/fwknop/access.conf >access.conf
chmod 600 access.conf
daemon_with "SPA = $PWD/access.conf"
check "--check explains access.conf" grep -q "access.conf: line [0-9]*: SOURCE: packets from every address" \
    <("$KNOCKD" --check -c knockd.conf)
check "fwknop at a door of access.conf" fwknop_sends -s -A tcp/22
check "  opens it" soon opened tcp-22 "$CLIENT alice 30"
daemon_ends
