//! Writes the status of a process as lines `KEY VALUE`.

use std::fmt::{Display, Write};
use std::time::Duration;

use crate::time::Now;

/// The last line, which shows that the text is complete.
pub const END_LINE: &str = "end";

/// The status of a process, under construction: lines `KEY VALUE`. The keys are those of [`keys`](super::keys).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusWriter(String);

impl StatusWriter {
    /// Starts with the lines that both processes write: version, pid, start time.
    #[must_use]
    pub fn for_process(pid: u32, started: Now, now: Now) -> StatusWriter {
        let mut writer = StatusWriter::default();
        writer.add("version", env!("CARGO_PKG_VERSION"));
        writer.add("pid", pid);
        writer.add("started", started.unix.as_secs());
        writer.add("up_seconds", now.uptime.saturating_sub(started.uptime).as_secs());
        writer
    }

    /// Adds a line. Control characters in the value are replaced, so that it stays on one line.
    pub fn add(&mut self, key: &str, value: impl Display) {
        self.write_line(key, &value);
    }

    fn write_line(&mut self, key: &str, value: &dyn Display) {
        let start = self.0.len();
        let _ = write!(self.0, "{key} {value}");
        if self.0.get(start..).is_some_and(|line| line.contains(char::is_control)) {
            let line = self.0.split_off(start);
            self.0.extend(line.chars().map(|c| if c.is_control() { '?' } else { c }));
        }
        self.0.push('\n');
    }

    /// Adds a line unless its value is `None`.
    pub fn add_some(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }

    /// All lines, followed by [`END_LINE`].
    #[must_use]
    pub fn finish(mut self) -> String {
        self.0.push_str(END_LINE);
        self.0.push('\n');
        self.0
    }
}

/// `yes` or `no`.
#[must_use]
pub fn yes_or_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

/// Converts an uptime to Unix time in seconds.
#[must_use]
pub fn uptime_to_unix(uptime: Duration, now: Now) -> u64 {
    let (later, earlier) = (uptime.saturating_sub(now.uptime), now.uptime.saturating_sub(uptime));
    let time = now.unix.saturating_add(later).saturating_sub(earlier);
    time.as_secs()
}
