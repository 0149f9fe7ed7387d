//! Logs to standard error, from where the service manager forwards it to the journal.

use std::io::Write;

/// Writes a line. Errors are ignored, as nobody may be reading.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "knockd-fleet: {line}");
}
