//! Handles the reports of the watcher.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::daemon::capture::socket;
use crate::daemon::clock::now;
use crate::daemon::doorkeeper::fleet_socket::Knocked;
use crate::daemon::doorkeeper::{BATCH, BATCH_FOR_KERNEL, Doorkeeper};
use crate::daemon::error::StartError;
use crate::daemon::messages::{self, Received};
use crate::daemon::one_time;
use crate::door::Door;
use crate::door::lock::{Lock, OneTime, Turn};
use crate::door::ports::Ports;
use crate::door::spa::Refusal;
use crate::filter::interfaces::State;
use crate::filter::trouble::Code;
use crate::fleet::message::{ASK, OPENED};
use crate::octets;
use crate::opening::Action;
use crate::opening::admit::{Accesses, Where, accesses, port_of};
use crate::opening::entry::Notice;
use crate::opening::event::{Event, Opening};
use crate::opening::log_limit::{Cause, dropped, left_out};
use crate::protocol::credible::{self, Doubt};
use crate::protocol::desk::Verdict;
use crate::protocol::messages::{Generation, Order, Report, Step};
use crate::reason::reason;
use crate::time::Now;

/// Maximum number of interfaces whose logged state is kept: a compromised watcher may name any number.
const MOST_INTERFACES: usize = 1024;

impl Doorkeeper {
    /// Handles one batch of reports. The main loop starts the commands and acknowledges the openings between
    /// batches.
    pub(super) fn handle_reports(&mut self) {
        let batch = if self.firewall.is_some() { BATCH_FOR_KERNEL } else { BATCH };
        for _ in 0..batch {
            match self.watcher.receive() {
                Received::Message(report, _) => self.handle_report(report),
                Received::Nonsense => {}
                Received::Nothing | Received::Closed => return,
            }
        }
    }

    /// Acknowledges openings to the watcher, once the lists and packets that they use up are recorded.
    pub(super) fn acknowledge(&mut self) {
        let taken = self.desk.taken();
        if self.acknowledged != taken {
            self.acknowledged = taken;
            self.watcher.acknowledge(taken);
        }
    }

