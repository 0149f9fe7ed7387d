//! Writes openings to the log. Lines that anyone can cause are rate-limited and summed up for each door.

use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;

use crate::daemon::log::Log;
use crate::door::Door;
use crate::opening::entry::Notice;
use crate::opening::event::Event;
use crate::opening::log_limit::{
    BURST_OF_DOOR, Cause, DropCounts, LINES_OF_DOOR, RateLimit, dropped, left_out_at,
};
use crate::time::Now;

/// The limits of the lines about openings, and the counts of those left out.
#[derive(Debug, Default)]
pub(super) struct OpeningLog {
    /// Limits for the doors that one knock opens.
    limits: LiteMap<Arc<str>, RateLimit>,
    /// The doors with lines that were left out and not summed up yet.
    pending: Vec<Arc<str>>,
    /// Dropped openings, not summed up yet.
    dropped: DropCounts<Arc<str>>,
}

impl OpeningLog {
    /// Puts these doors in force; doors that stay keep their limits.
    pub(super) fn adopt(&mut self, doors: &[Door]) {
        let mut before = std::mem::take(&mut self.limits);
        for door in doors.iter().filter(|door| door.opens_with_one_knock()) {
            let limit = before.remove(&door.name);
            let limit = limit.unwrap_or_else(|| RateLimit::new(LINES_OF_DOOR, BURST_OF_DOOR));
            self.limits.insert(door.name.clone(), limit);
        }
    }

    /// Writes an event of an opening, unless its door exceeds its limit.
    pub(super) fn write(&mut self, event: Event, log: &mut Log, now: Now) {
        if let Some(door) = event.door()
            && let Some(limit) = self.limits.get_mut(door)
        {
            log.tell(
                Notice::LeftOut,
                limit.take_suppressed_if_due(now.uptime).map(|lines| left_out_at(door, lines)),
            );
            if !limit.admits(now.uptime) {
                if !self.pending.contains(door) {
                    self.pending.push(door.clone());
                }
                return;
            }
        }
        log.event(event, now);
    }

    /// Counts a dropped opening of this door.
    pub(super) fn count_dropped(&mut self, door: &Arc<str>, cause: Cause, now: Now) {
        self.dropped.add(door, cause, now.uptime);
    }

    /// Writes the sums that are due.
    pub(super) fn report_due(&mut self, log: &mut Log, now: Now) {
        self.pending.retain(|door| {
            let Some(limit) = self.limits.get_mut(door) else { return false };
            log.tell(
                Notice::LeftOut,
                limit.take_suppressed_if_due(now.uptime).map(|lines| left_out_at(door, lines)),
            );
            limit.next_deadline().is_some()
        });
        let openings = self.dropped.take_if_due(now.uptime);
        log.tell(
            Notice::LeftOut,
            openings.into_iter().map(|(door, cause, count)| dropped(&door, cause, count)),
        );
    }

    /// Writes all sums, due or not.
    pub(super) fn report_all(&mut self, log: &mut Log) {
        for (door, limit) in &mut self.limits {
            log.tell(Notice::LeftOut, limit.take_suppressed().map(|lines| left_out_at(door, lines)));
        }
        let openings = self.dropped.take();
        log.tell(
            Notice::LeftOut,
            openings.into_iter().map(|(door, cause, count)| dropped(&door, cause, count)),
        );
    }

    /// When to call [`OpeningLog::report_due`], as uptime.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let limits = self.pending.iter().filter_map(|door| self.limits.get(door));
        limits.filter_map(RateLimit::next_deadline).chain(self.dropped.next_deadline()).min()
    }
}
