#!/bin/sh
# Knocks at a door with a one-time password (otp in knockd.conf), step by step:
# to see how it goes, or where there is no knock. Needs openssl, and bash, nc or
# nmap to send with.
#
#   knockd.sh -f FILE HOST                                the seed stays in FILE
#   knockd.sh -o 'SEED,45,20000,on,tcp,udp,tcp' HOST      others can see it
#
#   -4 -6        over this family only
#   -a ADDRESS   HOST sees us as this one (else: what ip route get says)
#   -g DIGEST    sha1 (default), sha256 or sha512
#   -d SECONDS   between two knocks (default 0.2)
#   -s PROGRAM   send with bash, nc or nmap (default: the first that is there)
#   -p           print the list and send nothing
#
# The seed is never a word on another program's command line: what is here is
# builtin or a pipe. The other end of it is src/door/otp.rs.
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

# --- the fields; the first comma ends the seed, whatever else is in it ---------

trim() {
    trimmed=${1#"${1%%[![:space:]]*}"}
    trimmed=${trimmed%"${trimmed##*[![:space:]]}"}
}

trim "${line%%,*}"
seed=$trimmed
set -f
IFS=' ,	'
# shellcheck disable=SC2086 # to be split
set -- "$1" ${line#*,}
unset IFS
if [ $# -lt 5 ] || [ -z "$seed" ]; then die 'wanted: SEED,CHANGE_TIME,BASE,on|off,PROTO[,PROTO ...]'; fi
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
    [ -n "$source" ] || die 'which address does the host see? -a says it'
    ;;
[Oo][Ff][Ff]) source='' ;;
*) die 'the fourth field is neither on nor off' ;;
esac

# --- HMAC (RFC 2104): H(key ^ 5c.. | H(key ^ 36.. | message)) ---------------------

hex() {
    od -An -v -tx1 | tr -d ' \n'
}

hash() {
    openssl dgst "-$digest" -binary
}

# The bytes of which $1 are the hexadecimal digits, each xored with $2.
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

# Of key $1 and message $2, in hexadecimal digits.
hmac() {
    key=$(printf %s "$1" | hex)
    [ ${#key} -le $((2 * block)) ] || key=$(bytes "$key" 0 | hash | hex)
    while [ ${#key} -lt $((2 * block)) ]; do key=${key}00; done
    {
        bytes "$key" 92
        { bytes "$key" 54 && printf %s "$2"; } | hash
    } | hash | hex
}

# --- the period: not its last second -------------------------------------------------

now=$(date +%s)
if [ $((change_time - now % change_time)) -le 1 ]; then
    sleep 1
    now=$(date +%s)
fi
period=$((now / change_time))

# --- the list: a byte of the digest each; the 21st of every 21 is 0 ------------------

# Of key $1; the rest are the protocols.
half() {
    code=$(hmac "$1" "$period")
    shift
    at=0
    for protocol; do
        case $protocol in
        [Tt][Cc][Pp]) protocol=tcp ;;
        [Uu][Dd][Pp]) protocol=udp ;;
        *) die 'a protocol is neither tcp nor udp' ;;
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
    # shellcheck disable=SC2086 # to be joined
    echo $list
    exit
fi

# --- the knocks: one packet each, and nobody waits for an answer ---------------------

if [ -z "$with" ]; then
    for with in bash nc nmap nothing; do
        ! command -v "$with" >/dev/null || break
    done
fi
case $host in *:*) six=-6 ;; *) six= ;; esac

# By protocol $1 to port $2.
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
*) die 'bash, nc or nmap must be there to send with' ;;
esac
for knock in $list; do
    send "${knock#*:}" "${knock%:*}" >/dev/null 2>&1 &
    sleep "$pause"
    # Who still waits for an answer would knock a second time; nmap takes its time, and would not.
    if [ "$with" = nmap ]; then wait $! || :; else kill $! 2>/dev/null || :; fi
done
