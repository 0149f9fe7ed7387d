//! After the knocks: waits for a port, connects to it, or runs a command.

mod proxy;
mod wait;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;

use crate::client::after::wait::Seen;
use crate::client::core_dump;
use crate::client::failure::{Failure, Status};
use crate::client::system;
use crate::client::wanted::Wait;
use crate::reason::reason;

/// Waits for the port, and knocks again up to `--retries` times. With `--proxy`, returns once the connection
/// has ended. `advice` is the text shown if nothing answers.
///
/// # Errors
/// The port does not open, the connection breaks, or a knock cannot be sent.
pub fn await_port(
    wait: &Wait,
    host: &str,
    addresses: &[SocketAddr],
    mut knock_again: impl FnMut() -> Result<(), Failure>,
    advice: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let mut retries_left = wait.retries;
    let shut = loop {
        let shut = if wait.proxy {
            match wait::for_connection(addresses, wait.timeout) {
                Ok(stream) => {
                    return proxy::join(&stream).map_err(|error| {
                        Failure::refused(format_args!("the connection broke: {}", reason(&error)))
                    });
                }
                Err(shut) => shut,
            }
        } else {
            match wait::for_answer(addresses, wait.protocol, wait.timeout) {
                Ok(()) => return Ok(()),
                Err(shut) => shut,
            }
        };
        if retries_left == 0 {
            break shut;
        }
        retries_left -= 1;
        knock_again()?;
    };
    let (port, protocol, address) = (&wait.port, wait.protocol, shut.address.ip().to_string());
    let place = if address == host { address } else { format!("{host} ({address})") };
    let times = match wait.retries {
        0 => "once".to_owned(),
        retries => format!("{} times", retries.saturating_add(1)),
    };
    let seen = match shut.seen {
        Seen::Refusal => "refused: nothing listens there, or the firewall rejects".to_owned(),
        Seen::Error(words) => words,
        Seen::Silence => format!("no answer: {}", advice()),
    };
    let told = format_args!("error: {place}: {protocol} port {port} did not open; knocked {times}; {seen}");
    Err(Failure::new(Status::NotOpen, told))
}

/// Replaces this process by the command, if there is one; on Windows, runs it and exits with its exit code.
///
/// # Errors
/// The command cannot be run.
pub fn execute(command: &[OsString]) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let error = core_dump::lifted(|| system::become_command(program, arguments));
    let status =
        if error.kind() == io::ErrorKind::NotFound { Status::NotFound } else { Status::NotExecutable };
    Err(Failure::new(status, format_args!("error: cannot run '{}': {}", program.display(), reason(&error))))
}
