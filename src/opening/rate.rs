//! Doors that may open only so often (`Open_Rate`).

use std::time::Duration;

use crate::door::rules::Rate;

/// What a door has used of its rate: a token bucket. The tokens are not counted; their sum is kept as the time
/// at which the bucket will be full again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// When it is full, as uptime.
    full: Duration,
}

impl Bucket {
    /// Whether the door may open once more now; then that counts.
    pub fn admits(&mut self, rate: Rate, uptime: Duration) -> bool {
        let interval = rate.within / rate.times.max(1);
        let full = self.full.max(uptime).saturating_add(interval);
        let is_admitted = full.saturating_sub(uptime) <= rate.within;
        if is_admitted {
            self.full = full;
        }
        is_admitted
    }
}
