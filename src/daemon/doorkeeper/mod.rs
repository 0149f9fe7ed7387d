//! The system side and main process of the daemon: reads the configuration, keeps track of open doors, runs
//! their commands, closes every door, writes the log.
//!
//! It is the parent of the [watcher](crate::daemon::watcher): it sends the watcher configurations and packet
//! sockets, and accepts only the messages of [`crate::protocol`] in return. It reads nothing from the
//! network.

pub mod claims;
pub mod commands;
mod disk;
mod ending;
mod fleet;
mod fleet_socket;
mod flusher;
mod heir;
pub mod heir_life;
mod kernel_doors;
pub mod lock_file;
pub mod memory;
pub mod nftables;
mod opening_log;
mod places;
mod process;
mod reload;
mod reports;
mod single_packets;
pub mod start;
mod state_file;
mod status;
mod status_sockets;
mod taking_over;
mod watcher_process;

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};
use nix::sys::inotify::Inotify;

use crate::config::Config;
use crate::daemon::cli::Arguments;
use crate::daemon::clock::now;
use crate::daemon::doorkeeper::commands::Commands;
use crate::daemon::doorkeeper::fleet_socket::Fleet;
use crate::daemon::doorkeeper::heir::{HeirProcess, HeirSettings};
use crate::daemon::doorkeeper::memory::Memory;
use crate::daemon::doorkeeper::nftables::Firewall;
use crate::daemon::doorkeeper::opening_log::OpeningLog;
use crate::daemon::doorkeeper::status_sockets::Status;
use crate::daemon::doorkeeper::watcher_process::WatcherProcess;
use crate::daemon::log::Log;
use crate::daemon::log::output;
use crate::daemon::poll::{poll_timeout, rest_for};
use crate::daemon::signals::Signals;
use crate::filter::interfaces::State;
use crate::opening::entry::Notice;
use crate::opening::log_limit::{RateLimit, left_out};
use crate::opening::rate::Buckets;
use crate::opening::{Action, Ending, Job, Openings};
use crate::protocol::desk::Desk;
use crate::reason::reason;
use crate::time::Now;

/// Maximum number of watcher messages handled before commands are started for the doors they open.
const BATCH: usize = 256;
/// The same when doors open in nftables: one transaction opens them all.
const BATCH_FOR_KERNEL: usize = 1024;
/// Maximum number of batches handled in one turn of the loop while each of them opens a door in nftables.
const MAX_BATCHES: usize = 4;

/// The doorkeeper.
#[expect(clippy::struct_excessive_bools, reason = "independent flags")]
struct Doorkeeper {
    arguments: Arguments,
    /// The configuration in force in both processes.
    config: Config,
    openings: Openings,
    /// The doors in nftables; `None` if the configuration has no door with `Open`.
    firewall: Option<Firewall>,
    /// The daemon is ending and has left these doors to the kernel.
    has_left_kernel_doors: bool,
    /// Actions to carry out in this turn of the loop.
    actions: Vec<Action>,
    memory: Memory,
    commands: Commands,
    log: Log,
    watcher: WatcherProcess,
    /// Closes the doors if this process is killed.
    heir: HeirProcess,
    /// This process is an heir: it has no watcher and no heir.
    is_heir: bool,
    /// In an heir: readable when a daemon starts. `None` if inotify is unavailable.
    new_daemon_watch: Option<Inotify>,
    desk: Desk,
    /// The number of the last opening acknowledged to the watcher.
    acknowledged: u64,
    /// The bundle of the configuration in force.
    bundle: Option<OwnedFd>,
    /// A configuration sent to the watcher and not acknowledged yet.
    pending_config: Option<PendingConfig>,
    /// SIGHUP arrived while the watcher was adopting a configuration.
    is_reload_pending: bool,
    /// The watcher has ended, and the log says so.
    has_lost_watcher: bool,
    /// During the start: the interfaces that the watcher has reported; `None` after it.
    interfaces_at_start: Option<Vec<(String, State)>>,
    /// The state of each interface as last logged.
    interfaces: Vec<(String, State)>,
    /// While the daemon ends: deadline for commands other than stop commands, as uptime.
    end_deadline: Option<Duration>,
    /// While the daemon ends: deadline for the watcher, as uptime.
    watcher_deadline: Option<Duration>,
    /// Keeps refused single packets from flooding the log.
    refusal_log_limit: RateLimit,
    /// The status sockets and the counters for `--status`.
    status: Status,
    /// The fleet that shares openings with this daemon; `None` without `Fleet_Socket`.
    fleet: Option<Box<Fleet>>,
    /// Keeps a compromised watcher from flooding the log; an intact one applies a lower limit itself.
    watcher_log_limit: RateLimit,
    /// The same for the lines that the watcher writes on request (SIGUSR1): at least one a door.
    status_log_limit: RateLimit,
    /// Keeps openings that anyone can trigger from flooding the log.
    opening_log: OpeningLog,
    /// The `Open_Rate` limits, enforced here independently of the watcher.
    buckets: Buckets,
}

