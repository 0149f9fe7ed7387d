//! What became of knocks, counted for each door.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;

use crate::door::Door;

/// The counts of one door since the daemon, or its watcher, started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts that began.
    pub begun: u64,
    /// Attempts that a wrong knock ended.
    pub failed: u64,
    /// Attempts that took too long.
    pub expired: u64,
    /// Attempts that gave way to others when the table was full.
    pub pushed_out: u64,
    /// Knocks that would have begun an attempt, of knockers whom `Cooldown`, `Allow` or `Deny` keeps out.
    pub ignored: u64,
    /// Knocks that begin a one-time list which was used before.
    pub wrong_list: u64,
    /// Single packets that nobody with the keys made.
    pub forged: u64,
    /// Single packets that had come before.
    pub repeated_packets: u64,
    /// Openings.
    pub opened: u64,
    /// The Unix time of the last opening.
    pub last_opened: Option<Duration>,
}

impl Tally {
    /// Whether anything was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Tally::default()
    }
}

/// The counts for `doors`, taken over from those of earlier doors by name; of several doors with one name the first
/// gets the counts of the first.
#[must_use]
pub fn inherited(doors: &[Door], earlier: &[Door], tallies: &[Tally]) -> Vec<Tally> {
    let mut known: LiteMap<&Arc<str>, VecDeque<Tally>> = LiteMap::new();
    for (door, tally) in earlier.iter().zip(tallies) {
        known.entry(&door.name).or_default().push_back(*tally);
    }
    let mut of = |door: &Door| known.get_mut(&door.name).and_then(VecDeque::pop_front).unwrap_or_default();
    doors.iter().map(&mut of).collect()
}
