//! Sets of candidates: the doors that an attempt may still open.
//!
//! Attempts that began with the same knock and got equally far share one set, so an attempt at a thousand
//! doors takes no more memory than one at a single door.

use std::time::Duration;

use hashbrown::HashTable;

use crate::door::lock::Turn;

/// A door that an attempt may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The index of the door.
    pub door: u32,
    /// How many stages the attempt has reached; at least 1.
    pub reached: u8,
    /// The turn of the door's lock.
    pub turn: Turn,
}

/// The index of a set.
pub(super) type SetId = u32;

/// The fixed memory of a set, in units of one candidate.
const OVERHEAD: usize = 4;

#[derive(Debug, Default)]
struct Set {
    candidates: Box<[Candidate]>,
    /// The shortest `seq_timeout` of the doors.
    shortest_timeout: Duration,
    /// How many attempts share it; a set without users is empty.
    users: u32,
}

impl Set {
    fn weight(&self) -> usize {
        self.candidates.len() + OVERHEAD
    }
}

/// The sets in use.
#[derive(Debug, Default)]
pub(super) struct CandidateSets {
    sets: Vec<Set>,
    free: Vec<SetId>,
    /// Finds a set by its candidates.
    index: HashTable<SetId>,
    /// The memory of all sets, in units of one candidate.
    weight: usize,
}

impl CandidateSets {
    /// Finds or adds the set of these candidates, and counts one more attempt as its user. `shortest_timeout`
    /// is the shortest `seq_timeout` of their doors; equal candidates always have the same.
    pub(super) fn acquire(&mut self, candidates: &[Candidate], shortest_timeout: Duration) -> Option<SetId> {
        let hash = hash_of(candidates);
        let sets = &mut self.sets;
        let is_it = |&id: &SetId| sets.get(id as usize).is_some_and(|set| *set.candidates == *candidates);
        if let Some(&id) = self.index.find(hash, is_it) {
            sets.get_mut(id as usize)?.users += 1;
            return Some(id);
        }
        let set = Set { candidates: candidates.into(), shortest_timeout, users: 1 };
        self.weight += set.weight();
        let id = if let Some(id) = self.free.pop() {
            *sets.get_mut(id as usize)? = set;
            id
        } else {
            sets.push(set);
            SetId::try_from(sets.len() - 1).ok()?
        };
        self.index.insert_unique(hash, id, hash_in(&self.sets));
        Some(id)
    }

    /// Removes one attempt from the users of a set, and the set itself with its last user.
    pub(super) fn release(&mut self, id: SetId) {
        let Some(set) = self.sets.get_mut(id as usize) else { return };
        set.users = set.users.saturating_sub(1);
        if set.users > 0 {
            return;
        }
        let gone = std::mem::take(set);
        self.weight -= gone.weight();
        if let Ok(entry) = self.index.find_entry(hash_of(&gone.candidates), |&other| other == id) {
            entry.remove();
        }
        self.free.push(id);
    }

    /// The candidates, in the order in which `acquire` received them.
    pub(super) fn candidates(&self, id: SetId) -> &[Candidate] {
        self.sets.get(id as usize).map(|set| &*set.candidates).unwrap_or_default()
    }

    /// The shortest `seq_timeout` of the doors.
    pub(super) fn shortest_timeout(&self, id: SetId) -> Duration {
        self.sets.get(id as usize).map(|set| set.shortest_timeout).unwrap_or_default()
    }

    /// The memory of all sets, in units of one candidate.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// How many bytes are allocated.
    pub(super) fn bytes(&self) -> usize {
        let candidates: usize = self.sets.iter().map(|set| size_of_val(&*set.candidates)).sum();
        candidates
            + self.sets.capacity() * size_of::<Set>()
            + self.free.capacity() * size_of::<SetId>()
            + self.index.allocation_size()
    }
}

/// An unkeyed hash is enough: the configuration determines which sets exist, so strangers cannot choose sets
/// that collide.
fn hash_of(candidates: &[Candidate]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(29) ^ word).wrapping_mul(FACTOR);
    let words = candidates.iter().flat_map(|it| [u64::from(it.door) << 8 | u64::from(it.reached), it.turn.0]);
    let hash = words.fold(FACTOR, mix);
    // The table uses the highest and the lowest bits.
    hash ^ hash >> 32
}

fn hash_in(sets: &[Set]) -> impl Fn(&SetId) -> u64 + '_ {
    |&id| sets.get(id as usize).map_or(0, |set| hash_of(&set.candidates))
}
