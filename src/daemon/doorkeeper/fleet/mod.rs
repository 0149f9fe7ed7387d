//! What the doorkeeper does for a fleet, and what a fleet has it do: see [`crate::fleet`].

mod following;

use std::net::IpAddr;
use std::time::Duration;

use crate::daemon::doorkeeper::fleet_socket::{Fleet, Knocked};
use crate::daemon::doorkeeper::start::random;
use crate::daemon::doorkeeper::{BATCH, Doorkeeper};
use crate::daemon::messages::Received;
use crate::door::Door;
use crate::door::knock::Knock;
use crate::door::spa::request::Request;
use crate::door::spa::sealed::PacketId;
use crate::fleet::marks::{shape, shape_of_all, used_up};
use crate::fleet::message::{self, ASK, LONGEST, Mark, OPENED, Shared, ToKnockd, VERSION};
use crate::octets;
use crate::opening::event::{Event, Opening};
use crate::protocol::messages::{Crossing, Order};
use crate::reason::reason;
use crate::time::Now;

/// How long the start command of a door without an end is worth running.
const COMMAND: Duration = Duration::from_secs(10);
const NONSENSE: &str = "the fleet says what is no message: is its version that of knockd?";

impl Doorkeeper {
    /// Serves the fleet where the configuration in force says, if it does.
    pub(super) fn open_fleet(&mut self, now: Now) {
        let path = &self.config.options.fleet_socket;
        let served = self.fleet.as_ref().map(|fleet| fleet.path.as_os_str());
        if served != path.as_ref().map(|path| path.as_os_str()) {
            self.fleet = path.clone().map(|path| Box::new(Fleet::new(path, random())));
        }
        self.greet_fleet();
        self.attend_to_fleet(now);
    }

    /// The fleet is served no more.
    pub(super) fn leave_fleet(&mut self, now: Now) {
        self.settle_until(Duration::MAX, now);
        self.fleet = None;
    }

    /// Tells the peer, if there is one, which doors there are.
    fn greet_fleet(&self) {
        if let Some(fleet) = &self.fleet {
            fleet.say_now(&message::hello(VERSION, shape_of_all(&self.config.doors)));
        }
    }

    /// The watcher has a knock for the fleet.
    pub(super) fn share_knock(&self, knock: &Knock) {
        if let Some(fleet) = &self.fleet {
            fleet.say_now(&message::knock(knock));
        }
    }

    /// Takes what the fleet says, and opens what has waited for it long enough.
    pub(super) fn attend_to_fleet(&mut self, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        if let Err(error) = fleet.listen(now) {
            let path = octets::path(&fleet.path);
            let text = format!("could not make the fleet socket {path}: {}; trying again", reason(&error));
            self.log.complain(&text);
        }
        match fleet.accept() {
            Ok(true) => {
                self.log.line("the fleet is connected");
                self.greet_fleet();
            }
            Err(user) if self.watcher_log_limit.admits(now.uptime) => {
                self.log.complain(&format!("user {user} may not speak for the fleet"));
            }
            Ok(false) | Err(_) => {}
        }
        let mut bytes = [0; LONGEST + 1];
        for _ in 0..BATCH {
            let Some(fleet) = &self.fleet else { return };
            let message = match fleet.receive(&mut bytes) {
                Received::Nothing => break,
                Received::Closed => Err("the fleet is gone"),
                Received::Message(length, _) => {
                    bytes.get(..length).and_then(ToKnockd::decode).ok_or(NONSENSE)
                }
                Received::Nonsense => Err(NONSENSE),
            };
            let text = match message {
                Ok(message) => {
                    self.obey_fleet(message, now);
                    continue;
                }
                Err(text) => text,
            };
            self.log.complain(text);
            self.lose_fleet(now);
        }
        if let Some(fleet) = &mut self.fleet {
            fleet.flush(now);
        }
        self.settle_until(now.uptime, now);
    }

    /// There is no peer any more.
    fn lose_fleet(&mut self, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.part();
        self.settle_until(Duration::MAX, now);
    }

    /// Nobody has answered about the openings whose answer was due at this uptime: the policy decides. If the peer was lost
    /// meanwhile, the next one is asked the same.
    pub(super) fn settle_until(&mut self, uptime: Duration, now: Now) {
        while let Some(fleet) = &mut self.fleet
            && let Some(held) = fleet.held.overdue(uptime)
        {
            if !fleet.has_peer() {
                self.ask(held.opening, held.packet(), now);
            }
            self.settle(&held, None, now);
        }
    }

