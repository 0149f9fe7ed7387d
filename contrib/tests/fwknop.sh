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
