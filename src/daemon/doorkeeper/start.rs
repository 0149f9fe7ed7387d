//! Starts the daemon: from the command line to the main loop, and the exit after it.

use std::fs::{File, OpenOptions, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};

use crate::config::{Config, Sandbox, StateFiles};
use crate::daemon::background::Launcher;
use crate::daemon::cli::Arguments;
use crate::daemon::clock::now;
use crate::daemon::core_dump;
use crate::daemon::doorkeeper::Doorkeeper;
use crate::daemon::doorkeeper::commands::Commands;
use crate::daemon::doorkeeper::heir::HeirProcess;
use crate::daemon::doorkeeper::memory::Memory;
use crate::daemon::doorkeeper::nftables::LogMessage;
use crate::daemon::doorkeeper::opening_log::OpeningLog;
use crate::daemon::doorkeeper::places;
use crate::daemon::doorkeeper::reload::spent_lists;
use crate::daemon::doorkeeper::status_sockets::Status;
use crate::daemon::doorkeeper::watcher_process::WatcherProcess;
use crate::daemon::error::StartError;
use crate::daemon::limits::Limits;
use crate::daemon::load::load;
use crate::daemon::log::output;
use crate::daemon::log::{self, Log};
use crate::daemon::messages::Received;
use crate::daemon::notify;
use crate::daemon::output_file;
use crate::daemon::poll::{poll_timeout, wait_for};
use crate::daemon::processes;
use crate::daemon::signals::Signals;
use crate::filter::interfaces::{State, words};
use crate::octets;
use crate::opening::Openings;
use crate::opening::entry::Notice;
use crate::opening::log_limit::RateLimit;
use crate::opening::rate::Buckets;
use crate::protocol::confinement::Confinement;
use crate::protocol::desk::Desk;
use crate::protocol::messages::Report;
use crate::reason::reason;

/// The mode of the pid file: scripts of other users read it.
const PID_MODE: u32 = 0o644;
/// Time limit for the start of the watcher, and of the resolver.
const PROCESS_START_TIMEOUT: Duration = Duration::from_secs(30);

/// The log limit for a compromised watcher, as a multiple of the limit that an intact one applies itself.
const WATCHER_LOG_FACTOR: u32 = 2;
/// The same for lines that the watcher was asked for: several for each of thousands of doors.
const STATUS_LOG_FACTOR: u32 = 20;

/// Time limit for the end of a daemon that is leaving.
const LEAVING_DAEMON_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts the daemon and runs it until it ends.
///
/// # Errors
/// The daemon cannot start, or some doors could not be closed at its end.
pub fn main(arguments: Arguments) -> Result<(), StartError> {
    let limits = Limits::now();
    core_dump::forbid();
    output::start(arguments.verbose, arguments.debug);
    // First of all: without /dev/null no other process can be started, and none of the errors would name it.
    processes::find_null().map_err(StartError::NoNull)?;
    let background = |error| StartError::System("run in the background", error);
    let launcher = arguments.is_launched.then(Launcher::accept).transpose().map_err(background)?;
    processes::empty_stdin().map_err(StartError::NoNull)?;
    let mut signals = Signals::new().map_err(|error| StartError::System("listen for signals", error))?;
    let loaded = load(&arguments, &mut output::pass_on)?;
    let (warnings, confinements) = (loaded.warnings.clone(), loaded.confinements);
    let mut doorkeeper = Doorkeeper::new(arguments, limits);
    doorkeeper.watcher.confine(confinements.watcher);
    let watcher = |error| StartError::System("start the watcher", error);
    doorkeeper.watcher.start(now()).and_then(|()| doorkeeper.send_config(loaded)).map_err(watcher)?;
    doorkeeper.wait_for_watcher(&mut signals)?;
    let interfaces = doorkeeper.interfaces_at_start.take().unwrap_or_default();
    if let Err(error) = doorkeeper.open_log() {
        output::complain(&log::cannot_open(&error));
    }
    doorkeeper.complain(&warnings);
    if doorkeeper.arguments.lookup {
        doorkeeper.start_resolver(confinements.resolver)?;
    }
    let state_files = doorkeeper.config.options.state_files(&doorkeeper.arguments.pid_file);
    for state_file in state_files.all() {
        places::wait_for_leaving(state_file, LEAVING_DAEMON_TIMEOUT, || signals.is_end_wanted());
    }
    if signals.is_end_wanted() {
        // Nothing has been opened or taken over yet.
        doorkeeper.watcher.end();
        return Ok(());
    }
    if doorkeeper.arguments.single {
        doorkeeper.refuse_others(&state_files)?;
    }
    doorkeeper.open_memory();
    doorkeeper.apply_otp_trust_start();
    if doorkeeper.arguments.single && doorkeeper.memory.shares_its_path() {
        // Both daemons started at the same time.
        return Err(StartError::Running(None, state_files.first));
    }
    if doorkeeper.has_spent_lists_or_cooldowns() {
        // Tells the watcher what was used up before this daemon started.
        doorkeeper.resend_config().map_err(watcher)?;
        doorkeeper.wait_for_watcher(&mut signals)?;
    }
    let messages = doorkeeper.start_firewall()?;
    // A pid file path that SIGHUP changes takes effect at the next start.
    let mut pid_file = None;
    if let Some(launcher) = launcher {
        pid_file = Some(doorkeeper.write_pid_file());
        launcher.detach().map_err(background)?;
    }
    doorkeeper.begin(&interfaces, messages);
    // For signals that arrived during the start.
    signals.wake();
    doorkeeper.run(&mut signals);
    doorkeeper.end(pid_file)
}

