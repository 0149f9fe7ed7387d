//! The wall clock.

use std::time::{Duration, SystemTime};

use crate::plan::password::ClockOffset;

/// The time since 1970 by a clock that differs from this host's.
pub(super) fn unix(offset: ClockOffset) -> Duration {
    offset.correct(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}
