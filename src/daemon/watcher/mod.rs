//! The watcher: receives packets, and reports openings and steps of attempts to the doorkeeper.
//!
//! This process reads what strangers send. If it ends, the doorkeeper starts a new one at once. It receives
//! configurations and packet sockets from the doorkeeper; it opens no files, runs no programs and writes no
//! log, and gives up the right to do so ([`sandbox`]) before it reads anything.
//!
//! Its event loop is the only place of this process that blocks or reads the clock.

mod adopt;
pub mod debug;
pub mod expression;
pub mod link;
mod reporting;
mod status;

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use crate::config::Sandbox;
use crate::daemon::capture::netlink::InterfaceChanges;
use crate::daemon::capture::socket::Taken;
use crate::daemon::capture::{Captures, Netlink};
use crate::daemon::cli;
use crate::daemon::clock::{Zone, now};
use crate::daemon::core_dump;
use crate::daemon::messages;
use crate::daemon::poll::{poll_timeout, rest_for};
use crate::daemon::processes;
use crate::daemon::sandbox;
use crate::daemon::sandbox::confined_process::{ConfinedProcess, Descriptors};
use crate::daemon::signals;
use crate::daemon::watcher::link::Link;
use crate::door::knock::Knock;
use crate::door::lock::{Lock, OneTime};
use crate::engine::Engine;
use crate::engine::single_packets::Verdict;
use crate::filter::interest::Interest;
use crate::opening::event::Event;
use crate::opening::log_limit::{Cause, DropCounts, RateLimit};
use crate::protocol::knock::EncodedKnock;
use crate::protocol::messages::{Order, Report, SinglePacket, Step};
use crate::protocol::values::plain;
use crate::time::Now;

/// The most packets that are handled before messages of the doorkeeper get their turn: more than come in a
/// [`BATCH_TIME`](crate::filter::bursts::BATCH_TIME) at 100,000 a second.
const BATCH: usize = 512;
/// How many upcoming lines of a one-time file the kernel's filter includes, so that a quick knocker need not
/// wait for a new filter.
const AHEAD: usize = 4;

/// How long a switch between socket and ring waits for messages to be sent.
const PATIENCE: Duration = Duration::from_millis(20);

/// The watcher.
#[expect(clippy::struct_excessive_bools, reason = "three say what is wanted of it, one that it ends")]
struct Watcher {
    engine: Engine,
    captures: Captures,
    link: Link,
    /// Limits the lines about attempts, so that strangers cannot flood the log.
    line_limit: RateLimit,
    /// Openings that were dropped, by the place of the door.
    dropped: DropCounts<usize>,
    /// Limits how many tries to guess one-time lists are recorded in the state file.
    tries: RateLimit,
    /// The steps of attempts are logged somewhere.
    has_readers: bool,
    only_v4: bool,
    /// `-D` was given: every packet is explained.
    explains: bool,
    zone: Zone,
    is_finished: bool,
    /// While messages wait to be sent: when a capture switches all the same, as uptime.
    change_at_last: Option<Duration>,
    /// Readable when SIGUSR1 arrived.
    usr1: Option<SignalFd>,
    started: Now,
}

/// Descriptors and data that must be opened before the process is confined.
struct Prepared {
    zone: Zone,
    netlink: io::Result<Netlink>,
    usr1: Option<SignalFd>,
}

/// The work after a wait.
struct Ready {
    /// The captures with packets to read, because they are readable or their time to accumulate is over.
    captures: Vec<usize>,
    interfaces: bool,
    doorkeeper: bool,
    /// SIGUSR1 arrived.
    usr1: bool,
}

/// Main function of the watcher.
#[must_use]
pub fn main(words: Vec<OsString>) -> ExitCode {
    // Signals to the whole process group are for the doorkeeper; the watcher ends with it.
    signals::ignore_all();
    core_dump::forbid();
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    match start(words) {
        Some(mut watcher) => {
            watcher.run();
            ExitCode::SUCCESS
        }
        None => ExitCode::FAILURE,
    }
}

