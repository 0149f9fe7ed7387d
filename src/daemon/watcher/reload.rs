//! What the watcher does when the configuration is read: at the start, at SIGHUP, and with a new
//! doorkeeper.
//!
//! Both processes read the file; it is in force when both have read the same.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Config;
use crate::daemon::clock;
use crate::daemon::doorkeeper::state_file;
use crate::daemon::error::StartError;
use crate::daemon::load::{Loaded, load};
use crate::daemon::log::output;
use crate::daemon::log::{self, Log};
use crate::daemon::messages::{Received, Report, Request};
use crate::daemon::notify;
use crate::daemon::one_time;
use crate::daemon::poll::poll_timeout;
use crate::daemon::watcher::{AHEAD, Watcher, wanted};
use crate::door::lock::{Lock, OneTime};
use crate::engine::Engine;
use crate::filter::interest::Interest;
use crate::reason::reason;
use crate::time::Now;

/// How often a configuration is read anew that differs between the two processes.
const READINGS: u32 = 5;
/// How long a used line may take to be struck before we go on without waiting.
const STRIKE: Duration = Duration::from_millis(250);
/// How long the doorkeeper may take to begin.
const DOORKEEPER_START: Duration = Duration::from_secs(30);

impl Watcher {
    /// Waits until the doorkeeper of a daemon that starts has read the same configuration.
    pub(super) fn greet_doorkeeper(&mut self) -> Result<(), StartError> {
        self.link.prepare(self.fingerprint);
        let deadline = clock::now().uptime + DOORKEEPER_START;
        let mut readings = 1;
        while clock::now().uptime < deadline {
            match self.link.receive() {
                Received::Message(Report::Prepared(true)) => {
                    self.link.adopt();
                    return Ok(());
                }
                Received::Message(Report::Prepared(false)) if readings < READINGS => {
                    readings += 1;
                    let loaded = load(&self.arguments, &mut |_| {})?;
                    self.adopt(loaded);
                    self.link.prepare(self.fingerprint);
                }
                Received::Nothing => {
                    self.link.wait(poll_timeout(Some(deadline), clock::now()));
                }
                Received::Closed => {
                    return Err(StartError::System("start the doorkeeper", io::ErrorKind::BrokenPipe.into()));
                }
                _ => break,
            }
        }
        Err(StartError::Restless(self.arguments.config.clone()))
    }

    /// Lets a used line be struck before anything else happens, so that the log tells things in
    /// their order. A disk that takes long holds up nobody: then the word comes later.
    pub(super) fn wait_for_strike(&mut self, now: Now) {
        let deadline = now.uptime + STRIKE;
        while self.link.is_up() {
            match self.link.receive() {
                Received::Message(Report::Struck(door)) => return self.refill(door),
                Received::Message(Report::Prepared(is_same)) => self.prepared(is_same),
                Received::Nonsense => {}
                Received::Nothing if clock::now().uptime < deadline => {
                    self.link.wait(poll_timeout(Some(deadline), clock::now()));
                }
                Received::Nothing => return,
                Received::Closed => self.lose_doorkeeper(),
            }
        }
    }

    fn lose_doorkeeper(&mut self) {
        self.log.complain(
            "the doorkeeper ended unexpectedly: starting another, which closes the doors in the state file",
        );
    }

    pub(super) fn attend_to_doorkeeper(&mut self, now: Now) {
        self.link.flush();
        loop {
            match self.link.receive() {
                Received::Message(Report::Prepared(is_same)) => self.prepared(is_same),
                Received::Message(Report::Struck(door)) => self.refill(door),
                Received::Nonsense => {}
                Received::Nothing => break,
                Received::Closed => self.lose_doorkeeper(),
            }
        }
        if self.link.next_start().is_none_or(|start| start > now.uptime) {
            return;
        }
        if self.link.is_up() {
            self.link.put_off(now);
            if let Ok(loaded) = load(&self.arguments, &mut |_| {}) {
                self.link.prepare(loaded.fingerprint);
                self.pending = Some((loaded, 1));
            }
        } else {
            match self.link.restart(now) {
                Ok(()) => {
                    let fingerprint =
                        self.pending.as_ref().map_or(self.fingerprint, |(loaded, _)| loaded.fingerprint);
                    self.link.prepare(fingerprint);
                }
                Err(error) => {
                    self.log.complain(&format!("could not start the doorkeeper: {}", reason(&error)));
                }
            }
        }
    }

