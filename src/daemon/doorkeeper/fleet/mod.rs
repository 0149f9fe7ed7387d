//! What the doorkeeper does for a fleet, and what a fleet has it do: see [`crate::fleet`].

mod following;

use std::net::IpAddr;
use std::time::Duration;

use crate::daemon::doorkeeper::fleet_socket::{Caller, Fleet, HeldOpening, Knocked};
use crate::daemon::doorkeeper::{BATCH, Doorkeeper};
use crate::daemon::messages::Received;
use crate::door::Door;
use crate::door::lock::{Lock, Turn};
use crate::door::sequence::Stage;
use crate::door::spa::request::Request;
use crate::engine::sharing::SharedKnock;
use crate::engine::single_packets::{Granted, UsedPacket};
use crate::fleet::marks::{life_of_packet, mark, shape, shape_of_all};
use crate::fleet::message::{Mark, Message, Shared, VERSION};
use crate::octets;
use crate::opening::Action;
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
            Some(Caller::Refused(user)) if self.talk.admits(now.uptime) => {
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
            self.decide(held, now);
        }
    }

    /// There is no peer any more: what waits for its answer is asked again of the next one.
    fn lose_fleet(&mut self, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        fleet.part();
        self.tell_watcher_of_fleet();
        self.decide_all(now);
    }

    fn decide_all(&mut self, now: Now) {
        while let Some(held) = self.fleet.as_mut().and_then(|fleet| fleet.held.overdue(Duration::MAX)) {
            let Some(held) = self.placed(held, now) else { continue };
            if let Some(question) = self.question(&held.knocked, now)
                && let Some(fleet) = &mut self.fleet
            {
                fleet.say(Message::Ask(question), now);
            }
            self.decide(held, now);
        }
    }

    fn hear_fleet(&mut self, message: Message, now: Now) {
        let Some(fleet) = &mut self.fleet else { return };
        match message {
            Message::Open(shared) => self.follow(shared, now),
            Message::Yes(number) => {
                if let Some(held) = fleet.held.answered(number) {
                    self.let_in_held(held, now);
                }
            }
            Message::No(number) => {
                if let Some(HeldOpening { door, knocked }) = fleet.held.answered(number) {
                    let knocker = knocked.knocker();
                    self.log.event(Event::UsedElsewhere { door, knocker }, now);
                }
            }
            Message::Unknown(number) => {
                if let Some(held) = fleet.held.answered(number) {
                    self.decide(held, now);
                }
            }
            Message::Passes(is_on) => {
                fleet.passes_knocks = is_on;
                self.tell_watcher_of_fleet();
            }
            Message::Knock(knock) if self.config.options.shares_knocks => {
                self.watcher.send(Order::Heard(knock), None);
            }
            // These are ours to say; a knock, if knocks are not shared here.
            Message::Hello(..) | Message::Opened(_) | Message::Ask(_) | Message::Knock(_) => {}
        }
    }

    /// Asks the fleet about what was just used up here. Returns it if the door is to be opened at once; otherwise the
    /// door waits for the answer, or stays shut.
    pub(super) fn ask_fleet(&mut self, knocked: Knocked, now: Now) -> Option<Knocked> {
        let question = self.question(&knocked, now);
        let (Some(fleet), Some(mut question)) = (&mut self.fleet, question) else { return Some(knocked) };
        let Some(door) = self.config.doors.get(knocked.door()) else { return Some(knocked) };
        question.number = fleet.number();
        let held = HeldOpening { door: door.name.clone(), knocked };
        let is_answered = fleet.has_peer() && !fleet.held.is_full();
        let number = question.number;
        fleet.say(Message::Ask(question), now);
        if is_answered {
            fleet.held.hold(number, now.uptime, held);
            None
        } else if door.rules.needs_fleet {
            self.stay_shut(&held, now);
            None
        } else {
            Some(held.knocked)
        }
    }

    /// Tells the fleet that what was knocked is used up, though no door opens: sends `Ask` and ignores the answer.
    pub(super) fn use_up_in_fleet(&mut self, opening: Opening, now: Now) {
        let question = self.question_of_sequence(opening);
        self.tell_used_up(question, now);
    }

    /// The same for a single packet of this sender.
    pub(super) fn use_up_packet_in_fleet(&mut self, packet: UsedPacket, sender: IpAddr, now: Now) {
        let question = self.question_of_packet(packet, sender, now);
        self.tell_used_up(question, now);
    }

    fn tell_used_up(&mut self, question: Option<Shared>, now: Now) {
        if let Some(mut question) = question
            && let Some(fleet) = &mut self.fleet
        {
            question.number = fleet.number();
            fleet.say(Message::Ask(question), now);
        }
    }

    /// What to ask about it, if it can be used once.
    fn question(&self, knocked: &Knocked, now: Now) -> Option<Shared> {
        match knocked {
            Knocked::Sequence(opening) => self.question_of_sequence(*opening),
            Knocked::Packet(granted) => {
                let Granted { door, time, id, .. } = **granted;
                self.question_of_packet(UsedPacket { door, time, id }, granted.request.address, now)
            }
        }
    }

    fn question_of_sequence(&self, opening: Opening) -> Option<Shared> {
        let door = self.config.doors.get(opening.door)?;
        let (mark, time) = mark(door, opening.turn, opening.knocker)?;
        Some(question(door, (opening.turn, mark, time), opening.knocker))
    }

    fn question_of_packet(&self, packet: UsedPacket, knocker: IpAddr, now: Now) -> Option<Shared> {
        let door = self.config.doors.get(packet.door)?;
        let Lock::Spa(lock) = &door.lock else { return None };
        // One that is ahead of the clock here is good for so much longer.
        let ahead = Duration::from_secs(packet.time.saturating_sub(now.unix.as_secs()));
        let time = life_of_packet(lock).saturating_add(ahead);
        Some(question(door, (Turn(packet.time), Mark(packet.id.0), time), knocker))
    }

    /// The fleet has not answered: the door's policy counts.
    fn decide(&mut self, held: HeldOpening, now: Now) {
        let Some(held) = self.placed(held, now) else { return };
        let door = self.config.doors.get(held.knocked.door());
        if door.is_some_and(|door| door.rules.needs_fleet) {
            self.stay_shut(&held, now);
        } else {
            self.let_in_held(held, now);
        }
    }

    fn stay_shut(&mut self, held: &HeldOpening, now: Now) {
        let knocker = held.knocked.knocker();
        self.log.event(Event::FleetSilent { door: held.door.clone(), knocker }, now);
    }

    fn let_in_held(&mut self, held: HeldOpening, now: Now) {
        match self.placed(held, now).map(|held| held.knocked) {
            Some(Knocked::Sequence(opening)) => self.let_in(opening, now),
            Some(Knocked::Packet(granted)) => self.open_for(&granted, now),
            None => {}
        }
    }

    /// The same with the number that its door has by now. It is dropped if a configuration came into force since that
    /// does not allow it.
    fn placed(&mut self, mut held: HeldOpening, now: Now) -> Option<HeldOpening> {
        let is_packet = matches!(held.knocked, Knocked::Packet(_));
        let allows = |door: &Door| {
            door.name == held.door
                && door.rules.admit(held.knocked.knocker())
                && matches!(door.lock, Lock::Spa(_)) == is_packet
        };
        // Another section may have the same name.
        let doors = &self.config.doors;
        let is_same = doors.get(held.knocked.door()).is_some_and(allows);
        let place = if is_same { Some(held.knocked.door()) } else { doors.iter().position(allows) };
        let Some(place) = place else {
            self.untold.drop_opening(&held.door, Cause::Reload, now);
            return None;
        };
        match &mut held.knocked {
            Knocked::Sequence(opening) => opening.door = place,
            Knocked::Packet(granted) => granted.door = place,
        }
        Some(held)
    }

    /// A door was opened here by a sequence: tells the fleet.
    pub(super) fn share(&mut self, opening: Opening, now: Now) {
        if self.fleet.is_some()
            && let Some(door) = self.config.doors.get(opening.door)
        {
            let mark = mark(door, opening.turn, opening.knocker).map(|(mark, _)| mark).unwrap_or_default();
            let time = door.cmd_timeout();
            self.tell_fleet(opening, mark, (None, time), now);
        }
    }

    /// The same for each port that a single packet asked for; the turn is when that was made.
    pub(super) fn share_packet(&mut self, opening: Opening, mark: Mark, request: &Request, now: Now) {
        let Some(door) = self.config.doors.get(opening.door).filter(|_| self.fleet.is_some()) else { return };
        let seconds = request.seconds.unwrap_or_else(|| door.cmd_timeout_seconds());
        for &port in &request.ports {
            let asked = (Some((request.user.clone(), port)), Duration::from_secs(seconds.into()));
            self.tell_fleet(opening, mark, asked, now);
        }
    }

    fn tell_fleet(
        &mut self,
        opening: Opening,
        mark: Mark,
        (access, time): (Option<(String, Stage)>, Duration),
        now: Now,
    ) {
        let Some(door) = self.config.doors.get(opening.door) else { return };
        let Some(fleet) = &mut self.fleet else { return };
        let number = fleet.number();
        fleet.recent.is_new(number);
        let has_end = has_end(door, opening.knocker);
        let shared = Shared {
            number,
            door: door.name.to_string(),
            shape: shape(door),
            knocker: opening.knocker,
            turn: opening.turn,
            mark,
            time: if has_end { time } else { COMMAND },
            has_end,
            access,
        };
        fleet.say(Message::Opened(shared), now);
    }
}

/// Asks whether this was used before at any member; the number of the question is still to come.
fn question(door: &Door, (turn, mark, time): (Turn, Mark, Duration), knocker: IpAddr) -> Shared {
    Shared {
        number: 0,
        door: door.name.to_string(),
        shape: shape(door),
        knocker,
        turn,
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

/// Whether a knock did nothing, because the door is open and ignores it.
pub(super) fn is_ignored(door: &Door, actions: &[Action]) -> bool {
    let ignored =
        |action: &Action| matches!(action, Action::Tell(Event::AlreadyOpen { is_extended: false, .. }));
    door.open.is_none() && !actions.is_empty() && actions.iter().all(ignored)
}
