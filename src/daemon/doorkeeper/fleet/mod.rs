//! What the doorkeeper does for a fleet, and what a fleet has it do: see [`crate::fleet`].

mod following;

use std::net::IpAddr;
use std::time::Duration;

use crate::daemon::doorkeeper::fleet_socket::{Fleet, Knocked};
use crate::daemon::doorkeeper::start::random;
use crate::daemon::doorkeeper::{BATCH, Doorkeeper};
use crate::daemon::messages::Received;
use crate::door::Door;
use crate::fleet::marks::{shape, shape_of_all, used_up};
use crate::fleet::message::{self, ASK, LONGEST, ToKnockd, VERSION};
use crate::octets;
use crate::opening::event::{Event, Opening};
use crate::opening::standing::{Access, Key, Stop};
use crate::protocol::knock::EncodedKnock;
use crate::protocol::messages::{Crossing, Order};
use crate::reason::reason;
use crate::time::Now;

/// How long the start command of a door without an end is worth running.
const COMMAND: Duration = Duration::from_secs(10);

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
            fleet.say_now(&message::hello(VERSION, shape_of_all(&self.config.doors), fleet.session));
        }
    }

    /// The watcher has a knock for the fleet.
    pub(super) fn share_knock(&self, knock: &EncodedKnock) {
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
        if fleet.accept() {
            self.log.line("the fleet is connected");
            self.greet_fleet();
        }
        let mut bytes = [0; LONGEST + 1];
        for _ in 0..BATCH {
            let Some(fleet) = &self.fleet else { return };
            let message = match fleet.receive(&mut bytes) {
                Received::Nothing => break,
                Received::Message(length, _) => bytes.get(..length).and_then(ToKnockd::decode),
                Received::Closed | Received::Nonsense => None,
            };
            match message {
                Some(message) => self.obey_fleet(message, now),
                None => self.lose_fleet(now),
            }
        }
        if let Some(fleet) = &mut self.fleet {
            fleet.flush(now);
        }
        self.settle_until(now.uptime, now);
    }

    /// There is no peer any more, or it says what is no message.
    fn lose_fleet(&mut self, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.part();
        self.log.complain("the fleet is gone");
        self.settle_until(Duration::MAX, now);
    }

    /// Nobody has answered about the openings whose answer was due at this uptime: the policy decides. If the peer was lost
    /// meanwhile, the next one is asked the same.
    pub(super) fn settle_until(&mut self, uptime: Duration, now: Now) {
        while let Some(fleet) = &mut self.fleet
            && let Some(held) = fleet.held.take(0, uptime)
        {
            if !fleet.has_peer() {
                self.tell(ASK, &held, None, now);
            }
            self.settle(&held, None, now);
        }
    }

    /// Does what a message says.
    fn obey_fleet(&mut self, message: ToKnockd, now: Now) {
        match message {
            ToKnockd::Open(mut shared) => self.follow(&mut shared, now),
            ToKnockd::Answer(number, is_unused) => {
                if let Some(held) =
                    self.fleet.as_mut().and_then(|fleet| fleet.held.take(number, Duration::ZERO))
                {
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
        let number = self.tell(ASK, &knocked, None, now);
        match (&mut self.fleet, number) {
            (Some(fleet), Some(number)) if fleet.has_peer() => {
                fleet.held.hold(number, now.uptime, knocked);
            }
            (_, number) => self.settle(&knocked, number.is_none().then_some(true), now),
        }
    }

    /// The fleet has answered whether what was knocked is unused, or has not answered: then the door's policy counts.
    fn settle(&mut self, knocked: &Knocked, is_unused: Option<bool>, now: Now) {
        let Opening { door, knocker, .. } = knocked.opening;
        let Some(Door { name, rules, .. }) = self.config.doors.get(door) else { return };
        let door = name.clone();
        let why = match is_unused {
            Some(false) => "it was used at another member of the fleet",
            None if rules.needs_fleet => "the fleet does not answer",
            _ => return self.let_in(knocked, now),
        };
        self.log.event(Event::RefusedByFleet { door, knocker, why }, now);
    }

    /// Tells the fleet that a door was opened here for this access and time (`OPENED`). Or asks whether what was knocked
    /// was used up before at any member (`ASK`, without a time); from now on it counts as used there. Returns the number
    /// of the message; none if there is no fleet, or nothing to remember.
    pub(super) fn tell(
        &mut self,
        kind: u8,
        knocked: &Knocked,
        opened: Option<(Option<Box<Access>>, Duration)>,
        now: Now,
    ) -> Option<u64> {
        let Opening { door, knocker, turn } = knocked.opening;
        let door = self.config.doors.get(door)?;
        let fleet = self.fleet.as_mut()?;
        let (used, life) = used_up(door, turn, knocker, knocked.packet, now.unix.as_secs());
        let has_end = has_end_here(door, knocker);
        let (access, after) = match opened {
            None => (None, life),
            Some((access, time)) => (access, if has_end { time } else { COMMAND }),
        };
        if after.is_zero() {
            return None;
        }
        let number = fleet.number();
        let due = now.uptime.saturating_add(after);
        let stop = Stop {
            key: Key { origin: shape(door), number },
            door: door.name.clone(),
            knocker,
            access,
            command: Vec::new(),
            after,
            limit: None,
            due,
        };
        fleet.say(due, message::encode_opening(kind, &message::first_line(stop, has_end), &used), now);
        Some(number)
    }
}

/// Whether what opens here for this knocker closes by itself.
fn has_end_here(door: &Door, knocker: IpAddr) -> bool {
    door.stop_for(knocker).is_some() || door.open.as_ref().is_some_and(|open| !open.is_for_ever)
}
