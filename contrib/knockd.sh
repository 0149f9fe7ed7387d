#!/bin/sh
# Knocks at a door with a one-time password (OTP in knockd.conf) where there is no
# knock, and shows the algorithm step by step. Needs openssl, and bash, nc or nmap
# to send packets.
#
#   knockd.sh -f FILE HOST                                the seed stays in FILE
#   knockd.sh -o 'SEED,45,20000,on,tcp,udp,tcp' HOST      other users can see it
#
#   -4 -6        use only IPv4, or only IPv6
#   -a ADDRESS   the address that HOST sees us as (default: from ip route get)
#   -g DIGEST    sha1 (default), sha256 or sha512
#   -d SECONDS   pause between two knocks (default 0.2)
#   -s PROGRAM   send with bash, nc or nmap (default: the first one installed)
#   -p           print the list and send nothing
#
# The seed never appears on the command line of another program: only shell
# builtins and pipes handle it. src/door/otp.rs computes the same lists.
set -eu
LC_ALL=C
export LC_ALL

die() {
    printf 'knockd.sh: %s\n' "$1" >&2
    exit 1
}

usage() {
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 1
}

line='' family='' source='' digest=sha1 pause=0.2 with='' print=''
while getopts 46a:d:f:g:o:ps: option; do
    case $option in
    4 | 6) family=$option ;;
    a) source=$OPTARG ;;
    d) pause=$OPTARG ;;
    f) IFS= read -r line <"$OPTARG" || [ -n "$line" ] || die "$OPTARG is empty" ;;
    g) digest=$OPTARG ;;
    o) line=$OPTARG ;;
    p) print=yes ;;
    s) with=$OPTARG ;;
    *) usage ;;
    esac
done
shift $((OPTIND - 1))
if [ $# -ne 1 ] || [ -z "$line" ]; then usage; fi

case $digest in
sha1 | sha256) block=64 ;;
sha512) block=128 ;;
*) die "$digest is not sha1, sha256 or sha512" ;;
esac

# --- the fields; the seed ends at the first comma ------------------------------

trim() {
    trimmed=${1#"${1%%[![:space:]]*}"}
    trimmed=${trimmed%"${trimmed##*[![:space:]]}"}
}

trim "${line%%,*}"
seed=$trimmed
set -f
IFS=' ,	'
# shellcheck disable=SC2086 # split on purpose
set -- "$1" ${line#*,}
unset IFS
if [ $# -lt 5 ] || [ -z "$seed" ]; then die 'expected SEED,CHANGE_TIME,BASE,on|off,PROTO[,PROTO ...]'; fi
name=$1 change_time=$2 base=$3 protection=$4
shift 4
case $change_time:$base in
*[!0-9:]* | :* | *: | 0* | *:0[0-9]*) die 'CHANGE_TIME and BASE must be numbers' ;;
esac

# --- the address of the host, and ours --------------------------------------------

case $family in
4) host=$(getent ahostsv4 "$name" | awk '{ print $1; exit }') ;;
6) host=$(getent ahostsv6 "$name" | awk '{ print $1; exit }') ;;
*) host=$(getent ahosts "$name" | awk '{ print $1; exit }') ;;
esac
[ -n "$host" ] || die "$name has no address"
case $protection in
[Oo][Nn])
    [ -n "$source" ] || source=$(ip route get "$host" | sed -n 's/.* src \([^ ]*\).*/\1/p')
    [ -n "$source" ] || die 'cannot find out which address the host sees: give it with -a'
    ;;
[Oo][Ff][Ff]) source='' ;;
*) die 'the fourth field must be on or off' ;;
esac

# --- HMAC (RFC 2104): H(key ^ 5c.. | H(key ^ 36.. | message)) ---------------------

hex() {
    od -An -v -tx1 | tr -d ' \n'
}

hash() {
    openssl dgst "-$digest" -binary
}

# Prints the bytes with the hexadecimal digits $1, each XORed with $2.
bytes() {
    left=$1 escaped=
    while [ -n "$left" ]; do
        next=${left#??}
        byte=$((0x${left%"$next"} ^ $2))
        escaped="$escaped\\0$((byte >> 6))$((byte >> 3 & 7))$((byte & 7))"
        left=$next
    done
    printf %b "$escaped"
}

# Prints the HMAC of key $1 and message $2 in hexadecimal digits.
hmac() {
    key=$(printf %s "$1" | hex)
    [ ${#key} -le $((2 * block)) ] || key=$(bytes "$key" 0 | hash | hex)
    while [ ${#key} -lt $((2 * block)) ]; do key=${key}00; done
    {
        bytes "$key" 92
        { bytes "$key" 54 && printf %s "$2"; } | hash
    } | hash | hex
}

# --- the period; in its last second, wait for the next one ---------------------------

now=$(date +%s)
if [ $((change_time - now % change_time)) -le 1 ]; then
    sleep 1
    now=$(date +%s)
fi
period=$((now / change_time))

# --- the list: one byte of the digest per port; every 21st byte counts as 0 ---------

# Prints the ports for key $1; the other arguments are the protocols.
half() {
    code=$(hmac "$1" "$period")
    shift
    at=0
    for protocol; do
        case $protocol in
        [Tt][Cc][Pp]) protocol=tcp ;;
        [Uu][Dd][Pp]) protocol=udp ;;
        *) die 'a protocol must be tcp or udp' ;;
        esac
        digits=$(printf %s "$code" | cut -c "$((2 * at + 1))-$((2 * at + 2))")
        [ "$at" -lt 20 ] || digits=0
        echo "$(((base + 0x$digits) % 65536)):$protocol"
        at=$(((at + 1) % 21))
    done
}

list=$(half "$seed" "$@")
[ -z "$source" ] || list="$list $(half "$seed$source" "$@")"
if [ -n "$print" ]; then
    # shellcheck disable=SC2086 # join the lines
    echo $list
    exit
fi

# --- the knocks: one packet each, without waiting for an answer ----------------------

if [ -z "$with" ]; then
    for with in bash nc nmap nothing; do
        ! command -v "$with" >/dev/null || break
    done
fi
case $host in *:*) six=-6 ;; *) six= ;; esac

# Sends a packet of protocol $1 to port $2.
send() {
    case $with:$1 in
    bash:tcp) exec bash -c ': >"/dev/tcp/$1/$2"' - "$host" "$2" ;;
    bash:udp) exec bash -c 'echo >"/dev/udp/$1/$2"' - "$host" "$2" ;;
    nc:tcp) exec nc ${six:+"$six"} -z "$host" "$2" </dev/null ;;
    nc:udp) exec nc ${six:+"$six"} -u "$host" "$2" <<. ;;
any byte
.
    nmap:tcp) exec nmap ${six:+"$six"} -n -Pn --max-retries 0 --max-rtt-timeout 200ms -p "$2" "$host" ;;
    nmap:udp) exec nmap ${six:+"$six"} -n -Pn --max-retries 0 --max-rtt-timeout 200ms -sU -p "$2" "$host" ;;
    esac
}

case $with in
bash | nc | nmap) ;;
*) die 'bash, nc or nmap is needed to send packets' ;;
esac
for knock in $list; do
    send "${knock#*:}" "${knock%:*}" >/dev/null 2>&1 &
    sleep "$pause"
    # Kill a program that still waits for an answer, because it would knock a second time.
    # nmap would not, but needs more time.
    if [ "$with" = nmap ]; then wait $! || :; else kill $! 2>/dev/null || :; fi
done
