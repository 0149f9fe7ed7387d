//! Per-door counters of attempts, refused knocks and openings.

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
    /// Attempts evicted from the table to make room for others.
    pub pushed_out: u64,
    /// Knocks that would have begun an attempt, but were ignored because of `Cooldown`, `Allow` or `Deny`.
    pub ignored: u64,
    /// First knocks of a one-time list that was used before, or that the knocker may not try again.
    pub wrong_list: u64,
    /// Datagrams at the door's single-packet port that fail the HMAC check.
    pub forged: u64,
    /// Single packets that arrived before.
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

/// The counters for `doors`, carried over from the `earlier` doors of the same name. Doors that share a name
/// are matched in order.
#[must_use]
pub fn inherited(doors: &[Door], earlier: &[Door], tallies: &[Tally]) -> Vec<Tally> {
    let mut known: LiteMap<&Arc<str>, VecDeque<Tally>> = LiteMap::new();
    for (door, tally) in earlier.iter().zip(tallies) {
        known.entry(&door.name).or_default().push_back(*tally);
    }
    let mut of = |door: &Door| known.get_mut(&door.name).and_then(VecDeque::pop_front).unwrap_or_default();
    doors.iter().map(&mut of).collect()
}