/// A configuration that the watcher has not acknowledged yet.
struct PendingConfig {
    /// The new configuration; `None` if it is the one in force, resent to a new watcher.
    config: Option<Config>,
    bundle: OwnedFd,
}

impl Doorkeeper {
    fn run(&mut self, signals: &mut Signals) {
        while !self.is_done(now()) {
            self.wait(signals);
            // First: a knocker waits for nothing else.
            self.open_doors();
            self.attend_to_signals(signals);
            self.reap();
            let now = now();
            self.attend_to_watcher(now);
            self.attend_to_firewall(now);
            if let Some(found) = self.memory.claim_leftover(now) {
                self.take_over(found);
            }
            let due = self.openings.due(now);
            self.actions.extend(due);
            self.run_on_stop(now);
            self.take_actions(now);
            self.acknowledge();
            self.attend_to_heir(now);
            self.serve_status(now);
            let left_out_of = [
                self.refusal_log_limit.take_suppressed_if_due(now.uptime),
                self.watcher_log_limit.take_suppressed_if_due(now.uptime),
                self.status_log_limit.take_suppressed_if_due(now.uptime),
            ];
            for lines in left_out_of.into_iter().flatten() {
                self.status.counters.lines_left_out =
                    self.status.counters.lines_left_out.saturating_add(lines);
                self.log.tell(Notice::LeftOut, [left_out(lines)]);
            }
            self.opening_log.report_due(&mut self.log, now);
            self.log.settle(now);
            self.log.write_on();
        }
    }

    /// Opens the doors that were knocked at: those with `Open` first, then come their log lines.
    fn open_doors(&mut self) {
        self.log.hold();
        self.take_openings();
        let now = now();
        self.attend_to_fleet(now);
        self.commit(now);
        self.log.release(now);
    }

    fn attend_to_signals(&mut self, signals: &mut Signals) {
        let came = signals.take();
        if came.end {
            self.finish();
        }
        if came.reload {
            self.reload();
        }
        if came.tell {
            self.log_status();
        }
        if came.child {
            self.heir.check();
        }
    }

    /// Keeps an heir running while there is a door to close.
    fn attend_to_heir(&mut self, now: Now) {
        let is_needed = !self.openings.are_closed() && self.end_deadline.is_none();
        if is_needed || self.heir.is_up() {
            let settings = self.heir_settings();
            // On failure the next turn retries.
            let _ = self.heir.adapt(is_needed, &settings, self.bundle.as_ref(), now);
        }
    }

    fn heir_settings(&self) -> HeirSettings {
        let options = &self.config.options;
        HeirSettings {
            doorkeeper: std::process::id(),
            state_file: self.memory.path().to_owned(),
            log_file: options.log_file.as_ref().or(self.arguments.log_file.as_ref()).cloned(),
            use_syslog: options.use_syslog,
            use_journal: options.use_journal,
            log_format: options.log_format,
            verbose: self.arguments.verbose,
        }
    }

