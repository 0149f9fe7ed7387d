//! The wall clock.

use std::time::{Duration, SystemTime};

/// The time since 1970.
pub(super) fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
