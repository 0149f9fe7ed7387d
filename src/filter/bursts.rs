//! Detects bursts of packets on an interface: when to read packets at once, when to batch them, and when a
//! ring shared with the kernel pays off.
//!
//! A wake-up costs as much as ten packets. A knock must be answered at once, so the watcher wakes up for each
//! packet. Only when packets follow each other faster than any knocker sends does it read them in batches,
//! every four milliseconds.

use std::time::Duration;

/// How long packets of a burst are batched.
pub const BATCH_TIME: Duration = Duration::from_millis(4);
/// Reads that follow each other within this time are close.
const CLOSE_INTERVAL: Duration = Duration::from_micros(500);
/// This many close reads in a row start a burst; a usual sequence is over before that.
const BURST_READS: u32 = 8;
/// A batch of fewer packets than this ends the burst.
const MIN_BATCH: usize = 8;

/// The length of the windows in which packets are counted.
const WINDOW: Duration = Duration::from_millis(100);
/// A ring pays off from this many packets in a window (10,000 a second).
const RING_START_PACKETS: usize = 1000;
/// More packets than this in a window (1,000 a second) keep a ring for another [`RING_HOLD_TIME`].
const RING_KEEP_PACKETS: usize = 100;
/// How long the rate must stay low before a ring is given up.
pub const RING_HOLD_TIME: Duration = Duration::from_mins(1);

/// Measures the packets of one interface. Times are uptime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BurstDetector {
    last_read: Duration,
    /// Close reads in a row.
    close_reads: u32,
    batch_end: Option<Duration>,
    /// When the current window began, and the packets in it.
    window: Duration,
    count: usize,
    /// When the rate was last high enough for a ring; `None` while no ring pays off.
    last_busy: Option<Duration>,
}

impl BurstDetector {
    /// Records that a read at `uptime` returned `count` packets; `were_all` says whether it emptied the
    /// queue.
    pub fn record(&mut self, count: usize, were_all: bool, uptime: Duration) {
        self.count_in_window(count, uptime);
        let since = uptime.saturating_sub(std::mem::replace(&mut self.last_read, uptime));
        if !were_all {
            return;
        }
        let is_burst = if self.batch_end.is_some() {
            count >= MIN_BATCH
        } else {
            let is_close = count > 0 && since <= CLOSE_INTERVAL;
            self.close_reads = if is_close { self.close_reads.saturating_add(1) } else { 0 };
            self.close_reads >= BURST_READS
        };
        if is_burst {
            self.batch_end = Some(uptime.saturating_add(BATCH_TIME));
        } else if self.batch_end.take().is_some() {
            self.close_reads = 0;
        }
    }

    /// When to read the next batch; `None` outside a burst: read at once.
    #[must_use]
    pub fn batch_end(&self) -> Option<Duration> {
        self.batch_end
    }

    /// Whether a ring pays off.
    #[must_use]
    pub fn wants_ring(&self, uptime: Duration) -> bool {
        self.ring_end().is_some_and(|end| uptime < end)
    }

    /// When a ring stops paying off if the rate stays low, as uptime.
    #[must_use]
    pub fn ring_end(&self) -> Option<Duration> {
        self.last_busy.map(|last_busy| last_busy.saturating_add(RING_HOLD_TIME))
    }

    fn count_in_window(&mut self, count: usize, uptime: Duration) {
        if uptime.saturating_sub(self.window) >= WINDOW {
            (self.window, self.count) = (uptime, 0);
        }
        self.count = self.count.saturating_add(count);
        let is_busy = match self.last_busy {
            None => self.count >= RING_START_PACKETS,
            Some(last_busy) if uptime >= last_busy.saturating_add(RING_HOLD_TIME) => {
                self.last_busy = None;
                self.count >= RING_START_PACKETS
            }
            Some(_) => self.count > RING_KEEP_PACKETS,
        };
        if is_busy {
            self.last_busy = Some(uptime);
        }
    }
}
