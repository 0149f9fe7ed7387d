//! Why the daemon cannot start, in one line: what, on which object, why, and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::config::ConfigError;
use crate::reason::reason;

/// Why an interface cannot be listened on.
#[derive(Debug)]
pub struct CaptureError {
    /// The interface.
    pub interface: String,
    /// What is wrong with it.
    pub problem: CaptureProblem,
}

/// What can be wrong with an interface.
#[derive(Debug)]
pub enum CaptureProblem {
    /// There is none of that name; these are there.
    Missing(Vec<String>),
    /// There is no default route to tell which one is meant; these are there.
    NoDefaultRoute(Vec<String>),
    /// It is down.
    Down,
    /// An operation on its socket failed.
    Failed(&'static str, io::Error),
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.interface;
        write!(f, "could not open {name}: ")?;
        match &self.problem {
            CaptureProblem::Missing(names) => write!(
                f,
                "No such device exists; there are: {}; name one with -i or with 'Interface' in the configuration, or 'auto' for that of the default route",
                names.join(", ")
            ),
            CaptureProblem::NoDefaultRoute(names) => write!(
                f,
                "There is no default route; there are: {}; name one with -i or with 'Interface' in the configuration",
                names.join(", ")
            ),
            CaptureProblem::Down => {
                write!(f, "That device is not up; bring it up first (ip link set {name} up)")
            }
            CaptureProblem::Failed(_, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "{}; run as root or give knockd CAP_NET_RAW", reason(error))
            }
            CaptureProblem::Failed(operation, error) => write!(f, "{operation}: {}", reason(error)),
        }
    }
}

impl std::error::Error for CaptureError {}

/// Why the daemon cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The configuration is refused.
    Config(ConfigError),
    /// The interface cannot be listened on.
    Capture(CaptureError),
    /// Something else that the operating system refused.
    System(&'static str, io::Error),
    /// It did start, but the doorkeeper ended before it had closed every door.
    Unfinished,
    /// The configuration changes while it is being read.
    Restless(PathBuf),
}

impl StartError {
    /// Whether the usage text is shown as well, as knockd 0.8 does.
    #[must_use]
    pub fn shows_usage(&self) -> bool {
        matches!(self, StartError::Unreadable(..) | StartError::Config(_))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Unreadable(path, error) => write!(f, "{}: {}", path.display(), reason(error)),
            StartError::Config(error) => error.fmt(f),
            StartError::Capture(error) => error.fmt(f),
            StartError::System(what, error) => write!(f, "could not {what}: {}", reason(error)),
            StartError::Unfinished => f.write_str(
                "the doorkeeper ended unexpectedly, or had no configuration: doors that are open are closed by the next daemon with this state file",
            ),
            StartError::Restless(path) => {
                write!(f, "{}: changes while it is being read; try again", path.display())
            }
        }
    }
}

impl std::error::Error for StartError {}

impl From<CaptureError> for StartError {
    fn from(error: CaptureError) -> StartError {
        StartError::Capture(error)
    }
}
