#!/bin/bash
# contrib/knock_helper.sh against the real firewalls.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

HELPER=$CONTRIB/knock_helper.sh
V4=192.0.2.7
V6=2001:db8::7

ip link set lo up

# The rules of a chain, without its policy.
rules() { "$1" -S "${2:-INPUT}" | grep -v '^-P' || true; }
count() { grep -cF -- "$1" || true; }

check "shellcheck of the helper" shellcheck "$HELPER"

# ------------------------------------------------------------- command line
refused "no action" 1 "action is missing" "$HELPER" -f $V4 -d 22
refused "no address" 1 "address is missing" "$HELPER" -i -d 22
refused "no port" 1 "port is missing" "$HELPER" -i -f $V4
refused "two actions" 1 "only one of" "$HELPER" -i -x -f $V4 -d 22
refused "an unknown option" 1 "-q: no such option" "$HELPER" -iq
refused "an unknown long option" 1 "--quick: no such option" "$HELPER" --quick
refused "an option without its value" 1 "-f: the value is missing" "$HELPER" -i -f
refused "an unexpected argument" 1 "unexpected argument" "$HELPER" -i -f $V4 -d 22 now
refused "an invalid address" 1 "not an IPv4 or IPv6 address" "$HELPER" -i -f 'x;y' -d 22
refused "a port that is too large" 1 "from 1 to 65535" "$HELPER" -i -f $V4 -d 65536
refused "an unknown service" 1 "not a port" "$HELPER" -i -f $V4 -d no-such-service
refused "a reversed range" 1 "below its start" "$HELPER" -i -f $V4 -d 90:80
refused "a protocol without ports" 1 "not a protocol with ports" "$HELPER" -i -f $V4 -d 22 -p icmp
refused "a comment with quotes" 1 "must not contain quotation marks" "$HELPER" -i -f $V4 -d 22 -m 'a"b'
for how in '-m -v' '-vm' '--comment' '--comment -v'; do
    # shellcheck disable=SC2086 # these are words
    check "$how: a comment without a value is the usual one" \
        grep -q "^iptables .* -I INPUT .*'by knockd'" <("$HELPER" -t -i -f $V4 -d 22 $how)
done
for how in -m --comment; do
    check "$how: an empty one is one" grep -q "^iptables .* -I INPUT .*--comment '' -j" \
        <("$HELPER" -t -i -f $V4 -d 22 $how '')
done
refused "an unknown firewall" 1 "-b takes" "$HELPER" -i -f $V4 -d 22 -b pf
refused "help ends with 0" 0 "usage: knock_helper.sh" "$HELPER" -h
same "nothing was done by all that" "" "$(rules iptables)"

# ----------------------------------------------------------------- iptables
iptables -A INPUT -p icmp -j DROP
check "iptables: insert" "$HELPER" -i -f $V4 -d 22
check "iptables: insert again" "$HELPER" -i -f $V4 -d 22
same "iptables: one rule, in front" \
    "-A INPUT -s $V4/32 -p tcp -m tcp --dport 22 -m comment --comment \"by knockd\" -j ACCEPT" \
    "$(rules iptables | head -n 1)"
same "iptables: and no second one" 2 "$(rules iptables | wc -l)"
check "iptables: another address does not count as the same" "$HELPER" -i -f 192.0.2.77 -d 22
check "iptables: nor another port" "$HELPER" -i -f $V4 -d 2222
check "iptables: nor UDP" "$HELPER" -i -f $V4 -d 22 -p udp
same "iptables: all four are there" 4 "$(rules iptables | count ACCEPT)"
check "iptables: long options, the name of a port" \
    "$HELPER" --append --srcaddr=$V4 --dstport ssh --comment 'for now' --verbose
same "iptables: append goes behind" \
    "-A INPUT -s $V4/32 -p tcp -m tcp --dport 22 -m comment --comment \"for now\" -j ACCEPT" \
    "$(rules iptables | tail -n 1)"
iptables -I INPUT -s $V4 -p tcp --dport 22 -m comment --comment 'by knockd' -j ACCEPT
check "iptables: delete, all copies" "$HELPER" -x -f $V4 -d 22
check "iptables: delete again" "$HELPER" -x -f $V4 -d 22
same "iptables: only those are gone" 4 "$(rules iptables | count ACCEPT)"
check "iptables: a range" "$HELPER" -i -f $V4 -d 8000:8010
same "iptables: the range is there" 1 "$(rules iptables | count 8000:8010)"
check "iptables: a cluster with a value" "$HELPER" -vxf$V4 -d8000:8010
same "iptables: the range is gone" 0 "$(rules iptables | count 8000:8010)"
iptables -N doors
check "iptables: a chain" "$HELPER" -i -f $V4 -d 22 -c doors
same "iptables: the rule is in it" 1 "$(rules iptables doors | count ACCEPT)"
refused "iptables: a chain that is not there" 2 "cannot read the chain nowhere" \
    "$HELPER" -i -f $V4 -d 22 -c nowhere