    /// Does what a message says.
    fn obey_fleet(&mut self, message: ToKnockd, now: Now) {
        match message {
            ToKnockd::Open(shared) => self.follow(&shared, now),
            ToKnockd::Answer(number, is_unused) => {
                if let Some(held) = self.fleet.as_mut().and_then(|fleet| fleet.held.answered(number)) {
                    self.settle(&held, is_unused, now);
                }
            }
            // The watcher knows whether knocks are shared.
            ToKnockd::Knock(knock) => self.watcher.send(Order::Heard(knock), None),
        }
    }

    /// Opens a door for what was just used up here, unless that was used at another member: asks the fleet, if there is one,
    /// and the door waits for the answer.
    pub(super) fn open_once(&mut self, knocked: Knocked, now: Now) {
        let number = self.ask(knocked.opening, knocked.packet(), now);
        match (&mut self.fleet, number) {
            (Some(fleet), Some(number)) if fleet.has_peer() => {
                fleet.held.hold(number, now.uptime, knocked);
            }
            (_, number) => self.settle(&knocked, number.is_none().then_some(true), now),
        }
    }

    /// Asks whether what this opening used up was used before at any member; from now on it counts as used there. Returns
    /// the number of the question; none if there is no fleet, or it can be used again.
    pub(super) fn ask(&mut self, opening: Opening, packet: Option<PacketId>, now: Now) -> Option<u64> {
        let question = self.describe(opening, packet, now)?;
        if question.mark == Mark::default() {
            return None;
        }
        self.fleet.as_mut()?.say(ASK, &question, now);
        Some(question.number)
    }

    /// The fleet has answered whether what was knocked is unused, or has not answered: then the door's policy counts.
    fn settle(&mut self, knocked: &Knocked, is_unused: Option<bool>, now: Now) {
        let Opening { door, knocker, .. } = knocked.opening;
        let Some(Door { name, rules, .. }) = self.config.doors.get(door) else { return };
        let door = name.clone();
        let event = match (is_unused, &knocked.granted) {
            (Some(false), _) => Event::UsedElsewhere { door, knocker },
            (None, _) if rules.needs_fleet => Event::FleetSilent { door, knocker },
            (_, Some(granted)) => return self.open_for(granted, now),
            (_, None) => return self.let_in(knocked.opening, now),
        };
        self.log.event(event, now);
    }

    /// A door was opened here: tells the fleet. Of a single packet, `asked` is what it asked for: each port is told by
    /// itself.
    pub(super) fn share(&mut self, opening: Opening, asked: Option<(PacketId, &Request)>, now: Now) {
        let Some(mut shared) = self.describe(opening, asked.map(|(id, _)| id), now) else { return };
        let Some(door) = self.config.doors.get(opening.door) else { return };
        let Some(fleet) = &mut self.fleet else { return };
        shared.has_end = has_end(door, opening.knocker);
        let seconds = asked.and_then(|(_, request)| request.seconds);
        let time = seconds.map_or(door.cmd_timeout(), |seconds| Duration::from_secs(seconds.into()));
        shared.time = if shared.has_end { time } else { COMMAND };
        let mut tell = |access| {
            (shared.access, shared.number) = (access, fleet.number());
            fleet.recent.is_new(shared.number);
            fleet.say(OPENED, &shared, now);
        };
        let Some((_, request)) = asked else { return tell(None) };
        for port in &request.ports {
            tell(Some((request.user.clone(), *port)));
        }
    }

    /// An opening as the fleet has to know it, with a new number, and with what it used up and how long that must be
    /// remembered; none if there is no fleet.
    fn describe(&mut self, opening: Opening, packet: Option<PacketId>, now: Now) -> Option<Shared> {
        let door = self.config.doors.get(opening.door)?;
        let fleet = self.fleet.as_mut()?;
        let Opening { knocker, turn, .. } = opening;
        let (mark, time) = used_up(door, turn, packet, now.unix.as_secs()).unwrap_or_default();
        Some(Shared {
            number: fleet.number(),
            door: door.name.clone(),
            shape: shape(door),
            knocker,
            turn,
            mark,
            time,
            has_end: true,
            access: None,
        })
    }
}

/// Whether what opens here for this knocker closes by itself.
fn has_end(door: &Door, knocker: IpAddr) -> bool {
    door.stop_for(knocker).is_some() || door.open.as_ref().is_some_and(|open| !open.is_for_ever)
}
