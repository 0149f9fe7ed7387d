//! Doors that may open only so often (`Open_Rate`).

use std::time::Duration;

use litemap::LiteMap;

use crate::door::Door;

/// What doors have used of their rates, by their places in the configuration.
///
/// Each has a token bucket. The tokens are not counted; kept is the uptime at which the bucket will be full again.
#[derive(Clone, Debug, Default)]
pub struct Buckets(LiteMap<usize, Duration>);

impl Buckets {
    /// Whether this door may open once more now; then that counts. `delay` is how long an opening may have been on its
    /// way here: openings that were made at the door's rate, and then arrive together, are all admitted.
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

    /// The places of doors mean others from now on.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
