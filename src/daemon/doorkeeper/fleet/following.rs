//! A door that opened at another member of the fleet opens here too.

use std::time::Duration;

use crate::daemon::doorkeeper::Doorkeeper;
use crate::daemon::doorkeeper::fleet::has_end;
use crate::door::lock::Lock;
use crate::door::spa::sealed::PacketId;
use crate::door::{Door, spend_at_namesakes};
use crate::fleet::marks::shape;
use crate::fleet::message::{Mark, Shared};
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
                if self.watcher_log_limit.admits(now.uptime) {
                    let name = &shared.door;
                    let text = format!("{name}: an opening of the fleet for {knocker} is refused: {why}");
                    self.log.complain(&text);
                }
                return;
            }
        };
        let opening = Opening { door: place, knocker, turn };
        self.use_up_with_fleet(opening, shared.mark, now);
        // The rate is kept where it was knocked.
        let time = shared.has_end.then_some(left);
        let event = Event::OpenedByFleet { door: shared.door.clone(), knocker, time };
        let port = shared.access.as_ref().map(|(_, port)| *port);
        let mut follow = |openings: &mut Openings, door: &Door| {
            openings.follow(door, knocker, shared.access.clone(), left, now)
        };
        self.open_door((opening, event), (port.as_slice(), Some(left)), &mut follow, now);
    }

    /// What an opening at another member used up is used up here, for both processes.
    fn use_up_with_fleet(&mut self, opening: Opening, mark: Mark, now: Now) {
        let max_age = self.longest_age();
        let Some(door) = self.config.doors.get_mut(opening.door) else { return };
        let Opening { door: place, knocker, turn } = opening;
        match &door.lock {
            Lock::Fixed(_) => {}
            Lock::OneTime(_) => {
                // A line that is not there was struck before.
                let _ = self.use_up_line(opening, now);
            }
            Lock::Otp(lock) => {
                if !lock.is_spent(turn, knocker) {
                    door.lock.spend(turn, knocker, now);
                    self.memory.spend(door, turn, knocker);
                    spend_at_namesakes(&mut self.config.doors, place, turn, knocker, now);
                }
            }
            Lock::Spa(_) => {
                // One that is used already, or that cannot be remembered, opens nothing here anyway.
                let _ = self.memory.use_packet(turn.0, PacketId(mark.0), max_age, now);
            }
        }
        if let Some(generation) = self.desk.in_force() {
            self.watcher.send(Order::Used(generation, opening), None);
        }
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
