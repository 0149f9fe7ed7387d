#!/bin/bash
# contrib/openwrt: runs the init script in BusyBox's shell with mocks of OpenWrt's
# functions; checks what it writes, what it tells procd, and that the daemon it starts
# adds an address to the firewall's sets.
# shellcheck disable=SC2317 # functions that are passed as arguments
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

FILES=$CONTRIB/openwrt/files

check "shellcheck of the init script" shellcheck "$FILES/knockd.init"
check "BusyBox's shell parses it" busybox sh -n "$FILES/knockd.init"

mkdir -p root/lib/functions net/lo
cat >root/lib/functions/network.sh <<'END'
network_flush_cache() { echo "network_flush_cache" >>"$SEEN"; }
# The device of a network that is up; $NETWORKS has "wan=pppoe-wan lan=br-lan".
network_get_device() {
	echo "network_get_device $2" >>"$SEEN"
	local pair
	for pair in $NETWORKS; do
		if [ "${pair%%=*}" = "$2" ]; then
			export "$1=${pair#*=}"
			return 0
		fi
	done
	return 1
}
END
# The parts of rc.common, procd.sh and functions.sh that the script uses.
cat >rc.common <<'END'
IPKG_INSTROOT=$PWD/root
logger() { echo "logger $*" >>"$SEEN"; }
kill() { echo "kill $*" >>"$SEEN"; }
ubus() { cat procd.pid 2>/dev/null; }
jsonfilter() { cat; }
uci() {
	case "$*" in
	'-q show knockd') [ -f "$UCI" ] && busybox sh -n "$UCI" 2>/dev/null ;;
	'-q get network.'*) case " $CONFIGURED " in *" ${3#network.} "*) ;; *) return 1 ;; esac ;;
	*) return 1 ;;
	esac
}
for it in procd_open_instance procd_close_instance procd_add_reload_trigger \
	procd_add_reload_interface_trigger procd_add_interface_trigger procd_send_signal; do
	eval "$it() { tell $it \"\$@\"; }"
done
tell() {
	local word
	printf '%s' "$1" >>"$SEEN"
	shift
	for word in "$@"; do printf ' %s' "$word" >>"$SEEN"; done
	echo >>"$SEEN"
}
procd_set_param() {
	tell procd_set_param "$@"
	INSTANCE="$INSTANCE$*;"
	# procd compares the contents of the files.
	[ "$1" != file ] || INSTANCE="$INSTANCE$(cat "$2");"
}
# Like the real one: it ignores the exit code of the function; the instances that the
# function opened (maybe none) are those that should run.
rc_procd() {
	local before
	INSTANCE=''
	"$@"
	service_triggers
	before=$(cat procd.instance 2>/dev/null)
	printf '%s' "$INSTANCE" >procd.instance
	case "$INSTANCE" in
	"$before") echo "procd: as before" >>"$SEEN" ;;
	'') echo "procd: ended" >>"$SEEN" && rm -f procd.pid ;;
	*)
		echo "procd: started" >>"$SEEN"
		echo $(($(cat procd.pid 2>/dev/null || echo 4710) + 1)) >procd.pid
		;;
	esac
}
start() { rc_procd start_service "$@"; }
reload() { reload_service "$@"; }

