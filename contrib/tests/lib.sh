# shellcheck shell=bash
# What the tests of contrib/ have in common. Run them with contrib/tests/run.sh.
set -u
export LC_ALL=C
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

: "${RESULTS:?run this with contrib/tests/run.sh}" "${CONTRIB:?}" "${KNOCKD:?}" "${KNOCK:?}"

# One line for each thing that holds, or does not; what was said goes below it.
passed() {
    echo pass >>"$RESULTS"
    printf '  ok      %s\n' "$1"
}

failed() {
    echo fail >>"$RESULTS"
    printf '  FAILED  %s\n' "$1"
    [ -z "${2:-}" ] || printf '%s\n' "$2" | sed 's/^/          | /'
}

# What cannot be tried here counts as neither; it is said, with the reason.
skipped() {
    echo skip >>"$RESULTS"
    printf '  SKIPPED %s: %s\n' "$1" "$2"
}

# check WHAT COMMAND...: the command has to succeed.
check() {
    local what=$1 said code=0
    shift
    said=$("$@" 2>&1) || code=$?
    if [ $code = 0 ]; then passed "$what"; else failed "$what" "$said
(code $code of: $*)"; fi
}

# refused WHAT CODE TEXT COMMAND...: it has to end with this code and say this.
refused() {
    local what=$1 wanted=$2 text=$3 said code=0
    shift 3
    said=$("$@" 2>&1) || code=$?
    case "$code $said" in
    "$wanted "*"$text"*) passed "$what" ;;
    *) failed "$what" "$said
(code $code, wanted $wanted and '$text')" ;;
    esac
}

# same WHAT WANTED SEEN
same() {
    if [ "$2" = "$3" ]; then passed "$1"; else failed "$1" "wanted: $2
seen:   $3"; fi
}

# soon COMMAND...: it has to succeed within ten seconds.
soon() {
    local _
    for _ in {1..200}; do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.05
    done
    "$@"
}

lacks() {
    ! "$@"
}

# cable NEAR FAR: a client in a network of its own. NEAR is our end of the cable,
# with 10.83.0.1 and 2001:db8:83::1, FAR its end, with the same addresses in 2.
cable() {
    unshare --net sleep 290 &
    client=$!
    soon lacks test "$(readlink /proc/self/ns/net)" = "$(readlink "/proc/$client/ns/net")"
    ip link set lo up
    ip link add "$1" type veth peer name "$2" netns $client
    ip addr add 10.83.0.1/24 dev "$1"
    ip addr add 2001:db8:83::1/64 dev "$1" nodad
    ip link set "$1" up
    at_client ip addr add 10.83.0.2/24 dev "$2"
    at_client ip addr add 2001:db8:83::2/64 dev "$2" nodad
    at_client ip link set "$2" up
}

at_client() {
    nsenter --net="/proc/$client/ns/net" "$@"
}
