#!/bin/bash
# contrib/monitoring: metrics, rules and dashboard against promtool, the door of the
# Home Assistant example with a real broker, logrotate, and jq on the JSON forms.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

here=$CONTRIB/monitoring
has() { command -v "$1" >/dev/null 2>&1; }

cat >knockd.conf <<END
[options]
LogFile = $PWD/knockd.log
Log_Format = json
[my "door"]
Sequence = 1111:udp,2222:udp
Start_Command = true
Stop_Command = true
Cmd_Timeout = 300
END
ip link set lo up
"$KNOCKD" -i lo -c knockd.conf -p "$PWD/knockd.pid" -d
"$KNOCK" -u 127.0.0.1 1111 2222
"$KNOCK" -u 127.0.0.1 1111 1111
soon grep -q '"event":"command"' knockd.log
open() { "$KNOCKD" --status --json -c knockd.conf -p "$PWD/knockd.pid" | grep -q '"phase":"open"'; }
check "the door is open" soon open

# ---------------------------------------------------------------- Prometheus
metrics() { KNOCKD="$KNOCKD" "$here/knockd-metrics" "$PWD/knockd.prom" -c knockd.conf -p "$PWD/knockd.pid"; }
check "the metrics are written" metrics
check "a door with quotes in its name has its series" \
    grep -qF 'knockd_attempts_ended_total{door="my \"door\"",how="opened"} 1' knockd.prom
check "no file is left beside them" test "$(echo knockd.prom*)" = knockd.prom
mkdir units
cp "$here/knockd-metrics.timer" units/
sed 's,/usr/local/lib/knockd/knockd-metrics,/bin/true,' "$here/knockd-metrics.service" >units/knockd-metrics.service
check "the timer and its service are in order" systemd-analyze verify --man=no "$PWD/units/knockd-metrics.timer"
check "shellcheck has nothing to say" shellcheck "$here/knockd-metrics"
if has promtool; then
    check "promtool finds the metrics in order" sh -c 'promtool check metrics <knockd.prom'
    check "promtool finds the rules in order" promtool check rules "$here/knockd.rules.yml"
else
    skipped "the metrics and the rules" "promtool is missing: apt-get install prometheus"
fi
# The metrics that rules and dashboard name are those that there are.
names=$(grep -oh 'knockd_[a-z_]*' "$here/knockd.rules.yml" "$here/grafana-dashboard.json" | sort -u | grep -v '^knockd_$')
unknown=
for name in $names; do
    grep -q "^# TYPE $name " knockd.prom || unknown="$unknown $name"
done
same "rules and dashboard name no other metrics" "" "$unknown"

# ---------------------------------------------------------------------- JSON
if has jq; then
    check "the dashboard is JSON with a query in each panel" \
        jq -e '.panels | length > 0 and all(.targets | length > 0 and all(.expr != ""))' "$here/grafana-dashboard.json"
    # The lines of the README, as they stand there.
    log=$(sed -n "s,^    \(jq .*\) /var/log/knockd.log\$,\1 knockd.log,p" "$here/README.md")
    same "the log is read with jq" 'my "door"	127.0.0.1' "$(sh -c "$log" | cut -f 2-)"
    status=$(sed -n 's,^    knockd --status --json | \(jq .*\)$,\1,p' "$here/README.md")
    same "so is the status" 'my "door"	127.0.0.1' \
        "$("$KNOCKD" --status --json -c knockd.conf -p "$PWD/knockd.pid" | sh -c "$status" | cut -f 1-2)"
else
    skipped "the JSON forms" "jq is missing: apt-get install jq"
fi

# ----------------------------------------------------------------- logrotate
if has logrotate; then
    sed "s,/var/log/knockd.log,$PWD/knockd.log,; s,/run/knockd.pid,$PWD/knockd.pid,g; s/root adm/root root/" \
        "$here/logrotate.conf" >rotate.conf
    chmod 644 rotate.conf
    chmod 755 .
    check "logrotate rotates the log" logrotate -f -s "$PWD/rotate.state" rotate.conf
    "$KNOCK" -u 127.0.0.1 1111 2222
    check "the daemon writes the new one" soon grep -q '"event":"opened"' knockd.log
else
    skipped "logrotate.conf" "logrotate is missing: apt-get install logrotate"
fi
daemon=$(cat knockd.pid)
kill "$daemon"
soon lacks kill -0 "$daemon"
check "without a daemon the metrics say so" metrics
check "knockd_up is 0" grep -q '^knockd_up{process="doorkeeper"} 0$' knockd.prom

# ------------------------------------------------------------ Home Assistant
if has mosquitto && has mosquitto_pub && has mosquitto_sub; then
    printf 'listener 1883 127.0.0.1\nallow_anonymous true\n' >broker.conf
    mosquitto -c broker.conf >broker.out 2>&1 &
    broker=$!
    listens() { grep -q ':075B .* 0A ' /proc/net/tcp; }
    check "the broker listens" soon listens
    # The example of the README, without the firewall of the machine.
    sed -n '/^    \[options\]$/,/^$/{s/^    //p;}' "$here/README.md" |
        sed 's/nft [a-z]* element [^;]*; //; s/Cmd_Timeout .*/Cmd_Timeout = 1/; s/^    Sequence .*/Sequence = 1111:udp,2222:udp/' >home.conf
    mosquitto_sub -t 'knockd/ssh' -C 2 >events &
    watcher=$!
    soon grep -q 'as auto-' broker.out
    "$KNOCKD" -i lo -c home.conf -p "$PWD/home.pid" -d
    "$KNOCK" -u 127.0.0.1 1111 2222
    seen() { [ "$(wc -l <events)" = 2 ]; }
    check "an opening and a closing arrive" soon seen
    same "they are events of Home Assistant" \
        '{"event_type":"opened","ip":"127.0.0.1"} {"event_type":"closed","ip":"127.0.0.1"}' "$(xargs -d '\n' <events)"
    discovered=$(timeout 20 mosquitto_sub -t 'homeassistant/event/+/config' -C 1)
    if has jq; then
        check "the door is discovered" jq -e '.state_topic == "knockd/ssh" and (.event_types | index("opened"))' <<<"$discovered"
    fi
    kill "$(cat home.pid)" "$broker"
    wait "$watcher" 2>/dev/null
else
    skipped "the door of Home Assistant" "the broker is missing: apt-get install mosquitto mosquitto-clients"
fi
