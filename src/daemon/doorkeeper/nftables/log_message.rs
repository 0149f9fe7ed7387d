//! Messages of the firewall for the log.

use crate::opening::event::Event;

/// A message for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon::doorkeeper) enum LogMessage {
    /// An event of a door.
    Event(Event),
    /// A log line of the daemon itself.
    Line(String),
    /// The same, also written to standard error.
    Complaint(String),
}
