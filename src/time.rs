//! The time as a value: the pure rooms read no clock, their callers pass the time in.

use std::time::Duration;

/// Both clocks, read at one instant and passed down.
///
/// Deadlines use `uptime`, which never jumps. What other machines compute too (one-time passwords)
/// and what people read (the log) uses `unix`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Time since boot, including suspend (`CLOCK_BOOTTIME`).
    pub uptime: Duration,
    /// Time since 1970-01-01 00:00 UTC (`CLOCK_REALTIME`).
    pub unix: Duration,
}
