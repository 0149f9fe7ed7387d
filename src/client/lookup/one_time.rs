//! One-time sequence files in the daemon's format: one sequence per line. A used line is struck: its first
//! byte becomes `#`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::client::failure::Failure;
use crate::client::{output, secret, system};
use crate::door::lock::one_time_lines;
use crate::door::sequence::Sequence;
use crate::reason::reason;

/// The first unused line of a file. The file is locked until the line is struck or dropped.
#[derive(Debug)]
pub struct OneTimeLine {
    path: PathBuf,
    file: File,
    /// The byte offset of the line in the file.
    offset: usize,
    /// The sequence on the line.
    pub sequence: Sequence,
}

impl OneTimeLine {
    /// Takes the first usable line. Waits while another client holds the lock.
    ///
    /// # Errors
    /// The file cannot be opened for reading and writing, others can write it (unless `insecure`), or it has
    /// no usable line left.
    pub fn take(path: &Path, insecure: bool) -> Result<OneTimeLine, Failure> {
        let shown = path.display();
        let failed = |error: io::Error| Failure::refused(format_args!("{shown}: {}", reason(&error)));
        let mut file = lock(path).map_err(failed)?;
        secret::check_writers(&file, path, insecure).map_err(Failure::refused)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        for line in one_time_lines(&text) {
            if let Ok(sequence) = line.sequence {
                return Ok(OneTimeLine { path: path.to_owned(), file, offset: line.offset, sequence });
            }
            // Do not show the line itself: it may be a sequence with a typo.
            let lines_before = text.iter().take(line.offset).filter(|&&byte| byte == b'\n').count();
            output::print_error(format_args!("{shown}: line {} is no sequence, skipped", lines_before + 1));
        }
        Err(Failure::refused(format_args!("{shown}: no unused sequence left")))
    }

    /// Strikes the line, syncs the file to disk and unlocks it.
    ///
    /// # Errors
    /// The file cannot be written, or was replaced: the next run may use the same line again, which opens
    /// nothing.
    pub fn strike(mut self) -> Result<(), Failure> {
        self.write_mark().map_err(|error| {
            let (path, words) = (self.path.display(), reason(&error));
            Failure::refused(format_args!("{path}: cannot strike the used sequence: {words}"))
        })
    }

    fn write_mark(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(u64::try_from(self.offset).unwrap_or(u64::MAX)))?;
        self.file.write_all(b"#")?;
        self.file.sync_data()?;
        if system::is_at(&self.file, &self.path)? {
            Ok(())
        } else {
            Err(io::Error::other("another file is in its place by now; strike it there"))
        }
    }
}

/// Opens and locks a file. Retries if the path has changed to another file by the time the lock is held,
/// since another client may have replaced it meanwhile.
fn lock(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        file.lock()?;
        if system::is_at(&file, path)? {
            return Ok(file);
        }
    }
}
