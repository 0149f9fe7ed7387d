//! The watcher's end of the protocol: the queue of messages, and the openings that the doorkeeper has not
//! accepted yet.
//!
//! A pure state machine: its caller sends the messages in the order in which it returns them.

use std::collections::VecDeque;

use litemap::LiteMap;

use crate::opening::event::Opening;
use crate::protocol::messages::{Generation, Report, SinglePacket};

/// How many openings may be under way, i.e. made here and not yet accepted by the doorkeeper. Further ones
/// are dropped.
pub const MOST_OPENINGS: u64 = 4096;
/// How many of these may belong to one door.
pub const MOST_OF_DOOR: usize = 2048;
/// A door may have this many under way, regardless of the other doors.
pub const LEAST_OF_DOOR: usize = 16;
/// How many other messages may be queued; further ones are dropped and counted.
pub const MOST_WAITING: usize = 16_384;

/// The queue of messages, and the openings under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outbox {
    generation: Generation,
    waiting: VecDeque<Report>,
    /// The number of the last opening; the first is 1.
    last: u64,
    /// The number of the last opening that was accepted.
    taken: u64,
    /// The number of the last opening of each door that has openings under way.
    last_at: LiteMap<usize, u64>,
    /// The doors of the openings under way, in order; `None` for doors of an earlier configuration.
    under_way: VecDeque<Option<usize>>,
    /// How many openings each door has under way.
    counts: LiteMap<usize, usize>,
    /// How many lines were dropped because the queue was full.
    dropped: u64,
}

impl Outbox {
    /// An empty outbox without a configuration in force.
    #[must_use]
    pub fn new() -> Outbox {
        Outbox::default()
    }

    /// The generation in force.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Brings a configuration into force. The openings under way keep their places, but no longer count for
    /// any door.
    pub fn adopt(&mut self, generation: Generation) {
        self.generation = generation;
        self.last_at.clear();
        self.counts.clear();
        self.under_way.iter_mut().for_each(|door| *door = None);
        self.waiting.push_back(Report::Adopted(generation));
    }

    /// Queues an opening; returns false if there is no room for it.
    pub fn open(&mut self, opening: Opening) -> bool {
        let number = self.number(opening.door);
        self.waiting.extend(number.map(|number| Report::Opened(number, self.generation, opening)));
        number.is_some()
    }

    /// Queues a list that is used up although the door stays closed; returns false if there is no room for
    /// it. These get little room, so that openings keep theirs.
    pub fn use_up(&mut self, opening: Opening) -> bool {
        if self.counts.get(&opening.door).is_some_and(|count| *count >= LEAST_OF_DOOR) {
            return false;
        }
        let number = self.number(opening.door);
        self.waiting.extend(number.map(|number| Report::OverRate(number, self.generation, opening)));
        number.is_some()
    }

    /// Queues a single packet; returns false if there is no room for it.
    pub fn pass(&mut self, single: SinglePacket) -> bool {
        let number = self.number(single.door);
        self.waiting.extend(number.map(|number| Report::Single(number, self.generation, single)));
        number.is_some()
    }

    /// Takes the next number for an opening at this door; `None` if there is no room for it. The limits keep
    /// a door that opens too often from taking the others' room.
    fn number(&mut self, door: usize) -> Option<u64> {
        let count = self.counts.get(&door).copied().unwrap_or_default();
        let is_full = self.last - self.taken >= MOST_OPENINGS;
        if count >= if is_full { LEAST_OF_DOOR } else { MOST_OF_DOOR } {
            return None;
        }
        self.last += 1;
        self.last_at.insert(door, self.last);
        self.under_way.push_back(Some(door));
        self.counts.insert(door, count + 1);
        Some(self.last)
    }

    /// Queues a message that may be dropped if the queue is full.
    pub fn say(&mut self, report: Report) {
        if self.waiting.len() >= MOST_WAITING {
            self.dropped += 1;
            return;
        }
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            self.waiting.push_back(Report::LeftOut(dropped));
        }
        self.waiting.push_back(report);
    }

    /// Queues a message ahead of all others; its order does not matter.
    pub fn say_first(&mut self, report: Report) {
        self.waiting.push_front(report);
    }

    /// Records that the doorkeeper accepted all openings up to this one.
    pub fn taken(&mut self, number: u64) {
        while self.taken < number.min(self.last) {
            self.taken += 1;
            let Some(door) = self.under_way.pop_front().flatten() else { continue };
            if let Some(count) = self.counts.get_mut(&door) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.counts.remove(&door);
                }
            }
        }
        let taken = self.taken;
        self.last_at.retain(|_, last| *last > taken);
    }

    /// Whether the lines left in a door's one-time file after this opening are current: a later opening of
    /// the same door has used up more, and is followed by lines of its own.
    #[must_use]
    pub fn is_latest(&self, number: u64, generation: Generation, door: usize) -> bool {
        generation == self.generation && self.last_at.get(&door).is_none_or(|last| *last <= number)
    }

    /// The next message to send.
    #[must_use]
    pub fn first(&self) -> Option<&Report> {
        self.waiting.front()
    }

    /// Removes the message that was sent.
    pub fn sent(&mut self) {
        self.waiting.pop_front();
    }
}
