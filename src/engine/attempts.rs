//! The table of attempts in progress: bounded, and equally fast however full it is.
//!
//! It finds attempts by knocker and by deadline. When it is full, it evicts the oldest attempt of the
//! stage at which most are. So each of n stages keeps at least the n-th part of the table, whichever of
//! them strangers fill: a flood evicts attempts of its own kind. One network has a share of the table too,
//! and beyond that evicts only its own attempts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hashbrown::HashTable;

use crate::door::lock::Turn;

/// A knocker part-way through a door's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The knocker's address.
    pub knocker: IpAddr,
    /// How many stages it has reached; at least 1.
    pub reached: u8,
    /// The index of the door.
    pub door: u32,
    /// The turn of the door's lock.
    pub turn: Turn,
}

/// Identifies an attempt; finds nothing once it is over, even if another one has its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptId {
    slot: u32,
    born: u32,
}

/// No slot.
const NIL: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Slot {
    attempt: Attempt,
    /// A serial number: tells this attempt from earlier ones in the same slot, and orders equal deadlines.
    born: u32,
    live: bool,
    /// Links of the list of one knocker's attempts.
    before: u32,
    after: u32,
    /// Links of the list of attempts that got equally far, the oldest first.
    older: u32,
    younger: u32,
    /// Links of the list of attempts from one network, in the order in which they began.
    neighbour_before: u32,
    neighbour_after: u32,
}

/// The attempts that reached the same stage.
#[derive(Clone, Copy, Debug)]
struct Level {
    oldest: u32,
    youngest: u32,
    count: u32,
}

impl Level {
    const EMPTY: Level = Level { oldest: NIL, youngest: NIL, count: 0 };
}

/// The attempts from one network: an IPv4 /24, or an IPv6 /64.
#[derive(Clone, Copy, Debug)]
struct Network {
    oldest: u32,
    youngest: u32,
    count: u32,
}

/// A network can always have as many attempts as this: those of 256 addresses at one door.
const LEAST_SHARE: usize = 256;
/// Otherwise, a network can have this part of the table.
const NETWORKS: usize = 16;

/// When an attempt expires: (nanoseconds of uptime, born, slot).
type Deadline = Reverse<(u64, u32, u32)>;

/// All attempts in progress.
#[derive(Debug)]
pub struct Attempts {
    capacity: usize,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The first attempt of each knocker.
    knockers: HashTable<u32>,
    /// Keyed at random, so that nobody can choose addresses that collide.
    hasher: RandomState,
    /// The earliest on top. Entries of attempts that are over stay until they are on top, or many.
    deadlines: BinaryHeap<Deadline>,
    /// By number of stages reached.
    levels: Vec<Level>,
    /// The networks of the knockers.
    networks: HashTable<Network>,
    born: u32,
    /// The doors of attempts that gave way to others, until somebody asks.
    pushed_out: Vec<u32>,
}

impl Attempts {
    /// An empty table for at most `capacity` attempts.
    #[must_use]
    pub fn new(capacity: usize) -> Attempts {
        Attempts {
            capacity: capacity.clamp(1, NIL as usize),
            slots: Vec::new(),
            free: Vec::new(),
            knockers: HashTable::new(),
            hasher: RandomState::new(),
            deadlines: BinaryHeap::new(),
            levels: Vec::new(),
            networks: HashTable::new(),
            born: 0,
            pushed_out: Vec::new(),
        }
    }

