//! A door that opened at another member of the fleet opens here too.

use std::time::Duration;

use crate::daemon::doorkeeper::Doorkeeper;
use crate::daemon::doorkeeper::fleet::has_end_here;
use crate::door::lock::{Lock, Turn};
use crate::door::{Door, spend_at_namesakes};
use crate::fleet::marks::shape;
use crate::fleet::message::Shared;
use crate::fleet::waiting::LEAST;
use crate::opening::admit::Where;
use crate::opening::event::{Event, Opening};
use crate::opening::record::Record;
use crate::opening::standing::Stop;
use crate::protocol::credible::{self, Doubt};
use crate::time::Now;

impl Doorkeeper {
    /// A door was opened at another member.
    pub(super) fn follow(&mut self, shared: &mut Shared, now: Now) {
        let Shared { stop, has_end, used } = shared;
        // Of sections with the same name, the one that is alike.
        let mut place = None;
        for (index, door) in self.config.doors.iter().enumerate().filter(|(_, door)| door.name == stop.door) {
            let is_alike = shape(door) == stop.key.origin;
            if is_alike || place.is_none() {
                place = Some(index);
            }
            if is_alike {
                break;
            }
        }
        let Some(place) = place else { return };
        let Some(door) = self.config.doors.get(place) else { return };
        let knocker = stop.knocker;
        let longest = match longest_time(door, stop, now) {
            Ok(longest) => longest,
            Err(why) => return self.log_refusal(&stop.door, "of the fleet ", knocker, why, now),
        };
        let (turn, packet) = match *used {
            Record::Packet(time, id) if stop.access.is_some() => (time, Some(id)),
            Record::Spent(_, turn, _) if stop.access.is_none() => (turn, None),
            _ => return,
        };
        // The door's time does not matter to a command that nothing follows.
        let left = stop.due.saturating_sub(now.uptime);
        let left = if has_end_here(door, knocker) { left.min(longest) } else { left };
        if left < LEAST {
            return;
        }
        let opening = Opening { door: place, knocker, turn: Turn(turn) };
        // It is used up here too. The watcher need not know: what it reports is checked. A line that is not there
        // was struck before; a packet that is used already, or that cannot be remembered, opens nothing here anyway.
        let _ = self.use_up(opening, now);
        spend_at_namesakes(&mut self.config.doors, place, opening.turn, knocker, now);
        if let Some(id) = packet {
            let _ = self.memory.use_packet(turn, id, self.longest_age(), now);
        }
        // The rate is kept where it was knocked.
        let event = Event::OpenedByFleet { door: stop.door.clone(), knocker, time: has_end.then_some(left) };
        if let Some(access) = &mut stop.access {
            // A command without an end gets the time that was asked for.
            let asked_for = Duration::from_secs(access.seconds.into());
            let time = if *has_end { left } else { asked_for.min(longest) };
            access.seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        }
        self.open_door((opening, event), (&[stop.access.take()], Some(left)), Where::Elsewhere, now);
    }
}

/// The longest time for which this door, which has the same name, opens for what the fleet says: as long as a knock here
/// can open it, and for no port that a single packet could not ask for here.
///
/// # Errors
/// Why it does not open, in words.
fn longest_time(door: &Door, stop: &Stop, now: Now) -> Result<Duration, &'static str> {
    let longest = match (&door.lock, &stop.access) {
        (Lock::Spa(lock), Some(access)) => lock
            .longest_grant(&access.user, access.port, now.unix.as_secs(), door.cmd_timeout_seconds())
            .map(|seconds| Duration::from_secs(seconds.into()))
            .ok_or("no key here grants that")?,
        (Lock::Fixed(_) | Lock::OneTime(_) | Lock::Otp(_), None) if shape(door) == stop.key.origin => {
            door.cmd_timeout()
        }
        _ => return Err("the door is another one here"),
    };
    credible::check_knocker(door, stop.knocker).map_err(Doubt::words)?;
    let is_for_ever = door.open.as_ref().is_some_and(|open| open.is_for_ever);
    Ok(if is_for_ever { Duration::MAX } else { longest })
}
