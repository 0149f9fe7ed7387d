//! Where sequences begin: which doors an attempt begins on with a knock.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::lock::Turn;
use crate::sequence::Stage;

/// The door's target, if it has one, and a first stage.
type Beginning = (Option<IpAddr>, Stage);

/// The first stages of all sequences that are good now.
#[derive(Debug, Default)]
pub struct Beginnings {
    doors: HashMap<Beginning, Vec<(u32, Turn)>>,
    /// What is in `doors` of each door, by its index.
    stages: Vec<Vec<Beginning>>,
}

impl Beginnings {
    /// From now on, the sequences of this door begin so, and not otherwise.
    pub fn set(&mut self, door: u32, target: Option<IpAddr>, beginnings: &[(Stage, Turn)]) {
        let index = door as usize;
        if self.stages.len() <= index {
            self.stages.resize(index + 1, Vec::new());
        }
        let Some(stages) = self.stages.get_mut(index) else { return };
        for old in std::mem::take(stages) {
            if let Some(doors) = self.doors.get_mut(&old) {
                doors.retain(|(other, _)| *other != door);
                if doors.is_empty() {
                    self.doors.remove(&old);
                }
            }
        }
        for &(stage, turn) in beginnings {
            self.doors.entry((target, stage)).or_default().push((door, turn));
            stages.push((target, stage));
        }
    }

    /// The doors, in their order, that begin with this stage at one of our own addresses (`own`) or
    /// at this destination.
    #[must_use]
    pub fn at(&self, stage: Stage, destination: IpAddr, own: bool) -> Vec<(u32, Turn)> {
        let ours = if own { self.doors.get(&(None, stage)) } else { None };
        let targets = self.doors.get(&(Some(destination), stage));
        let mut doors: Vec<(u32, Turn)> = ours.into_iter().chain(targets).flatten().copied().collect();
        doors.sort_by_key(|(door, _)| *door);
        doors
    }
}
