//! The doorkeeper's end of the protocol: which configuration is in force in both processes, and which
//! openings to accept.
//!
//! A pure state machine. It trusts no number from the watcher.

use crate::protocol::messages::Generation;

/// How to handle an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Accept it.
    Take,
    /// It was accepted before: only acknowledge it.
    Again,
    /// Ignore it: it belongs to a configuration that is not in force, or its number is out of order.
    Stray,
}

/// The doorkeeper's state of the protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Desk {
    /// The last generation sent.
    last: Generation,
    /// The generation in force.
    in_force: Option<Generation>,
    /// The generation that was sent to the watcher and is not yet in force.
    pending: Option<Generation>,
    /// The number of the last opening accepted from this watcher.
    taken: u64,
}

impl Desk {
    /// The state without a watcher and without a configuration in force.
    #[must_use]
    pub fn new() -> Desk {
        Desk::default()
    }

    /// Starts over with a new watcher, which numbers its openings from 1 and needs a configuration.
    pub fn greet(&mut self) {
        self.taken = 0;
        self.pending = None;
    }

    /// Chooses the generation for a configuration that is sent to the watcher.
    pub fn hand_out(&mut self) -> Generation {
        self.last = Generation(self.last.0.wrapping_add(1));
        self.pending = Some(self.last);
        self.last
    }

    /// Whether a configuration was sent that is not yet in force.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Records that the watcher reports a generation in force; returns whether it is the one that was sent.
    pub fn adopted(&mut self, generation: Generation) -> bool {
        if self.pending != Some(generation) {
            return false;
        }
        self.pending = None;
        self.in_force = Some(generation);
        true
    }

    /// Whether this generation is in force, so that its door numbers are valid here.
    #[must_use]
    pub fn is_in_force(&self, generation: Generation) -> bool {
        self.in_force == Some(generation)
    }

    /// The generation in force; `None` before the first.
    #[must_use]
    pub fn in_force(&self) -> Option<Generation> {
        self.in_force
    }

    /// Decides how to handle an opening, and records it if it is accepted.
    pub fn admit(&mut self, number: u64, generation: Generation) -> Verdict {
        if number <= self.taken {
            return Verdict::Again;
        }
        if number != self.taken + 1 || !self.is_in_force(generation) {
            return Verdict::Stray;
        }
        self.taken = number;
        Verdict::Take
    }

    /// The number of the last opening accepted.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }
}
