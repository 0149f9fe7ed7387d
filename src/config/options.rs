//! The values of `[options]`, a field for each directive. [`Default`] is an empty section.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::door::rules::{Prefixes, Rules};
use crate::engine::MAX_ATTEMPTS;
use crate::filter::interfaces::Wanted;
use crate::opening::starts::MAX_COMMANDS;

/// `Sandbox`: whether the processes that parse packets from the network confine themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sandbox {
    /// As far as the system supports it; a missing feature does not prevent the start.
    #[default]
    Yes,
    /// A missing feature is an error.
    Require,
    /// They only change their user.
    No,
}

impl Sandbox {
    /// The word in the configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Sandbox::Yes => "yes",
            Sandbox::Require => "require",
            Sandbox::No => "no",
        }
    }

    /// Parses the word, in any case.
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

/// The values of `[options]`; `None` for a directive that is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a directive of its own")]
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
    /// `Fleet_Socket`: the socket at which the program of a fleet connects.
    pub fleet_socket: Option<PathBuf>,
    /// `Fleet_Share = knocks`: share knocks, not only openings.
    pub shares_knocks: bool,
    /// `On_Start`: a command to run once the daemon listens.
    pub on_start: Option<Vec<u8>>,
    /// `On_Stop`: a command to run when the daemon ends on request.
    pub on_stop: Option<Vec<u8>>,
    /// `Command_Timeout`: how long a command may run; zero means no limit.
    pub command_timeout: Option<Duration>,
    /// `Max_Commands`: how many start commands may run at once; 0 means no limit.
    pub max_commands: Option<u16>,
    /// `Max_Attempts`: the capacity of the table of attempts.
    pub max_attempts: Option<usize>,
    /// `Guard`: our own nftables table drops packets to the ports of the doors.
    pub guard: bool,
    /// `Guard_Except`: the addresses that pass the guard.
    pub guard_except: Prefixes,
    /// `User`: the user of the process that parses packets from the network.
    pub user: Option<String>,
    /// `Sandbox`.
    pub sandbox: Sandbox,
    /// The rules of doors that do not override them.
    pub rules: Rules,
}

/// `Log_Format`: the format of the log file and of `-v`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// The format of knockd 0.8.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// Parses `text` or `json`, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<LogFormat> {
        let is = |name: &str| name.eq_ignore_ascii_case(word);
        if is("text") { Some(LogFormat::Text) } else { is("json").then_some(LogFormat::Json) }
    }
}

/// `StatusSocket`: the path of the status socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StatusSocket {
    /// The default: next to the pid file.
    #[default]
    BesidePidFile,
    /// `none`: no status socket.
    Nowhere,
    /// At this path.
    At(PathBuf),
}

/// The default pid file, under both names of its folder.
const DEFAULT_PID_FILES: [&str; 2] = ["/var/run/knockd.pid", "/run/knockd.pid"];
/// The default state file if the pid file is the default too; it survives a reboot.
pub const DEFAULT_STATE_FILE: &str = "/var/lib/knockd/knockd.state";

/// The candidate paths of the state file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateFiles {
    /// The preferred path.
    pub first: PathBuf,
    /// The path to use if `first` is not usable. State found at the other path is taken over.
    pub instead: Option<PathBuf>,
    /// `first` is the default, so its folder may be created.
    pub is_default: bool,
}

impl StateFiles {
    /// Both paths, `first` before `instead`.
    pub fn all(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.first).chain(&self.instead).map(PathBuf::as_path)
    }
}

impl Options {
    /// The paths of the state file: `StateFile` if it is set; with the default pid file
    /// [`DEFAULT_STATE_FILE`], or next to the pid file if its folder cannot be created; with any other pid
    /// file, next to that file.
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

    /// The path of the watcher's status socket: `StatusSocket` if it is set, otherwise next to the pid file.
    /// `None` if it is switched off.
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

    /// The options in force after a SIGHUP: directives about the daemon itself that the new file lacks keep
    /// their `earlier` value, as in knockd 0.8.
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

    /// The limit on start commands of all doors that run at once; 0 means no limit.
    #[must_use]
    pub fn max_commands(&self) -> u16 {
        self.max_commands.unwrap_or(MAX_COMMANDS)
    }

    /// The capacity of the table of attempts.
    #[must_use]
    pub fn max_attempts(&self) -> usize {
        self.max_attempts.unwrap_or(MAX_ATTEMPTS)
    }
}