    /// Sleeps until a descriptor is ready or the next deadline.
    fn wait(&self, signals: &Signals) {
        let now = now();
        let deadlines = [
            self.openings.next_deadline(),
            self.firewall.as_ref().and_then(Firewall::next_deadline),
            self.end_deadline.filter(|at| *at > now.uptime),
            self.stop_commands_deadline(),
            self.watcher_deadline.filter(|_| self.watcher.is_up()),
            self.watcher.next_start().filter(|_| self.end_deadline.is_none() && !self.is_heir),
            self.heir.next_start().filter(|_| self.is_heir_missing()),
            self.log.next_deadline(),
            self.memory.next_deadline(),
            self.refusal_log_limit.next_deadline(),
            self.watcher_log_limit.next_deadline(),
            self.status_log_limit.next_deadline(),
            self.opening_log.next_deadline(),
            self.commands.next_poll(now),
            self.status.next_deadline(),
            self.fleet.as_ref().and_then(|fleet| fleet.next_deadline()),
        ];
        let timeout = poll_timeout(deadlines.into_iter().flatten().min(), now);
        let descriptors = [
            Some((signals.descriptor(), PollFlags::POLLIN)),
            self.watcher.descriptor(),
            self.log.names().map(|fd| (fd, PollFlags::POLLIN)),
            self.memory.lock_watch().map(|fd| (fd, PollFlags::POLLIN)),
            self.memory.flush_descriptor().map(|fd| (fd, PollFlags::POLLIN)),
            self.firewall.as_ref().and_then(Firewall::changes_descriptor).map(|fd| (fd, PollFlags::POLLIN)),
            self.new_daemon_watch.as_ref().map(|watch| (watch.as_fd(), PollFlags::POLLIN)),
            self.fleet.as_ref().and_then(|fleet| fleet.descriptor()),
        ];
        let readers = output::flush();
        let mut descriptors: Vec<PollFd<'_>> = descriptors
            .into_iter()
            .flatten()
            .chain(
                self.firewall
                    .iter()
                    .flat_map(Firewall::disconnect_descriptors)
                    .map(|fd| (fd, PollFlags::POLLIN)),
            )
            .chain(self.status.descriptors(self.watcher.is_up()))
            .map(|(fd, events)| PollFd::new(fd, events))
            .collect();
        let readers = readers.iter().map(AsFd::as_fd).chain(self.log.waits_for());
        descriptors.extend(readers.map(|fd| PollFd::new(fd, PollFlags::POLLOUT)));
        rest_for(&mut descriptors, timeout);
    }

    fn is_heir_missing(&self) -> bool {
        let is_needed = !self.openings.are_closed() && self.end_deadline.is_none() && !self.is_heir;
        is_needed && !self.heir.is_up()
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

    /// Carries out the actions. An opening is written to the state file before its start command runs, and
    /// removed from it after its stop command has ended.
    fn take_actions(&mut self, now: Now) {
        self.remember(now);
        // Commands that end meanwhile add actions for the log.
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                self.status.counters.count_action(&action);
                match action {
                    Action::Tell(event) => self.opening_log.write(event, &mut self.log, now),
                    Action::Run(job) => self.start(job, now),
                    Action::Kill(job) => self.commands.kill(job),
                }
            }
        }
        self.remember(now);
        let messages = self.memory.flush_due(now);
        self.complain(&messages);
    }

    fn start(&mut self, job: Job, now: Now) {
        let started = self.commands.start(&job);
        let Job { id, door, .. } = job;
        match started {
            // Written before the next command is started, with those that have ended meanwhile: if this
            // process is killed between two of many, only commands that are running count as running.
            Ok(process) => {
                self.openings.started(id, process);
                self.reap();
                self.remember(now);
            }
            Err(errno) => {
                let text = format!("{door}: could not run the command: {}", reason(&errno.into()));
                self.log.complain(&text);
                let actions = self.openings.ended(id, Ending::NotStarted, now);
                self.actions.extend(actions);
            }
        }
    }

    /// Writes changes to the state file, so that they outlive this process.
    fn remember(&mut self, now: Now) {
        let messages = self.memory.remember(&mut self.openings, &self.config.doors, now);
        self.complain(&messages);
    }

    /// Writes sentences to standard error and the log.
    fn complain(&mut self, sentences: &[String]) {
        for sentence in sentences {
            self.log.complain(sentence);
        }
    }
}