    pub(super) fn handle_report(&mut self, report: Report) {
        let now = now();
        if is_for_the_log(&report) && !self.watcher_log_limit.admits(now.uptime) {
            return;
        }
        match report {
            Report::Adopted(generation) => self.adopted(generation),
            Report::Opened(number, generation, opening) => match self.desk.admit(number, generation) {
                Verdict::Take => self.open(opening, false, now),
                Verdict::Again | Verdict::Stray => {}
            },
            Report::OverRate(number, generation, opening) => {
                if self.desk.admit(number, generation) == Verdict::Take {
                    self.open(opening, true, now);
                }
            }
            Report::Single(number, generation, single) => {
                if self.desk.admit(number, generation) == Verdict::Take {
                    self.check_single_packet(&single, now);
                }
            }
            Report::Stepped(generation, door, knocker, step) => {
                let period = self.config.doors.get(door).map(|door| door.lock.period()).unwrap_or_default();
                let Some(door) = self.door_named(generation, door) else { return };
                let event = match step {
                    Step::Advanced(stage) => Event::Advanced { door, knocker, stage: stage.into() },
                    Step::Failed(stage) => {
                        Event::Failed { door, knocker, stage: stage.into(), is_logged: true }
                    }
                    Step::Expired(stage) => Event::Expired { door, knocker, stage: stage.into() },
                    Step::WrongPacket => Event::WrongPacket { door, knocker },
                    Step::Misfit(misfit) => Event::Misfit { door, knocker, misfit, period },
                    Step::PacketAgain => Event::Refused { door, knocker, why: Refusal::Repeated },
                    Step::Repeated(done, wanted) => {
                        let count = [done, wanted].map(|count| usize::try_from(count).unwrap_or(usize::MAX));
                        Event::Repeated { door, knocker, count: count.into() }
                    }
                };
                self.log.event(event, now);
            }
            Report::Tried(generation, door, knocker, turn, count) => {
                if self.desk.is_in_force(generation) {
                    self.note_try(door, knocker, turn, count, now);
                }
            }
            Report::LeftOut(lines) => {
                self.status.counters.lines_left_out =
                    self.status.counters.lines_left_out.saturating_add(lines);
                self.log.tell(Notice::LeftOut, [left_out(lines)]);
            }
            Report::Told(line) => {
                if self.status_log_limit.admits(now.uptime) {
                    self.log.tell(Notice::Status, [line]);
                }
            }
            Report::Described => self.pass_on_description(now),
            Report::Dropped(generation, door, cause, count) => {
                if let Some(door) = self.door_named(generation, door) {
                    self.log.tell(Notice::LeftOut, [dropped(&door, cause, count)]);
                }
            }
            Report::Interface(what, state, was_known) => self.note_interface(what, state, was_known),
            Report::Trouble(trouble) => self.log.tell(Notice::Trouble, [trouble.to_string()]),
            Report::Shared(knock) => self.share_knock(&knock),
            Report::SocketWanted => match socket::open_unbound() {
                Ok(socket) => self.watcher.send(Order::Socket(Code(0)), Some(socket)),
                Err(error) => self.watcher.send(Order::Socket(Code::of(&error)), None),
            },
            Report::Confined(confined) => {
                if let Some(missing) = confined.missing().filter(|_| self.watcher.is_strict()) {
                    self.log.complain(&StartError::Confinement("watcher", missing).to_string());
                } else if self.status.counters.watcher_confined.as_ref() != Some(&confined) {
                    self.log.say(&format!("watcher: {confined}"));
                }
                self.status.counters.watcher_confined = Some(confined);
            }
            Report::Panicked(text) => self.log.complain(&format!("the watcher has a fault: {text}")),
            Report::Explained(text, is_end) => self.log.explain(text, is_end, now),
            // The watcher ends now; the closed socket follows.
            Report::Refused(error) => self.log.complain(&error.to_string()),
        }
    }

    /// Logs that an interface is listened on or waited for.
    fn note_interface(&mut self, what: String, state: State, was_known: bool) {
        let before = self.interfaces.iter_mut().find(|(name, _)| *name == what);
        let before = before.map(|(_, before)| std::mem::replace(before, state));
        // A new watcher reports all interfaces; only those that have changed are news.
        let is_replacement = !was_known && self.desk.is_pending() && self.is_same_configuration();
        match &mut self.interfaces_at_start {
            Some(interfaces) => interfaces.push((what.clone(), state)),
            None if is_replacement && before == Some(state) => {}
            None => {
                let was_known = was_known || is_replacement && before.is_some();
                self.log.tell(notice_of(state), [state.line(&what, was_known)]);
            }
        }
        if before.is_none() && self.interfaces.len() < MOST_INTERFACES {
            self.interfaces.push((what, state));
        }
    }

    /// The name of a door of the configuration in force.
    fn door_named(&self, generation: Generation, door: usize) -> Option<std::sync::Arc<str>> {
        let door = self.config.doors.get(door).filter(|_| self.desk.is_in_force(generation))?;
        Some(door.name.clone())
    }

