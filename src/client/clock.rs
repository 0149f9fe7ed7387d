//! The wall clock.

use std::time::{Duration, SystemTime};

use crate::plan::password::ClockOffset;

/// The time since 1970-01-01, corrected by the offset of the server's clock.
pub(super) fn unix(offset: ClockOffset) -> Duration {
    offset.correct(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}
