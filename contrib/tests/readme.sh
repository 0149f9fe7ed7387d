#!/bin/bash
# Follows README.md line by line: runs each line of its shell blocks on the server or
# the client, as the fence says (```sh server), and writes the files that fences name
# (```ini server door.conf). Each section begins with a server that drops everything.
# Before a client uses ssh, the test checks that the port is closed.
# shellcheck disable=SC2317 # functions that are passed as arguments
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

# Lines that are not run, and why. All others are.
declare -A NOT_RUN=(
    ['contrib/demo.sh']='.ci/run runs it by itself'
    ['cargo test']='.ci/run runs it by itself'
    ['cargo build --release']='contrib/demo.sh does it'
    ['contrib/build-static.sh x86_64']='it downloads a toolchain, and tests what it builds itself'
)
ORIGINAL=/usr/sbin/knockd

# ------------------------------------------------------------------ two hosts
# The server's system directories are writable copies, for this test only.
mkdir copy && mount -t tmpfs tmpfs copy
for at in etc usr var/lib/dpkg; do
    mkdir -p "copy/$at/upper" "copy/$at/work"
    if ! mount -t overlay overlay -o "lowerdir=/$at,upperdir=$PWD/copy/$at/upper,workdir=$PWD/copy/$at/work" "/$at"; then
        skipped "README.md" "no overlay file system for a copy of /$at"
        exit 0
    fi
done
cable eth0 eth0
echo '10.83.0.1 SERVER' >>/etc/hosts

# The server has the cloned and built repository; the client has an empty directory and
# `knock` installed.
mkdir -p server/target/release client/home bin
cp -r ../contrib ../man ../knockd.conf server/
cp "$KNOCKD" "$KNOCK" server/target/release/
cp "$KNOCK" bin/
export PATH=$PWD/bin:$PATH

# Mocks. An ssh that only connects:
cat >bin/ssh <<'END_OF_SSH'
#!/bin/bash
exec timeout 4 bash -c 'exec 3<>"/dev/tcp/$0/22"' "$1"
END_OF_SSH
# A service manager with one service, started as its unit, or Debian's, says:
cat >bin/systemctl <<'END_OF_SYSTEMCTL'
#!/bin/bash
case "$*" in
daemon-reload) exit ;;
'restart knockd' | 'enable --now knockd') ;;
*) exit 1 ;;
esac
unit=/etc/systemd/system/knockd.service program=/usr/sbin/knockd
[ ! -e $unit ] || program=$(sed -n 's/^ExecStart=\([^ ]*\).*/\1/p' $unit)
if pid=$(cat /run/service.pid 2>/dev/null); then
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
fi
[ ! -r /etc/default/knockd ] || . /etc/default/knockd
setsid "$program" $KNOCKD_OPTS >/run/service.said 2>&1 &
echo $! >/run/service.pid
for _ in {1..100}; do
    grep -q '^[0-9a-f]' /proc/net/packet && exit 0
    sleep 0.05
done
exit 1
END_OF_SYSTEMCTL
chmod 755 bin/*
# And a listener on port 22:
nc -l -k -p 22 </dev/null >/dev/null &
soon grep -q ':0016 .* 0A ' /proc/net/tcp

# Whether the daemon and all its processes have exited.
ended() { [ -z "$(pgrep -x knockd)" ]; }
end_knockd() {
    local pid
    for pid in $(pgrep -a -x knockd | sed '/knockd: /d; s/ .*//'); do kill "$pid"; done
    soon ended || failed "knockd exits on SIGTERM" "$(pgrep -a -x knockd)"
}

# No daemon runs, and the firewall drops everything.
start_afresh() {
    end_knockd
    rm -f /run/service.pid
    nft delete table inet router 2>/dev/null || true
    "$KNOCKD" --unguard >/dev/null
    iptables -F
    iptables -P INPUT DROP
    iptables -A INPUT -i lo -j ACCEPT
    iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
}

# ---------------------------------------------------------------------- lines
# on PLACE COMMAND...
on() {
    local place=$1
    shift
    case $place in
    server) (cd server && "$@") ;;
    client) at_client env HOME="$PWD/client/home" --chdir="$PWD/client" "$@" ;;
    esac
}
goes_in() { on client ssh SERVER >/dev/null 2>&1; }

declare -A tried=()
# The export lines of the server, which apply to all later lines.
exports=''
# run_line PLACE LINE
run_line() {
    local line=${2%%  #*}
    line=${line%"${line##*[! ]}"}
    case $line in '' | '#'*) return ;; esac
    if [ -n "${NOT_RUN[$line]:-}" ]; then
        skipped "$line" "${NOT_RUN[$line]}"
        tried[$line]=no
        return
    fi
    case $1 in server | client) ;; *) failed "$line" "its fence says neither server nor client" && return ;; esac
    case $line in
    'export '*)
        exports+="$line; "
        passed "$1: $line"
        ;;
    # These run in the foreground until they are stopped.
    'knockd -v '* | 'knockd -D '*)
        end_knockd
        # What an earlier one said is no sign that this one listens.
        : >said
        on "$1" bash -c "${exports}exec $line" >said 2>&1 &
        if soon grep -q '^listening on' said; then passed "$1: $line"; else failed "$1: $line" "$(cat said)"; fi
        ;;
    *)
        case $line in *ssh\ *) check "the port is closed before" lacks goes_in ;; esac
        if [ "$1" = server ]; then check "$1: $line" on "$1" bash -c "$exports$line"; else
            check "$1: $line" on "$1" bash -c "$line"
        fi
        ;;
    esac
}