    /// Handles a complete sequence. First the list or line is used up, even if the door then stays closed
    /// because it exceeds `Open_Rate`: others may have overheard the sequence.
    fn open(&mut self, opening: Opening, is_over_rate: bool, now: Now) {
        let Some(door) = self.config.doors.get_mut(opening.door) else { return };
        if is_over_rate && (door.open_rate().is_none() || !door.lock.is_single_use()) {
            return;
        }
        let name = door.name.clone();
        let cooldowns = self.memory.cooldowns().iter();
        let cooldown = cooldowns.filter(|it| it.knocker == opening.knocker && it.door == name);
        let mut checked = credible::check(door, &opening, cooldown.map(|it| it.until).max(), now);
        // The watcher does not know what happened at other members of a fleet. What was knocked during a cooldown is
        // used up in both processes, though nothing opens.
        let is_resting = checked == Err(Doubt::CoolingDown) && self.fleet.is_some();
        if is_resting {
            checked = credible::check(door, &opening, None, now);
        }
        match checked {
            Ok(()) => {}
            Err(Doubt::Spent) => {
                if self.fleet.is_some() && self.watcher_log_limit.admits(now.uptime) {
                    let (knocker, why) = (opening.knocker, Doubt::Spent.words());
                    self.log.event(Event::RefusedByFleet { door: name, knocker, why }, now);
                }
                return;
            }
            Err(doubt) => {
                return self.log_refusal(&name, "", opening.knocker, doubt.words(), now);
            }
        }
        // An intact watcher enforces the rate too. Checked before the line is used up: the default rate
        // depends on whether the current line is a single knock.
        let is_admitted = !(is_over_rate || is_resting)
            && self.buckets.admit(opening.door, door, credible::DELAY, now.uptime);
        // Other sections of this name may have the same list: this knock opens them too, and the watcher
        // reports them next.
        let is_exhausted = match self.use_up(opening, now) {
            Ok(is_exhausted) => is_exhausted,
            Err((path, error)) => {
                return self.log.complain(&format!(
                    "{name}: could not strike the used line in {}: {} --> the door stays shut",
                    octets::path(&path),
                    reason(&error)
                ));
            }
        };
        if is_admitted {
            self.open_once(Knocked::of(opening), now);
        } else {
            // It is used up, though nothing opens: the answer does not matter.
            self.tell(ASK, &Knocked::of(opening), None, now);
            self.memory.flush_soon(&self.openings);
            if !(is_over_rate || is_resting) {
                self.opening_log.count_dropped(&name, Cause::Rate, now);
            }
        }
        if is_exhausted {
            self.actions.push(Action::Tell(Event::Exhausted { door: name }));
        }
    }

    /// Logs that an opening that a process reports is not credible. `whose` is empty or ends with a space.
    pub(super) fn log_refusal(&mut self, door: &str, whose: &str, knocker: IpAddr, why: &str, now: Now) {
        if self.watcher_log_limit.admits(now.uptime) {
            self.log.complain(&format!("{door}: an opening {whose}for {knocker} is refused: {why}"));
        }
    }

    /// Uses up the list or line that opened a door. A line is struck on the disk first: a crash must not make
    /// it valid again. Then sends the watcher the remaining lines, and returns whether none is left.
    ///
    /// # Errors
    /// The line could not be struck in this file; `NotFound` if it does not contain it.
    pub(super) fn use_up(&mut self, opening: Opening, now: Now) -> Result<bool, (PathBuf, io::Error)> {
        let Some(door) = self.config.doors.get_mut(opening.door) else { return Ok(false) };
        let Lock::OneTime(lines) = &door.lock else {
            door.lock.spend(opening.turn, opening.knocker, now);
            self.memory.spend(door, opening.turn, opening.knocker);
            return Ok(false);
        };
        let path = lines.path.clone();
        let struck = one_time::strike(&path, opening.turn);
        let text = one_time::read(&path);
        let left = text.as_ref().ok().map(|text| OneTime::read(path.clone(), text, |_| {}));
        match left {
            Some(left) => door.lock = Lock::OneTime(Box::new(left)),
            None => door.lock.spend(opening.turn, opening.knocker, now),
        }
        let is_exhausted = door.lock.current_sequence().is_none();
        if let (Ok(text), Some(generation)) = (text, self.desk.in_force())
            && let Ok(text) = messages::hand_out(&text)
        {
            self.watcher.send(Order::Lines(self.desk.taken(), generation, opening.door), Some(text));
        }
        struck.map(|()| is_exhausted).map_err(|error| (path, error))
    }

