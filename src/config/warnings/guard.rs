//! Checks of the guard.

use crate::config::options::Options;
use crate::config::warnings::warning::Warning;
use crate::door::Door;

/// A check of the options and all doors.
type Check = fn(&Options, &[Door]) -> Vec<Warning>;

/// All checks of the guard.
pub(super) const CHECKS: &[Check] = &[nothing_to_guard, everyone_excepted];

fn nothing_to_guard(options: &Options, doors: &[Door]) -> Vec<Warning> {
    let is_idle = options.guard && doors.iter().all(|door| door.open.is_none());
    let warning =
        || Warning::new("Guard guards nothing: no door has open").instead("write open = tcp/22 in a door");
    is_idle.then(warning).into_iter().collect()
}

fn everyone_excepted(options: &Options, _: &[Door]) -> Vec<Warning> {
    let all = options.guard_except.prefixes().iter().filter(|prefix| prefix.prefix_len() == 0);
    all.map(|prefix| {
        Warning::grave(format!("Guard_Except has {prefix}: everyone of that IP version passes the guard"))
    })
    .collect()
}
