//! Limits the log lines that strangers can cause, so that a flood does not fill a disk: beyond a number of
//! lines a second, the rest are summed up.

use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;

/// How many such lines are written a second, as long as a flood lasts.
pub const LINES: u32 = 100;
/// How many are written at once after a quiet time: thirty hosts that knock in the same minute, from cron.
pub const BURST: u32 = 500;
const SECOND: Duration = Duration::from_secs(1);

/// How many lines a second are written about openings of a door that one knock opens, as long as a flood
/// lasts. An opening has two to four.
pub const LINES_OF_DOOR: u32 = 10;
/// How many are written at once after a quiet time.
pub const BURST_OF_DOOR: u32 = 100;

/// A limit on log lines a second, and a count of the lines that were not written. Knock sharing limits knocks
/// with it.
#[derive(Debug)]
pub struct RateLimit {
    /// When the current second began, as uptime.
    began: Duration,
    /// How many lines may be written before the second is over.
    left: u32,
    /// How many lines were not written since they were last reported.
    suppressed: u64,
    /// How many lines may be written a second, and at once.
    limit: (u32, u32),
}

impl Default for RateLimit {
    fn default() -> RateLimit {
        RateLimit::default_times(1)
    }
}

impl RateLimit {
    /// The default limit for log lines, multiplied by `times`.
    #[must_use]
    pub fn default_times(times: u32) -> RateLimit {
        RateLimit::new(LINES.saturating_mul(times), BURST.saturating_mul(times))
    }

    /// A limit of `lines` a second, and of `burst` at once after a quiet time.
    #[must_use]
    pub fn new(lines: u32, burst: u32) -> RateLimit {
        RateLimit { began: Duration::ZERO, left: burst, suppressed: 0, limit: (lines, burst) }
    }

    /// How many lines may be written now. Call [`RateLimit::take_suppressed_if_due`] first.
    pub fn remaining(&mut self, uptime: Duration) -> u32 {
        let seconds = uptime.saturating_sub(self.began).as_secs();
        if seconds > 0 && self.suppressed == 0 {
            let (lines, burst) = self.limit;
            let more = u32::try_from(seconds).unwrap_or(burst).saturating_mul(lines);
            // Whole seconds, so that no fraction gets lost.
            let began = self.began.saturating_add(Duration::from_secs(seconds));
            (self.began, self.left) = (began, self.left.saturating_add(more).min(burst));
        }
        self.left
    }

    /// Whether one more line may be written now; if not, counts it. Call
    /// [`RateLimit::take_suppressed_if_due`] first.
    pub fn admits(&mut self, uptime: Duration) -> bool {
        let is_admitted = self.remaining(uptime) > 0;
        if is_admitted {
            self.left -= 1;
        } else {
            self.suppress(1);
        }
        is_admitted
    }

    /// Counts lines that are not written because none [remained](RateLimit::remaining).
    pub fn suppress(&mut self, lines: u64) {
        self.suppressed = self.suppressed.saturating_add(lines);
    }

    /// How many lines were not written, once their second is over. Resets the count.
    pub fn take_suppressed_if_due(&mut self, uptime: Duration) -> Option<u64> {
        self.next_deadline().is_some_and(|end| end <= uptime).then(|| self.take_suppressed()).flatten()
    }

    /// How many lines were not written so far. Resets the count.
    pub fn take_suppressed(&mut self) -> Option<u64> {
        let suppressed = std::mem::take(&mut self.suppressed);
        (suppressed > 0).then_some(suppressed)
    }

    /// When to call [`RateLimit::take_suppressed_if_due`] next, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        (self.suppressed > 0).then(|| self.began.saturating_add(SECOND))
    }
}

/// The line that says how many lines were left out.
#[must_use]
pub fn left_out(lines: u64) -> String {
    format!("... and {} more in the last second", with_commas(lines))
}

/// The same for lines about openings of a door.
#[must_use]
pub fn left_out_at(door: &str, lines: u64) -> String {
    format!("{door}: {}", left_out(lines))
}

/// Why openings are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The door opened too often of late.
    Rate,
    /// Too many wait already, for a running command or for the process that runs commands.
    Queue,
    /// They waited when the daemon was told to end.
    End,
    /// They waited when a configuration came into force that does not allow them.
    Reload,
}

/// Counts the openings dropped at each door, by cause. They are reported once a second.
#[derive(Clone, Debug, Default)]
pub struct DropCounts<D> {
    counts: LiteMap<(D, Cause), u64>,
    /// When the second is over, as uptime.
    due: Option<Duration>,
}

impl<D: Clone + Ord> DropCounts<D> {
    /// Nothing was dropped.
    #[must_use]
    pub fn new() -> DropCounts<D> {
        DropCounts { counts: LiteMap::new(), due: None }
    }

    /// Counts a dropped opening of this door.
    pub fn add(&mut self, door: &D, cause: Cause, uptime: Duration) {
        let count = self.counts.entry((door.clone(), cause)).or_default();
        *count = count.saturating_add(1);
        self.due.get_or_insert(uptime.saturating_add(SECOND));
    }

    /// The counts to report now, as door, cause and number. Resets them.
    pub fn take_if_due(&mut self, uptime: Duration) -> Vec<(D, Cause, u64)> {
        if self.due.is_some_and(|due| due <= uptime) { self.take() } else { Vec::new() }
    }

    /// All counts, even before the second is over. Resets them.
    pub fn take(&mut self) -> Vec<(D, Cause, u64)> {
        self.due = None;
        let counts = std::mem::take(&mut self.counts);
        counts.into_iter().map(|((door, cause), count)| (door, cause, count)).collect()
    }

    /// When to call [`DropCounts::take_if_due`] next, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.due
    }
}

/// The line that says how many openings of a door were dropped.
#[must_use]
pub fn dropped(door: &Arc<str>, cause: Cause, count: u64) -> String {
    let (openings, were) = if count == 1 { ("opening", "was") } else { ("openings", "were") };
    let why = match cause {
        Cause::Rate => "more than its open_rate allows",
        Cause::Queue => "too many wait already",
        Cause::End => "the daemon ends",
        Cause::Reload => "not allowed by the new configuration",
    };
    format!("{door}: {} {openings} {were} dropped: {why}", with_commas(count))
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
