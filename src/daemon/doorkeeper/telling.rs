//! What the log has of openings. Lines that strangers can cause are summed up for each door.

use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;

use crate::daemon::log::Log;
use crate::door::Door;
use crate::opening::entry::Notice;
use crate::opening::event::Event;
use crate::opening::log_limit::{BURST_OF_DOOR, Cause, Dropped, Flood, LINES_OF_DOOR, dropped, left_out_at};
use crate::time::Now;

/// What was not told yet, or is to be told in one line.
#[derive(Debug, Default)]
pub(super) struct Untold {
    /// The doors that one knock opens.
    floods: LiteMap<Arc<str>, Flood>,
    /// Those of them that have lines which were not written.
    holding: Vec<Arc<str>>,
    /// Openings that were not made.
    dropped: Dropped<Arc<str>>,
}

impl Untold {
    /// These doors are in force from now on.
    pub(super) fn adopt(&mut self, doors: &[Door]) {
        let mut before = std::mem::take(&mut self.floods);
        for door in doors.iter().filter(|door| door.opens_with_one_knock()) {
            let flood = before.remove(&door.name);
            let flood = flood.unwrap_or_else(|| Flood::new(LINES_OF_DOOR, BURST_OF_DOOR));
            self.floods.insert(door.name.clone(), flood);
        }
    }

    /// Writes what happened to an opening, unless strangers cause it too often.
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

    /// An opening of this door is not made.
    pub(super) fn drop_opening(&mut self, door: &Arc<str>, cause: Cause, now: Now) {
        self.dropped.add(door, cause, now.uptime);
    }

    /// Writes how much there was, if it is time to.
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

    /// Writes how much there was, whatever the time.
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
