#!/bin/bash
# Three gateways with knockd and knockd-fleet, a router that spreads connections over
# them, and a real redis-server and valkey-server, which the test starts for itself.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

systemd-analyze --man=no verify "$CONTRIB/fleet/knockd-fleet.service" 2>&1 |
    grep -v 'is not executable' >said || true
same "the unit is in order" "" "$(cat said)"
# The commands of the example are all that the program needs: it is used with them.
python3 -B "$CONTRIB/tests/fleet.py" || failed "fleet.py ended with code $?"

# The same over the other engine, as far as it matters which one it is.
valkey=/run/here/bin/valkey-server
if [ -x $valkey ]; then
    ENGINE=$valkey python3 -B "$CONTRIB/tests/fleet.py" one_knock_opens_everywhere \
        four_ports_of_which_each_goes_elsewhere a_list_opens_once lines_are_struck_everywhere \
        without_an_engine_each_goes_on forged_records_open_nothing an_empty_engine_learns_what_was_used ||
        failed "fleet.py ended with code $?"
else
    skipped "a fleet over Valkey" "there is no valkey-server: $(tail -n 1 /run/here/valkey.log 2>/dev/null)"
fi
