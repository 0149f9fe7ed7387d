//! Strikes a used line in a one-time sequence file.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::daemon::trusted::{self, Trusted};
use crate::door::lock::{Turn, one_time_lines};

/// How often a file that is replaced again and again is opened anew.
const TRIES: u32 = 8;

/// Opens a one-time sequence file, which must be writable as well, or its lines could not be struck.
///
/// # Errors
/// See [`trusted::open`].
pub fn open(path: &Path) -> io::Result<Trusted> {
    trusted::open(path, OpenOptions::new().read(true).write(true))
}

/// The text of a one-time sequence file.
///
/// # Errors
/// See [`trusted::open`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    open(path)?.read()
}

/// Writes `#` over the first byte of the first usable line that is this turn, and waits until that
/// is on the disk.
///
/// It is read, written and synced through one descriptor. An editor or a script may put another file in its place
/// meanwhile, in which the line would still be good: then it is struck there as well.
///
/// # Errors
/// What the operating system says; `NotFound` when there is no such line, as after a change by hand.
pub fn strike(path: &Path, turn: Turn) -> io::Result<()> {
    for _ in 0..TRIES {
        let mut opened = open(path)?;
        let text = opened.read()?;
        let line = one_time_lines(&text)
            .find(|line| line.sequence.as_ref().is_ok_and(|sequence| sequence.turn() == turn))
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the line is not there any more"))?;
        let offset = u64::try_from(line.offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        opened.file.write_all_at(b"#", offset)?;
        opened.file.sync_all()?;
        if is_at(&opened.file, path)? {
            return Ok(());
        }
    }
    Err(io::Error::other("the file is replaced again and again"))
}

/// Whether the path still leads to this file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (ours, there) = (file.metadata()?, fs::metadata(path)?);
    Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
}
