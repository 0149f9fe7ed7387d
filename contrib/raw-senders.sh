#!/bin/bash
# Tests each line of the table RAW SENDERS in knock(1): knock, and those of
# hping3, sendip and packit that are installed, send the packet, and tcpdump
# checks it.
#
#     contrib/raw-senders.sh [KNOCK]
#
# Needs root, tcpdump and iproute2.  Everything happens in its own network
# namespace, on a veth pair whose other end nobody uses.
#
# Exit code: 0 if every packet of knock was correct, 1 otherwise.
set -euo pipefail

export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export LC_ALL=C

SOURCE=10.84.0.2
HOST=10.84.0.1
HOST6=fd84::1
LINK=raw0

die() {
    printf 'raw-senders: %s\n' "$*" >&2
    exit 1
}

if [ "${1:-}" != --inside ]; then
    knock=${1:-$(command -v knock)} || die "knock is not in PATH: give its path as the argument"
    [ -x "$knock" ] || die "$knock is not executable"
    [ "$(id -u)" = 0 ] || die "raw packets need root"
    exec unshare --net "$0" --inside "$(realpath "$knock")"
fi
knock=$2

scratch=$(mktemp -d)
dump=
trap 'kill $dump 2>/dev/null || true; rm -rf "$scratch"' EXIT

ip link set lo up
ip link add "$LINK" type veth peer name "$LINK-end"
ip address add "$SOURCE/24" dev "$LINK"
ip address add fd84::2/64 dev "$LINK" nodad
ip link set "$LINK" up
ip link set "$LINK-end" up
for address in "$HOST" "$HOST6"; do
    ip neigh add "$address" lladdr 02:84:00:00:00:01 dev "$LINK" nud permanent
done
printf TEXT >"$scratch/data"

tcpdump -i "$LINK" -U -s 0 -w "$scratch/all.pcap" 'tcp or udp' 2>"$scratch/tcpdump" &
dump=$!
for _ in $(seq 100); do
    grep -q 'listening on' "$scratch/tcpdump" && break
    sleep 0.05
done
grep -q 'listening on' "$scratch/tcpdump" || die "tcpdump does not capture: $(cat "$scratch/tcpdump")"

# ------------------------------------------------------------------ sending

port=20000
what=()
who=()
wanted=()
ports=()

# Each command sends to a different port, by which its packets are found later.
send() {
    local program=$1
    shift
    what+=("$line")
    wanted+=("$pattern")
    who+=("$program")
    ports+=("$port")
    "$@" >"$scratch/out" 2>&1 || true
    port=$((port + 1))
}

# Begins a line of the table: its name, and the pattern that tcpdump's output must match.
line() {
    line=$1
    pattern=$2
}

