//! The engine's time, between two looks at it.

use std::time::Duration;

/// The engine's clock as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock(Option<(u64, Duration)>);

impl Clock {
    /// The engine said that it is this time (in microseconds since 1970); `uptime` is the monotonic clock here.
    pub fn set(&mut self, engine: u64, uptime: Duration) {
        self.0 = Some((engine, uptime));
    }

    /// The same, where the engine was asked at one uptime and its answer was there at another: it read its clock about
    /// halfway.
    pub fn set_between(&mut self, engine: u64, asked: Duration, answered: Duration) {
        self.set(engine, asked.saturating_add(answered.saturating_sub(asked) / 2));
    }

    /// The engine's time at this uptime, in microseconds since 1970; nothing before the first look.
    #[must_use]
    pub fn now(&self, uptime: Duration) -> Option<u64> {
        let (engine, at) = self.0?;
        let since = u64::try_from(uptime.saturating_sub(at).as_micros()).unwrap_or(u64::MAX);
        Some(engine.saturating_add(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_between_two_looks() {
        let at = Duration::from_millis;
        let mut clock = Clock::default();
        assert_eq!(clock.now(at(5)), None);
        clock.set(1_000_000_000, at(500));
        assert_eq!(clock.now(at(500)), Some(1_000_000_000));
        assert_eq!(clock.now(at(1_700)), Some(1_001_200_000));
        clock.set(900_000_000, at(2_000));
        assert_eq!(clock.now(at(2_001)), Some(900_001_000));
        assert_eq!(clock.now(at(1)), Some(900_000_000));
    }
}