# /etc/config files: one variable for each option, as OpenWrt does it.
config_load() {
	local it
	SECTIONS='' section=''
	for it in $(set | sed -n 's/^\(CONFIG_[A-Za-z0-9_]*\)=.*/\1/p'); do unset "$it"; done
	[ -f "$UCI" ] || return 1
	# UCI ignores what it cannot parse.
	busybox sh -n "$UCI" 2>/dev/null || return 0
	config() { section=$2; SECTIONS="$SECTIONS $2"; eval "TYPE_$2=\$1"; }
	option() { eval "CONFIG_${section}_$1=\$2"; }
	list() {
		local length joined
		config_get length "$section" "$1_LENGTH" 0
		config_get joined "$section" "$1"
		length=$((length + 1))
		option "$1_LENGTH" "$length"
		option "$1_ITEM$length" "$2"
		option "$1" "$joined${joined:+ }$2"
	}
	. "$UCI"
}
config_get() { eval "export \"$1=\${CONFIG_$2_$3:-\${4:-}}\""; }
config_get_bool() {
	config_get "$1" "$2" "$3" "$4"
	eval "case \$$1 in 1 | on | true | yes | enabled) export $1=1 ;; *) export $1=0 ;; esac"
}
config_foreach() {
	local it
	for it in $SECTIONS; do
		eval "[ \"\$TYPE_$it\" != $2 ] || $1 $it"
	done
}
. "$INIT"
PROG=$KNOCKD CONF=${VAR_RUN:-$PWD}/knockd.conf DEVICES=$PWD/knockd.devices UCI_FILE=$UCI DEVICE_DIR=$PWD/net
"$@"
END
export INIT=$FILES/knockd.init SEEN=$PWD/seen UCI=$PWD/config
# The networks that are up, with their devices; and all that are configured.
export NETWORKS='wan=pppoe-wan lan=br-lan' CONFIGURED='wan wan6 lan lte'
# later FUNCTION: calls it like OpenWrt; on_router FUNCTION: calls it after a fresh boot
later() {
    : >"$SEEN"
    busybox sh ./rc.common "$@" >said 2>&1
}
on_router() {
    rm -f knockd.conf* knockd.devices* procd.*
    later "$@"
}
seen() { cat "$SEEN"; }

# ------------------------------------------------------- the file as shipped
cp "$FILES/knockd.config" config
on_router start_service
same "the shipped file starts nothing" "" "$(seen)"
sed -i "/option enabled/d" config
check "when it is enabled, knockd starts" on_router start_service
same "procd gets the device of the network and all parameters" "network_flush_cache
network_get_device wan
procd_open_instance
procd_set_param command $KNOCKD -i pppoe-wan -c $PWD/knockd.conf
procd_set_param file $PWD/knockd.conf
procd_set_param respawn 3600 10 0
procd_set_param term_timeout 20
procd_set_param stdout 1
procd_set_param stderr 1
procd_close_instance" "$(seen)"
same "the doors are those of the shipped file" "# Written by /etc/init.d/knockd from /etc/config/knockd.
# interface: wan
[options]
	UseSyslog
	wait_interface = yes
	nft_set = inet fw4 knockd4 knockd6

[SSH]
	sequence = 38281,29374,4921,54918
	seq_timeout = 5
	tcpflags = syn
	cmd_timeout = 60
	open = tcp/22" "$(cat knockd.conf)"
same "only the owner can read the configuration" 600 "$(stat -c %a knockd.conf)"
on_router service_triggers
same "triggers: changes of the file and of the network" "procd_add_reload_trigger knockd
procd_add_interface_trigger interface.* wan /etc/init.d/knockd reload network" "$(seen)"

# ------------------------------------------------------------ all directives
"$KNOCKD" --all-directives | sed -n 's/^\(door\|both\) \([a-z0-9_]*\)$/\2/p' | sort >wanted
{
    echo "config rule 'everything'"
    while read -r directive; do printf '\toption %s %s\n' "$directive" "'value of $directive'"; done <wanted
} >config
on_router start_service
same "every directive of a door is handed on" "$(sed 's/.*/& = value of &/' wanted)" \
    "$(sed -n '/everything/,$ s/^\t\(.* = .*\)/\1/p' knockd.conf.new | sort)"
cp "$FILES/knockd.config" config
sed -i "/option enabled/d" config
on_router start_service

