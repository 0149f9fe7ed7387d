#!/bin/sh
# Opens a port for one address, or closes it again, in whatever firewall there is.
#
#     Start_Command = /usr/sbin/knock_helper.sh -i -f %IP% -d 22
#     Stop_Command  = /usr/sbin/knock_helper.sh -x -f %IP% -d 22
#     Reopen        = extend
#
# Opening twice adds one rule, and one removal closes the port; so a second knock
# must postpone the removal instead of adding a second one (Reopen, which knockd
# 0.8 does not have). Removing a rule that does not exist is not an error. The
# address decides between IPv4 and IPv6. The script has all options of
# knock_helper_ipt.sh, which came with knockd 0.8, and adds long names; a link with
# that name replaces it.
#
# Exit code: 0 if the firewall is as requested, 1 if the command line is wrong,
# 2 if the firewall could not be changed.
set -u

export LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
NAME=${0##*/}

usage() {
    cat <<END
usage: $NAME -a|-i|-x -f ADDRESS -d PORT [options]
  -a, --append         open the port with a rule after all others
  -i, --insert         open the port with a rule before all others
  -x, --delete         close the port: remove the rule
  -f, --srcaddr ADDR   the IPv4 or IPv6 address to open it for (or network: 192.0.2.0/24)
  -d, --dstport PORT   the port, or a range of ports: 8000:8010
  -p, --proto PROTO    tcp (default), udp, sctp, dccp or udplite
  -c, --chain CHAIN    chain of iptables and nft (default: INPUT; nft: input)
  -m, --comment TEXT   comment of the rule (default: by knockd)
  -b, --backend NAME   iptables (default; ip6tables for IPv6), nft, ufw or firewalld
  -T, --table TABLE    table of nft (default: inet filter)
  -z, --zone ZONE      zone of firewalld (default: its default zone)
  -t, --test           change nothing, print the commands that would run
  -v, --verbose        print the commands that run
  -h, --help           this help
END
}

refuse() {
    echo "$NAME: $1" >&2
    echo "Try '$NAME -h'." >&2
    exit 1
}

fail() {
    echo "$NAME: $1" >&2
    exit 2
}

# ------------------------------------------------------------- command line

action='' address='' port='' proto=tcp chain='' comment='by knockd'
backend=iptables table='inet filter' zone='' testing=no verbose=no

act() {
    [ -z "$action" ] || [ "$action" = "$1" ] || refuse "use only one of -a, -i and -x"
    action=$1
}

# One option without a value.
flag() {
    case $1 in
    a | append) act append ;;
    i | insert) act insert ;;
    x | delete) act delete ;;
    t | test) testing=yes ;;
    v | verbose) verbose=yes ;;
    h | help) usage && exit 0 ;;
    *) return 1 ;;
    esac
}

# Whether an option takes a value. The value of -m is optional, as in knock_helper_ipt.sh.
takes_value() {
    case $1 in
    f | srcaddr | d | dstport | p | proto | c | chain) ;;
    b | backend | T | table | z | zone) ;;
    *) return 1 ;;
    esac
}

# One option with its value.
value() {
    case $1 in
    f | srcaddr) address=$2 ;;
    d | dstport) port=$2 ;;
    p | proto) proto=$2 ;;
    c | chain) chain=$2 ;;
    m | comment) comment=$2 ;;
    b | backend) backend=$2 ;;
    T | table) table=$2 ;;
    z | zone) zone=$2 ;;
    esac
}

while [ $# -gt 0 ]; do
    word=$1
    shift
    case $word in
    --?*=*)
        option=${word%%=*} option=${option#--}
        takes_value "$option" || [ "$option" = comment ] || refuse "--$option: no such option, or it takes no value"
        value "$option" "${word#*=}"
        ;;
    --?*)
        option=${word#--}
        if takes_value "$option"; then
            [ $# -gt 0 ] || refuse "$word: its value is missing"
            value "$option" "$1"
            shift
        elif [ "$option" = comment ]; then
            case ${1--} in -*) ;; *) value comment "$1" && shift ;; esac
        else
            flag "$option" || refuse "$word: no such option"
        fi
        ;;
    -?*)
        word=${word#-}
        while [ -n "$word" ]; do
            rest=${word#?} option=${word%"$rest"}
            if takes_value "$option"; then
                if [ -z "$rest" ]; then
                    [ $# -gt 0 ] || refuse "-$option: the value is missing"
                    rest=$1
                    shift
                fi
                value "$option" "$rest"
                rest=''
            elif [ "$option" = m ]; then
                if [ -n "$rest" ]; then
                    value m "$rest"
                    rest=''
                else
                    case ${1--} in -*) ;; *) value m "$1" && shift ;; esac
                fi
            else
                flag "$option" || refuse "-$option: no such option"
            fi
            word=$rest
        done
        ;;
    *) refuse "$word: unexpected argument; all arguments are options or their values" ;;
    esac
