//! Writes the status of a process as lines `KEY VALUE`.

use std::fmt::{Display, Write};
use std::time::Duration;

use crate::time::Now;

/// The last line, which shows that the text is complete.
pub const END: &str = "end";

/// Lines `KEY VALUE`, under construction. The keys are those of [`keys`](super::keys).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts(String);

impl Facts {
    /// The facts that both processes report: version, pid, start time.
    #[must_use]
    pub fn of_process(pid: u32, started: Now, now: Now) -> Facts {
        let mut facts = Facts::default();
        facts.tell("version", env!("CARGO_PKG_VERSION"));
        facts.tell("pid", pid);
        facts.tell("started", started.unix.as_secs());
        facts.tell("up_seconds", now.uptime.saturating_sub(started.uptime).as_secs());
        facts
    }

    /// Adds a fact. Control characters in the value are replaced, so that it stays on one line.
    pub fn tell(&mut self, key: &str, value: impl Display) {
        self.add(key, &value);
    }

    fn add(&mut self, key: &str, value: &dyn Display) {
        let start = self.0.len();
        let _ = write!(self.0, "{key} {value}");
        if self.0.get(start..).is_some_and(|line| line.contains(char::is_control)) {
            let line = self.0.split_off(start);
            self.0.extend(line.chars().map(|c| if c.is_control() { '?' } else { c }));
        }
        self.0.push('\n');
    }

    /// Adds a fact unless its value is `None`.
    pub fn tell_if(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.tell(key, value);
        }
    }

    /// All lines, followed by [`END`].
    #[must_use]
    pub fn end(mut self) -> String {
        self.0.push_str(END);
        self.0.push('\n');
        self.0
    }
}

/// `yes` or `no`.
#[must_use]
pub fn word(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

/// Converts an uptime to Unix time in seconds.
#[must_use]
pub fn unix_of(uptime: Duration, now: Now) -> u64 {
    let (later, earlier) = (uptime.saturating_sub(now.uptime), now.uptime.saturating_sub(uptime));
    let time = now.unix.saturating_add(later).saturating_sub(earlier);
    time.as_secs()
}
