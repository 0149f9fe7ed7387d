//! The heir: a process that waits for the doorkeeper to end unexpectedly, and then closes the open doors.
//!
//! It exists only while a door is waiting to be closed (knockd 0.8 has a process for each such door). It
//! sleeps on a socket, and knows the state file and the configuration in force. When the socket closes, it
//! claims the state file as the next daemon would, and closes the doors when they are due. It ends when the
//! next daemon starts: that daemon touches the heir's lock file, which wakes the heir.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::unistd::getppid;
use rustix::process::{PidfdFlags, pidfd_open};

use crate::config::{Config, LogFormat, Options};
use crate::daemon::limits::Limits;
use crate::daemon::load;
use crate::daemon::messages::{self, Received};
use crate::daemon::poll::{rest_for, wait_for};
use crate::daemon::processes::{self, Role, Sibling};
use crate::daemon::signals;
use crate::protocol::bundle::Bundle;
use crate::protocol::messages::{Generation, Order};
use crate::time::Now;

/// Minimum time between two starts, for an heir that keeps ending or is needed only briefly.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Time limit for the end of a doorkeeper whose socket has closed, in milliseconds.
const END_TIMEOUT_MS: u16 = 10_000;
/// The same without a pidfd: how many times to check, and the interval.
const MAX_POLLS: u16 = END_TIMEOUT_MS;
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// What an heir needs besides the text of the configuration: settings from the command line and from earlier
/// configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeirSettings {
    /// The PID of the doorkeeper, which may end before the heir calls getppid(2).
    pub doorkeeper: u32,
    /// The state file, as the configuration names it.
    pub state_file: PathBuf,
    /// The log file; `None` without one.
    pub log_file: Option<PathBuf>,
    /// Log to syslog.
    pub use_syslog: bool,
    /// Log to the journal.
    pub use_journal: bool,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// `-v`.
    pub verbose: bool,
}

impl HeirSettings {
    /// The command line arguments for the heir.
    fn to_arguments(&self) -> Vec<OsString> {
        let flag = |is_set: bool, word: &str| OsString::from(if is_set { word } else { "-" });
        vec![
            self.doorkeeper.to_string().into(),
            self.state_file.clone().into(),
            self.log_file.clone().unwrap_or_default().into(),
            flag(self.use_syslog, "syslog"),
            flag(self.use_journal, "journal"),
            flag(self.log_format == LogFormat::Json, "json"),
            flag(self.verbose, "verbose"),
        ]
    }

    fn parse(arguments: &[OsString]) -> Option<HeirSettings> {
        let [_, doorkeeper, state_file, log_file, use_syslog, use_journal, format, verbose] = arguments
        else {
            return None;
        };
        Some(HeirSettings {
            doorkeeper: doorkeeper.to_str()?.parse().ok()?,
            state_file: state_file.into(),
            log_file: (!log_file.is_empty()).then(|| log_file.into()),
            use_syslog: use_syslog.as_bytes() == b"syslog",
            use_journal: use_journal.as_bytes() == b"journal",
            log_format: LogFormat::from_word(&format.to_string_lossy()).unwrap_or_default(),
            verbose: verbose.as_bytes() == b"verbose",
        })
    }
}

impl HeirSettings {
    /// A pidfd of the doorkeeper; `None` if it has ended, or on a kernel before 5.3.
    fn process(&self) -> Option<OwnedFd> {
        let pid = rustix::process::Pid::from_raw(self.doorkeeper.cast_signed())?;
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Checked after opening the pidfd, so that the PID cannot be another process's.
        self.is_of_parent().then_some(process)
    }

    fn is_of_parent(&self) -> bool {
        getppid().as_raw() == self.doorkeeper.cast_signed()
    }
}

/// The heir as the doorkeeper sees it.
#[derive(Debug)]
pub struct HeirProcess {
    is_detached: bool,
    /// The heir starts its commands with these limits, as the doorkeeper does.
    limits: Limits,
    process: Option<Sibling>,
    /// The settings that the heir was started with.
    settings: HeirSettings,
    /// Time of the last start, as uptime.
    started: Option<Duration>,
}

impl HeirProcess {
    /// No heir yet. If `is_detached`, its standard output will be `/dev/null`.
    #[must_use]
    pub fn new(is_detached: bool, limits: Limits) -> HeirProcess {
        HeirProcess { is_detached, limits, process: None, settings: HeirSettings::default(), started: None }
    }