    /// The doorkeeper read the configuration; is it the one that was meant?
    pub(super) fn prepared(&mut self, is_same: bool) {
        match (is_same, self.pending.take()) {
            (true, Some((loaded, _))) => {
                self.adopt(loaded);
                self.link.adopt();
                self.reopen_log();
                notify::ready();
            }
            (true, None) => self.link.adopt(),
            (false, pending) => self.read_again(pending.map_or(1, |(_, readings)| readings)),
        }
    }

    /// The file changed between two readings: it is read once more.
    pub(super) fn read_again(&mut self, readings: u32) {
        let loaded = if readings < READINGS {
            load(&self.arguments, &mut |_| {})
        } else {
            Err(StartError::Restless(self.arguments.config.clone()))
        };
        match loaded {
            Ok(loaded) => {
                self.link.prepare(loaded.fingerprint);
                self.pending = Some((loaded, readings + 1));
            }
            Err(error) => self.refuse(&error),
        }
    }

    /// A used line was struck: what is left is what the file says now.
    pub(super) fn refill(&mut self, door: usize) {
        let Some(Lock::OneTime(lines)) = self.engine.doors().get(door).map(|door| &door.lock) else { return };
        let path = lines.path.clone();
        let fresh = one_time::read(&path).ok().map(|text| OneTime::read(path, &text, |_| {}));
        let is_exhausted = self.engine.refill(door, fresh);
        let next = self.engine.doors().get(door).and_then(|door| {
            Some(format!("new sequence for door {}: {}", door.name, door.lock.current_sequence()?))
        });
        if let Some(text) = next {
            output::explain(&text);
        }
        self.renew_filter();
        if is_exhausted {
            self.link.send(Request::Exhausted(door));
        }
    }

    /// SIGHUP: reads, checks, then swaps; a broken file changes nothing.
    pub(super) fn reload(&mut self) {
        notify::reloading();
        let text = format!("re-reading config file: {}", self.arguments.config.display());
        self.log.say(&text);
        self.log.line_and_blank(&text);
        match load(&self.arguments, &mut output::pass_on) {
            Ok(loaded) => {
                self.link.prepare(loaded.fingerprint);
                self.pending = Some((loaded, 1));
            }
            Err(error) => self.refuse(&error),
        }
    }

    pub(super) fn refuse(&mut self, error: &StartError) {
        if self.pending.take().is_some() || self.link.is_serving() {
            notify::ready();
        }
        self.log.complain(&error.to_string());
        if self.link.is_serving() {
            self.log.complain("keeping the configuration that was in force");
            self.reopen_log();
        } else {
            let lost = self.link.forget_waiting();
            self.link.put_off(clock::now());
            self.log.complain(&format!(
                "the doorkeeper has no configuration: until there is one, no door opens ({lost} just now) or closes"
            ));
        }
    }

    pub(super) fn adopt(&mut self, loaded: Loaded) {
        let Config { options, doors } = loaded.config;
        self.options = options.following(&self.options);
        self.link.follow(&self.arguments, &self.options);
        let mut doors = doors;
        if let Ok(state) = state_file::read(&self.options.state_file(&self.arguments.pid_file)) {
            state.restore_spent(&mut doors);
        }
        self.fingerprint = loaded.fingerprint;
        // Only what is new in the way of interfaces; what changes by itself rings.
        let lines = self.captures.want(wanted(&self.arguments, &self.options), &Interest::of(&doors, AHEAD));
        let here = self.captures.here().iter().copied();
        let mut engine = Engine::with_capacity(doors, here, self.options.max_attempts());
        engine.inherit(&self.engine, clock::now());
        self.engine = engine;
        self.renew_filter();
        self.explain_doors();
        self.log.tell(lines);
    }

    pub(super) fn renew_filter(&mut self) {
        let interest = Interest::of(self.engine.doors(), AHEAD);
        if let Some(text) = self.captures.set_interest(&interest) {
            self.log.complain(&text);
        }
    }

    pub(super) fn reopen_log(&mut self) {
        let path = |log: &Log| log.path().map(|path| path.display().to_string());
        if let Some(path) = path(&self.log) {
            self.log.say(&format!("closing log file: {path}"));
        }
        let result = self.open_log();
        if let Some(path) = path(&self.log) {
            let text = format!("re-opening log file: {path}");
            self.log.say(&text);
            self.log.line_for_syslog(&text);
        }
        if let Err(error) = result {
            output::complain(&log::cannot_open(&error));
        }
    }

    pub(super) fn open_log(&mut self) -> io::Result<()> {
        let path = self.options.log_file.as_ref().or(self.arguments.log_file.as_ref());
        self.log.open(path.map(PathBuf::as_path), self.options.use_syslog)
    }
}