before=$(iptables -S)
refused "iptables: a test prints the command" 0 \
    "iptables -w 10 -I INPUT -s 198.51.100.1 -p tcp --dport 22 -m comment --comment 'by knockd' -j ACCEPT" \
    "$HELPER" -t -i -f 198.51.100.1 -d 22
refused "iptables: so does one of a removal" 0 "iptables -w 10 -D doors" "$HELPER" -t -x -f $V4 -d 22 -c doors
same "iptables: a test changes nothing" "$before" "$(iptables -S)"

before=$(iptables -S)
check "ip6tables: insert" "$HELPER" -i -f $V6 -d 22
check "ip6tables: insert again" "$HELPER" -i -f $V6 -d 22
same "ip6tables: one rule" \
    "-A INPUT -s $V6/128 -p tcp -m tcp --dport 22 -m comment --comment \"by knockd\" -j ACCEPT" \
    "$(rules ip6tables)"
same "ip6tables: none for IPv4" "$before" "$(iptables -S)"
check "ip6tables: delete" "$HELPER" -x -f $V6 -d 22
same "ip6tables: it is gone" "" "$(rules ip6tables)"

# Many at once: the same rule is still one.
helpers=() late=0
for _ in {1..12}; do
    "$HELPER" -i -f 198.51.100.9 -d 22 &
    helpers+=($!)
done
for pid in "${helpers[@]}"; do wait "$pid" || late=$((late + 1)); done
same "iptables: all twelve got their turn" 0 $late
same "iptables: twelve at once make one rule" 1 "$(rules iptables | count 198.51.100.9/32)"

# A link with the name of the helper of knockd 0.8.
ln -s "$HELPER" knock_helper_ipt.sh
check "under the old name" ./knock_helper_ipt.sh -x -f 198.51.100.9 -d 22
same "it did it" 0 "$(rules iptables | count 198.51.100.9/32)"

# The shell of a router.
mkdir -p busybox
cat >busybox/flock <<END
#!/bin/sh
# That of BusyBox has no more options than these.
case \$1 in -[sxun]) exec $(command -v flock) "\$@" ;; *) exit 1 ;; esac
END
chmod 755 busybox/flock
check "iptables: with BusyBox's shell and flock" \
    env PATH="$PWD/busybox:$PATH" busybox sh "$HELPER" -i -f 198.51.100.9 -d 22
same "the rule is there" 1 "$(rules iptables | count 198.51.100.9/32)"
iptables -F && iptables -X

# ---------------------------------------------------------------------- nft
refused "nft: no table" 2 "cannot read the chain input of the table inet filter" \
    "$HELPER" -b nft -i -f $V4 -d 22
nft add table inet filter
nft add chain inet filter input '{ type filter hook input priority 0; policy drop; }'
nft add rule inet filter input icmp type echo-request accept
listed() { nft list chain inet filter input | grep -F saddr | sed 's/^[[:space:]]*//' || true; }
check "nft: insert" "$HELPER" -b nft -i -f $V4 -d 22
check "nft: insert again" "$HELPER" -b nft -i -f $V4 -d 22
same "nft: one rule" \
    "ip saddr $V4 tcp dport 22 counter packets 0 bytes 0 accept comment \"by knockd: $V4 tcp 22\"" "$(listed)"
same "nft: in front" 1 "$(nft list chain inet filter input | grep -A 99 policy | sed -n 2p | count saddr)"
check "nft: IPv6" "$HELPER" -b nft -a -f $V6 -d 8000:8010 -p udp
same "nft: with a range" \
    "ip6 saddr $V6 udp dport 8000-8010 counter packets 0 bytes 0 accept comment \"by knockd: $V6 udp 8000:8010\"" \
    "$(listed | tail -n 1)"
check "nft: an address that begins alike" "$HELPER" -b nft -i -f 192.0.2.77 -d 22
check "nft: delete" "$HELPER" -b nft -x -f $V4 -d 22
check "nft: delete again" "$HELPER" -b nft -x -f $V4 -d 22
same "nft: only that one is gone" 2 "$(listed | wc -l)"
for _ in {1..12}; do "$HELPER" -b nft -i -f 198.51.100.9 -d 22 & done
wait
same "nft: twelve at once make one rule" 1 "$(listed | count 'saddr 198.51.100.9 ')"
nft add table ip6 mine
nft add chain ip6 mine doors
check "nft: another table and chain" "$HELPER" -b nft -T 'ip6 mine' -c doors -i -f $V6 -d 22
same "nft: the rule is in it" 1 "$(nft list chain ip6 mine doors | count "$V6 tcp dport")"
refused "nft: IPv4 into a table for IPv6" 1 "use an inet table" \
    "$HELPER" -b nft -T 'ip6 mine' -c doors -i -f $V4 -d 22
