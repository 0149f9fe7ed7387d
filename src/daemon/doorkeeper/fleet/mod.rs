//! What the doorkeeper does for a fleet, and what a fleet has it do: see [`crate::fleet`].

mod following;

use std::net::IpAddr;
use std::time::Duration;

use crate::daemon::doorkeeper::fleet_socket::{Caller, Fleet, HeldOpening, Knocked};
use crate::daemon::doorkeeper::{BATCH, Doorkeeper};
use crate::daemon::messages::Received;
use crate::door::Door;
use crate::door::lock::Lock;
use crate::door::spa::request::Request;
use crate::door::spa::sealed::PacketId;
use crate::engine::sharing::SharedKnock;
use crate::fleet::marks::{shape, shape_of_all, used_up};
use crate::fleet::message::{Mark, Message, Shared, VERSION};
use crate::octets;
use crate::opening::event::{Event, Opening};
use crate::opening::log_limit::Cause;
use crate::protocol::messages::Order;
use crate::reason::reason;
use crate::time::Now;

/// How long the start command of a door without an end is worth running.
const COMMAND: Duration = Duration::from_secs(10);

impl Doorkeeper {
    /// Serves the fleet where the configuration in force says, if it does.
    pub(super) fn open_fleet(&mut self, now: Now) {
        let path = self.config.options.fleet_socket.clone();
        if self.fleet.as_ref().map(|fleet| fleet.path()) != path.as_deref() {
            self.decide_all(now);
            self.fleet = path.map(|path| Box::new(Fleet::new(path)));
        }
        self.greet_fleet();
        self.attend_to_fleet(now);
    }

    /// The fleet is served no more.
    pub(super) fn leave_fleet(&mut self, now: Now) {
        self.decide_all(now);
        self.fleet = None;
    }

    /// Tells the peer, if there is one, which doors there are.
    fn greet_fleet(&self) {
        if let Some(fleet) = self.fleet.as_ref().filter(|fleet| fleet.has_peer()) {
            fleet.say_now(&Message::Hello(VERSION, shape_of_all(&self.config.doors)));
        }
    }

    /// Tells the watcher whether to share knocks, if it ever is to.
    pub(super) fn tell_watcher_of_fleet(&mut self) {
        if self.config.options.shares_knocks {
            let is_on = self.fleet.as_ref().is_some_and(|fleet| fleet.passes_knocks);
            self.watcher.send(Order::Share(is_on), None);
        }
    }

    /// The watcher has a knock for the fleet.
    pub(super) fn share_knock(&self, knock: SharedKnock) {
        if let Some(fleet) = self.fleet.as_ref().filter(|fleet| fleet.passes_knocks) {
            fleet.say_now(&Message::Knock(knock));
        }
    }

    /// Takes what the fleet says, and opens what has waited for it long enough.
    pub(super) fn attend_to_fleet(&mut self, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        if let Err(error) = fleet.listen(now) {
            let path = octets::path(fleet.path()).into_owned();
            let text = format!("could not make the fleet socket {path}: {}; trying again", reason(&error));
            self.log.complain(&text);
        }
        let caller = self.fleet.as_mut().and_then(|fleet| fleet.accept());
        match caller {
            Some(Caller::Taken) => {
                self.greet_fleet();
                self.log.line("the fleet is connected");
            }
            Some(Caller::Refused(user)) if self.watcher_log_limit.admits(now.uptime) => {
                self.log.complain(&format!("user {user} may not speak for the fleet"));
            }
            Some(Caller::Refused(_)) | None => {}
        }
        for _ in 0..BATCH {
            let Some(fleet) = &mut self.fleet else { return };
            match fleet.receive() {
                Received::Message(message, _) => self.hear_fleet(message, now),
                Received::Nothing => break,
                Received::Nonsense => {
                    self.log.complain("the fleet says what is no message: is its version that of knockd?");
                    self.lose_fleet(now);
                }
                Received::Closed => {
                    self.log.line("the fleet is gone");
                    self.lose_fleet(now);
                }
            }
        }
        let Some(fleet) = &mut self.fleet else { return };
        fleet.flush(now);
        while let Some(held) = self.fleet.as_mut().and_then(|fleet| fleet.held.overdue(now.uptime)) {
            self.settle(held, None, now);
        }
    }

    /// There is no peer any more: what waits for its answer is asked again of the next one.
    fn lose_fleet(&mut self, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.part();
        self.tell_watcher_of_fleet();
        self.decide_all(now);
    }

    /// Nobody answers any more: the policy decides, and the next peer is asked the same.
    fn decide_all(&mut self, now: Now) {
        while let Some(held) = self.fleet.as_mut().and_then(|fleet| fleet.held.overdue(Duration::MAX)) {
            let Some(HeldOpening { door, knocked }) = self.placed(held, now) else { continue };
            self.ask(knocked.opening(), knocked.packet(), now);
            self.settle(HeldOpening { door, knocked }, None, now);
        }
    }

    fn hear_fleet(&mut self, message: Message, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        let (number, is_unused) = match message {
            Message::Yes(number) => (number, Some(true)),
            Message::No(number) => (number, Some(false)),
            Message::Unknown(number) => (number, None),
            Message::Open(shared) => return self.follow(shared, now),
            Message::Passes(is_on) => {
                fleet.passes_knocks = is_on;
                return self.tell_watcher_of_fleet();
            }
            Message::Knock(knock) if self.config.options.shares_knocks => {
                return self.watcher.send(Order::Heard(knock), None);
            }
            // These are ours to say; a knock, if knocks are not shared here.
            Message::Hello(..) | Message::Opened(_) | Message::Ask(_) | Message::Knock(_) => return,
        };
        if let Some(held) = fleet.held.answered(number) {
            self.settle(held, is_unused, now);
        }
    }

