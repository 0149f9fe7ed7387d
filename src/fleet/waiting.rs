//! Openings that wait for the answer of the fleet.

use std::time::Duration;

/// How long the fleet has to answer.
pub const PATIENCE: Duration = Duration::from_millis(300);
/// How many messages may wait for their way to the fleet.
pub const MOST_QUEUED: usize = 1024;
/// Nothing is opened for less than this, and no message is sent that has less time left.
pub const LEAST: Duration = Duration::from_secs(1);

/// Openings that wait for an answer, each with its number and the uptime until which it waits, in the order in which they
/// came. There are few of them, because each waits for [`PATIENCE`] at most.
#[derive(Debug)]
pub struct Held<T>(Vec<(u64, Duration, T)>);

impl<T> Default for Held<T> {
    fn default() -> Held<T> {
        Held(Vec::new())
    }
}

impl<T> Held<T> {
    /// An opening of this number waits from this uptime on.
    pub fn hold(&mut self, number: u64, uptime: Duration, opening: T) {
        self.0.push((number, uptime.saturating_add(PATIENCE), opening));
    }

    /// The opening with this number that was answered, if it waits still; otherwise one that has waited long enough at
    /// this uptime. At [`Duration::MAX`] that is each; no opening has the number 0.
    pub fn take(&mut self, number: u64, uptime: Duration) -> Option<T> {
        let place = self.0.iter().position(|(its, at, _)| *its == number || *at <= uptime)?;
        Some(self.0.remove(place).2)
    }

    /// When the next one has waited long enough, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.0.first().map(|(_, at, _)| *at)
    }
}