    /// Starts or ends the heir, depending on `is_needed`. An heir with other settings is replaced.
    ///
    /// # Errors
    /// The heir cannot be started; the next call retries.
    pub fn adapt(
        &mut self,
        is_needed: bool,
        settings: &HeirSettings,
        bundle: Option<&OwnedFd>,
        now: Now,
    ) -> io::Result<()> {
        if !is_needed || self.settings != *settings {
            self.end();
        }
        if self.process.is_some() || !is_needed || self.next_start().is_some_and(|at| at > now.uptime) {
            return Ok(());
        }
        self.started = Some(now.uptime);
        self.settings = settings.clone();
        let start = || processes::start_as(Role::Heir, &settings.to_arguments(), self.is_detached);
        let process = self.limits.apply_to(start)?;
        if let Some(bundle) = bundle {
            messages::transmit(&process.socket, &Order::Adopt(Generation(1)), Some(bundle.as_fd()))?;
        }
        self.process = Some(process);
        Ok(())
    }

    /// Earliest time of the next start, as uptime; `None` before the first one.
    #[must_use]
    pub fn next_start(&self) -> Option<Duration> {
        self.started.map(|started| started.saturating_add(RESTART_DELAY))
    }

    /// Whether there is an heir.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Ends an heir with an old configuration; the next [`HeirProcess::adapt`] starts another.
    pub fn replace(&mut self) {
        self.end();
        self.started = None;
    }

    /// Checks whether the heir has ended; call it on SIGCHLD.
    pub fn check(&mut self) {
        let Some(process) = &self.process else { return };
        if matches!(messages::receive::<Order>(&process.socket), Received::Closed) {
            self.end();
        }
    }

    /// Ends the heir.
    pub fn end(&mut self) {
        if let Some(process) = self.process.take() {
            process.end();
        }
    }
}

/// Waits until the doorkeeper has ended with all its threads: only then is the lock on its state file
/// released. The socket closes earlier.
fn wait_for_end(settings: &HeirSettings, doorkeeper: Option<OwnedFd>) {
    if let Some(doorkeeper) = doorkeeper {
        wait_for(&mut [PollFd::new(doorkeeper.as_fd(), PollFlags::POLLIN)], END_TIMEOUT_MS.into());
        return;
    }
    let mut polls = 0;
    while settings.is_of_parent() && polls < MAX_POLLS {
        std::thread::sleep(POLL_INTERVAL);
        polls += 1;
    }
}

/// What the heir needs to close the doors of a killed doorkeeper.
#[derive(Debug)]
pub struct Inheritance {
    /// The settings that the heir was started with.
    pub settings: HeirSettings,
    /// The configuration that was in force.
    pub config: Config,
}

/// Waits until the doorkeeper has ended.
///
/// # Errors
/// The [`ExitCode`] of a process that was not started as an heir.
pub fn wait(arguments: &[OsString]) -> Result<Inheritance, ExitCode> {
    // Signals to the whole process group are for the doorkeeper while it runs.
    signals::ignore_all();
    let _ = nix::unistd::setsid();
    let (Some(settings), Ok(socket)) = (HeirSettings::parse(arguments), processes::accept()) else {
        return Err(ExitCode::FAILURE);
    };
    let doorkeeper = settings.process();
    let mut bundle = None;
    loop {
        match messages::receive(&socket) {
            Received::Message(Order::Adopt(_), Some(text)) => bundle = Some(text),
            Received::Message(..) | Received::Nonsense => {}
            Received::Nothing => {
                let descriptor = PollFd::new(socket.as_fd(), PollFlags::POLLIN);
                rest_for(&mut [descriptor], PollTimeout::NONE);
            }
            Received::Closed => break,
        }
    }
    wait_for_end(&settings, doorkeeper);
    let text = bundle.and_then(|bundle| messages::read_all(&bundle).ok());
    let mut config = text.and_then(|text| load::unpack(&Bundle::decode(&text)?)).unwrap_or_default();
    config.options = Options {
        state_file: Some(settings.state_file.clone()),
        log_file: settings.log_file.clone(),
        use_syslog: settings.use_syslog,
        use_journal: settings.use_journal,
        log_format: settings.log_format,
        ..Options::default()
    };
    Ok(Inheritance { settings, config })
}
