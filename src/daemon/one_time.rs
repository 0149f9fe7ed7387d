//! Strikes a used line in a one-time sequence file.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::door::lock::{Turn, one_time_lines};

/// Writes `#` over the first byte of the first usable line that is this turn, and waits until that
/// is on the disk.
///
/// # Errors
/// What the operating system says; `NotFound` when there is no such line, as after a change by hand.
pub fn strike(path: &Path, turn: Turn) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let text = std::fs::read(path)?;
    let line = one_time_lines(&text)
        .find(|line| line.sequence.as_ref().is_ok_and(|sequence| sequence.turn() == turn))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the line is not there any more"))?;
    let offset = u64::try_from(line.offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
    file.write_all_at(b"#", offset)?;
    file.sync_all()
}

/// Reads a one-time sequence file, which must be writable as well, or its lines could not be struck.
///
/// # Errors
/// What the operating system says.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    OpenOptions::new().read(true).write(true).open(path)?;
    std::fs::read(path)
}
