//! `-d`: a process in the background, and one in the foreground that waits until the former listens.
//!
//! The foreground process runs the program again, and exits with 0 once the background process reports that
//! it listens, or with that process's exit code if it ends before.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use nix::sys::socket::{MsgFlags, recv, send};
use nix::unistd;
use std::os::fd::AsRawFd;

use crate::daemon::cli;
use crate::daemon::error::StartError;
use crate::daemon::processes;

/// Starts the background process with the same command line, and waits for its report.
///
/// # Errors
/// The process cannot be started or waited for.
pub fn launch(words: Vec<OsString>) -> Result<ExitCode, StartError> {
    let mut words = words.into_iter();
    let name = words.next().unwrap_or_else(|| "knockd".into());
    let mut words: Vec<OsString> = words.collect();
    // After the user's own words, which people look for in a process list.
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    words.insert(end, cli::LAUNCHED.into());
    let mut sibling = processes::start(&name, &words, false)
        .map_err(|error| StartError::System("run in the background", error))?;
    let mut word = [0; 1];
    loop {
        match recv(sibling.socket.as_raw_fd(), &mut word, MsgFlags::empty()) {
            Ok(1) => return Ok(ExitCode::SUCCESS),
            Err(nix::errno::Errno::EINTR) => {}
            _ => break,
        }
    }
    let status = sibling.child.wait().map_err(|error| StartError::System("run in the background", error))?;
    // The other process has reported the reason.
    let code = status.code().and_then(|code| u8::try_from(code).ok()).filter(|&code| code != 0);
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// The process in the foreground, as the one in the background sees it.
#[derive(Debug)]
pub struct Launcher(OwnedFd);

impl Launcher {
    /// Takes the socket to the foreground process that started this one.
    ///
    /// # Errors
    /// The socket cannot be taken from standard input.
    pub fn accept() -> io::Result<Launcher> {
        Ok(Launcher(processes::accept()?))
    }

    /// Detaches from the terminal: starts a new session, changes to `/`, redirects the standard files to
    /// `/dev/null`, and lets the foreground process exit.
    ///
    /// # Errors
    /// Errors of `setsid(2)`, `chdir(2)`, `open(2)`, `dup2(2)` and `send(2)`.
    pub fn detach(self) -> io::Result<()> {
        unistd::setsid()?;
        unistd::chdir("/")?;
        let nothing = File::options().read(true).write(true).open(processes::NULL)?;
        unistd::dup2_stdin(&nothing)?;
        unistd::dup2_stdout(&nothing)?;
        unistd::dup2_stderr(&nothing)?;
        send(self.0.as_raw_fd(), b"!", MsgFlags::MSG_NOSIGNAL)?;
        Ok(())
    }
}