impl Doorkeeper {
    /// A doorkeeper without configuration, watcher, heir or state.
    pub(super) fn new(arguments: Arguments, limits: Limits) -> Doorkeeper {
        Doorkeeper {
            watcher: WatcherProcess::new(&arguments),
            heir: HeirProcess::new(arguments.is_launched, limits.clone()),
            is_heir: false,
            new_daemon_watch: None,
            arguments,
            config: Config::default(),
            openings: Openings::new(random()),
            firewall: None,
            has_left_kernel_doors: false,
            actions: Vec::new(),
            memory: Memory::default(),
            commands: Commands::new(limits),
            log: Log::new(),
            desk: Desk::new(),
            acknowledged: 0,
            bundle: None,
            pending_config: None,
            is_reload_pending: false,
            has_lost_watcher: false,
            interfaces_at_start: Some(Vec::new()),
            interfaces: Vec::new(),
            end_deadline: None,
            watcher_deadline: None,
            refusal_log_limit: RateLimit::default(),
            status: Status::new(now()),
            fleet: None,
            watcher_log_limit: RateLimit::default_times(WATCHER_LOG_FACTOR),
            status_log_limit: RateLimit::default_times(STATUS_LOG_FACTOR),
            opening_log: OpeningLog::default(),
            buckets: Buckets::default(),
        }
    }

    /// Waits until the watcher has adopted the configuration, or until the daemon is told to end.
    fn wait_for_watcher(&mut self, signals: &mut Signals) -> Result<(), StartError> {
        let deadline = now().uptime + PROCESS_START_TIMEOUT;
        while self.pending_config.is_some() && now().uptime < deadline {
            if signals.is_end_wanted() {
                return Ok(());
            }
            match self.watcher.receive() {
                Received::Message(Report::Refused(error), _) => return Err(StartError::Capture(error)),
                Received::Message(Report::Confined(confined), _) => {
                    if let Some(missing) = confined.missing().filter(|_| self.watcher.is_strict()) {
                        return Err(StartError::Confinement("watcher", missing));
                    }
                    self.status.counters.watcher_confined = Some(confined);
                }
                Received::Message(report, _) => self.handle_report(report),
                Received::Nonsense => {}
                Received::Nothing => {
                    let signal = (signals.descriptor(), PollFlags::POLLIN);
                    let descriptors = self.watcher.descriptor().into_iter().chain([signal]);
                    let mut descriptors: Vec<PollFd<'_>> =
                        descriptors.map(|(fd, events)| PollFd::new(fd, events)).collect();
                    wait_for(&mut descriptors, poll_timeout(Some(deadline), now()));
                    self.watcher.flush();
                }
                Received::Closed => break,
            }
        }
        if self.pending_config.is_some() { Err(StartError::Watcher) } else { Ok(()) }
    }

    /// Starts the resolver, which looks up the names of knockers (`-l`).
    fn start_resolver(&mut self, confinement: Confinement) -> Result<(), StartError> {
        let start = |error| StartError::System("start the resolver", error);
        self.log.look_up_names_as(confinement).map_err(start)?;
        let confined = self.log.resolver(now().uptime + PROCESS_START_TIMEOUT);
        let confined = confined.ok_or_else(|| start(io::ErrorKind::TimedOut.into()))?;
        if let Some(missing) = confined.missing().filter(|_| confinement.sandbox == Sandbox::Require) {
            return Err(StartError::Confinement("resolver", missing));
        }
        Ok(())
    }

