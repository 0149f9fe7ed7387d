//! The client's errors and exit codes.

use std::fmt;
use std::process::ExitCode;

use crate::client::output;
use crate::client::usage::USAGE;

/// The exit codes of failures. Code 0 means that all knocks were sent and, with `--wait`, the port is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// A mistake in the command line or a file, or an unknown name: nothing was sent.
    Refused = 1,
    /// Raw packets are not permitted.
    NotPermitted = 2,
    /// Everything was sent, but the port did not open in time.
    NotOpen = 3,
    /// A raw packet could not be sent.
    NotSent = 4,
    /// The command cannot be executed; the same code as env(1).
    NotExecutable = 126,
    /// The command was not found; the same code as env(1).
    NotFound = 127,
}

/// A failure: its message and its exit code.
///
/// Boxed, as most functions of the client return it: each `?` moves only a pointer.
#[derive(Debug)]
pub(super) struct Failure(Box<FailureDetails>);

#[derive(Debug)]
struct FailureDetails {
    status: Status,
    message: Option<String>,
    shows_usage: bool,
}

impl Failure {
    /// A failure with this message.
    pub(super) fn new(status: Status, message: impl fmt::Display) -> Failure {
        Failure::from_display(status, &message)
    }

    fn from_display(status: Status, message: &dyn fmt::Display) -> Failure {
        Failure(Box::new(FailureDetails { status, message: Some(message.to_string()), shows_usage: false }))
    }

    /// An invalid value, an unusable file, or an unknown name.
    pub(super) fn refused(message: impl fmt::Display) -> Failure {
        Failure::from_display(Status::Refused, &format_args!("error: {message}"))
    }

    /// An incomplete or wrong command line: prints the message, if any, and the usage.
    pub(super) fn usage(message: Option<String>) -> Failure {
        Failure(Box::new(FailureDetails { status: Status::Refused, message, shows_usage: true }))
    }

    /// Several failures, one per line; the exit code is 1.
    pub(super) fn combined(failures: Vec<Failure>) -> Failure {
        let messages: Vec<String> = failures.into_iter().filter_map(|failure| failure.0.message).collect();
        Failure::new(Status::Refused, messages.join("\n"))
    }

    /// Prints the message and returns the exit code.
    pub(super) fn report(&self) -> ExitCode {
        let FailureDetails { status, message, shows_usage } = &*self.0;
        if let Some(message) = message {
            output::print_error(message);
        }
        if *shows_usage {
            output::print(USAGE);
            // Repeat the message on a terminal, where the usage may have pushed it off the screen.
            if let Some(message) = message.as_ref().filter(|_| output::stderr_is_terminal()) {
                output::print_error(message);
            }
        }
        ExitCode::from(*status as u8)
    }
}
