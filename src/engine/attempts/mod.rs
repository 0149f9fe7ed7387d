//! The table of attempts in progress: bounded, and equally fast however full it is.
//!
//! A knock that begins the sequences of several doors starts one attempt. The table finds attempts by knocker
//! and by deadline. When it is full, it evicts the oldest attempt of the stage with the most attempts. So
//! each of n stages keeps at least 1/n of the table, whichever stage strangers fill: a flood evicts attempts
//! of its own kind. A network also has a share of the table, and beyond that evicts only its own attempts.

mod candidates;
mod finding;
mod slots;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::time::Duration;

pub use crate::engine::attempts::candidates::Candidate;
use crate::engine::attempts::candidates::CandidateSets;
use crate::engine::attempts::finding::Finder;
pub use crate::engine::attempts::slots::AttemptId;
use crate::engine::attempts::slots::{Chain, List, Slot, Slots};

/// The smallest share of a network, in attempts: one for each of 256 addresses.
const LEAST_SHARE: usize = 256;
/// In a large table, a network's share is the capacity divided by this.
const NETWORKS: usize = 16;
/// The smallest limit on the memory of candidate sets, in units of one candidate.
const LEAST_WEIGHT: usize = 4096;

/// When an attempt expires: (nanoseconds of uptime, serial, slot).
type Deadline = Reverse<(u64, u32, u32)>;

/// All attempts in progress.
#[derive(Debug)]
pub struct Attempts {
    capacity: usize,
    slots: Slots,
    sets: CandidateSets,
    finder: Finder,
    /// The attempts by the most stages that they reached at any of their doors.
    stages: Vec<List>,
    /// The earliest on top. Stale entries stay until they reach the top, or are too many.
    deadlines: BinaryHeap<Deadline>,
    /// The doors of evicted attempts, until [`Attempts::take_evicted`] returns them.
    evicted: Vec<u32>,
}

impl Attempts {
    /// An empty table for at most `capacity` attempts.
    #[must_use]
    pub fn new(capacity: usize) -> Attempts {
        Attempts {
            capacity: capacity.clamp(1, u32::MAX as usize),
            slots: Slots::default(),
            sets: CandidateSets::default(),
            finder: Finder::default(),
            stages: Vec::new(),
            deadlines: BinaryHeap::new(),
            evicted: Vec::new(),
        }
    }