# ----------------------------------- checks before sections and after blocks
# The section brings its own firewall.
closed() { iptables -P INPUT ACCEPT && iptables -F; }
# The checks that must be reached, so that a renamed heading is noticed.
declare -A due=(['before A first door']='' ['before Installing']='' ['before On a router']='' ['before Knocks with a name']=''
    ['before Moving from knockd 0.8']='' ['after Installing 1']='' ['after Installing 2']=''
    ['after Moving from knockd 0.8 1']='' ['after Moving from knockd 0.8 2']=''
    ['after On a router 6']='' ['after In a container 2']='')
came() { [ -z "${due[$1]+there}" ] || due[$1]=yes; }
before() {
    came "before $1"
    case $1 in
    'A first door') closed ;; # Guard is the only firewall
    Installing) rm -f /etc/knockd.conf ;;
    'On a router') closed ;; # its firewall is made with nft
    # This section expects the daemon of the first door.
    'Knocks with a name')
        closed
        run_line server 'knockd -v -i eth0 -c door.conf'
        ;;
    'Moving from knockd 0.8')
        cp server/commands.conf /etc/knockd.conf
        chmod 600 /etc/knockd.conf
        echo 'KNOCKD_OPTS="-i eth0"' >/etc/default/knockd
        systemctl restart knockd
        ;;
    esac
}
version() { "$1" -V | head -n 1; }
lets_in() {
    check "$1: the port is closed" lacks goes_in
    on client "$KNOCK" -d 100 SERVER 38281 29374 4921 54918
    check "$1: four knocks open it" goes_in
}
# after SECTION BLOCK
after() {
    came "after $1 $2"
    case "$1 $2" in
    'Installing 1')
        same "the programs are there" "knockd 0.9.0 knock 0.9.0" \
            "$(version /usr/local/sbin/knockd) $(version /usr/local/bin/knock)"
        check "and the configuration" cmp /etc/knockd.conf server/knockd.conf
        ;;
    'Installing 2')
        same "the service runs the installed program" /usr/local/sbin/knockd \
            "$(readlink "/proc/$(cat /run/service.pid)/exe")"
        end_knockd
        rm /usr/local/sbin/knockd /usr/local/bin/knock /etc/systemd/system/knockd.service
        ;;
    'Moving from knockd 0.8 1')
        same "the new program has replaced the old one" "$(version "$KNOCKD")" "$(version $ORIGINAL)"
        lets_in "the new one"
        start_afresh
        ;;
    'Moving from knockd 0.8 2')
        same "the old program is back" "knockd 0.8" "$(version $ORIGINAL)"
        lets_in "the old one"
        ;;
    'On a router 6')
        nft flush set inet router friends
        lets_in "the helper"
        # After 10 seconds, the default of Cmd_Timeout.
        if soon lacks goes_in || soon lacks goes_in; then passed "the helper: the port is closed again"; else
            failed "the helper: the port is closed again" "$(nft list table inet router)"
        fi
        ;;
    'In a container 2')
        on client "$KNOCK" SERVER 8080
        if soon grep -q '^woken by 10.83.0.2$' /run/woken; then passed "a packet wakes the server"; else
            failed "a packet wakes the server"
        fi
        ;;
    esac
}

# --------------------------------------------------------------------- README
section='' block=0 kind='' place='' file='' body=()
start_afresh
while IFS= read -r line; do
    case $line in
    '## '*)
        section=${line#\#\# }
        block=0
        start_afresh
        before "$section"
        ;;
    '```')
        [ -n "$kind" ] || failed "a fence in $section" "it does not name its language"
        case $kind in
        sh)
            for words in "${body[@]}"; do run_line "$place" "$words"; done
            block=$((block + 1))
            after "$section" $block
            ;;
        ini | nft)
            block=$((block + 1))
            printf '%s\n' "${body[@]}" >"$place/${file/#\~/home}"
            ;;
        text) ;;
        *) failed "a fence in $section" "unknown language $kind" ;;
        esac
        kind=''
        ;;
    '```'*)
        read -r kind place file <<<"${line#\`\`\`}"
        body=()
        ;;
    *) [ -z "$kind" ] || body+=("$line") ;;
    esac
done <../README.md
start_afresh
same "each fence is closed" "" "$kind"
for it in "${!due[@]}"; do same "README.md has a block for the check '$it'" yes "${due[$it]}"; done
for line in "${!NOT_RUN[@]}"; do
    check "README.md has the line that is not run: $line" test -n "${tried[$line]:-}"
done
exit 0
