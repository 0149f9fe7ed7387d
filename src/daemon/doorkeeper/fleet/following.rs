//! A door that opened at another member of the fleet opens here too.

use std::time::Duration;

use crate::daemon::doorkeeper::Doorkeeper;
use crate::daemon::doorkeeper::fleet::has_end;
use crate::door::lock::Lock;
use crate::door::spa::sealed::PacketId;
use crate::door::{Door, spend_at_namesakes};
use crate::fleet::marks::shape;
use crate::fleet::message::Shared;
use crate::opening::Openings;
use crate::opening::event::{Event, Opening};
use crate::protocol::credible::{self, Doubt};
use crate::protocol::messages::Order;
use crate::time::Now;

impl Doorkeeper {
    /// A door was opened at another member.
    pub(super) fn follow(&mut self, shared: &Shared, now: Now) {
        if !self.fleet.as_mut().is_some_and(|fleet| fleet.recent.is_new(shared.number)) {
            return;
        }
        // Of sections with the same name, the one that is alike.
        let is_named = |door: &Door| door.name == shared.door;
        let is_alike = |door: &Door| is_named(door) && shape(door) == shared.shape;
        let doors = &self.config.doors;
        let Some(place) = doors.iter().position(is_alike).or_else(|| doors.iter().position(is_named)) else {
            return;
        };
        let &Shared { knocker, turn, .. } = shared;
        let granted = doors.get(place).map_or(Err(""), |door| time_granted(door, shared, now.unix.as_secs()));
        let left = match granted {
            Ok(left) => left,
            Err(why) => {
                return self.log_refusal(&shared.door, "of the fleet ", knocker, why, now);
            }
        };
        let opening = Opening { door: place, knocker, turn };
        // It is used up here too, for both processes. A line that is not there was struck before; a packet that
        // is used already, or that cannot be remembered, opens nothing here anyway.
        let _ = self.use_up(opening, now);
        spend_at_namesakes(&mut self.config.doors, place, turn, knocker, now);
        if shared.access.is_some() {
            let id = PacketId(shared.mark.0);
            let _ = self.memory.use_packet(turn.0, id, self.longest_age(), now);
        }
        if let Some(generation) = self.desk.in_force() {
            self.watcher.send(Order::Used(generation, opening), None);
        }
        // The rate is kept where it was knocked.
        let time = shared.has_end.then_some(left);
        let event = Event::OpenedByFleet { door: shared.door.clone(), knocker, time };
        let port = shared.access.as_ref().map(|(_, port)| *port);
        let mut follow = |openings: &mut Openings, door: &Door| {
            openings.follow(door, knocker, shared.access.clone(), left, now)
        };
        self.open_door((opening, event), (port.as_slice(), Some(left)), &mut follow, now);
    }
}

/// How long this door, which has the same name, opens for what the fleet says, at this time (in seconds since 1970): never
/// longer than a knock here opens it, and for no port that a single packet could not ask for here.
///
/// # Errors
/// Why it does not open, in words.
fn time_granted(door: &Door, shared: &Shared, unix: u64) -> Result<Duration, &'static str> {
    let is_packet = matches!(door.lock, Lock::Spa(_));
    if shape(door) != shared.shape || is_packet != shared.access.is_some() {
        return Err("the door is another one here");
    }
    credible::check_knocker(door, shared.knocker).map_err(Doubt::words)?;
    let longest = match (&door.lock, &shared.access) {
        (Lock::Spa(lock), Some((user, port))) => lock
            .longest_grant(user, *port, unix, door.cmd_timeout_seconds())
            .map(|seconds| Duration::from_secs(seconds.into()))
            .ok_or("no key here lets this user open this port")?,
        _ => door.cmd_timeout(),
    };
    let is_for_ever = door.open.as_ref().is_some_and(|open| open.is_for_ever);
    let is_limited = has_end(door, shared.knocker) && !is_for_ever;
    Ok(if is_limited { shared.time.min(longest) } else { shared.time })
}