# ------------------------------------------------------------ late networks
NETWORKS='lan=br-lan' check "a network that is not up yet is not an error" on_router start_service
same "the log says that the network is not up" 1 "$(NETWORKS='' on_router start_service; seen | grep -c 'is not up yet')"
same "nothing is started while it is down" 0 "$(NETWORKS='' on_router start_service; seen | grep -c procd_open_instance)"
# procd WHAT EXPECTED FUNCTION...: checks what procd does after the call
procd() {
    local what=$1 wanted=$2
    shift 2
    later "$@"
    same "$what" "$wanted" "$(seen | grep '^procd:\|^kill')"
}
NETWORKS='' on_router start
procd "knockd starts when the network comes up" "procd: started" reload network
procd "a network event without a change has no effect" "procd: as before" reload network
NETWORKS='' procd "a line that goes down has no effect: the daemon waits for it" "procd: as before" reload network
procd "a line that comes up again has no effect" "procd: as before" reload network
NETWORKS='wan=pppoe-dsl' procd "a changed device restarts knockd" "procd: started" reload network
same "the new command line has the new device" 1 "$(seen | grep -c 'command .* -i pppoe-dsl -c')"
procd "changing back restarts it again" "procd: started" reload network
procd "a manual reload without changes has no effect" "procd: as before" reload
sed -i 's/38281/38282/' config
procd "a changed door restarts it" "procd: started" reload
sed -i "s/option interface 'wan'/option interface 'wan wan6 lte'/" config
NETWORKS='wan=pppoe-wan wan6=pppoe-wan' on_router start
same "several networks: each device is listed once" 1 "$(seen | grep -c 'command .* -i pppoe-wan -c')"
same "several networks: a trigger for each" "wan wan6 lte" "$(seen | sed -n 's/^procd_add_interface_trigger interface\.\* \([^ ]*\) .*/\1/p' | paste -sd ' ')"
same "several networks: the log names the one that is down" 1 "$(seen | grep -c "the network 'lte' is not up yet")"
NETWORKS='wan=pppoe-wan wan6=pppoe-wan lte=wwan0' procd "knockd restarts when that network comes up" "procd: started" reload network
same "the devices are separated by a comma" 1 "$(seen | grep -c 'command .* -i pppoe-wan,wwan0 -c')"
sed -i "s/option interface .*/list interface 'lan'\n\tlist interface 'wan'/" config
on_router start
same "interface as a UCI list of networks" 1 "$(seen | grep -c 'command .* -i br-lan,pppoe-wan -c')"

sed -i "/list interface/d; s/^config options .*/&\n\toption interface 'auto'/" config
on_router start
same "interface auto" "1 0" "$(seen | grep -c 'command .* -i auto -c') $(seen | grep -c 'network_get_device\|interface_trigger')"
sed -i "s/'auto'/'wan,lan'/" config
on_router start
same "interface with commas" 1 "$(seen | grep -c 'command .* -i pppoe-wan,br-lan -c')"
NETWORKS='' procd "the devices of both networks are remembered while they are down" "procd: as before" reload network
NETWORKS='wan=pppoe-dsl lan=br-lan' later reload network
NETWORKS='' procd "the remembered device is the latest one" "procd: as before" reload network
sed -i "s/'wan,lan'/'lan any'/" config
on_router start
same "any in a list means any" "1 0" "$(seen | grep -c 'command .* -i any -c') $(seen | grep -c interface_trigger)"
# ---------------------------------------- the file of the third-party package
cat >config <<'END'
config options 'common'
	option interface 'lan'

config rule 'SSH'
	option sequence '7000,8000:udp,9000'
	option command '/usr/sbin/iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT'
	option tcpflags 'syn'
	option seq_timeout '15'
	option cmd_timeout '30'
	option stop_command '/usr/sbin/iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT'
END
check "a file of the third-party package" on_router start_service
same "its network is used" 1 "$(seen | grep -c 'command .* -i br-lan')"
same "its door is used" "	sequence = 7000,8000:udp,9000
	seq_timeout = 15
	tcpflags = syn
	command = /usr/sbin/iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	stop_command = /usr/sbin/iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
	cmd_timeout = 30" "$(sed -n '8,$p' knockd.conf)"
# The file that it ships: interface is a device, and an option name lacks a _.
cat >config <<'END'
config options 'common'
        option interface eth0

config rule 'SSH'
        option sequence '7001,8001,9001'
        option command 'open4 %IP% "knockd SSH"'
        option command_6 'open6 %IP% "knockd SSH6"'
        option tcpflags 'syn'
        option seq_timeout '5'
        option cmd_timeout '10'
        option stop_command 'close4 %IP%'
        option stop_command6 'close6 %IP%'
