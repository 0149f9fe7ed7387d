//! The network side: packets in, events to the log, openings to the doorkeeper.
//!
//! One loop around `poll`: the only place of this process that blocks, and that reads the clock.

pub mod debug;
pub mod expression;
pub mod link;
pub mod reload;

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::config::{Config, Options};
use crate::daemon::background::Launcher;
use crate::daemon::capture::Captures;
use crate::daemon::capture::netlink::Ring;
use crate::daemon::capture::socket::Taken;
use crate::daemon::cli::Arguments;
use crate::daemon::clock::now;
use crate::daemon::doorkeeper::state_file;
use crate::daemon::error::StartError;
use crate::daemon::load::{Loaded, load};
use crate::daemon::log::output;
use crate::daemon::log::{self, Log};
use crate::daemon::messages::{Received, Request};
use crate::daemon::notify;
use crate::daemon::poll::poll_timeout;
use crate::daemon::poll::wait_for;
use crate::daemon::signals::{Came, Signals};
use crate::daemon::watcher::link::Link;
use crate::door::lock::Lock;
use crate::engine::Engine;
use crate::filter::interest::Interest;
use crate::filter::interfaces::Wanted;
use crate::opening::event::Event;
use crate::reason::reason;
use crate::time::Now;

/// Packets that are taken before signals and the doorkeeper are looked at again.
const BATCH: usize = 256;
/// Lines of a one-time file that the kernel's filter knows ahead of their turn, so that a quick
/// knocker need not wait for a new filter.
pub(super) const AHEAD: usize = 4;

/// The watcher.
pub(super) struct Watcher {
    pub(super) arguments: Arguments,
    pub(super) options: Options,
    pub(super) engine: Engine,
    pub(super) captures: Captures,
    pub(super) link: Link,
    pub(super) log: Log,
    /// Of the configuration in force.
    pub(super) fingerprint: u64,
    /// A configuration that waits for the doorkeeper's word, and how often it was read.
    pub(super) pending: Option<(Loaded, u32)>,
}

/// What woke us.
struct Ready {
    /// The captures that have packets, or whose packets have gathered long enough.
    captures: Vec<usize>,
    interfaces: bool,
    signals: bool,
    doorkeeper: bool,
}

/// Starts the daemon and runs it to its end.
///
/// # Errors
/// Why it cannot start.
pub fn main(arguments: Arguments) -> Result<(), StartError> {
    output::start(arguments.verbose, arguments.debug);
    let launcher =
        arguments.is_launched.then(Launcher::accept).transpose().map_err(system("run in the background"))?;
    let signals = Signals::new().map_err(system("listen for signals"))?;
    let loaded = load(&arguments, &mut output::pass_on)?;
    // It starts while we open the interface.
    let link =
        Link::start(&arguments, &loaded.config.options, now()).map_err(system("start the doorkeeper"))?;
    let Loaded { config: Config { options, doors }, fingerprint, .. } = loaded;
    // A list that opened a door opens it no more, whoever listened then. What cannot be read, the
    // doorkeeper complains of.
    let mut doors = doors;
    let state = state_file::read(&options.state_file(&arguments.pid_file)).unwrap_or_default();
    state.restore_spent(&mut doors);
    let wanted = wanted(&arguments, &options);
    let waits = options.wait_interface.unwrap_or(wanted.waits_by_default());
    let captures = Captures::open(wanted, waits, &Interest::of(&doors, AHEAD), arguments.only_v4)?;
    let mut watcher = Watcher {
        engine: Engine::with_capacity(doors, captures.here().iter().copied(), options.max_attempts()),
        arguments,
        options,
        captures,
        link,
        log: Log::new(),
        fingerprint,
        pending: None,
    };
    for it in &state.cooldowns {
        watcher.engine.cool_down(&it.door, it.knocker, it.until, now());
    }
    watcher.explain_captures();
    if let Err(error) = watcher.open_log() {
        output::complain(&log::cannot_open(&error));
    }
    if watcher.arguments.lookup {
        watcher.log.look_up_names().map_err(system("start the resolver"))?;
    }
    watcher.greet_doorkeeper()?;
    // What SIGHUP brings counts with the next start.
    let mut pid_file = None;
    if let Some(launcher) = launcher {
        pid_file = Some(watcher.write_pid_file());
        launcher.detach().map_err(system("run in the background"))?;
    }
    let words = watcher.captures.words();
    watcher.log.line(&format!("starting up, {words}"));
    output::say(&format!("{words}..."));
    watcher.log.tell(watcher.captures.missing());
    watcher.link.send(Request::Begin);
    notify::ready();
    let result = watcher.run(signals);
    if let Some(path) = pid_file {
        let _ = std::fs::remove_file(path);
    }
    result
}

