//! The doorkeeper's end of the protocol: which configuration is in force in both processes, and which openings are
//! to be taken.
//!
//! Pure: it is told what came and says what to do. It trusts no number of a watcher.

use crate::protocol::messages::Generation;

/// What is to be done with an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken.
    Take,
    /// It was taken before: it is only acknowledged.
    Again,
    /// It belongs to no configuration that is in force, or its number cannot be: it is left alone.
    Stray,
}

/// Where the doorkeeper stands with its watcher.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Desk {
    /// The last generation that was handed out.
    last: Generation,
    /// The one in force.
    in_force: Option<Generation>,
    /// The one that was handed to the watcher, which has not said yet that it is in force.
    pending: Option<Generation>,
    /// The number of the last opening that was taken of this watcher.
    taken: u64,
}

impl Desk {
    /// There is no watcher yet, and no configuration in force.
    #[must_use]
    pub fn new() -> Desk {
        Desk::default()
    }

    /// A new watcher counts its openings anew. It has to be handed a configuration.
    pub fn greet(&mut self) {
        self.taken = 0;
        self.pending = None;
    }

    /// A configuration is handed to the watcher; what it is called.
    pub fn hand_out(&mut self) -> Generation {
        self.last = Generation(self.last.0.wrapping_add(1));
        self.pending = Some(self.last);
        self.last
    }

    /// Whether a configuration was handed out that is not in force yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// The watcher says that this configuration is in force; whether it is the one that it was handed.
    pub fn adopted(&mut self, generation: Generation) -> bool {
        if self.pending != Some(generation) {
            return false;
        }
        self.pending = None;
        self.in_force = Some(generation);
        true
    }

    /// Whether the doors that the watcher names are those of the configuration in force here.
    #[must_use]
    pub fn is_in_force(&self, generation: Generation) -> bool {
        self.in_force == Some(generation)
    }

    /// The configuration in force, if there is one.
    #[must_use]
    pub fn in_force(&self) -> Option<Generation> {
        self.in_force
    }

    /// An opening came: what to do with it.
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

    /// The number of the last opening that was taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }
}
