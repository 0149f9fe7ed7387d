//! The client, from the command line to the last packet and the steps after it.
//!
//! The command line (`cli`), the profile (`profiles`) and the validated options (`wanted`) are three stages,
//! each of which sees only the ones before it. Then names are looked up (`lookup`), sockets and files are
//! opened, and only then are packets sent (`send`). Finally the client may wait for a port or run a command
//! (`after`). [`plan`](crate::plan) and [`craft`](crate::packet::craft), which do no I/O, decide what the
//! packets contain.

mod after;
mod chance;
pub mod cli;
mod clock;
mod core_dump;
mod failure;
mod list;
mod lookup;
mod output;
mod profiles;
mod secret;
mod send;
mod system;
pub mod usage;
mod wanted;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use crate::door::seed::new_seed;

use cli::Line;
use failure::Failure;
use send::Knocking;
use wanted::{Options, Purpose, Stages};

/// Runs `knock` with the arguments of this process, and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    core_dump::forbid();
    let line: Vec<OsString> = env::args_os().collect();
    run(&line).unwrap_or_else(|failure| failure.report())
}

/// Reports that the daemon does not run on this system, and returns the exit code.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn daemon_is_missing() -> ExitCode {
    output::complain("knockd: this system is not Linux; only knock, the client, runs here");
    ExitCode::FAILURE
}

fn run(line: &[OsString]) -> Result<ExitCode, Failure> {
    let typed = match cli::read(line)? {
        Line::Typed(typed) => typed,
        Line::Version => {
            output::print(usage::VERSION);
            return Ok(ExitCode::SUCCESS);
        }
        // As in knock 0.8, the exit code of --help is 1.
        Line::Help => return Err(Failure::usage(None)),
    };
    if typed.has("list") {
        list::show(typed.has("insecure"))?;
    } else if typed.has("new-seed") {
        let seed = loop {
            if let Some(seed) = new_seed(&chance::bytes()?) {
                break seed;
            }
        };
        output::say(&*seed);
    } else {
        let completed = profiles::complete(line, typed)?;
        knock(&wanted::read(&completed)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn knock(options: &Options) -> Result<(), Failure> {
    let addresses = lookup::addresses(options)?;
    let (errands, one_time) = lookup::errands(options, &addresses)?;
    if options.purpose == Purpose::Print {
        for errand in errands {
            output::say(errand);
        }
        return Ok(());
    }
    let awaited = match &options.wait {
        Some(wait) => Some((wait, lookup::awaited(wait, &addresses)?)),
        None => None,
    };
    let mut knocking = Knocking::prepare(options, errands)?;
    knocking.send()?;
    if options.purpose == Purpose::DryRun {
        return Ok(());
    }
    if let Some(line) = one_time {
        line.strike()?;
    }
    if let Some((wait, awaited)) = awaited {
        let knock_again = || {
            // A one-time password may have a new list by now; a one-time line stays the same.
            if let Stages::Otp(_) = options.stages {
                knocking.renew(lookup::errands(options, &addresses)?.0);
            }
            knocking.send()
        };
        let advice = || match &options.stages {
            Stages::Otp(password) => lookup::advice(&password.otp, options.clock_offset),
            Stages::Single(_) => "is it the key, the clock, or the firewall of the server?".to_owned(),
            _ => "are these the ports of the door, and do they get through?".to_owned(),
        };
        after::await_port(wait, &options.host, &awaited, knock_again, advice)?;
    }
    after::execute(&options.command)
}
