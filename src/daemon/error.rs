//! The errors of the start, each as one line: what failed, on which object, why, and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::filter::trouble::CaptureError;
use crate::octets;
use crate::reason::reason;

/// An error at the start of the daemon, or at its end.
#[derive(Debug)]
pub enum StartError {
    /// The configuration cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The configuration is refused.
    Config(ConfigError),
    /// The interface cannot be listened on.
    Capture(CaptureError),
    /// The kernel's firewall lacks what the doors need; says what to do.
    Firewall(String),
    /// `/dev/null` cannot be opened.
    NoNull(io::Error),
    /// Another system call failed.
    System(&'static str, io::Error),
    /// `User` names a user that does not exist.
    NoUser(String),
    /// `Sandbox = require`, and this process could not give up these parts.
    Confinement(&'static str, String),
    /// The watcher ended, or did not report in time what it listens on.
    Watcher,
    /// `--single`, and another daemon has this pid file or state file; its PID, if known.
    Running(Option<u32>, PathBuf),
    /// The daemon ran, but could not close these doors at its end, each with its knocker.
    Unfinished(Vec<String>),
}

impl StartError {
    /// Whether the usage text is shown as well, as knockd 0.8 does.
    #[must_use]
    pub fn shows_usage(&self) -> bool {
        match self {
            // A file that others can write is not a mistake in the command line.
            StartError::Unreadable(_, error) => error.raw_os_error().is_some(),
            StartError::Config(_) => true,
            _ => false,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Unreadable(path, error) => write!(f, "{}: {}", octets::path(path), reason(error)),
            StartError::Config(error) => error.fmt(f),
            StartError::Capture(error) => error.fmt(f),
            StartError::Firewall(sentence) => f.write_str(sentence),
            StartError::NoNull(error) => write!(
                f,
                "could not open /dev/null: {}; knockd and its commands need it: mknod -m 666 /dev/null c 1 3",
                reason(error)
            ),
            StartError::System(what, error) => write!(f, "could not {what}: {}", reason(error)),
            StartError::NoUser(name) => write!(
                f,
                "User: there is no user {name}; create it (useradd --system {name}), or leave the line out"
            ),
            StartError::Confinement(process, missing) => write!(
                f,
                "the {process} cannot give up what Sandbox = require wants it to: {missing}; with Sandbox = yes it starts without"
            ),
            StartError::Watcher => f.write_str("could not start the watcher: it ended, or does not answer"),
            StartError::Running(pid, path) => {
                f.write_str("knockd is running already")?;
                if let Some(pid) = pid {
                    write!(f, ", as process {pid}")?;
                }
                write!(f, ", with {}", octets::path(path))
            }
            StartError::Unfinished(doors) => write!(
                f,
                "doors that are open could not be closed: {}; the next daemon with this state file closes them",
                doors.join(", ")
            ),
        }
    }
}

impl std::error::Error for StartError {}

impl From<CaptureError> for StartError {
    fn from(error: CaptureError) -> StartError {
        StartError::Capture(error)
    }
}
