//! The log line of an event, and its line in the debug output.
//!
//! Events that knockd 0.8 knows have its lines, to the letter: log parsers and fail2ban filters read them.

use std::net::IpAddr;
use std::time::Duration;

use crate::door::knock::Flags;
use crate::door::ports::listed;
use crate::octets;
use crate::opening::event::Event;

impl Event {
    /// Whether the event is not logged. Does not build the line.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        matches!(
            self,
            Event::Failed { is_logged: false, .. }
                | Event::Unfit { .. }
                | Event::TooOften { .. }
                | Event::Tried { is_locked_out: false, .. }
        )
    }

    /// The log line, without its time; `None` if the event is not logged.
    ///
    /// `host` is the name of the knocker, if it is known.
    #[must_use]
    pub fn line(&self, host: Option<&str>) -> Option<String> {
        let who = |knocker: &IpAddr| match host {
            Some(host) => format!("{knocker} ({host})"),
            None => knocker.to_string(),
        };
        Some(match self {
            Event::Advanced { door, knocker, stage } => format!("{}: {door}: Stage {stage}", who(knocker)),
            Event::Failed { is_logged: false, .. }
            | Event::Unfit { .. }
            | Event::TooOften { .. }
            | Event::Tried { is_locked_out: false, .. } => return None,
            Event::Tried { door, knocker, count, is_locked_out: true, .. } => format!(
                "{}: {door}: {count} failed attempts after the first half: out for the list of this period",
                who(knocker)
            ),
            Event::Failed { door, knocker, stage, is_logged: true } => {
                format!("{}: {door}: wrong knock (stage {stage})", who(knocker))
            }
            Event::Repeated { door, knocker, count: (done, wanted) } => {
                format!("{}: {door}: sequence {done} of {wanted}", who(knocker))
            }
            Event::Misfit { door, knocker, misfit, period } => {
                format!("{}: {door}: {}", who(knocker), misfit.words(*period))
            }
            Event::Expired { door, knocker, stage } => {
                format!("{}: {door}: sequence timeout (stage {stage})", who(knocker))
            }
            Event::Refused { door, knocker, why } => format!("{}: {door}: refused, {why}", who(knocker)),
            Event::WrongPacket { door, knocker } => format!("{}: {door}: wrong packet", who(knocker)),
            Event::Opened { door, opening } => format!("{}: {door}: OPEN SESAME", who(&opening.knocker)),
            Event::Waits { door, knocker } => {
                format!("{}: {door}: waits until another command ends (max_commands)", who(knocker))
            }
            Event::OpenedByFleet { door, knocker, time } => {
                let lasting = time.map_or(String::new(), |time| format!(" for {}", in_seconds(time)));
                format!("{}: {door}: opened by the fleet{lasting}", who(knocker))
            }
            Event::RefusedByFleet { door, knocker, why } => {
                format!("{}: {door}: refused, {why}", who(knocker))
            }
            Event::Running { door, command } => {
                format!("{door}: running command: {}", octets::text(command))
            }
            Event::Unsuccessful { door, code } => {
                format!("{door}: command returned non-zero status code ({code})")
            }
            Event::TimeIsUp { door, knocker } => format!("{}: {door}: command timeout", who(knocker)),
            Event::AlreadyOpen { door, knocker, is_extended } => {
                let then = if *is_extended { "its time begins anew" } else { "nothing is done" };
                format!("{}: {door}: already open, {then}", who(knocker))
            }
            Event::Admitted { door, knocker, ports, time } => {
                let what = if ports.is_empty() { String::new() } else { format!(" {}", listed(ports)) };
                format!("{}: {door}: opened{what} {}", who(knocker), lasting(*time))
            }
            Event::StillAdmitted { door, knocker, time } => {
                format!("{}: {door}: still open, {}", who(knocker), lasting(*time))
            }
            Event::NotAdmitted { door, knocker, why } => {
                format!("{}: {door}: could not open: {why}", who(knocker))
            }
            Event::Dismissed { door, knocker } => format!("{}: {door}: closed", who(knocker)),
            Event::LeftToTheKernel { door, knocker, time } => {
                let then = time.map_or("open until closed by hand".to_owned(), |time| {
                    format!("closes in {}", in_seconds(time))
                });
                format!("{}: {door}: left to the kernel: {then}", who(knocker))
            }
            Event::TooSlow { door } => format!("{door}: command takes too long, killing it"),
            Event::StartTooLong => {
                "error: parsed start command has been truncated! --> won't execute it".to_owned()
            }
            Event::StopTooLong => {
                "error: parsed stop command has been truncated! --> won't execute start command".to_owned()
            }
            Event::Exhausted { door } => exhausted(door),
        })
    }

    /// The line in the debug output, besides the log line; `None` for most events.
    #[must_use]
    pub fn debug_line(&self) -> Option<String> {
        match self {
            Event::Failed { knocker, .. } => Some(format!("removing failed knock attempt ({knocker})")),
            Event::Opened { opening, .. } => {
                Some(format!("removing successful knock attempt ({})", opening.knocker))
            }
            Event::TooOften { door, .. } => {
                Some(format!("{door}: opened too often, ignoring... (open_rate)"))
            }
            Event::Unfit { rule, flags } => {
                let flags = flags.unwrap_or_default();
                let (name, flag) = Flags::NAMES.into_iter().find(|(_, flag)| {
                    let asked = Flags(rule.mask().0 & flag.0);
                    flags.0 & asked.0 != rule.set.0 & asked.0
                })?;
                let not = if rule.clear.contains(flag) { "!" } else { "" };
                Some(format!("packet is not {not}{}, ignoring...", name.to_ascii_uppercase()))
            }
            _ => None,
        }
    }

    /// Whether an empty line follows in the log file, as in knockd 0.8.
    #[must_use]
    pub fn is_followed_by_a_blank(&self) -> bool {
        matches!(self, Event::Running { .. } | Event::Expired { .. })
    }
}

/// The words for a one-time sequence file without a usable line.
#[must_use]
pub fn exhausted(door: &str) -> String {
    format!("no more sequences left in the one time sequences file for door {door} --> disabling the door")
}

/// How long a door stays open in the kernel, as the log has it.
fn lasting(time: Option<Duration>) -> String {
    time.map_or("until closed by hand".to_owned(), |time| format!("for {}", in_seconds(time)))
}

/// A duration in seconds, rounded up.
fn in_seconds(time: Duration) -> String {
    format!("{} s", time.as_millis().div_ceil(1000))
}
