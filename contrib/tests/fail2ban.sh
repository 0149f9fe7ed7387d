#!/bin/bash
# contrib/fail2ban: fail2ban's own fail2ban-regex on a log that our daemon wrote.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

filter=$CONTRIB/fail2ban/filter.d/knockd.conf
cat >knockd.conf <<END
[options]
logfile = $PWD/knockd.log
log_failures = yes
[my door]
sequence = 1111:udp,2222:udp,3333:udp
seq_timeout = 2
start_command = echo '192.0.2.66: d: wrong knock (stage 1)'
END
ip link set lo up
ip addr add 127.0.0.9/8 dev lo
"$KNOCKD" -i lo -c knockd.conf -p knockd.pid >out 2>&1 &
daemon=$!
soon grep -q 'listening on lo' knockd.log

# From 127.0.0.1: wrong knocks after one and after two right ones, attempts that time out after one and
# after two, and one that opens.
"$KNOCK" -u 127.0.0.1 1111 3333
soon grep -q 'wrong knock (stage 1)' knockd.log
"$KNOCK" -u 127.0.0.1 1111 2222 1111
soon grep -q 'wrong knock (stage 2)' knockd.log
"$KNOCK" -u 127.0.0.1 1111
soon grep -q 'sequence timeout (stage 1)' knockd.log
"$KNOCK" -u 127.0.0.1 1111 2222
soon grep -q 'sequence timeout (stage 2)' knockd.log
"$KNOCK" -u 127.0.0.1 1111 2222 3333
soon grep -q 'running command' knockd.log
kill $daemon
wait $daemon

matched=$(fail2ban-regex --print-all-matched knockd.log "$filter" 2>&1)
same "two lines of the log match" "Lines: 2 matched" \
    "$(printf '%s\n' "$matched" | sed -n 's/^Lines: .* \([0-9]*\) matched.*/Lines: \1 matched/p')"
check "the wrong knock matches" grep -q '127.0.0.1: my door: wrong knock (stage 2)' <<<"$matched"
check "the timeout matches" grep -q '127.0.0.1: my door: sequence timeout (stage 2)' <<<"$matched"

# Knockers with names, IPv6, syslog; and lines that only look similar.
cat >others.log <<'END'
[2026-11-22 14:53] 192.0.2.8 (host.example): my door: sequence timeout (stage 2)
[2026-11-22 14:53] 2001:db8::7: ssh: wrong knock (stage 3)
Nov 22 14:53:07 gate knockd: 192.0.2.77: ssh: wrong knock (stage 12)
[2026-11-22 14:53] 192.0.2.7: ssh: wrong knock (stage 1)
[2026-11-22 14:53] 192.0.2.9: ssh: OPEN SESAME
[2026-11-22 14:53] 192.0.2.9: ssh: Stage 1
[2026-11-22 14:53] ssh: running command: echo 192.0.2.9: x: wrong knock (stage 1)
END
same "names, IPv6 and syslog lines match, other lines do not" "3" \
    "$(fail2ban-regex --print-all-matched others.log "$filter" 2>&1 | sed -n 's/^Lines: .* \([0-9]*\) matched.*/\1/p')"

# fail2ban accepts the jail, with its own actions.
mkdir -p etc
cp -r /etc/fail2ban/. etc/
cp "$filter" etc/filter.d/
cp "$CONTRIB/fail2ban/jail.d/knockd.conf" etc/jail.d/
rm -f etc/jail.d/defaults-debian.conf
sed -i "s#^logpath .*#logpath = $PWD/knockd.log#" etc/jail.d/knockd.conf
check "fail2ban accepts the jail" fail2ban-client -c etc -t
