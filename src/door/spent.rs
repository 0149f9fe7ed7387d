//! Lists of one-time ports that opened their door, and open it no more.
//!
//! A list is remembered for as long as it could be accepted, and longer: nothing here looks at a
//! clock, so that one that is set back makes no spent list good again.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// How many lists that are too old to be accepted are still remembered one by one.
const MOST: usize = 256;

/// What is spent of one lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Period, and whose list it was; nobody's where a list is everybody's.
    lists: BTreeSet<(u64, Option<IpAddr>)>,
    /// Whatever is not younger than this is spent: it was forgotten one by one.
    floor: Option<u64>,
}

impl Spent {
    /// Whether this list opened the door already.
    #[must_use]
    pub fn contains(&self, period: u64, owner: Option<IpAddr>) -> bool {
        self.floor.is_some_and(|floor| period <= floor) || self.lists.contains(&(period, owner))
    }

    /// This list opened the door; lists from before period `accepted` cannot do so now.
    pub fn insert(&mut self, period: u64, owner: Option<IpAddr>, accepted: u64) {
        self.lists.insert((period, owner));
        while self.lists.len() > MOST
            && let Some(&oldest) = self.lists.first()
            && oldest.0 < accepted
        {
            self.lists.pop_first();
            self.floor = self.floor.max(Some(oldest.0));
        }
    }

    /// The lists that are remembered one by one.
    pub fn lists(&self) -> impl Iterator<Item = (u64, Option<IpAddr>)> {
        self.lists.iter().copied()
    }

    /// The youngest period that is spent with all before it.
    #[must_use]
    pub fn floor(&self) -> Option<u64> {
        self.floor
    }

    /// Everything up to this period is spent.
    pub fn raise_floor(&mut self, period: u64) {
        self.floor = self.floor.max(Some(period));
    }
}