/// The interfaces that the command line names or, without one, the configuration.
pub(super) fn wanted(arguments: &Arguments, options: &Options) -> Wanted {
    let given = arguments.interface.as_deref().and_then(Wanted::parse);
    given.or_else(|| options.interface.clone()).unwrap_or_default()
}

fn system(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::System(what, error)
}

impl Watcher {
    /// The loop; ends after SIGTERM or SIGINT, when every door is closed.
    fn run(&mut self, mut signals: Signals) -> Result<(), StartError> {
        let mut events = Vec::new();
        loop {
            let ready = self.wait(&signals);
            if ready.signals {
                let came = signals.take();
                if came.end {
                    return self.finish(signals);
                }
                if came.reload {
                    self.reload();
                }
            }
            if ready.interfaces
                && let Some(ring) = self.captures.doorbell().rang()
            {
                self.look_around(&ring);
            }
            let now = now();
            if self.captures.next_look().is_some_and(|at| at <= now.uptime) {
                let lines = self.captures.look_again(now.uptime, &Interest::of(self.engine.doors(), AHEAD));
                self.engine.relocate(self.captures.here().iter().copied());
                self.log.tell(lines);
            }
            for capture in ready.captures {
                self.listen(capture, &mut events, now);
            }
            self.give_back_rings(now);
            self.engine.expire(now, &mut events);
            for event in events.drain(..) {
                self.handle(event, now);
            }
            if ready.doorkeeper || self.link.next_start().is_some() {
                self.attend_to_doorkeeper(now);
            }
            self.log.settle(now);
            self.pass_marks_on();
        }
    }