done

[ -n "$action" ] || refuse "the action is missing: -a, -i or -x"

case $address in
'') refuse "the address is missing: -f ADDRESS" ;;
*[!0-9a-fA-F:./]*) refuse "$address: not an IPv4 or IPv6 address" ;;
*:*) family=ip6 ;;
*.*) family=ip ;;
*) refuse "$address: not an IPv4 or IPv6 address" ;;
esac

case $proto in
tcp | udp | sctp | dccp | udplite) ;;
*) refuse "$proto: not a protocol with ports; use -p with tcp, udp, sctp, dccp or udplite" ;;
esac

case $port in
'') refuse "the port is missing: -d PORT" ;;
*[!0-9:]*)
    # The name of a service.
    number=$(getent services "$port/$proto" 2>/dev/null | awk '{ sub("/.*", "", $2); print $2 }')
    [ -n "$number" ] || refuse "$port: not a port, and /etc/services has no $proto service of that name"
    port=$number
    ;;
esac
for number in "${port%%:*}" "${port#*:}"; do
    case $number in
    '' | *:* | ??????*) refuse "$port: not a port, nor a range such as 8000:8010" ;;
    esac
    if [ "$number" -lt 1 ] || [ "$number" -gt 65535 ]; then
        refuse "$port: a port must be from 1 to 65535"
    fi
done
[ "${port%%:*}" -le "${port#*:}" ] || refuse "$port: the end of the range is below its start"

# nft needs the comment in quotes and cannot escape these characters.
case $comment in
*[\"\\]* | *"
"*) refuse "the comment must not contain quotation marks, backslashes or line breaks" ;;
esac
[ ${#comment} -le 60 ] || refuse "the comment is longer than 60 characters"

case $chain$table$zone in
*[!0-9a-zA-Z_./\ -]*) refuse "chain, table and zone may contain only letters, digits and _ . / -" ;;
esac

# ------------------------------------------------------------------ running

need() {
    command -v "$1" >/dev/null 2>&1 ||
        fail "$1 is not installed: install $2, or choose another firewall with -b"
}

# Prints a command, quoted so that it can be pasted into a shell.
show() {
    line=''
    for word in "$@"; do
        case $word in
        '' | *[!0-9a-zA-Z_./:=@,-]*) line="$line '$word'" ;;
        *) line="$line $word" ;;
        esac
    done
    echo "${line# }"
}

# Runs a command that changes the firewall; with -t only prints it.
change() {
    if [ $testing = yes ]; then
        show "$@"
        return 0
    fi
    if [ $verbose = yes ]; then show "$@"; fi
    "$@" || fail "command failed: $(show "$@")"
}

say() {
    if [ $verbose = yes ]; then echo "$NAME: $1"; fi
}

# Lets only one helper run at a time, so that nothing changes between the check and the change.
take_turn() {
    [ $testing = no ] || return 0
    command -v flock >/dev/null 2>&1 || return 0
    # Only in directories that only root can write; if neither exists, there is no lock.
    for lock in /run/knock_helper.lock /var/run/knock_helper.lock; do
        (: >>"$lock") 2>/dev/null || continue
        exec 9>>"$lock"
        # BusyBox's flock has no -w.
        tries=0
        until flock -n 9; do
            tries=$((tries + 1))
            [ $tries -le 30 ] || fail "another $NAME has been running for 30 seconds; find out why (ps)"
            sleep 1
        done
        return
    done
}

# ----------------------------------------------------------------- iptables

with_iptables() {
    tool=iptables
    if [ $family = ip6 ]; then tool=ip6tables; fi
    need $tool iptables
    chain=${chain:-INPUT}
    # -w: wait if another program is changing the rules.
    "$tool" -w 10 -n -L "$chain" >/dev/null ||
        fail "$tool cannot read the chain $chain: does it exist ($tool -S), and are you root?"
    set -- "$chain" -s "$address" -p "$proto" --dport "$port" \
        -m comment --comment "$comment" -j ACCEPT
    if [ "$action" = delete ]; then
        gone=no
        # Remove all copies: other tools may have added some.
        while "$tool" -w 10 -C "$@" 2>/dev/null; do
            change "$tool" -w 10 -D "$@"
            gone=yes
            if [ $testing = yes ]; then break; fi
        done
        if [ $gone = no ]; then say "no such rule in $chain"; fi
    elif "$tool" -w 10 -C "$@" 2>/dev/null; then
        say "the rule already exists in $chain"
    elif [ "$action" = insert ]; then
        change "$tool" -w 10 -I "$@"
    else
        change "$tool" -w 10 -A "$@"
    fi
}

