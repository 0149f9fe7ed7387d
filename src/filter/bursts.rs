//! How thick packets come on an interface: when they are taken as they come, when they are let gather,
//! and when a ring that is shared with the kernel pays.
//!
//! To wake up costs ten times what a packet does. A knock is to be answered at once, so we wake up for
//! each packet, until they follow each other faster than any knocker sends: then for what gathers
//! within two milliseconds.

use std::time::Duration;

/// How long packets gather, once they are thick.
pub const REST: Duration = Duration::from_millis(2);
/// Turns that follow each other within this are hurried.
const QUICK: Duration = Duration::from_micros(500);
/// So many hurried turns in a row make packets thick; a sequence is over before that.
const HURRIED: u32 = 8;
/// Fewer packets than this after a rest, and they are thin again.
const FEW: usize = 4;

/// Over such a time packets are counted.
const WINDOW: Duration = Duration::from_millis(100);
/// With so many in a window (10,000 a second) a ring pays.
const MANY: usize = 1000;
/// With so few in a window (1,000 a second), for as long as [`CALM`], it does not any more.
const NOT_MANY: usize = 100;
/// How long it must be calm before a ring is given back.
pub const CALM: Duration = Duration::from_mins(1);

/// What is known of the packets of one interface. Times are uptime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// When packets were taken last.
    last: Duration,
    hurried: u32,
    rest: Option<Duration>,
    /// The window that packets are counted in, and how many they are.
    window: Duration,
    count: usize,
    /// The latest time at which there were not few of them; `None` while no ring pays.
    busy: Option<Duration>,
}

impl Pace {
    /// So many packets were taken at `uptime`, and these were all.
    pub fn took(&mut self, count: usize, were_all: bool, uptime: Duration) {
        self.count_in_window(count, uptime);
        let since = uptime.saturating_sub(std::mem::replace(&mut self.last, uptime));
        if !were_all {
            return;
        }
        let is_thick = if self.rest.is_some() {
            count >= FEW
        } else {
            let is_quick = count > 0 && since <= QUICK;
            self.hurried = if is_quick { self.hurried.saturating_add(1) } else { 0 };
            self.hurried >= HURRIED
        };
        if is_thick {
            self.rest = Some(uptime.saturating_add(REST));
        } else if self.rest.take().is_some() {
            self.hurried = 0;
        }
    }

    /// Until when packets gather, if they do.
    #[must_use]
    pub fn rest(&self) -> Option<Duration> {
        self.rest
    }

    /// Whether a ring pays.
    #[must_use]
    pub fn pays_a_ring(&self, uptime: Duration) -> bool {
        self.ends_calm().is_some_and(|end| uptime < end)
    }

    /// When a ring pays no more, should it stay calm.
    #[must_use]
    pub fn ends_calm(&self) -> Option<Duration> {
        self.busy.map(|busy| busy.saturating_add(CALM))
    }

    fn count_in_window(&mut self, count: usize, uptime: Duration) {
        if uptime.saturating_sub(self.window) >= WINDOW {
            (self.window, self.count) = (uptime, 0);
        }
        self.count = self.count.saturating_add(count);
        let is_busy = match self.busy {
            None => self.count >= MANY,
            Some(busy) if uptime >= busy.saturating_add(CALM) => {
                self.busy = None;
                self.count >= MANY
            }
            Some(_) => self.count > NOT_MANY,
        };
        if is_busy {
            self.busy = Some(uptime);
        }
    }
}
