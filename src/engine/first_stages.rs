//! Where sequences begin: which doors an attempt begins on with a knock.

use std::net::IpAddr;

use crate::door::Door;
use crate::door::lock::Turn;
use crate::door::sequence::Stage;
use crate::time::Now;

/// The first stage of one of a door's sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Beginning {
    stage: Stage,
    /// The door's target, if it has one.
    target: Option<IpAddr>,
    door: u32,
    turn: Turn,
}

/// The first stages of all sequences that are good now, in order: with thousands of doors a table
/// of lists takes several times the memory, and finds them no faster than the rest of a knock takes.
#[derive(Debug, Default)]
pub struct Beginnings(Vec<Beginning>);

impl Beginnings {
    /// The sequences of some of the doors, whose indexes ascend, are now what their locks say.
    pub fn renew(&mut self, doors: &[Door], changed: &[u32], now: Now) {
        self.0.retain(|beginning| changed.binary_search(&beginning.door).is_err());
        for &index in changed {
            let Some(Door { lock, target, .. }) = doors.get(index as usize) else { continue };
            let fresh = lock.beginnings(now).into_iter();
            self.0.extend(fresh.map(|(stage, turn)| Beginning { stage, target: *target, door: index, turn }));
        }
        // Stable: quick where most of it is in order already.
        self.0.sort();
        self.0.shrink_to_fit();
    }

    /// The doors, in their order, that begin with this stage at one of our own addresses (`own`) or
    /// at this destination.
    #[must_use]
    pub fn at(&self, stage: Stage, destination: IpAddr, own: bool) -> Vec<(u32, Turn)> {
        let ours = own.then(|| self.with(stage, None)).into_iter().flatten();
        let mut doors: Vec<(u32, Turn)> = ours.chain(self.with(stage, Some(destination))).collect();
        doors.sort_by_key(|(door, _)| *door);
        doors
    }

    fn with(&self, stage: Stage, target: Option<IpAddr>) -> impl Iterator<Item = (u32, Turn)> {
        let key = (stage, target);
        let start = self.0.partition_point(|beginning| (beginning.stage, beginning.target) < key);
        let rest = self.0.get(start..).unwrap_or_default().iter();
        rest.take_while(move |beginning| (beginning.stage, beginning.target) == key)
            .map(|beginning| (beginning.door, beginning.turn))
    }
}