    /// Whether lists were used up or cooldowns began before this daemon started.
    fn has_spent_lists_or_cooldowns(&self) -> bool {
        !self.memory.cooldowns().is_empty() || !spent_lists(&self.config.doors).is_empty()
    }

    /// Opens the status and fleet sockets, reports that the daemon listens, and runs `On_Start`.
    fn begin(&mut self, interfaces: &[(String, State)], messages: Vec<LogMessage>) {
        // Before the daemon reports that it listens: a script that waits for that may ask for the status at
        // once.
        self.open_status();
        self.open_fleet(now());
        let wanted = self.wanted(&self.config.options).to_string();
        let words = words(interfaces.iter().map(|(what, state)| (what.as_str(), *state)), &wanted);
        output::say(&format!("{words}..."));
        self.log.note(Notice::Start, &format!("starting up, {words}"));
        self.status.counters.resolver_confined = self.log.resolver(Duration::ZERO);
        let counters = &self.status.counters;
        for (name, confined) in
            [("watcher", &counters.watcher_confined), ("resolver", &counters.resolver_confined)]
        {
            // If nothing is missing, -v prints what knockd 0.8 did.
            if let Some(confined) = confined.as_ref().filter(|it| it.missing().is_some()) {
                output::say(&format!("{name}: {confined}"));
            }
        }
        let missing = interfaces.iter().filter(|(_, state)| *state != State::Ready);
        self.log.tell(Notice::Waiting, missing.map(|(what, state)| state.line(what, false)));
        self.log_messages(messages, now());
        self.warn(&Config::default());
        self.remark_on_interfaces();
        let options = &self.config.options;
        if let Some(command) = options.on_start.clone() {
            let limit = options.command_timeout.filter(|limit| !limit.is_zero());
            let now = now();
            let actions = self.openings.run_for_daemon(command, false, limit, now);
            self.actions.extend(actions);
            self.take_actions(now);
        }
        output::never_wait();
        notify::ready();
    }

    /// `--single`: finds another daemon with our pid file or state file.
    fn refuse_others(&self, state_files: &StateFiles) -> Result<(), StartError> {
        let pid_file = self.pid_file();
        if let Some(pid) = running(&pid_file) {
            return Err(StartError::Running(Some(pid), pid_file));
        }
        match state_files.all().find_map(places::holder) {
            Some((place, pid)) => Err(StartError::Running(pid, place)),
            None => Ok(()),
        }
    }

    fn pid_file(&self) -> PathBuf {
        self.config.options.pid_file.as_ref().unwrap_or(&self.arguments.pid_file).clone()
    }

    fn write_pid_file(&mut self) -> PathBuf {
        let path = self.pid_file();
        if let Some(pid) = running(&path) {
            self.log.complain(&format!(
                "another knockd with the pid file {} is running, as process {pid}: both listen, and both run commands",
                octets::path(&path)
            ));
        }
        let write = || -> io::Result<()> {
            let mut file = output_file::open(&path, OpenOptions::new().write(true), 0, PID_MODE)?;
            if file.metadata()?.is_file() {
                file.set_len(0)?;
                // Fails if the file is not ours.
                let _ = file.set_permissions(Permissions::from_mode(PID_MODE));
            }
            file.write_all(format!("{}\n", std::process::id()).as_bytes())
        };
        if let Err(error) = write() {
            self.log.complain(&format!(
                "could not create pid file {}: {}",
                octets::path(&path),
                reason(&error)
            ));
        }
        path
    }
}

/// A random number, different in every process.
pub(super) fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without /dev/urandom the hasher's seed will do.
    match File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => RandomState::new().hash_one(now().unix),
    }
}

/// The PID in a pid file, if it belongs to another knockd.
fn running(pid_file: &Path) -> Option<u32> {
    let pid = std::fs::read_to_string(pid_file)
        .ok()?
        .trim()
        .parse()
        .ok()
        .filter(|&pid| pid != std::process::id())?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    // A zombie has a name but no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|line| !line.is_empty())?;
    (name.trim() == "knockd").then_some(pid)
}
