//! State that an engine takes over from an earlier engine or an earlier process: used lists and cooldowns.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Engine, tally};
use crate::opening::state::inherit_spent;
use crate::time::Now;

impl Engine {
    /// Takes over the spent lists, the tries at lists, the cooldowns and the counters of an earlier engine,
    /// for the doors that both have.
    pub fn inherit(&mut self, earlier: &Engine, now: Now) {
        self.tallies = tally::inherited(&self.doors, &earlier.doors, &earlier.tallies);
        self.most_attempts = earlier.most_attempts;
        let cooldowns = earlier.cooldowns.iter().filter_map(|(old, knocker, &(), until)| {
            Some((earlier.doors.get(old as usize)?.name.clone(), knocker, until))
        });
        self.continue_cooldowns(&cooldowns.collect::<Vec<_>>(), now);
        inherit_spent(&earlier.doors, &mut self.doors);
    }

    /// Continues cooldowns that began before this engine was created, given as the name of the door, the
    /// knocker, and the end as uptime.
    pub fn continue_cooldowns(&mut self, cooldowns: &[(Arc<str>, IpAddr, Duration)], now: Now) {
        let mut places: Vec<(&Arc<str>, u32)> = self.doors.iter().map(|door| &door.name).zip(0..).collect();
        places.sort_unstable();
        for (name, knocker, until) in cooldowns {
            let first = places.partition_point(|(it, _)| *it < name);
            for (_, place) in places.iter().skip(first).take_while(|(it, _)| *it == name) {
                self.cooldowns.set(*place, *knocker, (), *until, now.uptime);
            }
        }
    }

    /// Starts a cooldown: until this uptime, all doors of this name ignore the knocker.
    pub(super) fn cool_down(&mut self, door: &str, knocker: IpAddr, until: Duration, now: Now) {
        for (index, _) in (0..).zip(&self.doors).filter(|(_, it)| *it.name == *door) {
            self.cooldowns.set(index, knocker, (), until, now.uptime);
        }
    }
}
