#!/bin/sh
# Makes vectors.txt: lists of one-time ports as the openssl command line computes them, from the words
# of the manual and from none of our code.
#
#   tests/corpus/otp/vectors.sh >tests/corpus/otp/vectors.txt
#
# A line is: digest, unix time, address, and the value of `otp`, which may have blanks; a tab between
# each; then, after another tab, the ports.
set -eu
LC_ALL=C
export LC_ALL

hex() { od -An -v -tx1 | tr -d ' \n'; }

# HMAC of message $3 with key $2 and digest $1, in hexadecimal digits.
hmac() {
    printf %s "$3" | openssl dgst "-$1" -mac HMAC -macopt "hexkey:$(printf %s "$2" | hex)" -binary | hex
}

# So many ports $2 above base $1, from the digits $3: byte 20 of each 21 is 0.
ports() {
    index=0
    while [ $index -lt "$2" ]; do
        at=$((index % 21))
        digits=$(printf %s "$3" | cut -c $((2 * at + 1))-$((2 * at + 2)))
        [ $at -lt 20 ] || digits=00
        printf ' %s' $((($1 + 0x$digits) % 65536))
        index=$((index + 1))
    done
}

# digest, unix time, address, seed, change time, base, on or off, number of protocols
list() {
    period=$(($2 / $5))
    protocols=$(yes tcp,udp,udp | head -n 11 | paste -sd , | cut -d , -f "1-$8")
    printf '%s\t%s\t%s\t%s,%s,%s,%s,%s\t' "$1" "$2" "$3" "$4" "$5" "$6" "$7" "$protocols"
    all=$(
        ports "$6" "$8" "$(hmac "$1" "$4" "$period")"
        [ "$7" = off ] || ports "$6" "$8" "$(hmac "$1" "$4$3" "$period")"
    )
    echo "${all# }"
}

longest=0123456789012345678901234567890
for digest in sha1 sha256 sha512; do
    count=1
    while [ $count -le 32 ]; do
        list $digest $((1795350000 + 77 * count)) 192.0.2.$count "seed $count" 45 20000 on $count
        count=$((count + 1))
    done
    # The ends of the ranges.
    list $digest 0 10.0.0.1 s 1 0 off 3
    list $digest 65534 10.0.0.1 s 65535 0 off 3
    list $digest 65535 10.0.0.1 s 65535 0 off 3
    list $digest 253402300799 255.255.255.255 $longest 1 65535 on 32
    # Seeds that shells, parsers and C strings stumble over.
    # shellcheck disable=SC2016 # not to be expanded
    for seed in "it's" 'a"b' '$HOME' '%s%n' 'a  b' '\0\n' '#' '[x]' '=' ';' "$(printf '\303\251\377')"; do
        list $digest 1795350000 10.9.8.7 "$seed" 30 40000 on 4
    done
    # Ports go on at 0 after 65535.
    for base in 65280 65281 65400 65535; do
        list $digest 1795350001 10.9.8.7 wrap 3600 $base on 21
    done
    # IPv6 as RFC 5952 writes it; key and address are longer than a block of sha1.
    for address in :: ::1 2001:db8::1 2001:db8:0:1:1:1:1:1 2001:0:0:1::1 fe80::1:0:0:1 \
        ::ffff:192.0.2.1 2001:db8:1111:2222:3333:4444:5555:6666; do
        list $digest 1795350002 $address $longest 60 30000 on 5
    done
done