    /// Records an attempt to guess the second half of a one-time list.
    fn note_try(&mut self, door: usize, knocker: IpAddr, turn: Turn, count: u8, now: Now) {
        let Some(door) = self.config.doors.get_mut(door) else { return };
        if credible::check_list(door, knocker, turn, now).is_err() {
            return;
        }
        let Lock::Otp(lock) = &mut door.lock else { return };
        lock.tries.set(turn.0, knocker, count, *lock.otp.accepted(now.unix).start());
        let is_locked_out = lock.is_locked_out(turn, knocker);
        self.memory.note_try(lock.otp.identity(), turn, knocker, count);
        let door = door.name.clone();
        self.log.event(Event::Tried { door, knocker, turn, count, is_locked_out }, now);
    }

    /// Opens a door for what was knocked here. What the knock used up stays used up even if there is no room for
    /// the opening: the watcher counts it as used, and others may have overheard it.
    pub(super) fn let_in(&mut self, knocked: &Knocked, now: Now) {
        let mut opening = knocked.opening;
        let Some(door) = self.config.doors.get(opening.door) else { return };
        let request = knocked.granted.as_ref().map(|granted| &granted.request);
        if request.is_some() {
            if !self.buckets.admit(opening.door, door, Duration::ZERO, now.uptime) {
                return self.opening_log.count_dropped(&door.name, Cause::Rate, now);
            }
            opening.turn = Turn::default();
        }
        let event = Event::Opened { door: door.name.clone(), opening };
        let time = request.and_then(|request| request.seconds).map(|it| Duration::from_secs(it.into()));
        let accesses = accesses(door, request);
        let whole = time.unwrap_or_else(|| door.cmd_timeout());
        if self.open_door((opening, event), (&accesses, time), Where::Here, now) {
            for access in accesses {
                self.tell(OPENED, knocked, Some((access, whole)), now);
            }
        }
    }

    /// Opens a door, unless its start commands can neither run nor wait: logs `event`, opens it in the kernel
    /// for the accesses and the time where a packet asked for them, and runs its start commands. Returns false if
    /// the opening had no effect.
    pub(super) fn open_door(
        &mut self,
        (opening, event): (Opening, Event),
        (accesses, time): (&Accesses, Option<Duration>),
        place: Where,
        now: Now,
    ) -> bool {
        let Some(door) = self.config.doors.get(opening.door) else { return false };
        if !self.openings.have_room_for(door, opening.knocker, accesses) {
            self.opening_log.count_dropped(&door.name, Cause::Queue, now);
            return false;
        }
        self.opening_log.write(event, &mut self.log, now);
        let ports: Vec<Ports> = accesses.iter().filter_map(port_of).map(Ports::of).collect();
        self.admit_to_kernel(opening, (&ports, time), now);
        let Some(door) = self.config.doors.get(opening.door) else { return false };
        self.memory.cool_down(door, opening.knocker, now);
        let actions = self.openings.open(door, opening.knocker, accesses, (time, place), now);
        let is_ignored = is_ignored(door, &actions);
        self.actions.extend(actions);
        self.memory.flush_soon(&self.openings);
        !is_ignored
    }
}

/// Whether the knock had no effect, because the door is open and ignores further knocks.
fn is_ignored(door: &Door, actions: &[Action]) -> bool {
    let ignored =
        |action: &Action| matches!(action, Action::Tell(Event::AlreadyOpen { is_extended: false, .. }));
    door.open.is_none() && !actions.is_empty() && actions.iter().all(ignored)
}

/// The kind of log line for this state of an interface.
fn notice_of(state: State) -> Notice {
    if state == State::Ready { Notice::Listening } else { Notice::Waiting }
}

/// Whether a report affects only the log or the state file, so that it may be left out.
fn is_for_the_log(report: &Report) -> bool {
    match report {
        Report::Adopted(_)
        | Report::Opened(..)
        | Report::OverRate(..)
        | Report::Single(..)
        | Report::SocketWanted
        | Report::Shared(_)
        | Report::Told(_)
        | Report::Described
        | Report::Explained(..) => false,
        Report::Stepped(..)
        | Report::Tried(..)
        | Report::LeftOut(_)
        | Report::Dropped(..)
        | Report::Interface(..)
        | Report::Trouble(_)
        | Report::Refused(_)
        | Report::Confined(_)
        | Report::Panicked(_) => true,
    }
}
