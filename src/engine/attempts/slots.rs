//! The slots of the table of attempts, and the lists that they are linked in.

use std::net::IpAddr;
use std::time::Duration;

use crate::engine::attempts::candidates::SetId;

/// No slot.
pub(super) const NIL: u32 = u32::MAX;

/// Identifies an attempt; finds nothing once the attempt is over, even if another one reuses its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptId {
    pub(super) slot: u32,
    pub(super) serial: u32,
}

/// The kinds of lists; each slot is in one of each kind.
#[derive(Clone, Copy)]
pub(super) enum Chain {
    /// Attempts of the same knocker, the latest first.
    Knocker,
    /// Attempts at the same stage, in the order in which they reached it.
    Stage,
    /// Attempts from one network, the earliest first.
    Network,
}

/// A slot's neighbours in a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) before: u32,
    pub(super) after: u32,
}

/// A list of slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) count: u32,
}

impl List {
    pub(super) const EMPTY: List = List { first: NIL, last: NIL, count: 0 };
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) knocker: IpAddr,
    /// When it began: nanoseconds of uptime.
    pub(super) began: u64,
    /// The doors that it may open.
    pub(super) set: SetId,
    /// A serial number: tells this attempt from earlier ones in the same slot, and orders equal deadlines.
    pub(super) serial: u32,
    /// The most stages that it has reached at one of the doors.
    pub(super) reached: u8,
    live: bool,
    links: [Link; 3],
}

/// All slots.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: Vec<Slot>,
    free: Vec<u32>,
    serial: u32,
}

impl Slots {
    /// How many are in use.
    pub(super) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// How many bytes are allocated.
    pub(super) fn bytes(&self) -> usize {
        self.all.capacity() * size_of::<Slot>() + self.free.capacity() * size_of::<u32>()
    }

    /// Takes a slot for a new attempt, which is in no list yet. A full vector doubles, up to `capacity`
    /// slots.
    pub(super) fn take(
        &mut self,
        (knocker, began): (IpAddr, Duration),
        (set, reached): (SetId, u8),
        capacity: usize,
    ) -> Option<AttemptId> {
        self.serial = self.serial.wrapping_add(1);
        let began = u64::try_from(began.as_nanos()).unwrap_or(u64::MAX);
        let links = [Link { before: NIL, after: NIL }; 3];
        let slot = Slot { knocker, began, set, serial: self.serial, reached, live: true, links };
        let place = if let Some(place) = self.free.pop() {
            *self.all.get_mut(place as usize)? = slot;
            place
        } else {
            if self.all.len() == self.all.capacity() {
                let most = capacity.saturating_sub(self.all.len());
                self.all.reserve_exact(self.all.len().clamp(64, most.max(64)));
            }
            self.all.push(slot);
            u32::try_from(self.all.len() - 1).ok()?
        };
        Some(AttemptId { slot: place, serial: self.serial })
    }

    /// Frees a slot that is in no list.
    pub(super) fn give_back(&mut self, place: u32) {
        if let Some(slot) = self.all.get_mut(place as usize).filter(|slot| slot.live) {
            slot.live = false;
            self.free.push(place);
        }
    }

    /// The attempt, unless it is over.
    pub(super) fn find(&self, id: AttemptId) -> Option<&Slot> {
        self.at(id.slot).filter(|slot| slot.serial == id.serial)
    }

    pub(super) fn find_mut(&mut self, id: AttemptId) -> Option<&mut Slot> {
        self.all.get_mut(id.slot as usize).filter(|slot| slot.live && slot.serial == id.serial)
    }

    /// The attempt in a slot, if it is in use.
    pub(super) fn at(&self, place: u32) -> Option<&Slot> {
        self.all.get(place as usize).filter(|slot| slot.live)
    }

    /// The id of the attempt in a slot.
    pub(super) fn id(&self, place: u32) -> Option<AttemptId> {
        self.at(place).map(|slot| AttemptId { slot: place, serial: slot.serial })
    }

    /// The next slot in a list.
    pub(super) fn after(&self, chain: Chain, place: u32) -> u32 {
        self.at(place).map_or(NIL, |slot| slot.links.get(chain as usize).map_or(NIL, |link| link.after))
    }

    fn link_mut(&mut self, chain: Chain, place: u32) -> Option<&mut Link> {
        self.all.get_mut(place as usize)?.links.get_mut(chain as usize)
    }

    /// Puts a slot between two that are neighbours, or at an end of a list.
    pub(super) fn link(&mut self, chain: Chain, before: u32, place: u32, after: u32) {
        if let Some(link) = self.link_mut(chain, place) {
            *link = Link { before, after };
        }
        if let Some(link) = self.link_mut(chain, before) {
            link.after = place;
        }
        if let Some(link) = self.link_mut(chain, after) {
            link.before = place;
        }
    }

    /// Removes a slot from a chain; returns its former neighbours.
    pub(super) fn unlink(&mut self, chain: Chain, place: u32) -> Link {
        let none = Link { before: NIL, after: NIL };
        let link = self.link_mut(chain, place).map_or(none, |link| std::mem::replace(link, none));
        if let Some(before) = self.link_mut(chain, link.before) {
            before.after = link.after;
        }
        if let Some(after) = self.link_mut(chain, link.after) {
            after.before = link.before;
        }
        link
    }

    /// Puts a slot at the end of a list.
    pub(super) fn append(&mut self, chain: Chain, list: &mut List, place: u32) {
        self.link(chain, list.last, place, NIL);
        list.last = place;
        if list.first == NIL {
            list.first = place;
        }
        list.count += 1;
    }

    /// Removes a slot from the list that holds it.
    pub(super) fn leave(&mut self, chain: Chain, list: &mut List, place: u32) {
        let Link { before, after } = self.unlink(chain, place);
        if before == NIL {
            list.first = after;
        }
        if after == NIL {
            list.last = before;
        }
        list.count = list.count.saturating_sub(1);
    }
}
