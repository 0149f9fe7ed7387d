//! The lists of one-time ports that opened their door and must not open it again.
//!
//! A spent list stays spent, even after its time: nothing here reads a clock, so setting the clock
//! back makes no list valid again.

use std::net::IpAddr;

use crate::sorted;

/// Above this many lists, those too old to be accepted are merged into `floor`.
const MERGE_ABOVE: usize = 256;

/// How many lists are remembered individually. Beyond that, all lists of the oldest period and of earlier
/// ones count as spent: a door that is opened from this many addresses in one period stays closed to others
/// until the next period.
const MAX_LISTS: usize = 65_536;

/// The spent lists of one lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Period and knocker, sorted; the knocker is `None` for a list that all knockers share.
    lists: Vec<(u64, Option<IpAddr>)>,
    /// All lists of this period and earlier ones are spent.
    floor: Option<u64>,
}

impl Spent {
    /// Whether this list has opened the door already.
    #[must_use]
    pub fn contains(&self, period: u64, owner: Option<IpAddr>) -> bool {
        self.floor.is_some_and(|floor| period <= floor) || self.lists.binary_search(&(period, owner)).is_ok()
    }

    /// Adds a list. Lists of periods before `accepted` are no longer accepted, and may be merged.
    pub fn insert(&mut self, period: u64, owner: Option<IpAddr>, accepted: u64) {
        sorted::insert(&mut self.lists, (period, owner));
        let surplus = self.lists.len().saturating_sub(MERGE_ABOVE);
        let old = self.lists.iter().take(surplus).take_while(|list| list.0 < accepted).count();
        self.floor = self.floor.max(self.lists.drain(..old).map(|list| list.0).next_back());
        if let Some(&(oldest, _)) = self.lists.first().filter(|_| self.lists.len() > MAX_LISTS) {
            self.raise_floor(oldest);
            self.lists.retain(|list| list.0 > oldest);
        }
    }

    /// The lists that are stored individually.
    pub fn lists(&self) -> impl Iterator<Item = (u64, Option<IpAddr>)> {
        self.lists.iter().copied()
    }

    /// The latest period of which all lists, and all earlier lists, are spent.
    #[must_use]
    pub fn floor(&self) -> Option<u64> {
        self.floor
    }

    /// Adds all lists that are spent in `other`.
    pub fn merge(&mut self, other: &Spent) {
        self.floor = self.floor.max(other.floor);
        for (period, owner) in other.lists() {
            self.insert(period, owner, 0);
        }
    }

    /// Marks all lists up to this period as spent.
    pub fn raise_floor(&mut self, period: u64) {
        self.floor = self.floor.max(Some(period));
    }
}
