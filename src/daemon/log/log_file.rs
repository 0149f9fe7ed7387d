//! The log file. If it cannot be written (full disk, removed folder, read-only), that is reported once, the
//! file is tried again, and the number of missing lines is written when it works again.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::daemon::log::outlet::Outlet;
use crate::daemon::log::output::complain;
use crate::octets;
use crate::reason::reason;
use crate::time::Now;

/// Delay between attempts to open the file.
const REOPEN_DELAY: Duration = Duration::from_secs(1);
/// The most bytes that one write appends: a pipe takes this many atomically (`PIPE_BUF`).
const MAX_WRITE: usize = 4096;

/// A log file.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Option<Outlet>,
    /// When to try to open it again, as uptime.
    next_try: Duration,
    /// Lines lost since the last one that was written.
    missing: u64,
    has_complained: bool,
    /// Complete lines for the next write.
    buffer: String,
    /// The number of lines in `buffer`.
    lines: u64,
}

impl LogFile {
    /// Opens the file at this path. If that fails, the error is returned beside the log file, which tries
    /// again later.
    pub fn open(path: &Path) -> (LogFile, io::Result<()>) {
        let (file, result) = match Outlet::append(path) {
            Ok(file) => (Some(file), Ok(())),
            Err(error) => (None, Err(error)),
        };
        let log = LogFile {
            path: path.to_owned(),
            has_complained: file.is_none(),
            file,
            next_try: Duration::ZERO,
            missing: 0,
            buffer: String::new(),
            lines: 0,
        };
        (log, result)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a line in its final form (`shown`) to those that [`LogFile::write_out`] appends. `show` formats
    /// the line about missing lines that may have to precede it.
    pub fn add(&mut self, shown: &str, show: impl FnOnce(&str) -> String, now: Now) {
        if self.buffer.len() + shown.len() > MAX_WRITE {
            self.write_out(now);
        }
        if self.lines == 0 && self.missing > 0 {
            let lines = if self.missing == 1 { "line" } else { "lines" };
            self.buffer += &show(&format!("{} {lines} could not be written here", self.missing));
            self.buffer.push('\n');
        }
        self.lines += 1;
        self.buffer += shown;
    }

    /// Appends the added lines, in one write.
    pub fn write_out(&mut self, now: Now) {
        let (text, lines) = (std::mem::take(&mut self.buffer), std::mem::take(&mut self.lines));
        if lines == 0 {
            return;
        }
        match self.append(&octets::shown(&text), now) {
            Ok(()) => (self.missing, self.has_complained) = (0, false),
            Err(error) => {
                self.missing += lines;
                if !std::mem::replace(&mut self.has_complained, true) {
                    let path = octets::path(&self.path);
                    complain(&format!("could not write the log file {path}: {}", reason(&error)));
                }
            }
        }
    }

    fn append(&mut self, line: &[u8], now: Now) -> io::Result<()> {
        // The file was removed, not renamed: nobody would read what is written there.
        if self.file.as_ref().is_some_and(|file| file.file().metadata().is_ok_and(|it| it.nlink() == 0)) {
            self.file = None;
        }
        if self.file.is_none() {
            if now.uptime < self.next_try {
                return Err(io::ErrorKind::NotFound.into());
            }
            self.next_try = now.uptime.saturating_add(REOPEN_DELAY);
            self.file = Some(Outlet::append(&self.path)?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write(line)
    }

    /// Writes waiting lines as far as there is room.
    pub fn flush(&mut self) {
        if self.file.as_mut().is_some_and(|file| file.flush().is_err()) {
            self.file = None;
        }
    }

    /// The descriptor to wait on for `POLLOUT`, while lines are waiting.
    #[must_use]
    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref()?.waits_for()
    }
}