# ---------------------------------------------------------------------- nft

# Prints the handles of our rules. They are found by the comment, which has the address
# and the port, because nft may list these in a different notation.
handles() {
    MARK="comment \"$mark\"" awk 'index($0, ENVIRON["MARK"]) && / # handle [0-9]+$/ { print $NF }'
}

with_nft() {
    need nft nftables
    chain=${chain:-input}
    mark="$comment: $address $proto $port"
    # shellcheck disable=SC2086 # split into family and name
    set -- $table
    [ $# = 2 ] || refuse "$table: an nft table is a family and a name, as in -T 'inet filter'"
    case "$1 $family" in
    'ip ip6' | 'ip6 ip') refuse "$table: cannot have rules for $address; use an inet table" ;;
    inet\ * | ip\ * | ip6\ *) ;;
    *) refuse "$table: the family must be inet, ip or ip6" ;;
    esac
    rules=$(nft -a list chain "$1" "$2" "$chain") ||
        fail "nft cannot read the chain $chain of the table $1 $2: does it exist (nft list ruleset), and are you root?"
    there=$(printf '%s\n' "$rules" | handles)
    if [ "$action" = delete ]; then
        for handle in $there; do
            change nft delete rule "$1" "$2" "$chain" handle "$handle"
        done
        if [ -z "$there" ]; then say "no such rule in $chain"; fi
        return
    fi
    if [ -n "$there" ]; then
        say "the rule already exists in $chain"
        return
    fi
    verb=add
    if [ "$action" = insert ]; then verb=insert; fi
    change nft $verb rule "$1" "$2" "$chain" $family saddr "$address" "$proto" dport \
        "$(echo "$port" | tr : -)" counter accept comment "\"$mark\""
}

# ---------------------------------------------------------------------- ufw

with_ufw() {
    need ufw ufw
    case $chain in '' | INPUT | input) ;; *) refuse "ufw has no chains: do not use -c" ;; esac
    state=$(ufw status 2>&1) || fail "ufw failed: $state"
    case $state in
    *inactive*) fail "ufw is not active, so its rules have no effect: ufw enable" ;;
    esac
    set -- allow proto "$proto" from "$address" to any port "$port"
    case $action in
    # ufw itself adds no duplicates, and removes the only copy.
    insert) change ufw prepend "$@" comment "$comment" ;;
    append) change ufw "$@" comment "$comment" ;;
    delete) change ufw --force delete "$@" ;;
    esac
}

# ---------------------------------------------------------------- firewalld

with_firewalld() {
    need firewall-cmd firewalld
    case $chain in '' | INPUT | input) ;; *) refuse "firewalld has zones instead of chains: use -z ZONE" ;; esac
    firewall-cmd --state >/dev/null 2>&1 || fail "firewalld is not running: systemctl start firewalld"
    version=ipv4
    if [ $family = ip6 ]; then version=ipv6; fi
    range=$(echo "$port" | tr : -)
    rule="family=\"$version\" source address=\"$address\" port port=\"$range\" protocol=\"$proto\" accept"
    # Rules with lower priority numbers come first; the default is 0.
    first="rule priority=\"-100\" $rule"
    last="rule $rule"
    set -- firewall-cmd -q
    if [ -n "$zone" ]; then set -- "$@" --zone="$zone"; fi
    case $action in
    insert) wanted=$first ;;
    append) wanted=$last ;;
    delete)
        gone=no
        for wanted in "$first" "$last"; do
            if "$@" --query-rich-rule="$wanted"; then
                change "$@" --remove-rich-rule="$wanted"
                gone=yes
            fi
        done
        if [ $gone = no ]; then say "no such rule"; fi
        return
        ;;
    esac
    if "$@" --query-rich-rule="$wanted"; then
        say "the rule already exists"
    else
        change "$@" --add-rich-rule="$wanted"
    fi
}

case $backend in
iptables | ip6tables | nft | ufw | firewalld) ;;
*) refuse "$backend: unknown firewall; -b takes iptables, nft, ufw or firewalld" ;;
esac
take_turn
case $backend in
iptables | ip6tables) with_iptables ;;
nft) with_nft ;;
ufw) with_ufw ;;
firewalld) with_firewalld ;;
esac
