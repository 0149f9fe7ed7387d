//! After the knock: waiting for a port, a connection to it, a command.

mod proxy;
mod wait;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;

use crate::client::failure::{Failure, Status};
use crate::client::system;
use crate::client::wanted::Wait;
use crate::reason::reason;

/// Waits for the port, and knocks again up to `--retries` times. With `--proxy`, returns when the
/// connection has ended.
///
/// # Errors
/// The port does not open, the connection breaks, or a knock cannot be sent.
pub fn await_port(
    wait: &Wait,
    addresses: &[SocketAddr],
    mut knock_again: impl FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    for retries_left in (0..=wait.retries).rev() {
        if wait.proxy {
            if let Some(stream) = wait::for_connection(addresses, wait.timeout) {
                return proxy::join(&stream).map_err(|error| {
                    Failure::refused(format_args!("the connection broke: {}", reason(&error)))
                });
            }
        } else if wait::for_answer(addresses, wait.protocol, wait.timeout) {
            return Ok(());
        }
        if retries_left > 0 {
            knock_again()?;
        }
    }
    let (port, protocol) = (&wait.port, wait.protocol);
    let times = match wait.retries {
        0 => "once".to_owned(),
        retries => format!("{} times", retries.saturating_add(1)),
    };
    let told = format_args!("error: {protocol} port {port} did not open; knocked {times}");
    Err(Failure::new(Status::NotOpen, told))
}

/// Becomes the command, if there is one: replaces this process by it or, on Windows, ends with its exit
/// code.
///
/// # Errors
/// The command cannot be run.
pub fn execute(command: &[OsString]) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let error = system::become_command(program, arguments);
    let status =
        if error.kind() == io::ErrorKind::NotFound { Status::NotFound } else { Status::NotExecutable };
    Err(Failure::new(status, format_args!("error: cannot run '{}': {}", program.display(), reason(&error))))
}
