//! After the knocks: waits for a port, connects to it, or runs a command.

mod proxy;
mod wait;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;

use crate::client::after::wait::TryOutcome;
use crate::client::core_dump;
use crate::client::failure::{Failure, Status};
use crate::client::options::WaitOptions;
use crate::client::system;
use crate::reason::reason;

/// Waits for the port, and knocks again up to `--retries` times. With `--proxy`, returns once the connection
/// has ended. `advice` is the text shown if nothing answers.
///
/// # Errors
/// The port does not open, the connection breaks, or a knock cannot be sent.
pub fn await_port(
    wait: &WaitOptions,
    host: &str,
    addresses: &[SocketAddr],
    mut knock_again: impl FnMut() -> Result<(), Failure>,
    advice: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let mut retries_left = wait.retries;
    let not_open = loop {
        let not_open = if wait.proxy {
            match wait::for_connection(addresses, wait.timeout) {
                Ok(stream) => {
                    return proxy::relay(&stream).map_err(|error| {
                        Failure::refused(format_args!("the connection broke: {}", reason(&error)))
                    });
                }
                Err(not_open) => not_open,
            }
        } else {
            match wait::for_answer(addresses, wait.protocol, wait.timeout) {
                Ok(()) => return Ok(()),
                Err(not_open) => not_open,
            }
        };
        if retries_left == 0 {
            break not_open;
        }
        retries_left -= 1;
        knock_again()?;
    };
    let (port, protocol, address) = (&wait.port, wait.protocol, not_open.address.ip().to_string());
    let server = if address == host { address } else { format!("{host} ({address})") };
    let times = match wait.retries {
        0 => "once".to_owned(),
        retries => format!("{} times", retries.saturating_add(1)),
    };
    let outcome = match not_open.outcome {
        TryOutcome::Refused => "refused: nothing listens there, or the firewall rejects".to_owned(),
        TryOutcome::Error(text) => text,
        TryOutcome::NoAnswer => format!("no answer: {}", advice()),
    };
    let message =
        format_args!("error: {server}: {protocol} port {port} did not open; knocked {times}; {outcome}");
    Err(Failure::new(Status::NotOpen, message))
}

/// Replaces this process by the command, if there is one; on Windows, runs it and exits with its exit code.
///
/// # Errors
/// The command cannot be run.
pub fn execute(command: &[OsString]) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let error = core_dump::with_original_limit(|| system::become_command(program, arguments));
    let status =
        if error.kind() == io::ErrorKind::NotFound { Status::NotFound } else { Status::NotExecutable };
    Err(Failure::new(status, format_args!("error: cannot run '{}': {}", program.display(), reason(&error))))
}
