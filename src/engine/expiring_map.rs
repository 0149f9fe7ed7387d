//! A bounded map from a door and a knocker to values that expire.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

/// The index of a door, and a knocker.
type Key = (u32, IpAddr);

/// A value that may own heap memory.
pub trait Weigh {
    /// The heap memory, in units of 16 bytes.
    fn weight(&self) -> usize;
}

impl Weigh for () {
    fn weight(&self) -> usize {
        0
    }
}

impl Weigh for Vec<Duration> {
    fn weight(&self) -> usize {
        self.capacity()
    }
}

/// Values that expire; a full map evicts those that would expire first.
#[derive(Debug)]
pub struct ExpiringMap<T> {
    /// The limit on the number of values, and on their total weight.
    capacity: usize,
    weight: usize,
    values: HashMap<Key, (T, Duration)>,
    /// Expiry times, earliest on top. Entries of replaced values stay until they reach the top.
    times: BinaryHeap<Reverse<(Duration, Key)>>,
}

impl<T: Weigh> ExpiringMap<T> {
    /// An empty map for at most `capacity` values that weigh no more than `capacity` units together.
    #[must_use]
    pub fn new(capacity: usize) -> ExpiringMap<T> {
        ExpiringMap { capacity, weight: 0, values: HashMap::new(), times: BinaryHeap::new() }
    }

    /// Allocated bytes, estimated for the hash table.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const UNIT: usize = size_of::<Duration>();
        let buckets = self.values.capacity() / 7 * 8;
        buckets * (size_of::<(Key, (T, Duration))>() + 1)
            + self.times.capacity() * size_of::<Reverse<(Duration, Key)>>()
            + self.weight * UNIT
    }

    /// The value, unless it has expired at this uptime.
    #[must_use]
    pub fn get(&self, door: u32, knocker: IpAddr, uptime: Duration) -> Option<&T> {
        self.values.get(&(door, knocker)).filter(|(_, until)| *until > uptime).map(|(value, _)| value)
    }

    /// Stores a value that expires at uptime `until`, replacing any earlier one. Drops values that have
    /// expired at `uptime` and, if the map is over capacity, those that expire first.
    pub fn set(&mut self, door: u32, knocker: IpAddr, value: T, until: Duration, uptime: Duration) {
        let key = (door, knocker);
        self.weight += value.weight();
        if let Some((replaced, _)) = self.values.insert(key, (value, until)) {
            self.weight -= replaced.weight();
        }
        self.times.push(Reverse((until, key)));
        let is_too_many = |it: &Self| {
            it.values.len() > it.capacity || it.weight > it.capacity || it.times.len() > 2 * it.capacity + 64
        };
        while let Some(&Reverse((time, key))) = self.times.peek() {
            if time > uptime && !is_too_many(self) {
                break;
            }
            self.times.pop();
            // A value that was replaced in the meantime has another expiry time.
            if self.values.get(&key).is_some_and(|(_, until)| *until == time) {
                self.remove(key.0, key.1);
            }
        }
    }

    /// Removes a value.
    pub fn remove(&mut self, door: u32, knocker: IpAddr) {
        if let Some((removed, _)) = self.values.remove(&(door, knocker)) {
            self.weight -= removed.weight();
        }
    }

    /// All values: door, knocker, value, expiry (uptime).
    pub fn iter(&self) -> impl Iterator<Item = (u32, IpAddr, &T, Duration)> {
        self.values.iter().map(|(&(door, knocker), (value, until))| (door, knocker, value, *until))
    }
}
