//! A bounded map from a door and a knocker to a value that expires.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

/// The index of a door, and a knocker.
type Key = (u32, IpAddr);

/// Values that expire; a full map evicts those that would expire first.
#[derive(Debug)]
pub struct ExpiringMap<T> {
    capacity: usize,
    values: HashMap<Key, (T, Duration)>,
    /// The earliest on top. Entries of replaced values stay until they are on top.
    times: BinaryHeap<Reverse<(Duration, Key)>>,
}

impl<T> ExpiringMap<T> {
    /// An empty map for at most `capacity` values.
    #[must_use]
    pub fn new(capacity: usize) -> ExpiringMap<T> {
        ExpiringMap { capacity, values: HashMap::new(), times: BinaryHeap::new() }
    }

    /// The value, unless it has expired at this uptime.
    #[must_use]
    pub fn get(&self, door: u32, knocker: IpAddr, uptime: Duration) -> Option<&T> {
        self.values.get(&(door, knocker)).filter(|(_, until)| *until > uptime).map(|(value, _)| value)
    }

    /// Stores a value that expires at the uptime `until`, in place of an earlier one.
    pub fn set(&mut self, door: u32, knocker: IpAddr, value: T, until: Duration, uptime: Duration) {
        let key = (door, knocker);
        self.values.insert(key, (value, until));
        self.times.push(Reverse((until, key)));
        let is_too_many = |it: &Self| it.values.len() > it.capacity || it.times.len() > 2 * it.capacity + 64;
        while let Some(&Reverse((time, key))) = self.times.peek() {
            if time > uptime && !is_too_many(self) {
                break;
            }
            self.times.pop();
            // A value that was replaced since has another time.
            if self.values.get(&key).is_some_and(|(_, until)| *until == time) {
                self.values.remove(&key);
            }
        }
    }

    /// Removes a value.
    pub fn remove(&mut self, door: u32, knocker: IpAddr) {
        self.values.remove(&(door, knocker));
    }

    /// All values: door, knocker, value, expiry (uptime).
    pub fn iter(&self) -> impl Iterator<Item = (u32, IpAddr, &T, Duration)> {
        self.values.iter().map(|(&(door, knocker), (value, until))| (door, knocker, value, *until))
    }
}