    /// Sleeps until there is something to do, and says what.
    fn wait(&self, signals: &Signals) -> Ready {
        // Of captures whose packets gather, nothing is asked.
        let rests = self.captures.descriptors().filter_map(|(_, rest)| rest).min();
        let deadlines = [
            self.engine.next_deadline(),
            self.link.next_start(),
            self.log.next_deadline(),
            self.captures.next_look(),
            self.captures.next_change(),
            rests,
        ];
        let deadline = deadlines.into_iter().flatten().min();
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| poll_timeout(Some(deadline), now()));
        // What is not there is replaced by a descriptor that nothing is asked of.
        let nothing = || PollFd::new(signals.doorbell(), PollFlags::empty());
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, self.link.is_waiting());
        let mut descriptors = vec![
            PollFd::new(signals.doorbell(), PollFlags::POLLIN),
            self.link.descriptor().map_or_else(nothing, |fd| PollFd::new(fd, events)),
            PollFd::new(self.captures.doorbell().as_fd(), PollFlags::POLLIN),
            self.log.names().map_or_else(nothing, |fd| PollFd::new(fd, PollFlags::POLLIN)),
        ];
        descriptors.extend(self.captures.descriptors().map(|(fd, rest)| match rest {
            None => PollFd::new(fd, PollFlags::POLLIN),
            Some(_) => nothing(),
        }));
        let is_told = wait_for(&mut descriptors, timeout);
        let mut ready = descriptors.iter().map(|it| !is_told || it.any().unwrap_or(true));
        let mut next = || ready.next().unwrap_or_default();
        let (signals, doorkeeper, interfaces, _) = (next(), next(), next(), next());
        let rested = |rest: Option<Duration>| rest.is_some_and(|end| end <= now().uptime);
        let rests = self.captures.descriptors().map(|(_, rest)| rest);
        let captures =
            ready.zip(rests).enumerate().filter(|(_, (is_ready, rest))| *is_ready || rested(*rest));
        let captures = captures.map(|(place, _)| place).collect();
        Ready { captures, interfaces, signals, doorkeeper }
    }

    /// Takes packets that wait. `events` has room for what follows from one.
    fn listen(&mut self, place: usize, events: &mut Vec<Event>, now: Now) {
        let mut count = 0;
        let mut is_empty = false;
        while count < BATCH && !is_empty {
            let Some(capture) = self.captures.at(place) else { return };
            match capture.take() {
                Taken::Nothing => is_empty = true,
                Taken::Other => count += 1,
                Taken::Knock(knock) => {
                    count += 1;
                    let link_header = capture.interface.link_header();
                    if output::explains() {
                        self.explain(&knock, link_header, now);
                    }
                    self.engine.observe(&knock, now, events);
                    for event in events.drain(..) {
                        self.handle(event, now);
                    }
                }
            }
        }
        if let Some(capture) = self.captures.at(place) {
            capture.bursts.record(count, is_empty, now.uptime);
        }
        self.captures.adapt(place, now.uptime, || Interest::of(self.engine.doors(), AHEAD));
    }

    /// Packets that came thick for a while do so no longer.
    fn give_back_rings(&mut self, now: Now) {
        if self.captures.next_change().is_some_and(|due| due <= now.uptime) {
            for place in 0..self.captures.interfaces().count() {
                self.captures.adapt(place, now.uptime, || Interest::of(self.engine.doors(), AHEAD));
            }
        }
    }

    /// Interfaces, addresses or routes changed: attempts under way go on.
    fn look_around(&mut self, ring: &Ring) {
        let interest = Interest::of(self.engine.doors(), AHEAD);
        let lines = self.captures.look(ring, &interest);
        self.engine.relocate(self.captures.here().iter().copied());
        self.log.tell(lines);
    }

    /// Does what follows from an event.
    fn handle(&mut self, event: Event, now: Now) {
        let Event::Opened { door, opening } = &event else { return self.log.event(event, now) };
        let (door, opening) = (door.clone(), *opening);
        let is_one_time = self.is_one_time(opening.door);
        // A one-time door is open when its line is struck: then the doorkeeper says so.
        if is_one_time {
            output::explain_detail(&event);
        } else {
            self.log.event(event, now);
        }
        if !self.link.send(Request::Open(opening)) {
            return self.log.complain(&format!("{door}: too many openings wait: this one is not made"));
        }
        if self.arguments.lookup {
            self.log.mark(opening, now);
        }
        if is_one_time {
            self.renew_filter();
            self.wait_for_strike(now);
        }
    }

    /// Tells the doorkeeper which openings the log has by now, so that it can speak of their commands.
    fn pass_marks_on(&mut self) {
        for opening in self.log.take_marks() {
            self.link.send(Request::Logged(opening));
        }
    }

    fn is_one_time(&self, door: usize) -> bool {
        self.engine.doors().get(door).is_some_and(|door| matches!(door.lock, Lock::OneTime(_)))
    }

    fn write_pid_file(&mut self) -> PathBuf {
        let path = self.options.pid_file.as_ref().unwrap_or(&self.arguments.pid_file).clone();
        if let Err(error) = std::fs::write(&path, format!("{}\n", std::process::id())) {
            self.log.complain(&format!("could not create pid file {}: {}", path.display(), reason(&error)));
        }
        path
    }

    /// Stops listening, and waits until the doorkeeper has closed every door.
    fn finish(&mut self, mut signals: Signals) -> Result<(), StartError> {
        notify::stopping();
        self.log.flush();
        output::say("waiting for child processes...");
        self.pass_marks_on();
        // One that began without a configuration knows of no door that is open.
        let knows_the_doors = self.link.is_serving();
        if !knows_the_doors {
            self.link.forget_waiting();
        }
        self.link.send(Request::Finish);
        while self.link.is_up() {
            let mut events = PollFlags::POLLIN;
            events.set(PollFlags::POLLOUT, self.link.is_waiting());
            let descriptors = [
                Some(PollFd::new(signals.doorbell(), PollFlags::POLLIN)),
                self.link.descriptor().map(|fd| PollFd::new(fd, events)),
            ];
            let mut descriptors: Vec<PollFd<'_>> = descriptors.into_iter().flatten().collect();
            wait_for(&mut descriptors, PollTimeout::NONE);
            let Came { end, .. } = signals.take();
            if end {
                self.link.send(Request::FinishNow);
            }
            self.link.flush();
            while matches!(self.link.receive(), Received::Message(_) | Received::Nonsense) {}
        }
        output::say("closing...");
        let is_finished = knows_the_doors && self.link.ended_well();
        let result = if is_finished { Ok(()) } else { Err(StartError::Unfinished) };
        if let Err(error) = &result {
            self.log.line(&error.to_string());
        }
        self.log.line("shutting down");
        self.log.flush();
        result
    }
}
