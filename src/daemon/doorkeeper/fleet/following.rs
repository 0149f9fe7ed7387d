//! A door that opened at another member of the fleet opens here too.

use std::net::IpAddr;
use std::time::Duration;

use crate::daemon::doorkeeper::Doorkeeper;
use crate::daemon::doorkeeper::fleet::has_end;
use crate::door::lock::Lock;
use crate::door::sequence::Stage;
use crate::door::spa::sealed::PacketId;
use crate::door::{Door, spend_at_namesakes};
use crate::fleet::marks::shape;
use crate::fleet::message::{Mark, Shared};
use crate::opening::Openings;
use crate::opening::event::{Event, Opening};
use crate::protocol::credible::{self, Doubt};
use crate::protocol::messages::Order;
use crate::time::Now;

/// Ends that differ by less are the same.
const SAME: Duration = Duration::from_secs(1);

impl Doorkeeper {
    /// A door was opened at another member.
    pub(super) fn follow(&mut self, shared: Shared, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        if !fleet.recent.is_new(shared.number) {
            return;
        }
        // Of sections with the same name, the one that is alike.
        let (mut place, mut granted) = (None, Err("the door is another one here"));
        for (index, door) in self.config.doors.iter().enumerate() {
            if door.name == shared.door {
                place = Some(index);
                if shape(door) == shared.shape {
                    granted = time_granted(door, &shared, now.unix.as_secs());
                    break;
                }
            }
        }
        let Some(place) = place else { return };
        let Shared { knocker, turn, .. } = shared;
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
        let port = shared.access.as_ref().map(|(_, port)| *port);
        if self.is_known(place, knocker, port, now.uptime.saturating_add(left)) {
            return;
        }
        // The rate is kept where it was knocked.
        let time = shared.has_end.then_some(left);
        let event = Event::OpenedByFleet { door: shared.door, knocker, time };
        let mut access = shared.access;
        let mut follow =
            |openings: &mut Openings, door: &Door| openings.follow(door, knocker, access.take(), left, now);
        self.open_door((opening, event), (port.as_slice(), Some(left)), &mut follow, now);
    }

    /// What an opening at another member used up is used up here, for both processes.
    fn use_up_with_fleet(&mut self, opening: Opening, mark: Mark, now: Now) {
        let max_age = self.longest_age();
        let Some(door) = self.config.doors.get_mut(opening.door) else { return };
        let mut is_to_be_told = !door.rules.cooldown.is_zero();
        match &door.lock {
            Lock::Fixed(_) => {}
            Lock::OneTime(_) => {
                // A line that is not there was struck before.
                let _ = self.use_up_line(opening, now);
            }
            Lock::Otp(lock) => {
                is_to_be_told = true;
                if !lock.is_spent(opening.turn, opening.knocker) {
                    door.lock.spend(opening.turn, opening.knocker, now);
                    self.memory.spend(door, opening.turn, opening.knocker);
                    spend_at_namesakes(
                        &mut self.config.doors,
                        opening.door,
                        opening.turn,
                        opening.knocker,
                        now,
                    );
                }
            }
            Lock::Spa(_) => {
                // One that is used already, or that cannot be remembered, opens nothing here anyway.
                let _ = self.memory.use_packet(opening.turn.0, PacketId(mark.0), max_age, now);
            }
        }
        if let Some(generation) = self.desk.in_force().filter(|_| is_to_be_told) {
            self.watcher.send(Order::Used(generation, opening), None);
        }
    }

    /// Whether this door is open for this knocker already, about until this uptime: it was before the daemon was started
    /// anew, and the fleet tells of it again.
    fn is_known(&self, place: usize, knocker: IpAddr, port: Option<Stage>, end: Duration) -> bool {
        let Some(door) = self.config.doors.get(place).filter(|door| has_end(door, knocker)) else {
            return false;
        };
        let is_late = |its: Option<Duration>| its.is_some_and(|its| its.saturating_add(SAME) >= end);
        (door.open.is_none() || is_late(self.memory.end_of(&door.name, knocker, port)))
            && (door.stop_for(knocker).is_none() || is_late(self.openings.end_of(&door.name, knocker, port)))
    }
}

/// How long this door, which is alike, opens for what the fleet says, at this time (in seconds since 1970): never longer than a knock here
/// opens it, and for no port that a single packet could not ask for here.
///
/// # Errors
/// Why it does not open, in words.
fn time_granted(door: &Door, shared: &Shared, unix: u64) -> Result<Duration, &'static str> {
    let is_packet = matches!(door.lock, Lock::Spa(_));
    if is_packet != shared.access.is_some() {
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
