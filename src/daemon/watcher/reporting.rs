//! Which of the engine's events the watcher reports, and which it only counts.

use std::net::IpAddr;
use std::sync::Arc;

use crate::daemon::watcher::Watcher;
use crate::door::lock::Turn;
use crate::opening::event::Event;
use crate::opening::log_limit::Cause;
use crate::protocol::messages::{Report, Step};
use crate::time::Now;

impl Watcher {
    /// Limits the steps that the engine reports to what the log admits: a packet that begins a thousand doors
    /// has a thousand steps.
    pub(super) fn limit_steps(&mut self, now: Now) {
        let room = if self.has_readers { self.line_limit.remaining(now.uptime) } else { 0 };
        self.engine.limit_steps((!self.explains).then_some(room));
    }

    /// Reports events to the doorkeeper, and counts the steps that the engine left out.
    pub(super) fn handle_all(&mut self, events: &mut Vec<Event>, now: Now) {
        for event in events.drain(..) {
            self.handle(&event, now);
        }
        let left_out = self.engine.take_suppressed_steps();
        if self.has_readers {
            self.line_limit.suppress(left_out);
        }
    }

    /// Reports an event to the doorkeeper.
    fn handle(&mut self, event: &Event, now: Now) {
        if self.explains
            && let Some(text) = event.debug_line()
        {
            self.link.explain(&text);
        }
        let (door, knocker, step) = match event {
            Event::Opened { opening, .. } => {
                if !self.link.open(*opening) {
                    self.dropped.add(&opening.door, Cause::Queue, now.uptime);
                }
                if self.is_one_time(opening.door) {
                    self.renew_filter();
                }
                return;
            }
            Event::TooOften { opening, .. } => {
                self.dropped.add(&opening.door, Cause::Rate, now.uptime);
                if self.engine.doors().get(opening.door).is_some_and(|door| door.lock.is_single_use()) {
                    // Without room for the message, the list is used up in this process at least.
                    let _ = self.link.use_up(*opening);
                }
                if self.is_one_time(opening.door) {
                    self.renew_filter();
                }
                return;
            }
            Event::Tried { door, knocker, turn, count, .. } => {
                self.report_try(door, *knocker, *turn, *count, now);
                return;
            }
            Event::Advanced { door, knocker, stage } => (door, knocker, Step::Advanced(small(*stage))),
            Event::Failed { door, knocker, stage, is_logged: true } => {
                (door, knocker, Step::Failed(small(*stage)))
            }
            Event::Expired { door, knocker, stage } => (door, knocker, Step::Expired(small(*stage))),
            Event::Misfit { door, knocker, misfit, .. } => (door, knocker, Step::Misfit(*misfit)),
            Event::Repeated { door, knocker, count: (done, wanted) } => {
                (door, knocker, Step::Repeated(number(*done), number(*wanted)))
            }
            _ => return,
        };
        if self.may_report_step(now)
            && let Some(place) = self.place_of(door)
        {
            self.link.say(Report::Stepped(self.link.generation(), place, *knocker, step));
        }
    }

    /// The place of the door that an event of the engine names.
    fn place_of(&self, door: &Arc<str>) -> Option<usize> {
        // The name is shared with one of the engine's doors, so comparing pointers is enough.
        self.engine.doors().iter().position(|it| Arc::ptr_eq(&it.name, door))
    }

    /// Reports a try to guess a one-time list, so that it counts after a restart too. Beyond a number per
    /// second, tries count in this process only.
    fn report_try(&mut self, door: &Arc<str>, knocker: IpAddr, turn: Turn, count: u8, now: Now) {
        self.tries.take_suppressed_if_due(now.uptime);
        if self.tries.admits(now.uptime)
            && let Some(door) = self.place_of(door)
        {
            self.link.say(Report::Tried(self.link.generation(), door, knocker, turn, count));
        }
    }

    /// Reports the number of suppressed lines and dropped openings, when it is time to.
    pub(super) fn sum_up(&mut self, now: Now) {
        if let Some(lines) = self.line_limit.take_suppressed_if_due(now.uptime) {
            self.link.say(Report::LeftOut(lines));
        }
        let dropped = self.dropped.take_if_due(now.uptime);
        self.report_dropped(dropped);
    }

    /// Reports dropped openings.
    pub(super) fn report_dropped(&mut self, dropped: Vec<(usize, Cause, u64)>) {
        for (door, cause, count) in dropped {
            self.link.say(Report::Dropped(self.link.generation(), door, cause, count));
        }
    }

    /// Whether a step of an attempt is reported: strangers can cause them at any rate.
    pub(super) fn may_report_step(&mut self, now: Now) -> bool {
        // Most packets of a flood end here: nothing is logged, or the limit of lines is reached.
        self.has_readers && self.line_limit.admits(now.uptime)
    }
}

/// Converts a number that is always small to the type of the message field.
fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
