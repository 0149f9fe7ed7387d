//! The watcher's end of the protocol: what waits to be sent, and which openings the doorkeeper has not taken yet.
//!
//! Pure: it is told what happened and hands out messages in the order in which they are to be sent.

use std::collections::VecDeque;

use litemap::LiteMap;

use crate::opening::event::Opening;
use crate::protocol::messages::{Generation, Report, SinglePacket};

/// How many openings may be under way: made here, and not taken by the doorkeeper. More are refused.
pub const MOST_OPENINGS: u64 = 4096;
/// How many of them may be of one door.
pub const MOST_OF_DOOR: usize = 2048;
/// A door may have as many under way whatever the others have.
pub const LEAST_OF_DOOR: usize = 16;
/// How many other messages may wait; when there is no room for one, it is dropped and counted.
pub const MOST_WAITING: usize = 16_384;

/// What waits to be sent, and what waits to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outbox {
    generation: Generation,
    waiting: VecDeque<Report>,
    /// The number of the last opening; the first is 1.
    last: u64,
    /// All up to this one were taken.
    taken: u64,
    /// The last opening at each door that has openings under way.
    last_at: LiteMap<usize, u64>,
    /// The doors of the openings under way, in their order; none for a door of a configuration before this one.
    under_way: VecDeque<Option<usize>>,
    /// How many openings each door has under way.
    counts: LiteMap<usize, usize>,
    /// Lines that were dropped for want of room.
    dropped: u64,
}

impl Outbox {
    /// Nothing waits, and no configuration is in force.
    #[must_use]
    pub fn new() -> Outbox {
        Outbox::default()
    }

    /// The configuration in force.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// A configuration is in force from now on. Door numbers of openings under way are those of the one before.
    pub fn adopt(&mut self, generation: Generation) {
        self.generation = generation;
        self.last_at.clear();
        self.counts.clear();
        self.under_way.iter_mut().for_each(|door| *door = None);
        self.waiting.push_back(Report::Adopted(generation));
    }

    /// A door is to be opened; says whether there is room for that.
    pub fn open(&mut self, opening: Opening) -> bool {
        let number = self.number(opening.door);
        self.waiting.extend(number.map(|number| Report::Opened(number, self.generation, opening)));
        number.is_some()
    }

    /// A door stays shut, but the list that was knocked is used up; says whether there is room for that. There is little,
    /// so that openings keep theirs.
    pub fn use_up(&mut self, opening: Opening) -> bool {
        if self.counts.get(&opening.door).is_some_and(|count| *count >= LEAST_OF_DOOR) {
            return false;
        }
        let number = self.number(opening.door);
        self.waiting.extend(number.map(|number| Report::OverRate(number, self.generation, opening)));
        number.is_some()
    }

    /// A single packet is to be looked at; says whether there is room for that.
    pub fn pass(&mut self, single: SinglePacket) -> bool {
        let number = self.number(single.door);
        self.waiting.extend(number.map(|number| Report::Single(number, self.generation, single)));
        number.is_some()
    }

    /// The number of the next opening, at this door, if there is room for one. A door that opens too often leaves
    /// room for the others.
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

    /// Something is to be said that may be left out when too much waits.
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

    /// Something is to be said in front of all else: it does not depend on the order.
    pub fn say_first(&mut self, report: Report) {
        self.waiting.push_front(report);
    }

    /// The doorkeeper took all openings up to this one.
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

    /// Whether what the doorkeeper says is left in a door's one-time file after this opening counts here: a later
    /// opening of the same door has used up more, and brings an answer of its own.
    #[must_use]
    pub fn is_latest(&self, number: u64, generation: Generation, door: usize) -> bool {
        generation == self.generation && self.last_at.get(&door).is_none_or(|last| *last <= number)
    }

    /// What is to be sent next.
    #[must_use]
    pub fn first(&self) -> Option<&Report> {
        self.waiting.front()
    }

    /// It was sent.
    pub fn sent(&mut self) {
        self.waiting.pop_front();
    }
}
