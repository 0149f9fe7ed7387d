//! knockd: its processes, which do the I/O for the pure modules, and how they start.
//!
//! The doorkeeper is the main process; it starts the watcher, which faces the network. [`crate::protocol`]
//! describes what they say to each other and who waits for whom, with a diagram.
//!
//! Everything that can fail at the start does so in the foreground, in this order: command line,
//! configuration, watcher (capture and filter), log file, state. Then come the background, the pid file, the
//! event loop.

mod background;
pub mod capture;
mod check;
pub mod cli;
mod clock;
mod confinements;
mod core_dump;
mod doorkeeper;
mod error;
mod guarding;
mod limits;
mod load;
mod log;
pub mod messages;
mod new_door;
mod notify;
mod one_time;
mod output_file;
mod pages;
mod poll;
mod processes;
pub mod sandbox;
mod signals;
mod simulate;
mod status;
mod trusted;
mod watcher;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::directives;

use cli::EarlyExit;
use log::{names, output};
use processes::Role;

/// How long the end waits for slow readers of standard output and standard error.
const OUTPUT_DRAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// Main function of knockd, and of its other processes: the program's name and command line tell which one to
/// run.
#[must_use]
pub fn main() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    match words.first().and_then(Role::of) {
        Some(Role::Watcher) => return watcher::main(words),
        Some(Role::Resolver) => return names::main(words),
        Some(Role::Heir) => return doorkeeper::heir_life::inherit(&words),
        None => {}
    }
    if words.is_empty() {
        words.push("knockd".into());
    }
    let mut arguments = match cli::parse(&words) {
        Ok(arguments) => arguments,
        Err(EarlyExit::Print(text)) => {
            output::print(text);
            return ExitCode::SUCCESS;
        }
        Err(EarlyExit::ErrorWithUsage(why)) => {
            output::complain(&why);
            output::print(cli::USAGE);
            return ExitCode::FAILURE;
        }
        Err(EarlyExit::Error(why)) => {
            output::complain(&why);
            return ExitCode::FAILURE;
        }
    };
    arguments.anchor_paths();
    if let Some(format) = arguments.status {
        return status::ask::main(&arguments, format);
    }
    if let Some(file) = &arguments.simulate {
        return simulate::main(&arguments, file);
    }
    if let Some(wanted) = &arguments.new_door {
        return new_door::main(&arguments, wanted);
    }
    if arguments.directives {
        output::print(&directives::listing());
        return ExitCode::SUCCESS;
    }
    if arguments.check {
        return check::main(&arguments);
    }
    if arguments.guard || arguments.unguard {
        return guarding::main(&arguments);
    }
    let result = if arguments.daemon && !arguments.is_launched {
        background::launch(words)
    } else {
        doorkeeper::start::main(arguments).map(|()| ExitCode::SUCCESS)
    };
    let code = result.unwrap_or_else(|error| {
        output::complain(&error.to_string());
        // In the journal, the reason for a failure has to be the last line.
        if error.shows_usage() && !output::is_journal() {
            output::print(cli::USAGE);
        }
        ExitCode::FAILURE
    });
    output::drain(clock::now().uptime.saturating_add(OUTPUT_DRAIN_TIMEOUT));
    code
}
