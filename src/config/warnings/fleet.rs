//! Checks of the fleet directives.

use crate::config::options::Options;
use crate::config::warnings::warning::Warning;
use crate::door::Door;

/// Directives about a fleet without a `Fleet_Socket`.
pub(super) fn nobody_to_ask(options: &Options, doors: &[Door], warnings: &mut Vec<Warning>) {
    let needs_fleet = options.shares_knocks || doors.iter().any(|door| door.rules.needs_fleet);
    if needs_fleet && options.fleet_socket.is_none() {
        warnings.push(Warning::grave(
            "Fleet_Share = knocks and Fleet_Spent = closed have no effect without Fleet_Socket",
        ));
    }
}
