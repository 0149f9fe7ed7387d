//! knockd: the two processes around the pure parts, and how they start.
//!
//! Everything that can fail does so in the foreground, in this order: command line, configuration,
//! capture and filter, log file, doorkeeper; then the background, the pid file, the loop.

mod background;
pub mod capture;
mod check;
pub mod cli;
mod clock;
mod doorkeeper;
mod error;
mod load;
mod log;
pub mod messages;
mod notify;
mod one_time;
mod processes;
mod signals;
mod watcher;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollTimeout, poll};

use crate::time::Now;
use cli::{Arguments, Instead};
use log::{names, output};
use processes::Role;

/// Runs the program: its name and its command line say what it is.
#[must_use]
pub fn main() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    match words.first().and_then(Role::of) {
        Some(Role::Doorkeeper) => return doorkeeper::main(words),
        Some(Role::Resolver) => return names::main(),
        None => {}
    }
    if words.is_empty() {
        words.push("knockd".into());
    }
    let mut arguments = match cli::parse(words.clone()) {
        Ok(arguments) => arguments,
        Err(Instead::Print(text)) => {
            output::print(text);
            return ExitCode::SUCCESS;
        }
        Err(Instead::Refuse(why)) => {
            output::complain(&why);
            output::print(cli::USAGE);
            return ExitCode::FAILURE;
        }
    };
    anchor_paths(&mut arguments);
    if arguments.check {
        return check::main(&arguments);
    }
    let result = if arguments.daemon && !arguments.is_launched {
        background::launch(words)
    } else {
        watcher::main(arguments).map(|()| ExitCode::SUCCESS)
    };
    result.unwrap_or_else(|error| {
        output::complain(&error.to_string());
        if error.shows_usage() {
            output::print(cli::USAGE);
        }
        ExitCode::FAILURE
    })
}

/// Paths are relative to where we were started, wherever we go later.
fn anchor_paths(arguments: &mut Arguments) {
    let folder = std::env::current_dir().unwrap_or_else(|_| "/".into());
    for path in [&mut arguments.config, &mut arguments.pid_file].into_iter().chain(&mut arguments.log_file) {
        // An empty one is none, and not the folder.
        if !path.as_os_str().is_empty() {
            *path = folder.join(&path);
        }
    }
    arguments.folder = folder;
}

/// How long we sleep when `poll` cannot.
const PAUSE: Duration = Duration::from_millis(20);

/// Sleeps until one of the descriptors is ready, and says whether they tell which one that is.
///
/// `poll` fails for good when the limit of open files is lowered below the number of descriptors, or
/// when there is no memory: then each has to be tried, and that must not be all that we do.
fn wait_for(descriptors: &mut [PollFd<'_>], timeout: PollTimeout) -> bool {
    match poll(descriptors, timeout) {
        Ok(_) | Err(Errno::EINTR) => true,
        Err(_) => {
            std::thread::sleep(PAUSE);
            false
        }
    }
}

/// How long `poll` may sleep: until the deadline (uptime), for ever without one.
fn poll_timeout(deadline: Option<Duration>, now: Now) -> PollTimeout {
    // The clock of `poll` stands still while the machine sleeps, uptime does not.
    const AT_MOST: Duration = Duration::from_mins(1);
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let left = deadline.saturating_sub(now.uptime).min(AT_MOST);
    // Rounded up: to wake too early means to wake twice.
    let milliseconds = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
}
