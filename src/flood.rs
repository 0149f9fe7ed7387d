//! Lines of the log that come too thick: beyond a number a second they are summed up.
//!
//! Meant for what strangers can cause, so that a flood of theirs does not fill a disk.

use std::time::Duration;

/// How many such lines a second are written one by one.
pub const LINES: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);

/// What was written, and what was not, in a second.
#[derive(Debug, Default)]
pub struct Flood {
    /// When the second began, as uptime.
    began: Duration,
    written: u32,
    held: u64,
}

impl Flood {
    /// Whether one more line is to be written now; otherwise it is counted. To be called after
    /// [`Flood::sum`].
    pub fn admits(&mut self, uptime: Duration) -> bool {
        if uptime >= self.began.saturating_add(SECOND) && self.held == 0 {
            *self = Flood { began: uptime, ..Flood::default() };
        }
        let is_admitted = self.written < LINES;
        if is_admitted {
            self.written += 1;
        } else {
            self.held = self.held.saturating_add(1);
        }
        is_admitted
    }

    /// The line that says how many were not written, when their second is over.
    pub fn sum(&mut self, uptime: Duration) -> Option<String> {
        self.next_deadline().is_some_and(|end| end <= uptime).then(|| self.rest()).flatten()
    }

    /// The same, whatever the time.
    pub fn rest(&mut self) -> Option<String> {
        let held = std::mem::take(&mut self.held);
        (held > 0).then(|| format!("... and {} more in the last second", with_commas(held)))
    }

    /// When to call [`Flood::sum`], as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        (self.held > 0).then(|| self.began.saturating_add(SECOND))
    }
}

fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
