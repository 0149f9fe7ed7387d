//! Limits how often doors open (`Open_Rate`).

use std::time::Duration;

use litemap::LiteMap;

use crate::door::Door;

/// The token buckets of doors, by their places in the configuration.
///
/// A bucket is stored as the uptime at which it will be full again.
#[derive(Clone, Debug, Default)]
pub struct Buckets(LiteMap<usize, Duration>);

impl Buckets {
    /// Whether this door may open once more now; if so, counts the opening. `delay` is the longest time that
    /// an opening may have taken to get here: openings that were made at the door's rate, and then arrive
    /// together, are all admitted.
    pub fn admit(&mut self, place: usize, door: &Door, delay: Duration, uptime: Duration) -> bool {
        let Some(rate) = door.open_rate() else { return true };
        let interval = rate.within / rate.times.max(1);
        let full = self.0.entry(place).or_default();
        let after = (*full).max(uptime).saturating_add(interval);
        let is_admitted = after.saturating_sub(uptime) <= rate.within.saturating_add(delay);
        if is_admitted {
            *full = after;
        }
        is_admitted
    }

    /// Forgets all buckets, because the places stand for other doors from now on.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
