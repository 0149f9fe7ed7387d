#!/bin/bash
# Three gateways with knockd and knockd-fleet, a router that spreads connections over
# them, and a real redis-server, which the test starts for itself.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

systemd-analyze --man=no verify "$CONTRIB/fleet/knockd-fleet.service" 2>&1 |
    grep -v 'is not executable' >said || true
same "the unit is in order" "" "$(cat said)"
# The commands of the example are all that the program needs: it is used with them.
python3 -B "$CONTRIB/tests/fleet.py" || failed "fleet.py ended with code $?"