END
on_router start
same "the file that the third-party package ships: interface is a device" "procd: started 1" \
    "$(seen | grep '^procd:') $(seen | grep -c 'command .* -i eth0 -c')"
same "the daemon waits for the device" 1 "$(grep -c '^	wait_interface = yes$' knockd.conf)"
same "the log says that the device does not exist" 1 "$(seen | grep -c "logger.*'eth0'.* is not a network, and no such device exists now")"
same "stop_command6 is used as stop_command_6" "	stop_command_6 = close6 %IP%" "$(grep stop_command_6 knockd.conf)"
sed -i 's/interface eth0/interface lo/' config
on_router start
same "an existing device causes no log line" 0 "$(seen | grep -c logger)"

# ----------------------------------------- features that 0.8 does not have
echo ' 4871,50112:udp,9133' >once
chmod 600 once
cat >config <<END
config options 'common'
	option interface 'any'
config rule 'nas'
	option sequence '6301,1754,9020'
	option target '192.0.2.20'
	option start_command 'etherwake 00:00:5e:00:53:01'
config rule 'once'
	option one_time_sequences '$PWD/once'
	option command 'true'
	option stop_command_6 'echo "it is \$HOME; 100 % \`sure\`"'
config rule 'off'
	option enabled '0'
	option sequence '1,2,3'
	option command 'true'
config rule 'options'
	option sequence '1,2,3'
	option command 'true'
config rule 'two'
	option sequence '2001,2002'
	option command 'true
[evil]
	sequence = 1'
END
check "any, target, one-time sequences" on_router start_service
same "any: no device is looked up" 0 "$(seen | grep -c 'network_get_device\|netdev')"
same "any: it is in the command line" 1 "$(seen | grep -c 'command .* -i any -c')"
same "target is copied" 1 "$(grep -c '^	target = 192.0.2.20$' knockd.conf)"
same "one_time_sequences is copied" 1 "$(grep -c "^	one_time_sequences = $PWD/once\$" knockd.conf)"
# shellcheck disable=SC2016
same "a command is copied unchanged" '	stop_command_6 = echo "it is $HOME; 100 % `sure`"' \
    "$(grep stop_command_6 knockd.conf)"
same "a disabled rule is left out" 0 "$(grep -c '^\[off\]' knockd.conf)"
same "a rule named options is left out" 1 "$(grep -c '^\[options\]' knockd.conf)"
same "a value cannot begin a section" 0 "$(grep -c '^\[evil\]' knockd.conf)"
on_router service_triggers
same "any: no trigger for a network" "procd_add_reload_trigger knockd" "$(seen)"
on_router start
procd "a reload makes knockd reread one-time sequences" "procd: as before
kill -HUP 4711" reload
procd "a network event does not" "procd: as before" reload network
sed -i 's/6301/6302/' config
procd "a restart needs no reread" "procd: started" reload

cat >config <<'END'
config options 'common'
	option on_start 'true'
	list strict_except 'tcp/443'
	list strict_except 'udp/53'
config rule 'phone'
	option otp 'eAVEMtHM01WAi+mB5BtTpofE, 60, 20000, on, tcp, udp'
	option otp_window '2'
	option strict 'yes'
	option command_6 'true'
	list allow '192.0.2.0/24'
	list allow '2001:db8::/32'
	list deny '192.0.2.7'
	list deny '192.0.2.8'
	list tcpflags 'syn'
	list tcpflags '!ack'
config rule 'list'
	list sequence '7000'
	list sequence '8000:udp'
	option command 'true'
END
check "OTP, rules of a door, and rules for all doors" on_router start_service
same "each is written into its section" "	UseSyslog
	wait_interface = yes
	on_start = true
	strict_except = tcp/443,udp/53

[phone]
	tcpflags = syn,!ack
	otp = eAVEMtHM01WAi+mB5BtTpofE, 60, 20000, on, tcp, udp
	otp_window = 2
	command_6 = true
	strict = yes
	allow = 192.0.2.0/24,2001:db8::/32
	deny = 192.0.2.7,192.0.2.8

