//! Counts the tries of each source to guess the second half of a one-time list.
//!
//! With IP protection, the first half of a list is the same for all knockers: an eavesdropper knows it, and
//! can guess the second half in 256 to the power of its length tries. Each try that ends after the first half
//! counts against its source, for the list of its period.
//!
//! Nothing here reads a clock: a source that is locked out stays locked out, even if the clock is set back.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// How many tries a source has at a list by default.
pub const DEFAULT_TRIES: u8 = 3;
/// How many sources are kept for all doors together, each with a period: as many /64 networks as an IPv6 /48
/// has. They take some 4 MB.
const MAX_SOURCES: usize = 65_536;
/// The least number of sources kept for each door, however many doors there are.
const MIN_SOURCES_PER_LOCK: usize = 256;
/// A full table forgets one in this many entries at once, so that not every new source costs a search.
const EVICTED_SHARE: usize = 8;

/// The tries at the lists of one lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tries {
    counts: HashMap<(u64, IpAddr), u8>,
    capacity: usize,
}

impl Default for Tries {
    fn default() -> Tries {
        Tries::shared_by(1)
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 /64, in which a host can have any number of
/// addresses.
#[must_use]
pub fn source(knocker: IpAddr) -> IpAddr {
    match knocker {
        IpAddr::V4(_) => knocker,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

impl Tries {
    /// An empty table; `locks` tables share the space for all doors.
    #[must_use]
    pub fn shared_by(locks: usize) -> Tries {
        Tries { counts: HashMap::new(), capacity: (MAX_SOURCES / locks.max(1)).max(MIN_SOURCES_PER_LOCK) }
    }

    /// How many tries this knocker's source had at the list of a period.
    #[must_use]
    pub fn count(&self, period: u64, knocker: IpAddr) -> u8 {
        self.counts.get(&(period, source(knocker))).copied().unwrap_or(0)
    }

    /// Counts one more try, and returns the number of tries so far. Lists of periods before `accepted` are no
    /// longer accepted.
    pub fn add(&mut self, period: u64, knocker: IpAddr, accepted: u64) -> u8 {
        let count = self.count(period, knocker).saturating_add(1);
        self.set(period, knocker, count, accepted);
        count
    }

    /// Raises the number of tries to `count`, unless it is higher already.
    pub fn set(&mut self, period: u64, knocker: IpAddr, count: u8, accepted: u64) {
        let key = (period, source(knocker));
        if !self.counts.contains_key(&key) && self.counts.len() >= self.capacity {
            self.make_room(accepted);
        }
        let known = self.counts.entry(key).or_default();
        *known = count.max(*known);
    }

    /// Forgets tries at lists that are no longer accepted. If that is not enough, forgets the sources with
    /// the fewest tries: to be forgotten, a source has to fill the table with others that have as many.
    fn make_room(&mut self, accepted: u64) {
        let target = self.capacity - self.capacity / EVICTED_SHARE;
        self.counts.retain(|(period, _), _| *period >= accepted);
        let mut surplus = self.counts.len().saturating_sub(target);
        for fewest in 0..=u8::MAX {
            self.counts.retain(|_, count| {
                let is_evicted = *count == fewest && surplus > 0;
                surplus -= usize::from(is_evicted);
                !is_evicted
            });
            if surplus == 0 {
                return;
            }
        }
    }

    /// Takes over the counts of another table.
    pub fn merge(&mut self, other: &Tries) {
        for (period, source, count) in other.iter() {
            self.set(period, source, count, 0);
        }
    }

    /// Period, source and count of each, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, IpAddr, u8)> {
        self.counts.iter().map(|(&(period, source), &count)| (period, source, count))
    }

    /// Whether no tries are stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}
