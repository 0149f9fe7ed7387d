//! The system side: holds the open doors, runs the commands, closes every door.
//!
//! It reads the configuration itself; from the watcher it takes nothing but messages of a fixed
//! size. When the watcher is gone it goes on until the last door is closed.

pub mod commands;
pub mod memory;
pub mod state_file;

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};

use crate::config::Config;
use crate::daemon::cli;
use crate::daemon::clock::now;
use crate::daemon::doorkeeper::commands::Commands;
use crate::daemon::doorkeeper::memory::Memory;
use crate::daemon::load::load;
use crate::daemon::log::Log;
use crate::daemon::log::output;
use crate::daemon::messages::{self, Received, Report, Request};
use crate::daemon::one_time;
use crate::daemon::poll::poll_timeout;
use crate::daemon::poll::wait_for;
use crate::daemon::processes;
use crate::daemon::signals::Signals;
use crate::door::lock::Lock;
use crate::opening::event::{Event, Opening};
use crate::opening::{Action, Ending, Job, Openings};
use crate::reason::reason;
use crate::time::Now;

/// How long doors that are open at the end may stay so, if their time is longer.
const GRACE: Duration = Duration::from_secs(5);
/// How long stop commands may then take before we end without them.
const LAST_COMMANDS: Duration = Duration::from_secs(5);
/// Messages that are taken before commands that ended are looked at again.
const BATCH: usize = 64;

pub(super) struct Doorkeeper {
    pub(super) arguments: cli::Arguments,
    pub(super) config: Config,
    prepared: Option<Config>,
    /// The watcher; `None` when it is gone.
    pub(super) watcher: Option<OwnedFd>,
    pub(super) openings: Openings,
    /// What is to be done before we sleep again.
    actions: Vec<Action>,
    pub(in crate::daemon::doorkeeper) memory: Memory,
    commands: Commands,
    pub(super) log: Log,
    /// Until when doors may stay open, as uptime, once we are to end at all.
    last_call: Option<Duration>,
    /// The watcher asked us to end: the daemon ends in good order.
    is_orderly: bool,
}

/// The doorkeeper's whole life.
#[must_use]
pub fn main(words: Vec<OsString>) -> ExitCode {
    let Ok(mut arguments) = cli::parse(words) else { return ExitCode::FAILURE };
    arguments.anchor_paths();
    if arguments.is_launched {
        let _ = nix::unistd::chdir("/");
    }
    output::start(arguments.verbose, false);
    let (Ok(watcher), Ok(signals)) = (processes::accept(), Signals::new()) else { return ExitCode::FAILURE };
    // A session of its own: what a terminal sends to the watcher is the watcher's to pass on.
    let _ = nix::unistd::setsid();
    let mut doorkeeper = Doorkeeper {
        arguments,
        config: Config::default(),
        prepared: None,
        watcher: Some(watcher),
        openings: Openings::new(),
        actions: Vec::new(),
        memory: Memory::default(),
        commands: Commands::new(),
        log: Log::new(),
        last_call: None,
        is_orderly: false,
    };
    doorkeeper.run(signals);
    doorkeeper.remember_at_last();
    doorkeeper.log.flush();
    ExitCode::SUCCESS
}

impl Doorkeeper {
    fn run(&mut self, mut signals: Signals) {
        while !self.is_done(now()) {
            self.wait(&signals);
            let came = signals.take();
            if came.end && self.watcher.is_none() {
                // Nobody else is left to pass it on; the second one is urgent.
                self.finish(if self.last_call.is_none() { GRACE } else { Duration::ZERO });
            }
            self.reap();
            self.listen();
            let now = now();
            self.attend_to_memory(now);
            let due = self.openings.due(now);
            self.actions.extend(due);
            self.run_last_command(now);
            self.take_actions(now);
            self.log.settle(now);
        }
    }

    /// When every door is closed, and the daemon ends in good order, its last command is run.
    fn run_last_command(&mut self, now: Now) {
        let Some(last_call) = self.last_call.filter(|_| self.is_orderly) else { return };
        if !self.is_time_to_end(last_call, now) {
            return;
        }
        if let Some(command) = self.config.options.on_stop.take() {
            let limit = self.config.options.command_timeout.filter(|limit| !limit.is_zero());
            let actions = self.openings.run_for_daemon(command, true, limit, now);
            self.actions.extend(actions);
            self.last_call = Some(now.uptime);
        }
    }

    fn is_done(&self, now: Now) -> bool {
        match (self.last_call, &self.watcher) {
            (Some(_), _) if self.is_orderly && self.config.options.on_stop.is_some() => false,
            (Some(last_call), _) => self.is_time_to_end(last_call, now),
            (None, Some(_)) => false,
            (None, None) => self.openings.are_closed(),
        }
    }

    /// Whether nothing is left that the end waits for. Commands that nothing follows get the time
    /// that doors get, those that close doors a little more.
    fn is_time_to_end(&self, last_call: Duration, now: Now) -> bool {
        let (is_late, is_over) = (last_call <= now.uptime, last_call + LAST_COMMANDS <= now.uptime);
        is_over || self.openings.are_idle() || is_late && self.openings.are_closed()
    }

    /// Sleeps until there is something to do.
    fn wait(&self, signals: &Signals) {
        let now = now();
        let end = self.last_call.map(|last_call| last_call + LAST_COMMANDS);
        let deadlines = [
            self.openings.next_deadline(),
            self.last_call.filter(|at| *at > now.uptime),
            end,
            self.log.next_deadline(),
            self.memory.next_deadline(),
        ];
        let timeout = poll_timeout(deadlines.into_iter().flatten().min(), now);
        let descriptors = [
            Some(signals.doorbell()),
            self.watcher.as_ref().map(AsFd::as_fd),
            self.log.names(),
            self.memory.bell(),
        ];
        let mut descriptors: Vec<PollFd<'_>> =
            descriptors.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        wait_for(&mut descriptors, timeout);
    }

