//! The process of the heir, from start to end.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::inotify::Inotify;

use crate::daemon::cli::{self, Arguments};
use crate::daemon::clock::now;
use crate::daemon::core_dump;
use crate::daemon::doorkeeper::Doorkeeper;
use crate::daemon::doorkeeper::ending::{COMMANDS_TIMEOUT, LOG_DRAIN_TIMEOUT};
use crate::daemon::doorkeeper::heir::{self, Inheritance};
use crate::daemon::doorkeeper::memory::Memory;
use crate::daemon::limits::Limits;
use crate::daemon::log::output;
use crate::daemon::signals::{self, Signals};

/// How long a leaving heir waits for running commands, and how often it checks them.
const LEAVING_TIMEOUT: Duration = Duration::from_millis(500);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Runs an heir from start to end.
#[must_use]
pub fn inherit(words: &[OsString]) -> ExitCode {
    let limits = Limits::now();
    core_dump::forbid();
    let Inheritance { settings, config } = match heir::wait(words) {
        Ok(inheritance) => inheritance,
        Err(code) => return code,
    };
    let Ok(arguments) = cli::parse(&["knockd".into()]) else { return ExitCode::FAILURE };
    let arguments = Arguments { verbose: settings.verbose, ..arguments };
    output::start(settings.verbose, false);
    output::never_wait();
    let Ok(mut signals) = Signals::new() else { return ExitCode::FAILURE };
    signals::ignore_none();
    let memory = Memory::of_heir();
    let mut doorkeeper =
        Doorkeeper { config, memory, interfaces_at_start: None, ..Doorkeeper::new(arguments, limits) };
    let _ = doorkeeper.open_log();
    doorkeeper.open_memory();
    doorkeeper.is_heir = true;
    doorkeeper.new_daemon_watch = doorkeeper.memory.watch_for_daemon();
    doorkeeper.run_as_heir(&mut signals);
    let messages = doorkeeper.memory.end(&mut doorkeeper.openings, &doorkeeper.config.doors, now());
    doorkeeper.complain(&messages);
    let deadline = now().uptime.saturating_add(LOG_DRAIN_TIMEOUT);
    doorkeeper.log.flush();
    doorkeeper.log.drain(deadline);
    output::drain(deadline);
    ExitCode::SUCCESS
}

impl Doorkeeper {
    /// The loop of an heir: ends when every door is closed, or when a daemon starts.
    fn run_as_heir(&mut self, signals: &mut Signals) {
        let has_daemon_started = |watch: &Inotify| watch.read_events().is_ok_and(|events| !events.is_empty());
        while !self.openings.are_closed() && !self.new_daemon_watch.as_ref().is_some_and(has_daemon_started) {
            self.wait(signals);
            if signals.take().end {
                self.openings.finish(Duration::ZERO, COMMANDS_TIMEOUT, now());
            }
            self.reap();
            let now = now();
            if let Some(found) = self.memory.claim_leftover(now) {
                self.take_over(found);
            }
            let due = self.openings.due(now);
            self.actions.extend(due);
            self.take_actions(now);
            self.log.settle(now);
            self.log.write_on();
        }
        // If a command ended between our exit and the start of the next daemon, that daemon could not know
        // that it was run.
        let deadline = now().uptime.saturating_add(LEAVING_TIMEOUT);
        while self.openings.are_busy() && now().uptime < deadline {
            std::thread::sleep(POLL_INTERVAL);
            self.reap();
            self.take_actions(now());
        }
    }
}
