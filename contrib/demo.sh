#!/bin/bash
# Demonstrates port knocking with real packets: a server whose firewall drops
# everything, a client that knocks, and a stranger that does not; then the same
# with neither a firewall nor a command.  Each has its own network namespace on
# this machine; nothing outside of them is touched.
#
#     contrib/demo.sh
#
# As root it installs missing packages (apt-get).  As an ordinary user it needs
# iproute2, nftables (or iptables), and user namespaces.  KNOCKD=PATH and
# KNOCK=PATH demonstrate other programs than those built here.
#
# Exit code: 0 if every step passed, 1 otherwise.
set -euo pipefail

export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
export LC_ALL=C

SERVER=10.83.0.1
CLIENT=10.83.0.2
STRANGER=10.83.1.2
PORT=22
OPEN=(38281 29374 4921 54918)
CLOSE=(37281 8529 40127 10100)

die() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

commas() {
    local IFS=,
    printf '%s' "$*"
}

# ------------------------------------------------------------------ outside

# The Debian packages of the missing commands.
missing_packages() {
    has ip || echo iproute2
    has unshare || echo util-linux
    has perl || echo perl-base
    if ! has nft && ! has iptables; then echo nftables; fi
    # Rust links with the C compiler.
    if [ -z "${KNOCKD:-}" ] || [ -z "${KNOCK:-}" ]; then
        has cc || printf '%s\n' gcc libc6-dev
    fi
}