    /// How many attempts are in progress.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether none is in progress.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes it has allocated.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
            + self.free.capacity() * size_of::<u32>()
            + self.knockers.allocation_size()
            + self.deadlines.capacity() * size_of::<Deadline>()
            + self.levels.capacity() * size_of::<Level>()
            + self.networks.allocation_size()
    }

    /// The first attempt of a knocker.
    #[must_use]
    pub fn first_of(&self, knocker: IpAddr) -> Option<AttemptId> {
        let hash = self.hasher.hash_one(knocker);
        let slot = *self.knockers.find(hash, |&slot| knocker_of(&self.slots, slot) == Some(knocker))?;
        self.id(slot)
    }

    /// The next attempt of the same knocker.
    #[must_use]
    pub fn next_of(&self, id: AttemptId) -> Option<AttemptId> {
        self.id(self.slot(id)?.after)
    }

    /// The attempt; `None` when it is over.
    #[must_use]
    pub fn get(&self, id: AttemptId) -> Option<&Attempt> {
        self.slot(id).map(|slot| &slot.attempt)
    }

    /// Adds an attempt that expires at `deadline` (uptime): behind `previous` in the list of its
    /// knocker, or at the head of that list.
    ///
    /// A network that has its share, and then a full table, evicts an attempt.
    pub fn begin(
        &mut self,
        attempt: Attempt,
        deadline: Duration,
        previous: Option<AttemptId>,
    ) -> Option<AttemptId> {
        let share = (self.capacity / NETWORKS).max(LEAST_SHARE);
        let network = self.network_of(attempt.knocker);
        if let Some(full) = network.filter(|it| usize::try_from(it.count).is_ok_and(|count| count >= share)) {
            self.push_out(full.oldest)?;
        }
        if self.len() >= self.capacity {
            // Of equally full levels the lowest: those who only began.
            let fullest = self.levels.iter().rev().max_by_key(|level| level.count)?;
            self.push_out(fullest.oldest)?;
        }
        let previous = previous.filter(|&id| self.slot(id).is_some()).map(|id| id.slot);
        self.born = self.born.wrapping_add(1);
        let slot = Slot {
            attempt,
            born: self.born,
            live: true,
            before: previous.unwrap_or(NIL),
            after: NIL,
            older: NIL,
            younger: NIL,
            neighbour_before: NIL,
            neighbour_after: NIL,
        };
        let index = if let Some(index) = self.free.pop() {
            *self.slots.get_mut(index as usize)? = slot;
            index
        } else {
            if self.slots.len() == self.slots.capacity() {
                let most = self.capacity.saturating_sub(self.slots.len());
                self.slots.reserve_exact(self.slots.len().clamp(64, most.max(64)));
            }
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).ok()?
        };
        match previous {
            Some(before) => {
                let after = std::mem::replace(&mut self.slots.get_mut(before as usize)?.after, index);
                self.link_after(index, after);
            }
            None => self.put_first(index, attempt.knocker),
        }
        self.enter_level(index);
        self.enter_network(index, attempt.knocker);
        let nanoseconds = u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
        self.deadlines.push(Reverse((nanoseconds, self.born, index)));
        Some(AttemptId { slot: index, born: self.born })
    }

    fn push_out(&mut self, slot: u32) -> Option<()> {
        let gone = self.remove(self.id(slot)?)?;
        self.pushed_out.push(gone.door);
        Some(())
    }

    /// The doors of the attempts that gave way to others since this was asked last.
    pub fn take_pushed_out(&mut self) -> impl Iterator<Item = u32> {
        self.pushed_out.drain(..)
    }

    /// Records that the attempt reached one more stage.
    pub fn advance(&mut self, id: AttemptId) {
        if self.slot(id).is_none() {
            return;
        }
        self.leave_level(id.slot);
        if let Some(slot) = self.slots.get_mut(id.slot as usize) {
            slot.attempt.reached = slot.attempt.reached.saturating_add(1);
        }
        self.enter_level(id.slot);
    }

    /// Removes an attempt that is over.
    pub fn remove(&mut self, id: AttemptId) -> Option<Attempt> {
        let slot = *self.slot(id)?;
        self.leave_level(id.slot);
        self.leave_network(id.slot);
        if let Some(after) = self.slots.get_mut(slot.after as usize) {
            after.before = slot.before;
        }
        if let Some(before) = self.slots.get_mut(slot.before as usize) {
            before.after = slot.after;
        } else {
            let hash = self.hasher.hash_one(slot.attempt.knocker);
            if let Ok(mut entry) = self.knockers.find_entry(hash, |&first| first == id.slot) {
                if slot.after == NIL {
                    entry.remove();
                } else {
                    *entry.get_mut() = slot.after;
                }
            }
        }
        if let Some(gone) = self.slots.get_mut(id.slot as usize) {
            gone.live = false;
        }
        self.free.push(id.slot);
        self.forget_stale_deadlines();
        Some(slot.attempt)
    }

    /// Removes one attempt whose deadline has come; call it until it returns `None`.
    pub fn expire(&mut self, uptime: Duration) -> Option<Attempt> {
        let id = self.due_first().filter(|_| self.next_deadline().is_some_and(|due| due <= uptime))?;
        self.remove(id)
    }

    /// When the next attempt expires, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.peek().map(|Reverse((nanoseconds, _, _))| Duration::from_nanos(*nanoseconds))
    }

    fn due_first(&self) -> Option<AttemptId> {
        self.deadlines.peek().map(|Reverse((_, born, slot))| AttemptId { slot: *slot, born: *born })
    }

    /// Removes stale entries from the top of `deadlines`, and all of them once they are half as many as
    /// the live ones, before the heap reaches the power of two at which its memory doubles.
    fn forget_stale_deadlines(&mut self) {
        while self.due_first().is_some_and(|id| self.slot(id).is_none()) {
            self.deadlines.pop();
        }
        if self.deadlines.len() > self.len() + self.len() / 2 + 64 {
            let mut deadlines = std::mem::take(&mut self.deadlines);
            deadlines.retain(|&Reverse((_, born, slot))| self.slot(AttemptId { slot, born }).is_some());
            self.deadlines = deadlines;
        }
    }

    fn slot(&self, id: AttemptId) -> Option<&Slot> {
        self.slots.get(id.slot as usize).filter(|slot| slot.live && slot.born == id.born)
    }

    fn id(&self, slot: u32) -> Option<AttemptId> {
        let found = self.slots.get(slot as usize).filter(|slot| slot.live)?;
        Some(AttemptId { slot, born: found.born })
    }

    fn link_after(&mut self, index: u32, after: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.after = after;
        }
        if let Some(slot) = self.slots.get_mut(after as usize) {
            slot.before = index;
        }
    }

    /// Rebuilds `knockers` at the same size if it would double only because of tombstones, which removed
    /// entries leave in a hash table (on some processors more than on others).
    fn sweep_knockers(&mut self) {
        let (length, most) = (self.knockers.len(), self.knockers.num_buckets() / 8 * 7);
        // If nearly full of live entries, it has to grow; if half empty, it rehashes in place by itself.
        if length < self.knockers.capacity() || length > most / 4 * 3 || length < most / 2 {
            return;
        }
        let hash = hash_of_knocker(&self.slots, &self.hasher);
        let mut fresh = HashTable::with_capacity(length + 1);
        for &slot in &self.knockers {
            fresh.insert_unique(hash(&slot), slot, hash);
        }
        self.knockers = fresh;
    }

    fn put_first(&mut self, index: u32, knocker: IpAddr) {
        self.sweep_knockers();
        let hash = self.hasher.hash_one(knocker);
        let is_of = |&slot: &u32| knocker_of(&self.slots, slot) == Some(knocker);
        let entry = self.knockers.entry(hash, is_of, hash_of_knocker(&self.slots, &self.hasher));
        let after = match entry {
            hashbrown::hash_table::Entry::Occupied(mut first) => std::mem::replace(first.get_mut(), index),
            hashbrown::hash_table::Entry::Vacant(place) => {
                place.insert(index);
                NIL
            }
        };
        self.link_after(index, after);
    }

    fn enter_level(&mut self, index: u32) {
        let Some(level) = self.slots.get(index as usize).map(|slot| usize::from(slot.attempt.reached)) else {
            return;
        };
        if self.levels.len() <= level {
            self.levels.resize(level + 1, Level::EMPTY);
        }
        let Some(level) = self.levels.get_mut(level) else { return };
        level.count += 1;
        let older = std::mem::replace(&mut level.youngest, index);
        if level.oldest == NIL {
            level.oldest = index;
        }
        if let Some(slot) = self.slots.get_mut(older as usize) {
            slot.younger = index;
        }
        if let Some(slot) = self.slots.get_mut(index as usize) {
            (slot.older, slot.younger) = (older, NIL);
        }
    }

    fn leave_level(&mut self, index: u32) {
        let Some(slot) = self.slots.get(index as usize).copied() else { return };
        let Some(level) = self.levels.get_mut(usize::from(slot.attempt.reached)) else { return };
        level.count = level.count.saturating_sub(1);
        match self.slots.get_mut(slot.older as usize) {
            Some(older) => older.younger = slot.younger,
            None => level.oldest = slot.younger,
        }
        match self.slots.get_mut(slot.younger as usize) {
            Some(younger) => younger.older = slot.older,
            None => level.youngest = slot.older,
        }
    }

    fn network_of(&self, knocker: IpAddr) -> Option<Network> {
        let prefix = prefix_of(knocker);
        self.networks.find(self.hasher.hash_one(prefix), is_of_network(&self.slots, prefix)).copied()
    }

    /// Enters a new attempt into the list of its network, as the last one.
    fn enter_network(&mut self, index: u32, knocker: IpAddr) {
        let prefix = prefix_of(knocker);
        let hash = self.hasher.hash_one(prefix);
        let Some(network) = self.networks.find_mut(hash, is_of_network(&self.slots, prefix)) else {
            self.sweep_networks();
            let fresh = Network { oldest: index, youngest: index, count: 1 };
            self.networks.insert_unique(hash, fresh, hash_of_network(&self.slots, &self.hasher));
            return;
        };
        network.count += 1;
        let before = std::mem::replace(&mut network.youngest, index);
        if let Some(slot) = self.slots.get_mut(before as usize) {
            slot.neighbour_after = index;
        }
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.neighbour_before = before;
        }
    }

    fn leave_network(&mut self, index: u32) {
        let Some(slot) = self.slots.get(index as usize).copied() else { return };
        let prefix = prefix_of(slot.attempt.knocker);
        let hash = self.hasher.hash_one(prefix);
        let Ok(mut entry) = self.networks.find_entry(hash, is_of_network(&self.slots, prefix)) else {
            return;
        };
        let network = entry.get_mut();
        network.count = network.count.saturating_sub(1);
        if network.count == 0 {
            entry.remove();
            return;
        }
        match self.slots.get_mut(slot.neighbour_before as usize) {
            Some(before) => before.neighbour_after = slot.neighbour_after,
            None => network.oldest = slot.neighbour_after,
        }
        match self.slots.get_mut(slot.neighbour_after as usize) {
            Some(after) => after.neighbour_before = slot.neighbour_before,
            None => network.youngest = slot.neighbour_before,
        }
    }

    /// As [`Attempts::sweep_knockers`] does.
    fn sweep_networks(&mut self) {
        let (length, most) = (self.networks.len(), self.networks.num_buckets() / 8 * 7);
        if length < self.networks.capacity() || length > most / 4 * 3 || length < most / 2 {
            return;
        }
        let hash = hash_of_network(&self.slots, &self.hasher);
        let mut fresh = HashTable::with_capacity(length + 1);
        for network in &self.networks {
            fresh.insert_unique(hash(network), *network, hash);
        }
        self.networks = fresh;
    }
}

/// The network of an address: its IPv4 /24, or IPv6 /64, which is what one customer usually has.
fn prefix_of(knocker: IpAddr) -> IpAddr {
    match knocker {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !0xff).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Whether a network is that of the prefix; one of its attempts tells.
fn is_of_network(slots: &[Slot], prefix: IpAddr) -> impl Fn(&Network) -> bool + '_ {
    move |network| knocker_of(slots, network.oldest).map(prefix_of) == Some(prefix)
}

/// The hash function of the table of networks.
fn hash_of_network<'a>(slots: &'a [Slot], hasher: &'a RandomState) -> impl Fn(&Network) -> u64 + Copy + 'a {
    |network| knocker_of(slots, network.oldest).map_or(0, |knocker| hasher.hash_one(prefix_of(knocker)))
}

fn knocker_of(slots: &[Slot], slot: u32) -> Option<IpAddr> {
    slots.get(slot as usize).map(|slot| slot.attempt.knocker)
}

/// The hash function of the table of knockers.
fn hash_of_knocker<'a>(slots: &'a [Slot], hasher: &'a RandomState) -> impl Fn(&u32) -> u64 + Copy + 'a {
    |&slot| knocker_of(slots, slot).map_or(0, |knocker| hasher.hash_one(knocker))
}
