//! A bounded map from a door and a knocker to something that is forgotten at its time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

/// A door, counted from 0, and a knocker.
type Key = (u32, IpAddr);

/// Values with a time to go; when it is full, those that would go first make room.
#[derive(Debug)]
pub struct Expiring<T> {
    capacity: usize,
    values: HashMap<Key, (T, Duration)>,
    /// By time. Entries that were replaced stay until they are on top.
    times: BinaryHeap<Reverse<(Duration, Key)>>,
}

impl<T> Expiring<T> {
    /// An empty map for at most `capacity` values.
    #[must_use]
    pub fn new(capacity: usize) -> Expiring<T> {
        Expiring { capacity, values: HashMap::new(), times: BinaryHeap::new() }
    }

    /// What is remembered at this time (uptime).
    #[must_use]
    pub fn get(&self, door: u32, knocker: IpAddr, uptime: Duration) -> Option<&T> {
        self.values.get(&(door, knocker)).filter(|(_, until)| *until > uptime).map(|(value, _)| value)
    }

    /// Remembers a value until some uptime, in place of an earlier one.
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
            // An entry that was replaced since has another time.
            if self.values.get(&key).is_some_and(|(_, until)| *until == time) {
                self.values.remove(&key);
            }
        }
    }

    /// Forgets a value.
    pub fn remove(&mut self, door: u32, knocker: IpAddr) {
        self.values.remove(&(door, knocker));
    }

    /// All that is remembered: door, knocker, value, until when.
    pub fn iter(&self) -> impl Iterator<Item = (u32, IpAddr, &T, Duration)> {
        self.values.iter().map(|(&(door, knocker), (value, until))| (door, knocker, value, *until))
    }
}
