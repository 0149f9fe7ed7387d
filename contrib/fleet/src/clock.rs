//! Tracks the engine's clock between readings.

use std::time::Duration;

use crate::record::TOLERANCE;

/// The local clock and the engine's may drift apart by one part in this many.
const DRIFT: u64 = 1_000;

/// The engine's clock, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    last: Option<Look>,
    /// The reading with the engine's clock furthest ahead. Later readings are compared with it, so that a
    /// clock set back in small steps is detected too.
    furthest: Option<Look>,
    is_set_back: bool,
}

/// A reading of the engine's clock, in microseconds since 1970, with the local uptime.
#[derive(Clone, Copy, Debug)]
struct Look {
    engine: u64,
    uptime: Duration,
}

impl Look {
    fn since(self, uptime: Duration) -> u64 {
        u64::try_from(uptime.saturating_sub(self.uptime).as_micros()).unwrap_or(u64::MAX)
    }

    fn now(self, uptime: Duration) -> u64 {
        self.engine.saturating_add(self.since(uptime))
    }
}

impl Clock {
    /// Records the engine's time (in microseconds since 1970) at the local monotonic time `uptime`.
    ///
    /// If the time lags by more than the possible drift, the engine's clock was set back. The reading is then
    /// ignored and the old time counts on: otherwise expired records would be valid again.
    ///
    /// # Errors
    /// How far the engine's clock was set back, for the first ignored reading only.
    pub fn set(&mut self, engine: u64, uptime: Duration) -> Result<(), Duration> {
        let look = Look { engine, uptime };
        if let Some(furthest) = self.furthest {
            let behind = furthest.now(uptime).saturating_sub(engine);
            if behind > TOLERANCE.saturating_add(furthest.since(uptime) / DRIFT) {
                let is_news = !std::mem::replace(&mut self.is_set_back, true);
                return if is_news { Err(Duration::from_micros(behind)) } else { Ok(()) };
            }
        }
        self.is_set_back = false;
        self.last = Some(look);
        self.furthest = self.furthest.filter(|furthest| furthest.now(uptime) > engine).or(Some(look));
        Ok(())
    }

    /// Records the engine's time given when it was asked and when its answer arrived; assumes that it read
    /// its clock halfway in between.
    ///
    /// # Errors
    /// As for [`Clock::set`].
    pub fn set_between(&mut self, engine: u64, asked: Duration, answered: Duration) -> Result<(), Duration> {
        self.set(engine, asked.saturating_add(answered.saturating_sub(asked) / 2))
    }

    /// The engine's time at this uptime, in microseconds since 1970; `None` before the first reading.
    #[must_use]
    pub fn now(&self, uptime: Duration) -> Option<u64> {
        self.last.map(|look| look.now(uptime))
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
        assert_eq!(clock.set(1_000_000_000, at(500)), Ok(()));
        assert_eq!(clock.now(at(500)), Some(1_000_000_000));
        assert_eq!(clock.now(at(1_700)), Some(1_001_200_000));
        // A little behind, and far ahead.
        assert_eq!(clock.set(1_000_000_000, at(2_000)), Ok(()));
        assert_eq!(clock.now(at(2_001)), Some(1_000_001_000));
        assert_eq!(clock.now(at(1)), Some(1_000_000_000));
        assert_eq!(clock.set(2_000_000_000, at(2_500)), Ok(()));
        assert_eq!(clock.now(at(2_500)), Some(2_000_000_000));
    }

    #[test]
    fn a_time_that_was_set_back_is_not_taken() {
        let at = Duration::from_secs;
        let mut clock = Clock::default();
        assert_eq!(clock.set(1_000_000_000, at(1)), Ok(()));
        // Said once, until the time is right again.
        assert_eq!(clock.set(900_000_000, at(2)), Err(Duration::from_secs(101)));
        assert_eq!(clock.set(901_000_000, at(3)), Ok(()));
        assert_eq!(clock.now(at(4)), Some(1_003_000_000));
        assert_eq!(clock.set(1_004_000_000, at(5)), Ok(()));
        assert_eq!(clock.set(904_000_000, at(6)), Err(Duration::from_secs(101)));
    }

    #[test]
    fn a_time_that_was_set_back_in_small_steps_is_not_taken() {
        let mut clock = Clock::default();
        // The engine's clock runs backwards, by a second each second.
        let taken = (0..60_u32).filter(|&second| {
            let engine = 1_000_000_000 - u64::from(second) * 1_000_000;
            let is_refused = clock.set(engine, Duration::from_secs(second.into())).is_err();
            !is_refused && clock.now(Duration::from_secs(second.into())) == Some(engine)
        });
        assert_eq!(taken.count(), 2);
        assert!(clock.now(Duration::from_mins(1)) >= Some(1_057_000_000));
    }

    #[test]
    fn clocks_may_drift_apart() {
        let mut clock = Clock::default();
        let day = Duration::from_hours(24);
        assert_eq!(clock.set(1_000_000_000, Duration::ZERO), Ok(()));
        // A day without the engine, whose clock is slow by one in 2,000.
        let engine = 1_000_000_000 + 86_400_000_000 - 43_200_000;
        assert_eq!(clock.set(engine, day), Ok(()));
        assert_eq!(clock.now(day), Some(engine));
    }
}
