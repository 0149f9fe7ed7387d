# shellcheck shell=bash
# Functions for the tests of contrib/. Run the tests with contrib/tests/run.sh.
set -u
export LC_ALL=C
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

: "${RESULTS:?run this with contrib/tests/run.sh}" "${CONTRIB:?}" "${KNOCKD:?}" "${KNOCK:?}"

# Each check prints one line, with the output of the command below it if it failed.
passed() {
    echo pass >>"$RESULTS"
    printf '  ok      %s\n' "$1"
}

failed() {
    echo fail >>"$RESULTS"
    printf '  FAILED  %s\n' "$1"
    [ -z "${2:-}" ] || printf '%s\n' "$2" | sed 's/^/          | /'
}

# A check that this machine cannot run counts as neither; it is printed with the reason.
skipped() {
    echo skip >>"$RESULTS"
    printf '  SKIPPED %s: %s\n' "$1" "$2"
}

# check WHAT COMMAND...: the command must succeed.
check() {
    local what=$1 said code=0
    shift
    said=$("$@" 2>&1) || code=$?
    if [ $code = 0 ]; then passed "$what"; else failed "$what" "$said
(code $code of: $*)"; fi
}

# refused WHAT CODE TEXT COMMAND...: the command must exit with this code and print this text.
refused() {
    local what=$1 wanted=$2 text=$3 said code=0
    shift 3
    said=$("$@" 2>&1) || code=$?
    case "$code $said" in
    "$wanted "*"$text"*) passed "$what" ;;
    *) failed "$what" "$said
(code $code, expected $wanted and '$text')" ;;
    esac
}

# same WHAT EXPECTED ACTUAL: the two texts must be equal.
same() {
    if [ "$2" = "$3" ]; then passed "$1"; else failed "$1" "expected: $2
actual:   $3"; fi
}

# soon COMMAND...: the command must succeed within ten seconds.
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

# cable NEAR FAR: creates a client with its own network. NEAR is our end of the cable,
# with the addresses 10.83.0.1 and 2001:db8:83::1; FAR is the client's end, with
# 10.83.0.2 and 2001:db8:83::2.
cable() {
    unshare --net sleep 890 &
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