[list]
	sequence = 7000,8000:udp
	command = true" "$(sed -n '4,$p' knockd.conf)"

# ---------------------------------------------------------------- an error
cat >config <<'END'
config options 'common'
config rule 'SSH'
	option sequence '7000,80000'
	option command 'true'
END
refused "knockd is not started if a door has an error" 1 "" on_router start_service
check "the log says why" grep -q 'error in the doors of /etc/config/knockd: config: section SSH: port 80000 is invalid' "$SEEN"
same "no instance is opened" 0 "$(seen | grep -c procd_open_instance)"

same "the file with the error is kept for inspection, readable by its owner only" 600 "$(stat -c %a knockd.conf.new)"
check "it is not used" lacks test -e knockd.conf

cat >config <<'END'
config options 'common'
	option interface 'lan'
config rule 'SSH'
	option sequence '7000,8000'
	option command 'true'
END
on_router start
cp config good
cp knockd.conf knockd.good
sed -i 's/8000/80000/; s/lan/wan/' config
procd "a reload with an error does not affect the running daemon" "procd: as before" reload
check "its configuration is unchanged" cmp knockd.conf knockd.good
check "the log has the error" grep -q 'logger.*error in the doors of .*: config: section SSH: port 80000' "$SEEN"
check "the command prints that the previous doors stay" grep -q 'continuing with the previous doors' said
same "the triggers are still those of its networks" 1 "$(seen | grep -c 'interface_trigger interface.\* lan')"
procd "a network event does not affect it either" "procd: as before" reload network
# Two pages: one for the current file, and one for the first of the new doors.
mkdir small
mount -t tmpfs -o size=$((2 * $(getconf PAGESIZE))) tmpfs small
cp good config
VAR_RUN=$PWD/small on_router start
{
    cat good
    for ((number = 0; number < $(getconf PAGESIZE) / 64; number++)); do
        printf "config rule 'more%s'\n\toption sequence '7000,8000'\n\toption command '%060d'\n" "$number" 0
    done
} >config
VAR_RUN=$PWD/small procd "a full disk does not affect it either" "procd: as before" reload
check "the configuration is unchanged after a full disk" cmp small/knockd.conf knockd.good
check "the log names the full directory" grep -q 'logger.*could not be written: is /var/run full' "$SEEN"
umount small
cp good config
on_router start
echo "config rule 'SSH" >>config
procd "a UCI syntax error does not affect it" "procd: as before" reload
check "the log says how to find the syntax error" grep -q 'uci show knockd' "$SEEN"
cp good config
procd "the corrected file has no changes" "procd: as before" reload
sed -i 's/8000/8001/' config
procd "a changed file restarts knockd" "procd: started" reload
same "no temporary files are left" "knockd.conf knockd.devices knockd.good" "$(echo knockd.*)"
sed -i "s/^config options .*/&\n\toption enabled '0'/" config
procd "disabling stops knockd" "procd: ended" reload
check "disabling removes the configuration" lacks test -e knockd.conf
sed -i "/enabled/d; s/8001/80010/" config
procd "an error later does not bring the old doors back" "procd: as before" reload
sed -i 's/80010/8001/' config
on_router start
rm config
procd "without /etc/config/knockd knockd is stopped" "procd: ended" reload
check "the log says why" grep -q "logger.*config is missing, so there are no doors" "$SEEN"
echo "config options 'common'" >config
on_router start
same "without doors nothing is started" 0 "$(seen | grep -c procd_open_instance)"
check "the log says why" grep -q "logger.*there is no door in" "$SEEN"
rm -f knockd.good