# PORT in an argument is replaced with the port.
knock() {
    local words=() word
    for word in "$@"; do
        word=${word//PORT/$port}
        words+=("$word")
    done
    send knock "$knock" "${words[@]}"
}

hping() {
    if command -v hping3 >/dev/null; then
        send hping3 timeout 5 hping3 -q -c 1 -i u10000 -I "$LINK" -p "$port" "$@" "$HOST"
    fi
}

sendip() {
    local kind=$1
    shift
    if [ -n "$(type -P sendip)" ]; then
        send sendip command sendip -p ipv4 -is "$SOURCE" -p "$kind" "-${kind:0:1}d" "$port" "$@" "$HOST"
    fi
}

packit() {
    local kind=$1
    shift
    if [ -n "$(type -P packit)" ]; then
        send packit timeout 5 packit -m inject -t "$kind" -i "$LINK" -s "$SOURCE" -d "$HOST" -D "$port" -c 1 "$@"
    fi
}

line "UDP" 'UDP, length 1 '
knock "$HOST" PORT:udp
hping -2 -d 1
sendip udp -d r1
packit UDP -p x

line "UDP over IPv6" 'IP6 .*UDP, length 1 '
knock "$HOST6" PORT:udp

line "SYN" 'Flags \[S\], cksum 0x[0-9a-f]* \(correct\)'
knock --raw "$HOST" PORT
hping -S
sendip tcp -tfs 1
packit TCP -F S

line "SYN over IPv6" 'IP6 .*Flags \[S\], cksum 0x[0-9a-f]* \(correct\)'
knock --raw "$HOST6" PORT

line "TCP flags" 'Flags \[S\.\]'
knock --raw --flags syn+ack "$HOST" PORT
hping -S -A
sendip tcp -tfs 1 -tfa 1
packit TCP -F SA

line "the others" 'Flags \[FRPU\]'
knock --raw --flags fin+rst+psh+urg "$HOST" PORT
hping -F -R -P -U
sendip tcp -tfs 0 -tff 1 -tfr 1 -tfp 1 -tfu 1
packit TCP -F FRPU

line "no flags" 'Flags \[none\]'
knock --raw --flags none "$HOST" PORT
hping
sendip tcp -tfs 0

line "ECN flags" 'Flags \[EW\]'
knock --raw --flags ece+cwr "$HOST" PORT
hping -X -Y
sendip tcp -tfs 0 -tfe 1 -tfc 1

line "flags by port" 'Flags \[FP\]'
knock --raw "$HOST" PORT:tcp:fin+psh

line "source port" "$SOURCE.53 >"
knock --raw --source-port 53 "$HOST" PORT
hping -s 53 -k -S
sendip tcp -ts 53
packit TCP -S 53 -F S

line "source address" '192\.0\.2\.7\.[0-9]* >'
knock --raw --source 192.0.2.7 "$HOST" PORT
hping -a 192.0.2.7 -S
sendip tcp -is 192.0.2.7
packit TCP -s 192.0.2.7 -F S

line "source address, IPv6" '2001:db8::7\.[0-9]* >'
knock --raw --source 2001:db8::7 "$HOST6" PORT

line "interface" 'Flags \[S\]'
knock --raw --interface "$LINK" "$HOST" PORT

line "TTL" 'ttl 9,'
knock --raw --ttl 9 "$HOST" PORT
hping -t 9 -S
sendip tcp -it 9
packit TCP -T 9 -F S

line "hop limit" 'hlim 9,'
knock --raw --ttl 9 "$HOST6" PORT

line "TOS" 'tos 0x10,'
knock --raw --tos 16 "$HOST" PORT
hping -o 10 -S
sendip tcp -iy 16
packit TCP -o 16 -F S

line "DSCP" 'tos 0xb8,'
knock --raw --dscp 46 "$HOST" PORT
hping -o b8 -S
sendip tcp -iy 184
packit TCP -o 184 -F S

line "traffic class" 'class 0xb8,'
knock --raw --dscp 46 "$HOST6" PORT

line "IP id" 'id 4711,'
knock --raw --id 4711 "$HOST" PORT
hping -N 4711 -S
sendip tcp -ii 4711
packit TCP -n 4711 -F S

line "don't fragment" 'flags \[DF\],'
knock --raw --df "$HOST" PORT
hping -y -S
sendip tcp -ifd 1
packit TCP -f -F S

line "may fragment" 'flags \[none\],'
knock --raw --df=no "$HOST" PORT
hping -S
sendip tcp
packit TCP -F S

line "sequence no." 'seq 5[,:]'
knock --raw --seq 5 "$HOST" PORT
hping -M 5 -S
sendip tcp -tn 5
packit TCP -q 5 -F S

line "acknowledgment" 'Flags \[\.\].* ack 6,'
knock --raw --flags ack --ack-seq 6 "$HOST" PORT
hping -L 6 -A
sendip tcp -tfs 0 -tfa 1 -ta 6
packit TCP -a 6 -F A

line "window" 'win 1024,'
knock --raw --window 1024 "$HOST" PORT
hping -w 1024 -S
sendip tcp -tw 1024
packit TCP -W 1024 -F S

line "urgent pointer" 'Flags \[U\].* urg 7,'
knock --raw --flags urg --urgent 7 "$HOST" PORT
sendip tcp -tfs 0 -tfu 1 -tu 7
packit TCP -u 7 -F U

line "segment size" 'options \[mss 536'
knock --raw --mss 536 "$HOST" PORT
hping --tcp-mss 536 -S
sendip tcp -tomss 536

line "data: text" 'UDP, length 4 .*5445 5854'
knock --raw --data TEXT "$HOST" PORT:udp
hping -2 -e TEXT -d 4
sendip udp -d TEXT
packit UDP -p TEXT

line "data: hex" 'UDP, length 2 .*00ff'
knock --raw --data hex:00ff "$HOST" PORT:udp
sendip udp -d 0x00ff
packit UDP -p '0x 00 ff'

line "data: file" 'UDP, length 4 .*5445 5854'
knock --raw --data "file:$scratch/data" "$HOST" PORT:udp
hping -2 -E "$scratch/data" -d 4
sendip udp -f "$scratch/data"

line "data: size" 'UDP, length 100'
knock --raw --data size:100 "$HOST" PORT:udp
hping -2 -d 100
sendip udp -d r100

line "bad checksum" 'cksum 0x[0-9a-f]* \(incorrect'
knock --raw --bad-checksum "$HOST" PORT
hping -b -S
sendip tcp -tc 1

line "three rounds" 'length.*length.*length'
knock --count 3 --delay 0.5 --jitter 0.5 "$HOST" PORT:udp
hping -2 -c 3
packit UDP -c 3 -b 3

# ------------------------------------------------------------------ reading

sleep 1
kill "$dump"
wait "$dump" 2>/dev/null || true
dump=

failed=0
last=
for index in "${!what[@]}"; do
    # All output on one line, with the data in hexadecimal.
    seen=$(tcpdump -nn -vvv -x -r "$scratch/all.pcap" "dst port ${ports[$index]}" 2>/dev/null |
        tr -s '\n\t ' ' ')
    if [ "${what[$index]}" != "$last" ]; then
        last=${what[$index]}
        printf '%-22s' "$last"
        first=yes
    else
        first=
    fi
    pattern=${wanted[$index]}
    if grep -Eq -e "$pattern" <<<"$seen"; then
        verdict=ok
    else
        verdict=FAIL
        if [ "${who[$index]}" = knock ]; then
            failed=1
            printf '\nexpected %s, saw: %s\n' "$pattern" "$seen" >&2
        fi
    fi
    [ -n "$first" ] || printf '  '
    printf '%s %s' "${who[$index]}" "$verdict"
    next=$((index + 1))
    [ "${what[$next]:-}" = "$last" ] || printf '\n'
done

if [ "$failed" = 0 ]; then
    echo "Every packet of knock was correct."
fi
exit "$failed"
