//! Writes openings to the log. Lines that anyone can cause are rate-limited and summed up for each door.

use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;

use crate::daemon::log::Log;
use crate::door::Door;
use crate::opening::entry::Notice;
use crate::opening::event::Event;
use crate::opening::log_limit::{BURST_OF_DOOR, Cause, Dropped, Flood, LINES_OF_DOOR, dropped, left_out_at};
use crate::time::Now;

/// Log lines and openings that are summed up later.
#[derive(Debug, Default)]
pub(super) struct Untold {
    /// Limits for the doors that one knock opens.
    floods: LiteMap<Arc<str>, Flood>,
    /// The doors with lines that were left out and not summed up yet.
    holding: Vec<Arc<str>>,
    /// Dropped openings, not summed up yet.
    dropped: Dropped<Arc<str>>,
}

impl Untold {
    /// Puts these doors in force; doors that stay keep their limits.
    pub(super) fn adopt(&mut self, doors: &[Door]) {
        let mut before = std::mem::take(&mut self.floods);
        for door in doors.iter().filter(|door| door.opens_with_one_knock()) {
            let flood = before.remove(&door.name);
            let flood = flood.unwrap_or_else(|| Flood::new(LINES_OF_DOOR, BURST_OF_DOOR));
            self.floods.insert(door.name.clone(), flood);
        }
    }

    /// Writes an event of an opening, unless its door exceeds its limit.
    pub(super) fn tell(&mut self, event: Event, log: &mut Log, now: Now) {
        if let Some(door) = event.door()
            && let Some(flood) = self.floods.get_mut(door)
        {
            log.tell(Notice::LeftOut, flood.sum(now.uptime).map(|lines| left_out_at(door, lines)));
            if !flood.admits(now.uptime) {
                if !self.holding.contains(door) {
                    self.holding.push(door.clone());
                }
                return;
            }
        }
        log.event(event, now);
    }

    /// Counts a dropped opening of this door.
    pub(super) fn drop_opening(&mut self, door: &Arc<str>, cause: Cause, now: Now) {
        self.dropped.add(door, cause, now.uptime);
    }

    /// Writes the sums that are due.
    pub(super) fn sum_up(&mut self, log: &mut Log, now: Now) {
        self.holding.retain(|door| {
            let Some(flood) = self.floods.get_mut(door) else { return false };
            log.tell(Notice::LeftOut, flood.sum(now.uptime).map(|lines| left_out_at(door, lines)));
            flood.next_deadline().is_some()
        });
        let openings = self.dropped.sum(now.uptime);
        log.tell(
            Notice::LeftOut,
            openings.into_iter().map(|(door, cause, count)| dropped(&door, cause, count)),
        );
    }

    /// Writes all sums, due or not.
    pub(super) fn end(&mut self, log: &mut Log) {
        for (door, flood) in &mut self.floods {
            log.tell(Notice::LeftOut, flood.rest().map(|lines| left_out_at(door, lines)));
        }
        let openings = self.dropped.rest();
        log.tell(
            Notice::LeftOut,
            openings.into_iter().map(|(door, cause, count)| dropped(&door, cause, count)),
        );
    }

    /// When to call [`Untold::sum_up`], as uptime.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let floods = self.holding.iter().filter_map(|door| self.floods.get(door));
        floods.filter_map(Flood::next_deadline).chain(self.dropped.next_deadline()).min()
    }
}
