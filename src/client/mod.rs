//! The client, from the command line to the last packet and the steps after it.
//!
//! The command line (`cli`), the profile (`profiles`) and the validated options (`options`) are three stages,
//! each of which sees only the ones before it. Then names are looked up (`lookup`), sockets and files are
//! opened, and only then are packets sent (`send`). Finally the client may wait for a port or run a command
//! (`after`). [`plan`](crate::plan) and [`craft`](crate::packet::craft), which do no I/O, decide what the
//! packets contain.

mod after;
pub mod cli;
mod clock;
mod core_dump;
mod failure;
mod list;
mod lookup;
mod options;
mod output;
mod profiles;
mod random;
mod secret;
mod send;
mod system;
pub mod usage;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use crate::door::seed::new_seed;

use cli::Parsed;
use failure::Failure;
use options::{Mode, Options, StageSource};
use send::SequenceSender;

/// Runs `knock` with the arguments of this process, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    core_dump::disable();
    let line: Vec<OsString> = env::args_os().collect();
    run(&line).unwrap_or_else(|failure| failure.report())
}

/// Reports that the daemon does not run on this system, and returns the exit code.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn daemon_is_missing() -> ExitCode {
    output::print_error("knockd: this system is not Linux; only knock, the client, runs here");
    ExitCode::FAILURE
}

fn run(line: &[OsString]) -> Result<ExitCode, Failure> {
    let arguments = match cli::read(line)? {
        Parsed::Arguments(arguments) => arguments,
        Parsed::Version => {
            output::print(usage::VERSION);
            return Ok(ExitCode::SUCCESS);
        }
        // As in knock 0.8, the exit code of --help is 1.
        Parsed::Help => return Err(Failure::usage(None)),
    };
    if arguments.has("list") {
        list::show(arguments.has("insecure"))?;
    } else if arguments.has("new-seed") {
        let seed = loop {
            if let Some(seed) = new_seed(&random::bytes()?) {
                break seed;
            }
        };
        output::print_line(&*seed);
    } else {
        let completed = profiles::complete(line, arguments)?;
        knock(&options::read(&completed)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn knock(options: &Options) -> Result<(), Failure> {
    let addresses = lookup::addresses(options)?;
    let (sequences, one_time) = lookup::sequences(options, &addresses)?;
    if options.mode == Mode::Print {
        for sequence in sequences {
            output::print_line(sequence);
        }
        return Ok(());
    }
    let wait_addresses = match &options.wait {
        Some(wait) => Some((wait, lookup::wait_addresses(wait, &addresses)?)),
        None => None,
    };
    let mut sender = SequenceSender::prepare(options, sequences)?;
    sender.send()?;
    if options.mode == Mode::DryRun {
        return Ok(());
    }
    if let Some(line) = one_time {
        line.strike()?;
    }
    if let Some((wait, wait_addresses)) = wait_addresses {
        let knock_again = || {
            // A one-time password may have a new list by now; a one-time line stays the same.
            if let StageSource::Otp(_) = options.stages {
                sender.replace_sequences(lookup::sequences(options, &addresses)?.0);
            }
            sender.send()
        };
        let advice = || match &options.stages {
            StageSource::Otp(password) => lookup::advice(&password.otp, options.clock_offset),
            StageSource::SinglePacket(_) => {
                "is it the key, the clock, or the firewall of the server?".to_owned()
            }
            _ => "are these the ports of the door, and do they get through?".to_owned(),
        };
        after::await_port(wait, &options.host, &wait_addresses, knock_again, advice)?;
    }
    after::execute(&options.command)
}