before=$(nft list ruleset)
refused "nft: a test prints the command" 0 "nft insert rule inet filter input ip saddr 203.0.113.1 tcp dport 22" \
    "$HELPER" -t -b nft -i -f 203.0.113.1 -d 22
same "nft: a test changes nothing" "$before" "$(nft list ruleset)"
nft flush ruleset

# ---------------------------------------------------------------------- ufw
# It keeps its rules in files: a copy of them, just for here.
mkdir copy && mount -t tmpfs tmpfs copy && mkdir copy/upper copy/work
if mount -t overlay overlay -o "lowerdir=/etc,upperdir=$PWD/copy/upper,workdir=$PWD/copy/work" /etc; then
    refused "ufw: not switched on" 2 "ufw is not active" "$HELPER" -b ufw -i -f $V4 -d 22
    if said=$(ufw --force enable 2>&1); then
        # The file is what is there; the kernel has it as well.
        ufw_rules() {
            grep -h '^### tuple' /etc/ufw/user.rules /etc/ufw/user6.rules |
                sed 's/.*tuple ### //; s/ comment=.*//'
        }
        ufw allow 80/tcp >/dev/null
        check "ufw: insert" "$HELPER" -b ufw -i -f $V4 -d 22
        check "ufw: insert again" "$HELPER" -b ufw -i -f $V4 -d 22
        same "ufw: one rule, in front" "allow tcp 22 0.0.0.0/0 any $V4 in" "$(ufw_rules | head -n 1)"
        same "ufw: the kernel has it" 1 "$(rules iptables ufw-user-input | count "$V4/32")"
        check "ufw: IPv6 and a range" "$HELPER" -b ufw -i -f $V6 -d 8000:8010
        same "ufw: in front of its kind" "allow tcp 8000:8010 ::/0 any $V6 in" \
            "$(ufw_rules | grep -F ::/0 | head -n 1)"
        check "ufw: append" "$HELPER" -b ufw -a -f 192.0.2.8 -d 53 -p udp
        check "ufw: delete" "$HELPER" -b ufw -x -f $V4 -d 22
        check "ufw: delete again" "$HELPER" -b ufw -x -f $V4 -d 22
        same "ufw: it is gone" 0 "$(ufw_rules | count " $V4 ")"
        same "ufw: from the kernel too" 0 "$(rules iptables ufw-user-input | count "$V4/32")"
        same "ufw: the others are there" 2 "$(ufw_rules | grep -c '192.0.2.8\|2001:db8::7')"
        refused "ufw: has no chains" 1 "ufw has no chains" "$HELPER" -b ufw -i -f $V4 -d 22 -c doors
        ufw --force disable >/dev/null
    else
        skipped "ufw" "it cannot be switched on in a namespace here: $said"
    fi
else
    skipped "ufw" "no overlay file system for a copy of /etc"
fi
iptables -F && iptables -X && ip6tables -F && ip6tables -X
nft flush ruleset

# ---------------------------------------------------------------- firewalld
refused "firewalld: not running" 2 "firewalld is not running" "$HELPER" -b firewalld -i -f $V4 -d 22
mkdir -p /run/dbus
dbus-daemon --system --fork --nopidfile
firewalld --nopid >firewalld.log 2>&1
if soon firewall-cmd --state; then
    rich() { firewall-cmd --list-rich-rules; }
    check "firewalld: insert" "$HELPER" -b firewalld -i -f $V4 -d 22
    check "firewalld: insert again" "$HELPER" -b firewalld -i -f $V4 -d 22
    same "firewalld: one rule" \
        "rule priority=\"-100\" family=\"ipv4\" source address=\"$V4\" port port=\"22\" protocol=\"tcp\" accept" "$(rich)"
    same "firewalld: the kernel has it" 1 "$(nft list ruleset | count "ip saddr $V4 tcp dport 22")"
    check "firewalld: IPv6, append, a range" "$HELPER" -b firewalld -a -f $V6 -d 8000:8010 -p udp
    same "firewalld: two rules" 2 "$(rich | wc -l)"
    check "firewalld: delete" "$HELPER" -b firewalld -x -f $V4 -d 22
    check "firewalld: delete again" "$HELPER" -b firewalld -x -f $V4 -d 22
    check "firewalld: delete what was appended" "$HELPER" -b firewalld -x -f $V6 -d 8000:8010 -p udp
    same "firewalld: nothing is left" "" "$(rich)"
    check "firewalld: a zone" "$HELPER" -b firewalld -z trusted -i -f $V4 -d 22
    same "firewalld: the rule is in it" 1 "$(firewall-cmd --zone=trusted --list-rich-rules | count "$V4")"
    refused "firewalld: a zone that is not there" 2 "command failed: firewall-cmd" \
        "$HELPER" -b firewalld -z nowhere -i -f $V4 -d 22
else
    failed "firewalld starts" "$(cat firewalld.log)"
fi
