//! Standard output, for `-v` and `-D`, and standard error.
//!
//! While the daemon starts, writes block, so that nothing is lost. Once it [serves](never_wait) they never
//! block, and lines that nobody reads are lost and counted.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use env_logger::{Builder, Target};
use log::{Level, LevelFilter, debug, info, log_enabled};
use nix::poll::{PollFd, PollFlags};

use crate::config::Note;
use crate::daemon::clock::now;
use crate::daemon::log::outlet::Outlet;
use crate::daemon::poll::{poll_timeout, wait_for};
use crate::octets;

const VERBOSE: &str = "knockd::verbose";
const DEBUG: &str = "knockd::debug";

/// One of the two streams, once writes no longer block.
struct Stream {
    outlet: Option<Outlet>,
    /// Lines lost since the last one that was written.
    lost: u64,
}

static OUTPUT: Mutex<Stream> = Mutex::new(Stream { outlet: None, lost: 0 });
static ERROR: Mutex<Stream> = Mutex::new(Stream { outlet: None, lost: 0 });

impl Stream {
    /// Writes a text; false if this stream still blocks and the caller has to write.
    fn write(&mut self, text: &[u8]) -> bool {
        let Some(outlet) = &mut self.outlet else { return false };
        if self.lost > 0 {
            let text = format!("... {} lines nobody read are missing here\n", self.lost);
            if outlet.write(text.as_bytes()).is_err() {
                self.lost = self.lost.saturating_add(1);
                return true;
            }
            self.lost = 0;
        }
        if outlet.write(text).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.lost = self.lost.saturating_add(1);
        }
        true
    }
}

/// Standard output, as the target of `env_logger`.
struct ToOutput;

impl Write for ToOutput {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(text) {
            Ok(text) => print(text),
            Err(_) => print_bytes(text),
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lets `-v` and `-D` through to standard output.
pub fn start(verbose: bool, debug: bool) {
    let level = |is_on, level| if is_on { level } else { LevelFilter::Off };
    Builder::new()
        .filter_level(LevelFilter::Off)
        .filter_module(VERBOSE, level(verbose, LevelFilter::Info))
        .filter_module(DEBUG, level(debug, LevelFilter::Debug))
        .target(Target::Pipe(Box::new(ToOutput)))
        .format(|to, record| writeln!(to, "{}", record.args()))
        .init();
}

/// From now on, writes to standard output and standard error never block.
pub fn never_wait() {
    lock(&OUTPUT).outlet = Outlet::shared(io::stdout().as_fd()).ok();
    lock(&ERROR).outlet = Outlet::shared(io::stderr().as_fd()).ok();
}

/// Writes waiting lines as far as there is room. Returns duplicates of the descriptors to wait on for
/// `POLLOUT`; usually none.
pub fn flush() -> Vec<OwnedFd> {
    let mut waited_for = Vec::new();
    for stream in [&OUTPUT, &ERROR] {
        if let Some(outlet) = &mut lock(stream).outlet {
            let _ = outlet.flush();
            waited_for.extend(outlet.waits_for().and_then(|fd| fd.try_clone_to_owned().ok()));
        }
    }
    waited_for
}

/// Waits until everything is written, until this uptime at most.
pub fn drain(deadline: Duration) {
    loop {
        let waited_for = flush();
        if waited_for.is_empty() || now().uptime >= deadline {
            return;
        }
        let mut descriptors: Vec<PollFd<'_>> =
            waited_for.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLOUT)).collect();
        wait_for(&mut descriptors, poll_timeout(Some(deadline), now()));
    }
}

fn lock(stream: &Mutex<Stream>) -> std::sync::MutexGuard<'_, Stream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints a line if `-v` was given.
pub fn say(text: &str) {
    info!(target: VERBOSE, "{text}");
}

/// Prints a line if `-D` was given.
pub fn explain(text: &str) {
    debug!(target: DEBUG, "{text}");
}

/// Whether `-v` was given.
#[must_use]
pub fn says() -> bool {
    log_enabled!(target: VERBOSE, Level::Info)
}

/// Whether `-D` was given.
#[must_use]
pub fn explains() -> bool {
    log_enabled!(target: DEBUG, Level::Debug)
}

/// Prints a piece of debug output if `-D` was given; `is_end` if the line ends with it.
pub fn explain_piece(text: &str, is_end: bool) {
    if is_end {
        explain(text);
    } else if explains() {
        print(text);
    }
}

/// Writes a line to standard error; a failure is ignored.
pub fn complain(text: &str) {
    let line = octets::shown(&format!("{text}\n"));
    if !lock(&ERROR).write(&line) {
        let _ = io::stderr().write_all(&line);
    }
}

/// Prints to standard output, with or without `-v`.
pub fn print(text: &str) {
    print_bytes(&octets::shown(text));
}

/// Whether standard output is a file that others than its owner can read.
#[must_use]
pub fn is_for_others_to_read() -> bool {
    const BY_OTHERS: u32 = 0o044;
    let file = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    file.and_then(|file| file.metadata())
        .is_ok_and(|it| it.is_file() && it.permissions().mode() & BY_OTHERS != 0)
}

/// Whether standard output or standard error is a stream of systemd's journal (`JOURNAL_STREAM` in systemd.exec(5)).
#[must_use]
pub fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let is_it = |file: File| file.metadata().is_ok_and(|it| format!("{}:{}", it.dev(), it.ino()) == stream);
    let streams = [io::stdout().as_fd().try_clone_to_owned(), io::stderr().as_fd().try_clone_to_owned()];
    streams.into_iter().flatten().map(File::from).any(is_it)
}

fn print_bytes(text: &[u8]) {
    if !lock(&OUTPUT).write(text) {
        let mut output = io::stdout();
        let _ = output.write_all(text).and_then(|()| output.flush());
    }
}

/// Prints a message of the configuration parser.
pub fn pass_on(note: Note) {
    match note {
        Note::Understood(text) | Note::Explained(text) => explain(&text),
        Note::LeftOut(text) => complain(&text),
    }
}
