//! The only file of the client that prints.
//!
//! Write errors are ignored: a closed pipe must not stop the client in the middle of a sequence, and
//! `println!` would panic.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Write};

use crate::client::system;

/// Prints a line on standard output.
pub(super) fn print_line(line: impl Display) {
    write(&mut io::stdout(), &format_args!("{line}\n"));
}

/// Prints text on standard output, without a newline at the end.
pub(super) fn print(text: impl Display) {
    write(&mut io::stdout(), &text);
}

/// Prints a line on standard error.
pub(super) fn print_error(line: impl Display) {
    write(&mut io::stderr(), &format_args!("{line}\n"));
}

/// Prints a line on standard output, or on standard error if standard output carries data.
pub(super) fn print_info(stdout_is_taken: bool, line: impl Display) {
    if stdout_is_taken { print_error(line) } else { print_line(line) }
}

/// Standard output as an unbuffered file.
///
/// # Errors
/// Standard output is closed.
pub(super) fn unbuffered_stdout() -> io::Result<File> {
    system::duplicate(&io::stdout())
}

/// Whether standard error is a terminal.
pub(super) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Prints part of a line on standard error, which is a terminal.
pub(super) fn print_progress(text: impl Display) {
    write(&mut io::stderr(), &text);
}

fn write(stream: &mut dyn Write, text: &dyn Display) {
    let _ = write!(stream, "{text}");
}
