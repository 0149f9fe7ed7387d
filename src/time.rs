//! The time, as it is told to the pure parts: nothing below `src/*.rs` reads a clock.

use std::time::Duration;

/// Both clocks, read at one instant and passed down.
///
/// Deadlines are kept in `uptime`, which never jumps; what is compared with other machines
/// (one-time passwords) or shown to people (the log) uses `unix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Time since boot, including time asleep (`CLOCK_BOOTTIME`).
    pub uptime: Duration,
    /// Time since 1970-01-01 00:00 UTC (`CLOCK_REALTIME`).
    pub unix: Duration,
}