    fn listen(&mut self) {
        for _ in 0..BATCH {
            let Some(watcher) = &self.watcher else { return };
            match messages::receive(watcher) {
                Received::Message(request) => self.obey(request),
                Received::Nonsense => {}
                Received::Nothing => return,
                Received::Closed => self.watcher = None,
            }
        }
    }

    fn obey(&mut self, request: Request) {
        match request {
            Request::Prepare(fingerprint) => {
                let loaded = load(&self.arguments, &mut |_| {});
                self.prepared = loaded.ok().filter(|it| it.fingerprint == fingerprint).map(|it| it.config);
                self.report(Report::Prepared(self.prepared.is_some()));
            }
            Request::Adopt => self.adopt(),
            Request::Open(opening) => self.open(opening),
            Request::Logged(opening) => self.log.go_on(opening),
            Request::Exhausted(door) => {
                let door = self.config.doors.get(door).map(|door| door.name.clone());
                self.actions.extend(door.map(|door| Action::Tell(Event::Exhausted { door })));
            }
            Request::Begin => self.begin(),
            Request::Finish | Request::FinishNow => {
                self.is_orderly = true;
                self.finish(if request == Request::Finish { GRACE } else { Duration::ZERO });
            }
        }
    }

    /// The daemon listens.
    fn begin(&mut self) {
        let Config { options, .. } = &self.config;
        let Some(command) = options.on_start.clone() else { return };
        let limit = options.command_timeout.filter(|limit| !limit.is_zero());
        let actions = self.openings.run_for_daemon(command, false, limit, now());
        self.actions.extend(actions);
    }

    fn adopt(&mut self) {
        let Some(mut config) = self.prepared.take() else { return };
        config.options = config.options.following(&self.config.options);
        let path = config.options.log_file.as_ref().or(self.arguments.log_file.as_ref());
        // The watcher opens the same file, and says so when it cannot.
        let _ = self.log.open(path.map(PathBuf::as_path), config.options.use_syslog);
        if self.arguments.lookup && self.log.names().is_none() {
            let _ = self.log.look_up_names();
        }
        self.inherit_spent(&mut config);
        self.config = config;
        self.open_memory();
    }

    fn open(&mut self, opening: Opening) {
        let Some(door) = self.config.doors.get(opening.door) else { return };
        if self.arguments.lookup {
            // The command does not wait for the watcher's lines, but what we say of it does.
            self.log.hold(opening, now());
        }
        if let Lock::OneTime(lines) = &door.lock {
            // First on the disk, then the command: a crash must not make the line good again.
            let struck = one_time::strike(&lines.path, opening.turn);
            if let Err(error) = &struck {
                let text = format!(
                    "{}: could not strike the used line in {}: {} --> the door stays shut",
                    door.name,
                    lines.path.display(),
                    reason(error)
                );
                self.log.complain(&text);
            } else {
                self.log.event(Event::Opened { door: door.name.clone(), opening }, now());
            }
            self.report(Report::Struck(opening.door));
            if struck.is_err() {
                return;
            }
        }
        let Some(door) = self.config.doors.get_mut(opening.door) else { return };
        let now = now();
        if let Lock::Otp(_) = &door.lock {
            door.lock.spend(opening.turn, opening.knocker, now);
            self.memory.has_changed = true;
        }
        self.memory.cool_down(door, opening.knocker, now);
        let actions = self.openings.admit(door, opening.knocker, now);
        self.actions.extend(actions);
        // A door that nothing closes need not be remembered, and its command not wait for the disk.
        self.memory.is_urgent |= self.memory.is_behind(self.openings.changes());
    }

    fn finish(&mut self, grace: Duration) {
        let last_call = now().uptime + grace;
        self.openings.finish(last_call);
        self.last_call = Some(self.last_call.map_or(last_call, |earlier| earlier.min(last_call)));
    }

    fn reap(&mut self) {
        while let Some((job, ending)) = self.commands.reap() {
            let now = now();
            if let Ending::Killed(signal) = ending {
                self.log.say(&format!("a command was killed by signal {signal}"));
            }
            let actions = self.openings.ended(job, ending, now);
            self.actions.extend(actions);
        }
    }

    /// Does what is to be done. A door is remembered before it is opened, and after it was closed.
    fn take_actions(&mut self, now: Now) {
        self.remember(now);
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Tell(event) => self.log.event(event, now),
                Action::Run(job) => self.start(job, now),
                Action::Kill(job) => self.commands.kill(job),
            }
        }
        self.remember(now);
        if self.memory.is_urgent {
            self.sync_memory(now);
        }
    }

    fn start(&mut self, job: Job, now: Now) {
        let started = self.commands.start(&job);
        let Job { id, door, .. } = job;
        if started.is_ok() {
            self.openings.started(id);
        }
        if let Err(errno) = started {
            let text = format!("{door}: could not run the command: {}", reason(&errno.into()));
            self.log.complain(&text);
            // Nothing comes of a command that did not start: no stop follows at once from this.
            for action in self.openings.ended(id, Ending::NotStarted, now) {
                if let Action::Tell(event) = action {
                    self.log.event(event, now);
                }
            }
        }
    }

    fn report(&self, report: Report) {
        if let Some(watcher) = &self.watcher {
            let _ = messages::transmit(watcher, &report);
        }
    }
}