    /// Opens a door for what was just used up here, unless that was used at another member: asks the fleet, if there is one,
    /// and the door waits for the answer.
    pub(super) fn open_once(&mut self, knocked: Knocked, now: Now) {
        let opening = knocked.opening();
        let number = self.ask(opening, knocked.packet(), now);
        let door = self.config.doors.get(opening.door).map(|door| door.name.clone());
        let (Some(fleet), Some(number), Some(door)) = (&mut self.fleet, number, door) else {
            return self.open_for_knock(&knocked, now);
        };
        let held = HeldOpening { door, knocked };
        if fleet.has_peer() && !fleet.held.is_full() {
            fleet.held.hold(number, now.uptime, held);
        } else {
            self.settle(held, None, now);
        }
    }

    /// Asks whether what this opening used up was used before at any member; from now on it counts as used there. Returns
    /// the number of the question; none if there is no fleet, or it can be used again. `packet` is the single packet, if
    /// it was one.
    pub(super) fn ask(&mut self, opening: Opening, packet: Option<PacketId>, now: Now) -> Option<u64> {
        let door = self.config.doors.get(opening.door)?;
        let fleet = self.fleet.as_mut()?;
        let (mark, life) = used_up(door, (opening.turn, opening.knocker), packet, now.unix.as_secs())?;
        let question = to_share(door, opening, (fleet.number(), mark, life));
        let number = question.number;
        fleet.say(Message::Ask(question), now);
        Some(number)
    }

    /// The fleet has answered whether what was knocked is unused, or has not answered: then the door's policy counts.
    fn settle(&mut self, held: HeldOpening, is_unused: Option<bool>, now: Now) {
        let Some(HeldOpening { door: name, knocked }) = self.placed(held, now) else { return };
        let Opening { door, knocker, .. } = knocked.opening();
        let needs_answer = self.config.doors.get(door).is_some_and(|door| door.rules.needs_fleet);
        match is_unused {
            Some(false) => self.log.event(Event::UsedElsewhere { door: name, knocker }, now),
            None if needs_answer => self.log.event(Event::FleetSilent { door: name, knocker }, now),
            Some(true) | None => self.open_for_knock(&knocked, now),
        }
    }

    fn open_for_knock(&mut self, knocked: &Knocked, now: Now) {
        match knocked {
            Knocked::Sequence(opening) => self.let_in(*opening, now),
            Knocked::Packet(granted) => self.open_for(granted, now),
        }
    }

    /// The same with the number that its door has by now. It is dropped if a configuration came into force since that
    /// does not allow it.
    fn placed(&mut self, mut held: HeldOpening, now: Now) -> Option<HeldOpening> {
        let Opening { door: before, knocker, .. } = held.knocked.opening();
        let is_packet = matches!(held.knocked, Knocked::Packet(_));
        let allows = |door: &Door| {
            door.name == held.door
                && door.rules.admit(knocker)
                && matches!(door.lock, Lock::Spa(_)) == is_packet
        };
        // Another section may have the same name.
        let doors = &self.config.doors;
        let is_same = doors.get(before).is_some_and(allows);
        let place = if is_same { Some(before) } else { doors.iter().position(allows) };
        let Some(place) = place else {
            self.opening_log.count_dropped(&held.door, Cause::Reload, now);
            return None;
        };
        match &mut held.knocked {
            Knocked::Sequence(opening) => opening.door = place,
            Knocked::Packet(granted) => granted.door = place,
        }
        Some(held)
    }

    /// A door was opened here: tells the fleet. Of a single packet, `asked` is what it asked for: each port is told by
    /// itself.
    pub(super) fn share(&mut self, opening: Opening, asked: Option<(PacketId, &Request)>, now: Now) {
        let Some(door) = self.config.doors.get(opening.door) else { return };
        let Some(fleet) = &mut self.fleet else { return };
        let packet = asked.map(|(id, _)| id);
        let used = used_up(door, (opening.turn, opening.knocker), packet, now.unix.as_secs());
        let mark = used.map(|(mark, _)| mark).unwrap_or_default();
        let has_end = has_end(door, opening.knocker);
        let seconds = asked.and_then(|(_, request)| request.seconds);
        let time = seconds.map_or(door.cmd_timeout(), |seconds| Duration::from_secs(seconds.into()));
        let time = if has_end { time } else { COMMAND };
        let mut tell = |access| {
            let number = fleet.number();
            fleet.recent.is_new(number);
            let shared = Shared { has_end, access, ..to_share(door, opening, (number, mark, time)) };
            fleet.say(Message::Opened(shared), now);
        };
        let Some((_, request)) = asked else { return tell(None) };
        for port in &request.ports {
            tell(Some((request.user.clone(), *port)));
        }
    }
}

/// An opening as the fleet has to know it, with a number, what it used up, and how long it lasts.
fn to_share(door: &Door, opening: Opening, (number, mark, time): (u64, Mark, Duration)) -> Shared {
    Shared {
        number,
        door: door.name.clone(),
        shape: shape(door),
        knocker: opening.knocker,
        turn: opening.turn,
        mark,
        time,
        has_end: true,
        access: None,
    }
}

/// Whether what opens here for this knocker closes by itself.
fn has_end(door: &Door, knocker: IpAddr) -> bool {
    door.stop_for(knocker).is_some() || door.open.as_ref().is_some_and(|open| !open.is_for_ever)
}
