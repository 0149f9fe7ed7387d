//! What `[options]` says: a field for each directive. [`Default`] is an empty section.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::door::rules::{Prefixes, Rules};
use crate::engine::MAX_ATTEMPTS;
use crate::filter::interfaces::Wanted;
use crate::opening::starts::MAX_COMMANDS;

/// `Sandbox`: whether the processes that read what strangers send lock themselves up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sandbox {
    /// As far as the system can; what it cannot does not stop the start.
    #[default]
    Yes,
    /// What the system cannot is an error.
    Require,
    /// They only change their user.
    No,
}

impl Sandbox {
    /// Its word in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Sandbox::Yes => "yes",
            Sandbox::Require => "require",
            Sandbox::No => "no",
        }
    }

    /// What a word says.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Sandbox> {
        match word.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" | "1" => Some(Sandbox::Yes),
            "require" => Some(Sandbox::Require),
            "no" | "off" | "false" | "0" => Some(Sandbox::No),
            _ => None,
        }
    }
}

/// What `[options]` says; `None` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a directive of two words")]
pub struct Options {
    /// `LogFile`.
    pub log_file: Option<PathBuf>,
    /// `PidFile`.
    pub pid_file: Option<PathBuf>,
    /// `Interface`.
    pub interface: Option<Wanted>,
    /// `Wait_Interface`.
    pub wait_interface: Option<bool>,
    /// `UseSyslog`.
    pub use_syslog: bool,
    /// `UseJournal`.
    pub use_journal: bool,
    /// `Log_Format`.
    pub log_format: LogFormat,
    /// `StateFile`.
    pub state_file: Option<PathBuf>,
    /// `StatusSocket`.
    pub status_socket: StatusSocket,
    /// `Fleet_Socket`: where the program of a fleet is served.
    pub fleet_socket: Option<PathBuf>,
    /// `Fleet_Share`: knocks are shared, not only openings.
    pub shares_knocks: bool,
    /// `On_Start`: run when the daemon listens.
    pub on_start: Option<Vec<u8>>,
    /// `On_Stop`: run when the daemon ends in good order.
    pub on_stop: Option<Vec<u8>>,
    /// `Command_Timeout`: how long a command may take; zero is no limit.
    pub command_timeout: Option<Duration>,
    /// `Max_Commands`: how many start commands run at once; 0 is no limit.
    pub max_commands: Option<u16>,
    /// `Max_Attempts`: how many attempts are remembered.
    pub max_attempts: Option<usize>,
    /// `Guard`: our own table keeps the ports of the doors shut.
    pub guard: bool,
    /// `Guard_Except`: whom it does not keep out.
    pub guard_except: Prefixes,
    /// `User`: whom the process that reads what strangers send becomes.
    pub user: Option<String>,
    /// `Sandbox`.
    pub sandbox: Sandbox,
    /// The rules of the doors that have none of their own.
    pub rules: Rules,
}

/// `Log_Format`: the form of the lines of the log file and of `-v`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// That of knockd 0.8.
    #[default]
    Text,
    /// An object a line.
    Json,
}

impl LogFormat {
    /// Reads `text` or `json`, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<LogFormat> {
        let is = |name: &str| name.eq_ignore_ascii_case(word);
        if is("text") { Some(LogFormat::Text) } else { is("json").then_some(LogFormat::Json) }
    }
}

/// `StatusSocket`: where the daemon can be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StatusSocket {
    /// It says nothing.
    #[default]
    BesidePidFile,
    /// `none`.
    Nowhere,
    /// At this path.
    At(PathBuf),
}

/// The pid file of a daemon that names none, under both names of its folder.
const DEFAULT_PID_FILES: [&str; 2] = ["/var/run/knockd.pid", "/run/knockd.pid"];
/// Where such a daemon keeps its state, so that it outlives a reboot.
pub const DEFAULT_STATE_FILE: &str = "/var/lib/knockd/knockd.state";

/// Where the state may be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateFiles {
    /// The place for it.
    pub first: PathBuf,
    /// The place if that one cannot be had. What is left in the one that is not used is taken over.
    pub instead: Option<PathBuf>,
    /// `first` is the default, and its folder may be made.
    pub is_default: bool,
}

impl StateFiles {
    /// Both.
    pub fn all(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.first).chain(&self.instead).map(PathBuf::as_path)
    }
}

impl Options {
    /// Where the state is kept, unless `StateFile` says otherwise: in a folder of ours, or where that cannot be made,
    /// and for a daemon with a pid file of its own, beside the pid file.
    #[must_use]
    pub fn state_files(&self, default_pid_file: &Path) -> StateFiles {
        let pid_file = self.pid_file.as_deref().unwrap_or(default_pid_file);
        let is_usual = DEFAULT_PID_FILES.iter().any(|path| Path::new(path) == pid_file);
        let beside = || self.beside_pid_file(default_pid_file, ".state");
        match &self.state_file {
            Some(path) => StateFiles { first: path.clone(), instead: None, is_default: false },
            None if is_usual => StateFiles {
                first: PathBuf::from(DEFAULT_STATE_FILE),
                instead: Some(beside()),
                is_default: true,
            },
            None => StateFiles { first: beside(), instead: None, is_default: false },
        }
    }

    /// Where the watcher's status socket is, if there is to be one: beside the pid file, unless `StatusSocket` says
    /// otherwise.
    #[must_use]
    pub fn status_socket(&self, default_pid_file: &Path) -> Option<PathBuf> {
        match &self.status_socket {
            StatusSocket::BesidePidFile => Some(self.beside_pid_file(default_pid_file, ".status")),
            StatusSocket::Nowhere => None,
            StatusSocket::At(path) => Some(path.clone()),
        }
    }

    fn beside_pid_file(&self, default_pid_file: &Path, ending: &str) -> PathBuf {
        let mut path = self.pid_file.as_deref().unwrap_or(default_pid_file).as_os_str().to_owned();
        path.push(ending);
        path.into()
    }

    /// The options in force after a SIGHUP: where the file no longer says something about the daemon
    /// itself, the `earlier` value stays, as in knockd 0.8.
    #[must_use]
    pub fn following(self, earlier: &Options) -> Options {
        Options {
            log_file: self.log_file.or_else(|| earlier.log_file.clone()),
            pid_file: self.pid_file.or_else(|| earlier.pid_file.clone()),
            interface: self.interface.or_else(|| earlier.interface.clone()),
            wait_interface: self.wait_interface.or(earlier.wait_interface),
            use_syslog: self.use_syslog || earlier.use_syslog,
            use_journal: self.use_journal || earlier.use_journal,
            ..self
        }
    }

    /// How many start commands of all doors run at once; 0 is no limit.
    #[must_use]
    pub fn max_commands(&self) -> u16 {
        self.max_commands.unwrap_or(MAX_COMMANDS)
    }

    /// How many attempts are remembered.
    #[must_use]
    pub fn max_attempts(&self) -> usize {
        self.max_attempts.unwrap_or(MAX_ATTEMPTS)
    }
}
