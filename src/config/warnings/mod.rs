//! Warnings about configurations that are valid but probably mistaken: sentences for `knockd --check`, and
//! the gravest for the log.
//!
//! Each check is a pure function. To add one, write it in the file of its kind and add it to the table there:
//! [`door`] has checks of one door, [`doors`] of all doors together, [`guard`] of the guard, [`fleet`] of a
//! fleet, [`mod@remarks`] of weaknesses that many doors in use have, [`written`] of the lines of the file.

mod door;
mod doors;
mod fleet;
mod guard;
mod remarks;
mod warning;
mod written;

use crate::config::options::Options;
use crate::door::Door;

pub use warning::Warning;
pub(super) use written::{Entry, Section};

/// Warnings about doors: first each door, then all doors together.
pub(super) fn about_doors(doors: &[Door]) -> Vec<Warning> {
    let each = doors.iter().flat_map(|door| door::CHECKS.iter().filter_map(|check| check(door)));
    each.chain(doors::CHECKS.iter().flat_map(|check| check(doors))).collect()
}

/// Remarks about doors, for `--check` only.
pub(super) fn remarks(doors: &[Door]) -> Vec<Warning> {
    doors.iter().flat_map(|door| remarks::CHECKS.iter().filter_map(|check| check(door))).collect()
}

/// Warnings about the options together with the doors: the guard, the fleet.
pub(super) fn about_options(options: &Options, doors: &[Door]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for check in guard::CHECKS {
        warnings.extend(check(options, doors));
    }
    fleet::nobody_to_ask(options, doors, &mut warnings);
    warnings
}

/// Warnings about the lines of one section.
pub(super) fn about_section(section: &Section<'_>) -> Vec<Warning> {
    written::CHECKS.iter().flat_map(|check| check(section)).collect()
}
