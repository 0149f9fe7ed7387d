//! What the firewall has for the log.

use crate::opening::event::Event;

/// Something for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon::doorkeeper) enum Said {
    /// A line of a door.
    Event(Event),
    /// A line of the daemon itself.
    Line(String),
    /// The same, for standard error as well.
    Complaint(String),
}