installed=()
install_packages() {
    local packages
    mapfile -t packages < <(missing_packages)
    [ ${#packages[@]} -gt 0 ] || return 0
    if ! has apt-get; then
        die "missing programs; the Debian packages that have them are: ${packages[*]}"
    fi
    if [ "$(id -u)" != 0 ]; then
        die "missing packages: ${packages[*]}. Install them (apt-get install ${packages[*]}) or run this script as root."
    fi
    echo "Installing ${packages[*]} (apt-get)"
    installed=("${packages[@]}")
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update >/dev/null || true # an outdated package list may be good enough
    apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null </dev/null ||
        die "apt-get could not install ${packages[*]}"
}

# Prepares the build.  Under sudo it runs as the calling user, so that no files owned by
# root are left in the user's directory.
builder=()
find_cargo() {
    local home="$HOME"
    if [ "$(id -u)" = 0 ] && [ "${SUDO_UID:-0}" != 0 ]; then
        home=$(getent passwd "$SUDO_UID" | cut -d: -f6)
        builder=(setpriv --reuid "$SUDO_UID" --regid "$SUDO_GID" --init-groups env "HOME=$home")
    fi
    export PATH="$PATH:$home/.cargo/bin"
    has cargo || die "cargo is missing: install Rust, see https://rustup.rs," \
        "or name the programs of a package: KNOCKD=/usr/sbin/knockd KNOCK=/usr/bin/knock $0"
}

build() {
    echo "Building knockd and knock: about a hundred crates, some minutes the first time"
    (cd "$1" && "${builder[@]}" cargo build --release --locked) </dev/null ||
        die "the programs could not be built, see above (CONTRIBUTING.md has the version of Rust that they need)"
}

# The namespaces for the server and all that belongs to it.
new=()
find_namespaces() {
    # The server's network namespace, a mount namespace to pin the other two networks
    # in, and, where that is allowed, a PID namespace: when its first process ends, all
    # others in it are killed.
    new=(unshare --net --mount --fork)
    if [ "$(id -u)" != 0 ]; then
        new+=(--user --map-root-user)
    fi
    if ! "${new[@]}" true 2>/dev/null; then
        if [ "$(id -u)" = 0 ]; then
            die "root cannot create network namespaces here (a container without CAP_SYS_ADMIN?)"
        fi
        die "ordinary users cannot create network namespaces here. Run this as root, or enable" \
            "user namespaces: sysctl user.max_user_namespaces=1000, and, where they exist," \
            "kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0."
    fi
    if "${new[@]}" --pid --mount-proc true 2>/dev/null; then
        new+=(--pid --mount-proc)
    fi
}

outside() {
    local here target job status=0
    here=$(cd "$(dirname "$0")/.." && pwd)
    # What cannot work is said before anything is installed or built.
    local builds=no
    if [ -z "${KNOCKD:-}" ] || [ -z "${KNOCK:-}" ]; then builds=yes; fi
    [ $builds = no ] || find_cargo
    if has unshare; then find_namespaces; fi
    install_packages
    [ ${#new[@]} -gt 0 ] || find_namespaces
    if [ $builds = yes ]; then
        build "$here"
        target=$(cd "$here" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
    fi
    KNOCKD=$(realpath "${KNOCKD:-$target/release/knockd}")
    KNOCK=$(realpath "${KNOCK:-$target/release/knock}")
    export KNOCKD KNOCK
    [ -x "$KNOCKD" ] || die "$KNOCKD cannot be run"
    [ -x "$KNOCK" ] || die "$KNOCK cannot be run"

    # Its own process group, so that it can be killed as a whole.
    set -m
    "${new[@]}" "$BASH" "$here/contrib/demo.sh" --inside </dev/null &
    set +m
    job=$!
    # shellcheck disable=SC2064  # expand the PID now
    trap "kill -TERM -- -$job 2>/dev/null" HUP INT TERM
    # A signal interrupts `wait`, but not the job.
    while wait "$job" || status=$?; kill -0 "$job" 2>/dev/null; do status=0; done
    [ ${#installed[@]} = 0 ] || echo "The demonstration installed: ${installed[*]} (apt-get remove ${installed[*]})"
    exit "$status"
}

# ------------------------------------------------------------------- inside

step=0

# Prints the heading of a step; seen prints a result.
step() {
    step=$((step + 1))
    printf '\n%d. %s\n' "$step" "$*"
}

seen() {
    printf '   %s\n' "$*"
}

# Prints a command, runs it, and prints its output.
show() {
    printf '   $ %s\n' "${*//"$work"\//}"
    "$@" 2>&1 | sed 's/^/   | /'
}

failed() {
    printf '   %s\n' "$*"
    if [ -s "$work/knockd.log" ]; then
        printf '\nThe log of knockd:\n'
        sed 's/^/   | /' "$work/knockd.log"
    fi
    printf '\ndemo: step %d failed\n' "$step"
    exit 1
}

# Runs a command in the namespace of the client or the stranger; this script itself runs
# in that of the server.
on() {
    nsenter --net="$work/$1" "${@:2}"
}

# Waits up to three seconds for a command to succeed.
soon() {
    local tries=60
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.05
    done
}

logged() {
    grep -qF -- "$1" "$work/knockd.log" 2>/dev/null
}

# Connects from a host to the server's port and prints the first line of the answer.
# Exit code 124: no answer within a second.
# shellcheck disable=SC2016  # expanded by the inner shell
connect() {
    on "$1" timeout 1 bash -c 'exec 3<>"/dev/tcp/$0/$1" && read -r line <&3 && echo "${line%[[:cntrl:]]}"' \
        "$SERVER" "$PORT" 2>/dev/null
}

must_not_connect() {
    local answer code=0
    answer=$(connect "$1") || code=$?
    case $code in
    124) seen "$1 -> $SERVER:$PORT: no answer" ;;
    0) failed "$1 -> $SERVER:$PORT: connected (\"$answer\"), but the firewall should have dropped it" ;;
    *) failed "$1 -> $SERVER:$PORT: refused (code $code), but the firewall should have dropped it" ;;
    esac
}

must_connect() {
    local answer
    answer=$(connect "$1") || failed "$1 -> $SERVER:$PORT: no connection, but the door should be open"
    seen "$1 -> $SERVER:$PORT: connected, \"$answer\""
}

knock_from() {
    local host="$1"
    shift
    printf '   %s$ knock -v %s\n' "$host" "$*"
    on "$host" "$KNOCK" -v "$@" 2>&1 | sed 's/^/   | /' || failed "knock failed"
}

must_be_logged() {
    local line
    for line in "$@"; do
        soon logged "$line" || failed "knockd did not log: $line"
        seen "log: $line"
    done
}

# Creates a namespace whose eth0 is connected to the interface $link of the server.
new_host() {
    local name="$1" link="$2" server="$3" address="$4"
    : >"$work/$name"
    unshare --net="$work/$name" true
    ip link add "$link" type veth peer name eth0 netns "$work/$name"
    ip address add "$server/24" dev "$link"
    ip link set "$link" up
    on "$name" ip link set lo up
    on "$name" ip address add "$address/24" dev eth0
    on "$name" ip link set eth0 up
    if [ "$server" != "$SERVER" ]; then
        on "$name" ip route add "$SERVER" via "$server"
    fi
}

linked() {
    ip link show dev "$1" | grep -q LOWER_UP
}

# Sets up a firewall with the tool that works here, and sets the commands for its rules.
choose_firewall() {
    local tool
    if has nft && nft add table inet demo 2>/dev/null; then
        nft -f - <<END
table inet demo {
    set friends {
        type ipv4_addr
    }
    chain input {
        type filter hook input priority 0; policy drop;
        ip saddr @friends tcp dport $PORT accept
    }
}
END
        list=(nft list table inet demo)
        drop=(nft delete table inet demo)
        allow="nft add element inet demo friends { %IP% }"
        forbid="nft delete element inet demo friends { %IP% }"
        return
    fi
    for tool in iptables iptables-legacy; do
        if has "$tool" && "$tool" -P INPUT DROP 2>/dev/null; then
            list=("$tool" -S INPUT)
            drop=("$tool" -P INPUT ACCEPT)
            allow="$tool -A INPUT -s %IP% -p tcp --dport $PORT -j ACCEPT"
            forbid="$tool -D INPUT -s %IP% -p tcp --dport $PORT -j ACCEPT"
            return
        fi
    done
    failed "neither nft nor iptables can add rules here (does the kernel have nf_tables?)"
}

# Starts a listener that speaks first, as SSH does.  Every Debian has Perl.
# shellcheck disable=SC2016  # Perl code
start_listener() {
    perl -MIO::Socket::INET -e '
        my $s = IO::Socket::INET->new(LocalAddr => $ARGV[0], LocalPort => $ARGV[1],
            Listen => 5, ReuseAddr => 1) or die "cannot listen: $@\n";
        open(my $ready, ">", $ARGV[2]) or die; close($ready);
        while (my $c = $s->accept) { print $c "SSH-2.0-demo\r\n"; close($c); }
    ' "$SERVER" "$PORT" "$work/listening" &
    listener=$!
    disown "$listener" # so that bash prints no notice when it is killed
    soon test -e "$work/listening" || failed "nothing listens on port $PORT"
}

daemon_ended() {
    ! kill -0 "$1" 2>/dev/null
}

clean_up() {
    local pid
    trap - EXIT
    if pid=$(cat "$work/knockd.pid" 2>/dev/null); then
        kill -TERM "$pid" 2>/dev/null || true
        soon daemon_ended "$pid" || kill -KILL "$pid" 2>/dev/null || true
    fi
    [ -z "${listener:-}" ] || kill -KILL "$listener" 2>/dev/null || true
    umount "$work/client" "$work/stranger" 2>/dev/null || true
    rm -rf "$work"
}

# The second act: no firewall, no command.
without_a_command() {
    local pid
    step "The same story without a firewall and without a command: three lines"
    "${drop[@]}"
    rm -f "$work/knockd.log"
    cat >"$work/knockd.conf" <<END
[options]
    LogFile = $work/knockd.log
    PidFile = $work/knockd.pid
    Interface = eth0
    Guard = yes

[ssh]
    Sequence = $(commas "${OPEN[@]}")
    Open = tcp/$PORT
    Cmd_Timeout = 5
END
    sed 's/^/   | /' "$work/knockd.conf"
    must_connect client
    must_connect stranger
    if ! "$KNOCKD" --guard -c "$work/knockd.conf" >"$work/said" 2>&1; then
        seen "left out: $(cat "$work/said")"
        return
    fi
    "$KNOCKD" -d -c "$work/knockd.conf" || failed "knockd did not start (code $?)"
    soon test -s "$work/knockd.pid" || failed "knockd wrote no pid file"
    pid=$(cat "$work/knockd.pid")
    must_be_logged "guarding tcp/$PORT"

    step "Neither the client nor the stranger can reach port $PORT any more"
    must_not_connect client
    must_not_connect stranger

    step "The client knocks at ${OPEN[*]}, and the kernel opens the door"
    knock_from client "$SERVER" "${OPEN[@]}"
    must_be_logged "$CLIENT: ssh: opened tcp/$PORT for 5 s"
    must_connect client
    must_not_connect stranger

    step "The kernel closes it by itself, even though knockd is killed"
    kill -KILL "$pid"
    rm -f "$work/knockd.pid"
    closed_by_the_kernel() { ! connect client >/dev/null; }
    soon closed_by_the_kernel || soon closed_by_the_kernel || failed "port $PORT is still open"
    must_not_connect client

    step "knockd --unguard removes what is left"
    # The killed daemon owns the table until the kernel has cleaned up.
    soon "$KNOCKD" --unguard -c "$work/knockd.conf" >/dev/null 2>&1 || failed "the table is still there"
    must_connect client
    must_connect stranger
}

inside() {
    local pid began=$SECONDS
    local list=() drop=() allow='' forbid=''
    work=$(mktemp -d "${TMPDIR:-/tmp}/knockd-demo.XXXXXX")
    trap clean_up EXIT
    trap 'exit 1' HUP INT TERM

    step "A server ($SERVER), a client ($CLIENT) and a stranger ($STRANGER), each with its own network"
    ip link set lo up
    new_host client eth0 "$SERVER" "$CLIENT"
    new_host stranger eth1 10.83.1.1 "$STRANGER"
    soon linked eth0 || failed "the link to the client did not come up"
    soon linked eth1 || failed "the link to the stranger did not come up"
    show ip -br -4 address show

    step "An SSH-like service listens on the server's port $PORT"
    start_listener
    connect_locally=$(timeout 1 bash -c "exec 3<>/dev/tcp/$SERVER/$PORT && head -c 12 <&3") ||
        failed "the listener does not answer the server itself"
    seen "the server itself -> $SERVER:$PORT: connected, \"$connect_locally\""

    step "The server's firewall drops everything"
    choose_firewall
    show "${list[@]}"

    step "knockd listens on the server, with one door to open the port and one to close it"
    cat >"$work/knockd.conf" <<END
[options]
    LogFile = $work/knockd.log
    PidFile = $work/knockd.pid
    Interface = eth0

[open]
    Sequence = $(commas "${OPEN[@]}")
    Seq_Timeout = 5
    TCPFlags = syn
    Start_Command = $allow

[close]
    Sequence = $(commas "${CLOSE[@]}")
    Seq_Timeout = 5
    TCPFlags = syn
    Start_Command = $forbid
END
    sed 's/^/   | /' "$work/knockd.conf"
    "$KNOCKD" -d -c "$work/knockd.conf" || failed "knockd did not start (code $?)"
    soon test -s "$work/knockd.pid" || failed "knockd wrote no pid file"
    pid=$(cat "$work/knockd.pid")
    seen "knockd runs as process $pid"
    must_be_logged "starting up, listening on eth0"

    step "Neither the client nor the stranger can reach port $PORT"
    must_not_connect client
    must_not_connect stranger

    step "The client knocks at ${OPEN[*]}"
    knock_from client "$SERVER" "${OPEN[@]}"
    must_be_logged "$CLIENT: open: Stage 1" "$CLIENT: open: Stage 2" "$CLIENT: open: Stage 3" \
        "$CLIENT: open: Stage 4" "$CLIENT: open: OPEN SESAME" "open: running command: ${allow//%IP%/$CLIENT}"

    step "Port $PORT is open to the client, and to nobody else"
    soon connect client >/dev/null || true
    must_connect client
    must_not_connect stranger
    show "${list[@]}"

    step "The client knocks at ${CLOSE[*]}"
    knock_from client "$SERVER" "${CLOSE[@]}"
    must_be_logged "$CLIENT: close: Stage 4" "$CLIENT: close: OPEN SESAME" \
        "close: running command: ${forbid//%IP%/$CLIENT}"

    step "Port $PORT is closed again"
    closed_again() { ! "${list[@]}" | grep -qF "$CLIENT"; }
    soon closed_again || failed "the firewall still has the rule for $CLIENT"
    must_not_connect client
    must_not_connect stranger
    kill -0 "$listener" 2>/dev/null || failed "the listener has exited"
    seen "the listener is still running: the firewall dropped these connections"

    step "knockd is stopped with SIGTERM"
    kill -TERM "$pid"
    soon daemon_ended "$pid" || failed "knockd is still running"
    must_be_logged "shutting down"
    [ ! -e "$work/knockd.pid" ] || failed "knockd left its pid file behind"
    seen "it has removed its pid file"

    printf '\nThe log of knockd:\n'
    sed 's/^/   | /' "$work/knockd.log"

    without_a_command
    printf '\nThe story in three lines:\n'
    seen "closed:      port $PORT answered neither the client nor the stranger"
    seen "open to one: after four knocks it answered the client, and only the client"
    seen "closed:      after four other knocks, or by itself after some seconds, nobody any more"
    printf '\ndemo: all %d steps passed (%d s)\n' "$step" "$((SECONDS - began))"
}

case "${1:-}" in
'') outside ;;
--inside) inside ;;
-h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" ;;
*) die "unknown argument: $1 (there are none)" ;;
esac
