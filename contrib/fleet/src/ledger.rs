//! The records seen, the marks used up, and the known members. All tables are bounded.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::record::{Alive, Record};

/// The capacity for records and for marks used up: more than the engine's log holds.
pub const MOST: usize = 16_384;
/// The capacity for members.
pub const MOST_MEMBERS: usize = 256;
/// How many of the last delays are kept.
const MOST_DELAYS: usize = 1_024;

/// The records received that are still valid.
#[derive(Debug, Default)]
pub struct Seen {
    /// When each record expires by the engine's clock, keyed by session and counter.
    records: HashMap<(u64, u64), u64>,
}

impl Seen {
    /// Adds a record that is valid until this time of the engine; returns whether it is new.
    pub fn is_new(&mut self, record: &Record, until: u64, now: u64) -> bool {
        if self.records.len() >= MOST {
            self.records.retain(|_, until| *until >= now);
        }
        self.records.insert((record.session, record.counter), until).is_none()
    }
}

/// The openings passed to knockd.
#[derive(Debug, Default)]
pub struct Told(HashMap<u64, Telling>);

#[derive(Debug)]
struct Telling {
    uptime: Duration,
    /// The session of that knockd.
    session: u64,
    until: u64,
}

impl Told {
    /// Records that this opening, valid until this time of the engine, was passed to the knockd of this session at
    /// this uptime.
    pub fn note(&mut self, number: u64, (uptime, session): (Duration, u64), until: u64, now: u64) {
        if self.0.len() >= MOST {
            self.0.retain(|_, told| told.until >= now);
        }
        self.0.insert(number, Telling { uptime, session, until });
    }

    /// Whether the opening was passed to the knockd of this session, or to an earlier one before this uptime.
    #[must_use]
    pub fn is_known(&self, number: u64, session: u64, before: Duration) -> bool {
        self.0.get(&number).is_some_and(|told| told.session == session || told.uptime < before)
    }
}

/// The marks used up, to be restored in an engine that has lost its data.
#[derive(Debug, Default)]
pub struct Spends(HashMap<[u8; 16], u64>);

impl Spends {
    /// Records that a mark is used up until this time of the engine.
    pub fn note(&mut self, name: [u8; 16], until: u64, now: u64) {
        if self.0.len() >= MOST {
            self.0.retain(|_, until| *until >= now);
            let first = self.0.iter().min_by_key(|(_, until)| **until).map(|(name, _)| *name);
            if let Some(first) = first.filter(|_| self.0.len() >= MOST) {
                self.0.remove(&first);
            }
        }
        let kept = self.0.entry(name).or_default();
        *kept = until.max(*kept);
    }

    /// For how many more seconds the mark is used up; `None` if it is not.
    #[must_use]
    pub fn left(&self, name: &[u8; 16], now: u64) -> Option<u64> {
        let until = self.0.get(name).filter(|until| **until > now)?;
        Some(until.saturating_sub(now).div_ceil(1_000_000))
    }

    /// All marks still used up, with the seconds left.
    pub fn kept(&self, now: u64) -> impl Iterator<Item = ([u8; 16], u64)> {
        self.0.iter().filter(move |(_, until)| **until > now).map(move |(name, until)| {
            let seconds = until.saturating_sub(now).div_ceil(1_000_000);
            (*name, seconds)
        })
    }
}

/// A member of the fleet, possibly this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// When its last heartbeat was sent, by the local monotonic clock.
    pub heard: Duration,
    /// The delay of that heartbeat in microseconds, by the engine's clock.
    pub delay: u64,
    /// The content of that heartbeat.
    pub alive: Alive,
    session: u64,
    counter: u64,
    /// How many heartbeats of its current session were lost.
    pub missed: u64,
}

/// The members, by name.
#[derive(Clone, Debug, Default)]
pub struct Members(BTreeMap<String, Member>);

impl Members {
    /// Records a heartbeat; ignores one older than the last of the same session.
    pub fn hear(&mut self, record: &Record, alive: Alive, delay: u64, uptime: Duration) {
        let (session, counter) = (record.session, record.counter);
        let before = self.0.get(&record.member).copied();
        let missed = match before {
            Some(it) if it.session == session && it.counter >= counter => return,
            Some(it) if it.session == session => it.missed + (counter - it.counter - 1),
            _ => 0,
        };
        if before.is_none() && self.0.len() >= MOST_MEMBERS {
            let oldest = self.0.iter().min_by_key(|(_, it)| it.heard).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.0.remove(&name));
        }
        self.0
            .insert(record.member.clone(), Member { heard: uptime, delay, alive, session, counter, missed });
    }

    /// All members, sorted by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.0.iter().map(|(name, member)| (name.as_str(), member))
    }
}

