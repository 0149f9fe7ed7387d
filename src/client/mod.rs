//! The client: one knocking, from the command line to the last packet.

mod cli;
mod connect;
mod output;
mod resolve;

use std::env;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;

use self::cli::{Options, Request};
use crate::plan::{Asked, Port};
use crate::sequence::Stage;

/// Usage, configuration or resolution: nothing was sent.
const REFUSED: u8 = 1;

/// Runs `knock`; the program's arguments are its input, its exit code is the result.
#[must_use]
pub fn main() -> ExitCode {
    let line: Vec<OsString> = env::args_os().collect();
    match cli::read(&line) {
        Ok(Request::Version) => {
            output::print(cli::VERSION);
            ExitCode::SUCCESS
        }
        // As knock 0.8 has it, whoever asks for help failed to knock.
        Ok(Request::Usage) => {
            output::print(cli::USAGE);
            ExitCode::from(REFUSED)
        }
        Ok(Request::Knock(options)) => match run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                output::complain(message);
                ExitCode::from(REFUSED)
            }
        },
        Err(refusal) => {
            if let Some(message) = refusal.message {
                output::complain(message);
            }
            if refusal.usage {
                output::print(cli::USAGE);
            }
            ExitCode::from(REFUSED)
        }
    }
}

/// Everything is looked up before the first knock: half a sequence would open nothing, and tell
/// whoever listens on the way half of it.
fn run(options: &Options) -> Result<(), String> {
    let failed = |asked: &Asked, reason: &str| {
        format!("Failed to resolve hostname '{}' on port {}\ngetaddrinfo: {reason}", options.host, asked.text)
    };
    let first = options.stages.first().ok_or("error: no port to knock at")?;
    let addresses = resolve::host(&options.host, options.family).map_err(|reason| failed(first, &reason))?;
    let address = *addresses.first().ok_or("error: no address to knock at")?;
    let mut stages = Vec::with_capacity(options.stages.len());
    for asked in &options.stages {
        let port = match asked.port {
            Port::Number(number) => number,
            Port::Service => {
                resolve::service(&asked.text, asked.protocol).map_err(|reason| failed(asked, &reason))?
            }
        };
        stages.push(Stage { protocol: asked.protocol, port });
    }
    for (asked, stage) in options.stages.iter().zip(stages) {
        if options.verbose {
            output::say(format_args!("hitting {} {}:{}", stage.protocol, address.ip(), asked.text));
        }
        let mut destination: SocketAddr = address;
        destination.set_port(stage.port);
        connect::knock(destination, stage.protocol)
            .map_err(|error| format!("error: cannot open a {} socket: {error}", stage.protocol))?;
        if !options.delay.is_zero() {
            thread::sleep(options.delay);
        }
    }
    Ok(())
}
