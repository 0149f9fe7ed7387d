//! Standard output, for `-v` and `-D`, and standard error.

use std::io::{self, Write};

use env_logger::{Builder, Target};
use log::{Level, LevelFilter, debug, info, log_enabled};

use crate::config::Note;

const VERBOSE: &str = "knockd::verbose";
const DEBUG: &str = "knockd::debug";

/// Lets `-v` and `-D` through to standard output.
pub fn start(verbose: bool, debug: bool) {
    let level = |is_on, level| if is_on { level } else { LevelFilter::Off };
    Builder::new()
        .filter_level(LevelFilter::Off)
        .filter_module(VERBOSE, level(verbose, LevelFilter::Info))
        .filter_module(DEBUG, level(debug, LevelFilter::Debug))
        .target(Target::Stdout)
        .format(|to, record| writeln!(to, "{}", record.args()))
        .init();
}

/// Says something to whoever asked for `-v`.
pub fn say(text: &str) {
    info!(target: VERBOSE, "{text}");
}

/// Says something to whoever asked for `-D`.
pub fn explain(text: &str) {
    debug!(target: DEBUG, "{text}");
}

/// Whether anybody asked for `-v`.
#[must_use]
pub fn says() -> bool {
    log_enabled!(target: VERBOSE, Level::Info)
}

/// Whether anybody asked for `-D`.
#[must_use]
pub fn explains() -> bool {
    log_enabled!(target: DEBUG, Level::Debug)
}

/// Prints a piece of the debug output to whoever asked for `-D`; whether a line ends with it.
pub fn explain_piece(text: &str, is_end: bool) {
    if is_end {
        explain(text);
    } else if explains() {
        print(text);
    }
}

/// Says something on standard error; nobody listening is no error.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints to standard output, whatever was asked for.
pub fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Passes on what the parser has to say.
pub fn pass_on(note: Note) {
    match note {
        Note::Understood(text) | Note::Explained(text) => explain(&text),
        Note::LeftOut(text) => complain(&text),
    }
}