# ------------------------------------------ the sets, the rules, and a real door
cp "$FILES/knockd.config" config
sed -i "/option enabled/d" config
cable wan0 eth0
# The table as firewall4 assembles it.
cat >fw4.nft <<END
table inet fw4 {
	include "$FILES/knockd-sets.nft"
	chain input {
		type filter hook input priority filter; policy drop;
		include "$FILES/knockd-input.nft"
		iif lo accept
		ct state established,related accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		counter reject with tcp reset
	}
}
END
check "nft accepts the sets and rules" nft -f fw4.nft
NETWORKS='wan=wan0' on_router start_service
command=$(sed -n 's/^procd_set_param command //p' "$SEEN")
# shellcheck disable=SC2086
$command >knockd.said 2>&1 &
daemon=$!
listening() { grep -q . /proc/net/packet && [ "$(wc -l </proc/net/packet)" -ge 2 ]; }
soon listening
busybox nc -l -p 22 -e true >/dev/null 2>&1 &
connects() { at_client timeout 2 bash -c "exec 3<>/dev/tcp/$1/22" 2>/dev/null; }
check "the port is closed before the knock" lacks connects 10.83.0.1
at_client "$KNOCK" 10.83.0.1 38281 29374 4921 54918
let_in() { nft list set inet fw4 "$1" | grep -q "$2 . tcp . 22 timeout"; }
if soon let_in knockd4 10.83.0.2; then passed "four knocks add the address to the set"; else
    failed "four knocks add the address to the set" "$(cat knockd.said; nft list ruleset)"
fi
counted() { nft list chain inet fw4 input | grep "$1" | grep -q 'packets [1-9]'; }
connects 10.83.0.1
check "the rule lets it in" counted @knockd4
at_client "$KNOCK" 2001:db8:83::1 38281 29374 4921 54918
if soon let_in knockd6 2001:db8:83::2; then passed "the same over IPv6"; else
    failed "the same over IPv6" "$(cat knockd.said; nft list ruleset)"
fi
connects 2001:db8:83::1
check "the rule lets it in" counted @knockd6
kill $daemon

# ------------------------------------------------------------------ Makefile
cat >rules.mk <<'END'
END
cat >package.mk <<'END'
BuildPackage = $(file >$(PWD)/postinst,$(Package/$(1)/postinst))$(eval all: ; $$(call Package/$(1)/install,$(PWD)/install))
END
mkdir -p tree && cp -r "$CONTRIB/openwrt/." tree/ && cp "$KNOCKD" tree/files/knockd
check "the package installs its files" make -s -C tree all TOPDIR="$PWD" INCLUDE_DIR="$PWD" \
    INSTALL_DIR='install -d -m 755' INSTALL_BIN='install -m 755' INSTALL_CONF='install -m 600' \
    INSTALL_DATA='install -m 644' LN='ln -sf' PWD="$PWD"
same "the paths and modes are right" "drwxr-xr-x etc
drwxr-xr-x etc/config
-rw------- etc/config/knockd
drwxr-xr-x etc/init.d
-rwxr-xr-x etc/init.d/knockd
drwxr-xr-x lib
drwxr-xr-x lib/upgrade
drwxr-xr-x lib/upgrade/keep.d
-rw-r--r-- lib/upgrade/keep.d/knockd
drwxr-xr-x usr
drwxr-xr-x usr/bin
lrwxrwxrwx usr/bin/knock
drwxr-xr-x usr/sbin
-rwxr-xr-x usr/sbin/knockd
drwxr-xr-x usr/share
drwxr-xr-x usr/share/nftables.d
drwxr-xr-x usr/share/nftables.d/chain-pre
drwxr-xr-x usr/share/nftables.d/chain-pre/input
-rw-r--r-- usr/share/nftables.d/chain-pre/input/knockd.nft
drwxr-xr-x usr/share/nftables.d/table-pre
-rw-r--r-- usr/share/nftables.d/table-pre/knockd.nft" \
    "$(cd install && find . -mindepth 1 -printf '%M %P\n' | sort -k 2)"
same "the package has the version of the program" "$(sed -n 's/^PKG_VERSION:=//p' "$CONTRIB/openwrt/Makefile")" \
    "$("$KNOCKD" -V | sed -n 's/^knockd //p')"

same "sysupgrade keeps the one-time sequences" "$(sed -n "s/.*one_time_sequences '\([^']*\)'.*/\1/p" "$FILES/knockd.config")" \
    "$(cat install/lib/upgrade/keep.d/knockd)"
