//! Why a knocking ended early, and with which exit code.

use std::fmt;
use std::process::ExitCode;

use crate::client::output;
use crate::client::usage::USAGE;

/// What the exit code tells; 0 is a knocking that was sent (and a port that is open, with `--wait`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Usage, configuration or resolution: nothing was sent.
    Refused = 1,
    /// Raw packets are not permitted.
    NotPermitted = 2,
    /// Everything was sent, but the port did not open in time.
    NotOpen = 3,
    /// A raw packet could not be sent.
    NotSent = 4,
    /// The command cannot be executed, in the words of env(1).
    NotExecutable = 126,
    /// The command was not found.
    NotFound = 127,
}

/// The end of a knocking that did not go well.
#[derive(Debug)]
pub(super) struct Failure {
    status: Status,
    message: Option<String>,
    usage: bool,
}

impl Failure {
    /// With one line for the user.
    pub(super) fn new(status: Status, message: impl fmt::Display) -> Failure {
        Failure { status, message: Some(message.to_string()), usage: false }
    }

    /// A value that means nothing, a file that cannot be used, a name that nobody knows.
    pub(super) fn refused(message: impl fmt::Display) -> Failure {
        Failure::new(Status::Refused, format_args!("error: {message}"))
    }

    /// A command line that is no knocking: the usage is shown, after a line on what is wrong if the
    /// usage does not say it.
    pub(super) fn usage(message: Option<String>) -> Failure {
        Failure { status: Status::Refused, message, usage: true }
    }

    /// Several failures with a line each; the exit code is 1.
    pub(super) fn all(failures: Vec<Failure>) -> Failure {
        let messages: Vec<String> = failures.into_iter().filter_map(|failure| failure.message).collect();
        Failure::new(Status::Refused, messages.join("\n"))
    }

    /// Tells the user, and the shell.
    pub(super) fn report(&self) -> ExitCode {
        if let Some(message) = &self.message {
            output::complain(message);
        }
        if self.usage {
            output::print(USAGE);
        }
        ExitCode::from(self.status as u8)
    }
}