/// The delays of the last openings of other members.
#[derive(Clone, Debug, Default)]
pub struct Delays(VecDeque<u64>);

impl Delays {
    /// Adds a delay in microseconds.
    pub fn note(&mut self, microseconds: u64) {
        if self.0.len() >= MOST_DELAYS {
            self.0.pop_front();
        }
        self.0.push_back(microseconds);
    }

    /// The median and the 99th percentile; `None` without any delays.
    #[must_use]
    pub fn quantiles(&self) -> Option<(u64, u64)> {
        let mut sorted: Vec<u64> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        let at = |part: usize| sorted.get((sorted.len().checked_sub(1)? * part) / 100).copied();
        at(50).zip(at(99))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::record::Body;

    fn alive(member: &str, session: u64, counter: u64) -> Record {
        Record { member: member.to_owned(), session, counter, made: 0, body: Body::Alive(Alive::default()) }
    }

    #[test]
    fn a_record_is_new_once() {
        let mut seen = Seen::default();
        assert!(seen.is_new(&alive("a", 1, 1), 1_000, 0));
        assert!(!seen.is_new(&alive("a", 1, 1), 1_000, 0));
        assert!(seen.is_new(&alive("a", 2, 1), 1_000, 0));
        for counter in 0..u64::try_from(2 * MOST).unwrap() {
            assert!(seen.is_new(&alive("a", 3, counter), counter, counter));
        }
        assert!(seen.records.len() <= MOST + 1);
    }

    #[test]
    fn what_was_told_is_known() {
        let at = Duration::from_secs;
        let mut told = Told::default();
        told.note(7, (at(3), 1), 1_000, 0);
        assert!(told.is_known(7, 1, at(0)) && told.is_known(7, 2, at(4)));
        assert!(!told.is_known(7, 2, at(3)) && !told.is_known(8, 1, at(4)));
        for number in 0..u64::try_from(2 * MOST).unwrap() {
            told.note(number, (at(1), 1), number, number);
        }
        assert!(told.0.len() <= MOST + 1);
    }

    #[test]
    fn spends_are_kept_for_their_time() {
        let mut spends = Spends::default();
        spends.note([1; 16], 10_000_000, 0);
        spends.note([1; 16], 5_000_000, 0);
        spends.note([2; 16], 2_000_000, 0);
        let mut kept: Vec<_> = spends.kept(2_500_000).collect();
        kept.sort_unstable();
        assert_eq!(kept, [([1; 16], 8)]);
        for number in 0..u64::try_from(MOST + 100).unwrap() {
            let mut name = [0; 16];
            name[..8].copy_from_slice(&number.to_le_bytes());
            spends.note(name, 1_000_000 + number, 0);
        }
        assert!(spends.0.len() <= MOST);
    }

    #[test]
    fn members_are_heard_in_order() {
        let mut members = Members::default();
        let at = Duration::from_secs;
        members.hear(&alive("a", 1, 1), Alive::default(), 3, at(1));
        members.hear(&alive("a", 1, 4), Alive::default(), 4, at(2));
        members.hear(&alive("a", 1, 2), Alive::default(), 5, at(3));
        let (name, member) = members.all().next().unwrap();
        assert_eq!((name, member.heard, member.delay, member.missed), ("a", at(2), 4, 2));
        members.hear(&alive("a", 9, 1), Alive::default(), 1, at(4));
        assert_eq!(members.all().next().unwrap().1.missed, 0);
        for number in 0..1_000 {
            members.hear(&alive(&format!("m{number}"), 1, 1), Alive::default(), 1, at(10 + number));
        }
        assert!(members.0.len() <= MOST_MEMBERS);
    }

    #[test]
    fn quantiles() {
        let mut delays = Delays::default();
        assert_eq!(delays.quantiles(), None);
        (1..=100).for_each(|delay| delays.note(delay));
        assert_eq!(delays.quantiles(), Some((50, 99)));
    }
}