printf '#!/bin/sh\necho "firewall $*"\n' >firewall
chmod 755 firewall
sed -i "s|/etc/init.d/firewall|$PWD/firewall|g" postinst
same "installing the package reloads the firewall" "firewall reload" "$(busybox sh postinst)"
same "building an image does not reload it" "" "$(IPKG_INSTROOT=/x busybox sh postinst)"

# -------------------------------------------- without a package, as in README.md
mkdir -p clone/target/static/mips router/usr/sbin router/usr/bin router/etc/init.d router/etc/config router/etc/rc.d
ln -s "$CONTRIB" clone/contrib
cp "$KNOCKD" clone/target/static/mips/knockd
ROUTER=$PWD/router
scp() {
    # dropbear supports only the old protocol (-O), not SFTP.
    [ "$1" = -O ] || return 1
    cp "$2" "$ROUTER${3#ROUTER:}" && chmod 644 "$ROUTER${3#ROUTER:}"
}
ssh() {
    shift
    "${@/#\//$ROUTER/}"
}
block() {
    awk -v wanted="$1" '/^```sh/ { block++; inside = 1; next } /^```/ { inside = 0 } inside && block == wanted' \
        "$CONTRIB/openwrt/README.md"
}
check "the copy commands of README.md" eval "cd clone && $(block 1 | sed 's/ *#.*//; $!s/$/ \&\&/') && cd .."
same "they install the files of the package" "$(cd install && find . -type f ! -path './lib/*' | sort)" "$(cd router && find . -type f | sort)"
cat >on_router.sh <<'END'
# The init scripts, uci and logread of a router whose / is $ROUTER.
uci() {
	case "$*" in
	'delete knockd.common.enabled') sed -i '/option enabled/d' "$UCI" ;;
	'commit knockd') ;;
	*) return 1 ;;
	esac
}
logread() { grep ' -t knockd ' "$SEEN" || true; }
init() {
	[ "$1" = firewall ] || [ -x "$ROUTER/etc/init.d/$1" ] || return 126
	echo "$*" >>"$SEEN"
	case "$*" in
	'knockd enable')
		for it in "S$(sed -n 's/^START=//p' "$INIT")" "K$(sed -n 's/^STOP=//p' "$INIT")"; do
			ln -sf ../init.d/knockd "$ROUTER/etc/rc.d/${it}knockd"
		done
		;;
	'knockd start') busybox sh ./rc.common start ;;
	esac
}
set -e
END
export ROUTER
# on_its_own BLOCK: runs a block of README.md with $ROUTER as the root directory.
on_its_own() {
    # shellcheck disable=SC2016
    block "$1" | sed '/^chmod/!s#/etc/init\.d/\([a-z]*\) \([a-z]\)#init \1 \2#g; s#\(^\|[ >]\)/\(etc\|usr\)/#\1$ROUTER/\2/#g' >>on_router.sh
    INIT=$ROUTER/etc/init.d/knockd UCI=$ROUTER/etc/config/knockd busybox sh ./on_router.sh
}
: >"$SEEN"
rm -f knockd.conf* procd.*
cp on_router.sh empty.sh
check "the commands of README.md on the router" on_its_own 2
same "they reload the firewall, then start knockd" "firewall reload
knockd enable
knockd start
procd: started" "$(grep '^firewall\|^knockd\|^procd:' "$SEEN")"
same "they set the modes of the package" "$(cd install && find . ! -type d ! -path './lib/*' -printf '%M %P\n' | sort -k 2 | grep -v ' usr/share\|^-rw-r--r--')" \
    "$(cd router && find . ! -type d ! -path './etc/rc.d/*' -printf '%M %P\n' | sort -k 2 | grep -v ' usr/share')"
cp empty.sh on_router.sh
check "the commands of README.md for sysupgrade" on_its_own 3
# shellcheck disable=SC2016
same "they list all installed files and the one-time sequences" "$({ cd router && find . ! -type d ! -path ./etc/sysupgrade.conf -printf '/%P\n'; cat ../install/lib/upgrade/keep.d/knockd; } | sort)" \
    "$(sed 's|^\$ROUTER||' router/etc/sysupgrade.conf | sort)"
exit 0
