//! The one place of the client that prints.
//!
//! What cannot be printed is lost: a closed pipe on the other side is no reason to stop knocking
//! half-way through a sequence, and no reason to panic as `println!` does.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

/// One line on standard output.
pub(super) fn say(line: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Text on standard output as it is, for what brings its own ends of line.
pub(super) fn print(text: impl Display) {
    let _ = write!(io::stdout().lock(), "{text}");
}

/// One line on standard error.
pub(super) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// One line about the progress: on standard output, or on standard error where that `is_taken`.
pub(super) fn note(is_taken: bool, line: impl Display) {
    if is_taken { complain(line) } else { say(line) }
}

/// Standard output as a file: no buffer stands between the two programs it joins.
///
/// # Errors
/// There is no standard output.
pub(super) fn unbuffered() -> io::Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

/// Whether somebody watches standard error.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Part of a line on standard error, for a terminal.
pub(super) fn progress(text: impl Display) {
    let _ = write!(io::stderr().lock(), "{text}");
}