    /// How many attempts are in progress.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no attempt is in progress.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Allocated bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.bytes()
            + self.sets.bytes()
            + self.finder.bytes()
            + self.stages.capacity() * size_of::<List>()
            + self.deadlines.capacity() * size_of::<Deadline>()
    }

    /// The latest attempt of a knocker.
    #[must_use]
    pub fn first_of(&self, knocker: IpAddr) -> Option<AttemptId> {
        self.slots.id(self.finder.latest_of(&self.slots, knocker)?)
    }

    /// The attempt of the same knocker that began before this one.
    #[must_use]
    pub fn next_of(&self, id: AttemptId) -> Option<AttemptId> {
        self.slots.find(id)?;
        self.slots.id(self.slots.after(Chain::Knocker, id.slot))
    }

    /// Whose attempt it is; `None` when it is over.
    #[must_use]
    pub fn knocker(&self, id: AttemptId) -> Option<IpAddr> {
        self.slots.find(id).map(|slot| slot.knocker)
    }

    /// When it began, as uptime; `None` when it is over.
    #[must_use]
    pub fn began(&self, id: AttemptId) -> Option<Duration> {
        self.slots.find(id).map(|slot| Duration::from_nanos(slot.began))
    }

    /// The doors that it may open; empty when it is over.
    #[must_use]
    pub fn candidates(&self, id: AttemptId) -> &[Candidate] {
        self.slots.find(id).map(|slot| self.sets.candidates(slot.set)).unwrap_or_default()
    }

    /// Adds an attempt at these doors that begins now. `shortest_timeout` is the shortest `seq_timeout` of the
    /// doors.
    ///
    /// Evicts an attempt of the same network if that network has used up its share, otherwise one of the
    /// fullest stage if the table is full.
    pub fn begin(
        &mut self,
        knocker: IpAddr,
        candidates: &[Candidate],
        shortest_timeout: Duration,
        uptime: Duration,
    ) -> Option<AttemptId> {
        let reached = furthest(candidates)?;
        let share = (self.capacity / NETWORKS).max(LEAST_SHARE);
        let network = self.finder.network_of(&self.slots, knocker);
        if let Some(full) = network.filter(|it| usize::try_from(it.count).is_ok_and(|count| count >= share)) {
            self.evict(full.first)?;
        }
        if self.len() >= self.capacity {
            self.evict_one()?;
        }
        let set = self.sets.acquire(candidates, shortest_timeout)?;
        let id = self.slots.take((knocker, uptime), (set, reached), self.capacity)?;
        self.finder.add(&mut self.slots, id.slot);
        self.enter_stage(id.slot, reached);
        self.watch_deadline(id);
        self.bound_sets();
        Some(id)
    }

    /// Replaces the candidates of an attempt by those that are `left`; removes the attempt if there are none.
    /// `shortest_timeout` is the shortest `seq_timeout` of their doors.
    pub fn keep(&mut self, id: AttemptId, left: &[Candidate], shortest_timeout: Duration) {
        let Some(&Slot { set: before, reached, .. }) = self.slots.find(id) else { return };
        let Some(reaches) = furthest(left) else { return self.remove(id) };
        let Some(set) = self.sets.acquire(left, shortest_timeout) else { return self.remove(id) };
        let has_other_deadline = self.sets.shortest_timeout(before) != shortest_timeout;
        self.sets.release(before);
        if reached != reaches {
            self.leave_stage(id.slot, reached);
            self.enter_stage(id.slot, reaches);
        }
        if let Some(slot) = self.slots.find_mut(id) {
            (slot.set, slot.reached) = (set, reaches);
        }
        if has_other_deadline {
            self.watch_deadline(id);
            self.forget_old_deadlines();
        }
        self.bound_sets();
    }

    /// Removes an attempt that is over.
    pub fn remove(&mut self, id: AttemptId) {
        let Some(&Slot { set, reached, .. }) = self.slots.find(id) else { return };
        self.leave_stage(id.slot, reached);
        self.finder.remove(&mut self.slots, id.slot);
        self.slots.give_back(id.slot);
        self.sets.release(set);
        self.forget_old_deadlines();
    }

    /// The first attempt whose deadline has come, and that deadline (uptime). Call again after
    /// [`Attempts::keep`] has removed the doors that expired.
    #[must_use]
    pub fn due(&self, uptime: Duration) -> Option<(AttemptId, Duration)> {
        let &Reverse((nanoseconds, serial, slot)) = self.deadlines.peek()?;
        let due = Duration::from_nanos(nanoseconds);
        (due <= uptime).then_some((AttemptId { slot, serial }, due))
    }

    /// When an attempt expires next at one of its doors, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.peek().map(|Reverse((nanoseconds, _, _))| Duration::from_nanos(*nanoseconds))
    }

    /// The doors of the attempts evicted since the last call.
    pub fn take_evicted(&mut self) -> impl Iterator<Item = u32> {
        self.evicted.drain(..)
    }

    fn evict(&mut self, place: u32) -> Option<()> {
        let id = self.slots.id(place)?;
        let candidates = self.slots.find(id).map(|slot| self.sets.candidates(slot.set)).unwrap_or_default();
        self.evicted.extend(candidates.iter().map(|candidate| candidate.door));
        self.remove(id);
        Some(())
    }

    /// Evicts the oldest attempt of the fullest stage; of equally full stages the lowest, whose attempts have
    /// just begun.
    fn evict_one(&mut self) -> Option<()> {
        let fullest = self.stages.iter().rev().max_by_key(|stage| stage.count)?;
        self.evict(fullest.first)
    }

    /// Bounds the memory of the candidate sets: attempts that share no sets, or that have many doors, are
    /// evicted before the table is full.
    fn bound_sets(&mut self) {
        let most = (self.capacity / 2).max(LEAST_WEIGHT);
        while self.sets.weight() > most && self.len() > 1 && self.evict_one().is_some() {}
    }

    fn enter_stage(&mut self, place: u32, reached: u8) {
        let stage = usize::from(reached);
        if self.stages.len() <= stage {
            self.stages.resize(stage + 1, List::EMPTY);
        }
        if let Some(list) = self.stages.get_mut(stage) {
            self.slots.append(Chain::Stage, list, place);
        }
    }

    fn leave_stage(&mut self, place: u32, reached: u8) {
        if let Some(list) = self.stages.get_mut(usize::from(reached)) {
            self.slots.leave(Chain::Stage, list, place);
        }
    }

    /// When the attempt expires at the first of its doors: nanoseconds of uptime.
    fn deadline_of(&self, id: AttemptId) -> Option<u64> {
        let slot = self.slots.find(id)?;
        let shortest_timeout = self.sets.shortest_timeout(slot.set).as_nanos();
        Some(slot.began.saturating_add(u64::try_from(shortest_timeout).unwrap_or(u64::MAX)))
    }

    fn watch_deadline(&mut self, id: AttemptId) {
        if let Some(deadline) = self.deadline_of(id) {
            self.deadlines.push(Reverse((deadline, id.serial, id.slot)));
        }
    }

    fn is_valid(&self, &Reverse((deadline, serial, slot)): &Deadline) -> bool {
        self.deadline_of(AttemptId { slot, serial }) == Some(deadline)
    }

    /// Removes stale entries from the top of `deadlines`, and all stale entries once the heap is half again
    /// as long as the table, before it reaches the power of two at which its memory doubles.
    fn forget_old_deadlines(&mut self) {
        while self.deadlines.peek().is_some_and(|deadline| !self.is_valid(deadline)) {
            self.deadlines.pop();
        }
        if self.deadlines.len() > self.len() + self.len() / 2 + 64 {
            let mut deadlines = std::mem::take(&mut self.deadlines);
            deadlines.retain(|deadline| self.is_valid(deadline));
            self.deadlines = deadlines;
        }
    }
}

/// The most stages reached at one of these doors.
fn furthest(candidates: &[Candidate]) -> Option<u8> {
    candidates.iter().map(|candidate| candidate.reached).max()
}