/// Opens what cannot be opened later, confines the process, and waits for a configuration.
fn start(words: Vec<OsString>) -> Option<Watcher> {
    let (words, confinement) = processes::split_confinement(words)?;
    let (Ok(arguments), Ok(socket)) = (cli::parse(&words), processes::accept_alone()) else { return None };
    let prepared = Prepared { zone: Zone::local(), netlink: Netlink::open(), usr1: signals::usr1() };
    // Standard error is /dev/null: panics are reported over the socket.
    let last_words = socket.as_fd().try_clone_to_owned().ok()?;
    let mut link = Link::new(socket);
    let confined = sandbox::enter(
        &confinement,
        &ConfinedProcess::Watcher(Descriptors {
            links: [link.descriptor(), last_words.as_fd()],
            survey: prepared.netlink.as_ref().ok().map(Netlink::survey),
        }),
    );
    std::panic::set_hook(Box::new(move |panic| {
        let _ = messages::transmit(&last_words, &Report::Panicked(plain(&panic.to_string())), None);
    }));
    let is_refused = confinement.sandbox == Sandbox::Require && confined.missing().is_some();
    link.say(Report::Confined(confined));
    if is_refused { None } else { Watcher::begin(&arguments, link, prepared) }
}

impl Watcher {
    /// The event loop; ends on the doorkeeper's order, or when the doorkeeper is gone.
    fn run(&mut self) {
        let mut events = Vec::new();
        while !self.is_finished && !self.link.is_closed() {
            let ready = self.wait();
            let now = now();
            self.sum_up(now);
            if ready.interfaces
                && let Some(changes) = self.captures.change_listener().read_changes()
            {
                self.look_around(&changes);
            }
            if self.captures.next_look().is_some_and(|at| at <= now.uptime) {
                let interest = Interest::of(self.engine.doors(), AHEAD);
                let sockets = &mut || self.link.packet_socket();
                let reports = self.captures.look_again(now.uptime, &interest, sockets);
                self.engine.relocate(self.captures.here().iter().copied());
                self.say_all(reports);
            }
            for capture in ready.captures {
                self.listen(capture, &mut events, now);
            }
            self.give_back_rings(now);
            self.limit_steps(now);
            self.engine.expire(now, &mut events);
            self.handle_all(&mut events, now);
            // After the packets: knocks that came before SIGHUP are judged by the old configuration.
            if ready.doorkeeper || self.link.has_orders() {
                self.obey(now);
            }
            if ready.usr1 && self.usr1.as_ref().is_some_and(|it| matches!(it.read_signal(), Ok(Some(_)))) {
                self.tell_log(now);
            }
            self.link.flush();
        }
        if let Some(lines) = self.line_limit.take_suppressed() {
            self.link.say(Report::LeftOut(lines));
        }
        let dropped = self.dropped.take();
        self.report_dropped(dropped);
    }

    /// Sleeps until there is work, and returns it.
    fn wait(&self) -> Ready {
        // Captures whose packets accumulate are not polled.
        let rests = self.captures.descriptors().filter_map(|(_, rest)| rest).min();
        let deadlines = [
            self.engine.next_deadline(),
            self.engine.next_look(),
            self.line_limit.next_deadline(),
            self.dropped.next_deadline(),
            self.captures.next_look(),
            self.captures.next_change(),
            rests,
        ];
        let deadline = deadlines.into_iter().flatten().min();
        let timeout = match deadline {
            _ if self.link.has_orders() => PollTimeout::ZERO,
            None => PollTimeout::NONE,
            Some(deadline) => poll_timeout(Some(deadline), now()),
        };
        let mut descriptors = vec![
            PollFd::new(self.link.descriptor(), self.link.events()),
            PollFd::new(self.captures.change_listener().as_fd(), PollFlags::POLLIN),
        ];
        let usr1 = self.usr1.as_ref().map(|usr1| (usr1.as_fd(), PollFlags::POLLIN));
        let has_usr1 = usr1.is_some();
        descriptors.extend(usr1.map(|(fd, events)| PollFd::new(fd, events)));
        // A descriptor with no events stands in for a capture whose packets accumulate, so that positions
        // stay fixed.
        descriptors.extend(self.captures.descriptors().map(|(fd, rest)| match rest {
            None => PollFd::new(fd, PollFlags::POLLIN),
            Some(_) => PollFd::new(self.captures.change_listener().as_fd(), PollFlags::empty()),
        }));
        let is_told = rest_for(&mut descriptors, timeout);
        let mut ready = descriptors.iter().map(|it| !is_told || it.any().unwrap_or(true));
        let mut next = || ready.next().unwrap_or_default();
        let (doorkeeper, interfaces) = (next(), next());
        let usr1 = has_usr1 && next();
        let rested = |rest: Option<Duration>| rest.is_some_and(|end| end <= now().uptime);
        let rests = self.captures.descriptors().map(|(_, rest)| rest);
        let captures =
            ready.zip(rests).enumerate().filter(|(_, (is_ready, rest))| *is_ready || rested(*rest));
        let captures = captures.map(|(place, _)| place).collect();
        Ready { captures, interfaces, doorkeeper, usr1 }
    }

