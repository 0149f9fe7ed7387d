//! Sets of candidates: the doors that an attempt may still open.
//!
//! Each set is stored once, however many attempts have it: all those that began with the same knock and got equally
//! far. So an attempt at a thousand doors takes no more memory than one at a single door.

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

/// The place of a set.
pub(super) type SetId = u32;

/// What a set takes besides its candidates, in candidates.
const OVERHEAD: usize = 4;

#[derive(Debug, Default)]
struct Set {
    candidates: Box<[Candidate]>,
    /// The shortest time that one of the doors allows.
    patience: Duration,
    /// How many attempts have it; a set without users is empty.
    users: u32,
}

impl Set {
    fn weight(&self) -> usize {
        self.candidates.len() + OVERHEAD
    }
}

/// All sets that some attempt has.
#[derive(Debug, Default)]
pub(super) struct CandidateSets {
    sets: Vec<Set>,
    free: Vec<SetId>,
    /// By what they contain.
    index: HashTable<SetId>,
    /// Of all sets, in candidates.
    weight: usize,
}

impl CandidateSets {
    /// The set of these candidates, for one more attempt. `patience` is the shortest time that one of their doors
    /// allows: the same whenever the candidates are.
    pub(super) fn acquire(&mut self, candidates: &[Candidate], patience: Duration) -> Option<SetId> {
        let hash = hash_of(candidates);
        let sets = &mut self.sets;
        let is_it = |&id: &SetId| sets.get(id as usize).is_some_and(|set| *set.candidates == *candidates);
        if let Some(&id) = self.index.find(hash, is_it) {
            sets.get_mut(id as usize)?.users += 1;
            return Some(id);
        }
        let set = Set { candidates: candidates.into(), patience, users: 1 };
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

    /// One attempt less has this set.
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

    /// The candidates, in the order in which they were given.
    pub(super) fn candidates(&self, id: SetId) -> &[Candidate] {
        self.sets.get(id as usize).map(|set| &*set.candidates).unwrap_or_default()
    }

    /// The shortest time that one of the doors allows.
    pub(super) fn patience(&self, id: SetId) -> Duration {
        self.sets.get(id as usize).map(|set| set.patience).unwrap_or_default()
    }

    /// What all sets take, in candidates.
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

/// The configuration decides which sets there are, and not strangers: nobody can choose sets that collide.
fn hash_of(candidates: &[Candidate]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(29) ^ word).wrapping_mul(FACTOR);
    let words = candidates.iter().flat_map(|it| [u64::from(it.door) << 8 | u64::from(it.reached), it.turn.0]);
    let hash = words.fold(FACTOR, mix);
    // The table uses the highest bits and the lowest.
    hash ^ hash >> 32
}

fn hash_in(sets: &[Set]) -> impl Fn(&SetId) -> u64 + '_ {
    |&id| sets.get(id as usize).map_or(0, |set| hash_of(&set.candidates))
}
