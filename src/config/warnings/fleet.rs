//! Checks of the fleet directives.

use crate::config::options::Options;
use crate::config::warnings::warning::Warning;
use crate::door::Door;

/// Doors that depend on a fleet, and shared knocks, without a `Fleet_Socket`.
pub(super) fn nobody_to_ask(options: &Options, doors: &[Door]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if options.fleet_socket.is_some() {
        return warnings;
    }
    if options.shares_knocks {
        warnings.push(Warning::grave(
            "Fleet_Share = knocks has no effect without Fleet_Socket: all knocks of a sequence must arrive here",
        ));
    }
    for door in doors.iter().filter(|door| door.rules.needs_fleet) {
        let name = &door.name;
        warnings.push(Warning::grave(format!(
            "door {name}: Fleet_Spent = closed has no effect without Fleet_Socket: the door opens without asking"
        )));
    }
    warnings
}