    /// Carries out the doorkeeper's orders.
    fn obey(&mut self, now: Now) {
        self.link.flush();
        while let Some((order, descriptor)) = self.link.receive() {
            match (order, descriptor) {
                (Order::Adopt(generation), Some(bundle)) => self.adopt(generation, &bundle, now),
                (Order::Lines(number, generation, door), Some(text))
                    if self.link.is_latest(number, generation, door) =>
                {
                    self.refill(door, &text);
                }
                (Order::Heard(knock), _) => self.hear(knock, now),
                (Order::Describe, Some(file)) => self.describe(file, now),
                (Order::Tell, _) => self.tell_log(now),
                (Order::Finish, _) => self.is_finished = true,
                _ => {}
            }
        }
    }

    /// Handles waiting packets. `events` is an empty buffer for the events of one packet.
    ///
    /// A packet without events, such as a forged single packet, passes through little more than the checks.
    #[cfg_attr(has_optimize_attribute, optimize(speed))]
    fn listen(&mut self, place: usize, events: &mut Vec<Event>, now: Now) {
        self.limit_steps(now);
        let mut count = 0;
        let mut is_empty = false;
        while count < BATCH && !is_empty {
            let Some(capture) = self.captures.at(place) else { return };
            match capture.take() {
                Taken::Nothing => is_empty = true,
                Taken::Other => count += 1,
                Taken::Knock(knock) => {
                    count += 1;
                    let link_header = self.explains.then(|| capture.interface.link_header());
                    let is_left_over = match link_header {
                        Some(link_header) => self.observe_closely(&knock, link_header, events, now),
                        None => self.engine.observe(&knock, now, events),
                    };
                    if is_left_over && self.engine.shares_knocks() {
                        self.share(&knock, now);
                    }
                    if !events.is_empty() {
                        self.handle_all(events, now);
                        self.limit_steps(now);
                    }
                    self.look_at_datagram(place, &knock, now);
                }
            }
        }
        if let Some(capture) = self.captures.at(place) {
            capture.bursts.record(count, is_empty, now.uptime);
        }
        // Steps that were not reported, if there are any.
        self.handle_all(events, now);
        self.adapt(place, now);
    }

    /// Processes a packet where packets are explained (`-D`), which takes the length of their link headers. Returns
    /// what [`Engine::observe`] returns.
    #[inline(never)]
    fn observe_closely(
        &mut self,
        knock: &Knock,
        link_header: u64,
        events: &mut Vec<Event>,
        now: Now,
    ) -> bool {
        self.explain_packet(knock, link_header, now);
        let attempts = self.attempts_to_explain(knock);
        let is_left_over = self.engine.observe(knock, now, events);
        self.explain_failures(&attempts, knock, events);
        is_left_over
    }

    /// Shares a packet with the fleet, if that is of use.
    #[inline(never)]
    fn share(&mut self, knock: &Knock, now: Now) {
        if self.engine.may_share(knock, now) {
            self.link.say(Report::Shared(EncodedKnock::of(knock)));
        }
    }

    /// Handles a knock that another gateway of the fleet shared.
    fn hear(&mut self, knock: EncodedKnock, now: Now) {
        let Some(knock) = knock.knock() else { return };
        let mut events = Vec::new();
        self.limit_steps(now);
        self.engine.observe_elsewhere(&knock, now, &mut events);
        self.handle_all(&mut events, now);
    }

