//! Lines on standard error, which the service manager puts into the journal.

use std::io::Write;

/// Writes a line. Nobody may be there to read it.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "knockd-fleet: {line}");
}
