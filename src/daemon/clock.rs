//! The clocks, and the local time for the log.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tz::{DateTime, TimeZone};

use crate::time::Now;

/// Reads both clocks.
#[must_use]
pub fn now() -> Now {
    Now { uptime: read(ClockId::CLOCK_BOOTTIME), unix: read(ClockId::CLOCK_REALTIME) }
}

/// The time since `then`.
#[must_use]
pub fn since(then: Now) -> Duration {
    now().uptime.saturating_sub(then.uptime)
}

/// Reads a clock; 0 if it cannot be read. The two above can, on every Linux since 2.6.39.
fn read(clock: ClockId) -> Duration {
    clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

/// Formats a Unix time per RFC 3339, e.g. `2026-11-28T21:47:41.123Z`.
#[must_use]
pub fn in_utc(unix: Duration) -> String {
    let utc = Zone(TimeZone::utc()).at(unix);
    utc.map_or_else(String::new, |time| {
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            time.year(),
            time.month(),
            time.month_day(),
            time.hour(),
            time.minute(),
            time.second(),
            unix.subsec_millis()
        )
    })
}

/// The local time zone, read once.
#[derive(Debug)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone of `TZ`, `/etc/TZ` (OpenWrt) or `/etc/localtime`; UTC if none of them can be read.
    #[must_use]
    pub fn local() -> Zone {
        let zone = match std::env::var("TZ") {
            Ok(name) => TimeZone::from_posix_tz(&name).ok(),
            Err(_) => std::fs::read_to_string("/etc/TZ")
                .ok()
                .and_then(|name| TimeZone::from_posix_tz(name.trim()).ok())
                .or_else(|| TimeZone::local().ok()),
        };
        Zone(zone.unwrap_or_else(TimeZone::utc))
    }

    /// `YYYY-MM-DD HH:MM`, for the log.
    #[must_use]
    pub fn to_the_minute(&self, unix: Duration) -> String {
        self.at(unix).map_or_else(String::new, |time| {
            format!(
                "{:04}-{:02}-{:02} {:02}:{:02}",
                time.year(),
                time.month(),
                time.month_day(),
                time.hour(),
                time.minute()
            )
        })
    }

    /// `YYYY-MM-DD HH:MM:SS`, for the debug output.
    #[must_use]
    pub fn to_the_second(&self, unix: Duration) -> String {
        let second = unix.as_secs() % 60;
        format!("{}:{second:02}", self.to_the_minute(unix))
    }

    /// `Nov 22 13:05:59`, with a one-digit day padded with a space: for syslog (RFC 3164, 4.1.2).
    #[must_use]
    pub fn for_syslog(&self, unix: Duration) -> String {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        self.at(unix).map_or_else(String::new, |time| {
            let month = MONTHS.get(usize::from(time.month().saturating_sub(1))).unwrap_or(&"Jan");
            let (hour, minute, second) = (time.hour(), time.minute(), time.second());
            format!("{month} {:2} {hour:02}:{minute:02}:{second:02}", time.month_day())
        })
    }

    fn at(&self, unix: Duration) -> Option<DateTime> {
        let seconds = i64::try_from(unix.as_secs()).ok()?;
        DateTime::from_timespec(seconds, 0, self.0.as_ref()).ok()
    }
}