    /// Checks the last packet of a capture, if it is a datagram that may be a single packet.
    #[cfg_attr(has_optimize_attribute, optimize(speed))]
    fn look_at_datagram(&mut self, place: usize, knock: &Knock, now: Now) {
        let Some(packet) = self.captures.at(place).and_then(|capture| capture.datagram()) else { return };
        match self.engine.judge_single_packet(knock, packet) {
            Verdict::Stray | Verdict::Wrong { reporter: None, .. } => {}
            verdict => self.follow(verdict, place, knock, now),
        }
    }

    /// Passes on a single packet whose HMAC is right, and reports others.
    #[inline(never)]
    fn follow(&mut self, verdict: Verdict, place: usize, knock: &Knock, now: Now) {
        let (door, step) = match verdict {
            Verdict::Stray | Verdict::Wrong { reporter: None, .. } => return,
            Verdict::Passed(door) => {
                let packet = self.captures.at(place).and_then(|capture| capture.datagram());
                let packet = packet.map(|packet| packet.payload().to_vec()).unwrap_or_default();
                let (sender, destination) = (knock.source, knock.destination);
                if !self.link.pass(SinglePacket { door, sender, destination, packet }) {
                    self.dropped.add(&door, Cause::Queue, now.uptime);
                }
                return;
            }
            Verdict::Wrong { reporter: Some(door), .. } => (door, Step::WrongPacket),
            Verdict::Repeated(door) => (door, Step::PacketAgain),
        };
        if self.may_report_step(now) {
            self.link.say(Report::Stepped(self.link.generation(), door, knock.source, step));
        }
    }

    /// Switches a capture between socket and ring according to its packet rate. Setting up a ring takes some
    /// ten milliseconds, so it waits until openings are sent, but not for long: without a ring, a flood loses
    /// packets.
    fn adapt(&mut self, place: usize, now: Now) {
        if self.link.has_waiting() {
            let end = *self.change_at_last.get_or_insert(now.uptime.saturating_add(PATIENCE));
            if now.uptime < end {
                return;
            }
        } else {
            self.change_at_last = None;
        }
        let interest = || Interest::of(self.engine.doors(), AHEAD);
        let report = self.captures.adapt(place, now.uptime, interest, &mut || self.link.packet_socket());
        self.say_all(report);
    }

    /// Gives up the rings of captures whose flood is over.
    fn give_back_rings(&mut self, now: Now) {
        if self.captures.next_change().is_some_and(|due| due <= now.uptime) {
            for place in 0..self.captures.interfaces().count() {
                self.adapt(place, now);
            }
        }
    }

    /// Follows changes of interfaces, addresses or routes; attempts in progress continue.
    fn look_around(&mut self, changes: &InterfaceChanges) {
        let interest = Interest::of(self.engine.doors(), AHEAD);
        let reports = self.captures.look(changes, &interest, &mut || self.link.packet_socket());
        self.engine.relocate(self.captures.here().iter().copied());
        self.say_all(reports);
    }

    fn say_all(&mut self, reports: impl IntoIterator<Item = Report>) {
        reports.into_iter().for_each(|report| self.link.say(report));
    }

    fn is_one_time(&self, door: usize) -> bool {
        self.engine.doors().get(door).is_some_and(|door| matches!(door.lock, Lock::OneTime(_)))
    }

    fn renew_filter(&mut self) {
        let interest = Interest::of(self.engine.doors(), AHEAD);
        if let Some(report) = self.captures.set_interest(&interest) {
            self.link.say(report);
        }
    }

    /// Replaces the lines of a one-time file after a used one was struck.
    fn refill(&mut self, door: usize, text: &impl AsFd) {
        let Some(Lock::OneTime(lines)) = self.engine.doors().get(door).map(|door| &door.lock) else { return };
        let path = lines.path.clone();
        let text = messages::read_all(text).ok();
        let fresh = text.map(|text| OneTime::read(path, &text, |_| {}));
        self.engine.refill(door, fresh);
        if self.explains {
            let next = self.engine.doors().get(door).and_then(|door| {
                Some(format!("new sequence for door {}: {}", door.name, door.lock.current_sequence()?))
            });
            if let Some(text) = next {
                self.link.explain(&text);
            }
        }
        self.renew_filter();
    }
}
