//! The index of first stages: at which doors a knock begins an attempt.

use std::net::IpAddr;

use crate::door::Door;
use crate::door::lock::Turn;
use crate::door::sequence::Stage;
use crate::time::Now;

/// The first stage of one of a door's sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FirstStage {
    stage: Stage,
    /// The door's target, if it has one.
    target: Option<IpAddr>,
    door: u32,
    turn: Turn,
}

/// The first stages of all sequences that open a door now, sorted. With thousands of doors, a hash table of
/// lists would take several times the memory, and make processing a knock little faster.
#[derive(Debug, Default)]
pub struct FirstStages(Vec<FirstStage>);

impl FirstStages {
    /// Reads the first stages of the `changed` doors (indexes in ascending order) from their locks.
    pub fn update(&mut self, doors: &[Door], changed: &[u32], now: Now) {
        self.0.retain(|first| changed.binary_search(&first.door).is_err());
        for &index in changed {
            let Some(Door { lock, target, .. }) = doors.get(index as usize) else { continue };
            let fresh = lock.first_stages(now).into_iter();
            self.0.extend(fresh.map(|(stage, turn)| FirstStage {
                stage,
                target: *target,
                door: index,
                turn,
            }));
        }
        // The stable sort is fast on mostly sorted input.
        self.0.sort();
        self.0.shrink_to_fit();
    }

    /// Replaces `doors` with the doors whose sequences begin with this stage at this destination, in
    /// ascending order; `own` says whether the destination is one of this host's addresses.
    pub fn doors_at(&self, stage: Stage, destination: IpAddr, own: bool, doors: &mut Vec<(u32, Turn)>) {
        doors.clear();
        doors.extend(own.then(|| self.entries(stage, None)).into_iter().flatten());
        let without_target = doors.len();
        doors.extend(self.entries(stage, Some(destination)));
        // Each of the two parts is sorted by itself.
        if (1..doors.len()).contains(&without_target) {
            doors.sort_by_key(|(door, _)| *door);
        }
    }

    fn entries(&self, stage: Stage, target: Option<IpAddr>) -> impl Iterator<Item = (u32, Turn)> {
        let key = (stage, target);
        let start = self.0.partition_point(|first| (first.stage, first.target) < key);
        let rest = self.0.get(start..).unwrap_or_default().iter();
        rest.take_while(move |first| (first.stage, first.target) == key).map(|first| (first.door, first.turn))
    }
}
