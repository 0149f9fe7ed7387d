//! Flushes files to the disk beside the doorkeeper's loop: on a busy disk that takes a tenth of a second, in which
//! nobody else's door would open.
//!
//! It is a thread, because fsync(2) always blocks. It shares nothing with the main thread but what is to be flushed,
//! sleeps while there is nothing to flush, and ends with the [`Flusher`].

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::libc::EIO;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::SigSet;

use crate::daemon::poll::wait_for;

/// Bytes of its stack: it calls hardly anything.
const STACK: usize = 128 * 1024;

/// One flush.
#[derive(Debug)]
struct Flush {
    file: Arc<File>,
    /// The folder, if the names in it are to be flushed too.
    folder: Option<PathBuf>,
}

/// The flush that is to be done next.
type Next = Mutex<Option<Flush>>;

/// The thread, as the doorkeeper sees it. It takes one flush at a time.
#[derive(Debug)]
pub(super) struct Flusher {
    next: Arc<Next>,
    /// Takes a byte for each flush, and brings its error number, 0 if there was no error.
    line: UnixStream,
}

impl Flusher {
    /// Starts it.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn start() -> io::Result<Flusher> {
        let (line, theirs) = UnixStream::pair()?;
        line.set_nonblocking(true)?;
        let next = Arc::new(Next::default());
        let orders = next.clone();
        thread::Builder::new()
            .name("flusher".into())
            .stack_size(STACK)
            .spawn(move || work(&orders, &theirs))?;
        Ok(Flusher { next, line })
    }

    /// Begins to flush a file, and the folder's names if there is a folder. Returns whether that was possible.
    pub(super) fn flush(&self, file: Arc<File>, folder: Option<PathBuf>) -> bool {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(Flush { file, folder });
        (&self.line).write_all(&[0]).is_ok()
    }

    /// Readable when there is an answer.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }

    /// What came of a flush, if one has ended.
    pub(super) fn answer(&self) -> Option<io::Result<()>> {
        let mut code = [0; size_of::<i32>()];
        match (&self.line).read_exact(&mut code) {
            Ok(()) => Some(match i32::from_ne_bytes(code) {
                0 => Ok(()),
                code => Err(io::Error::from_raw_os_error(code)),
            }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Waits for the end of a flush.
    ///
    /// # Errors
    /// What the operating system says of it.
    pub(super) fn wait(&self) -> io::Result<()> {
        loop {
            if let Some(answer) = self.answer() {
                return answer;
            }
            wait_for(&mut [PollFd::new(self.bell(), PollFlags::POLLIN)], PollTimeout::NONE);
        }
    }
}

/// What the thread does.
fn work(next: &Next, mut line: &UnixStream) {
    // Signals are the main thread's.
    let _ = SigSet::all().thread_block();
    while line.read_exact(&mut [0]).is_ok() {
        let flush = next.lock().unwrap_or_else(PoisonError::into_inner).take();
        let result = flush.map_or(Ok(()), |flush| flush.carry_out());
        let code = result.err().map_or(0, |error| error.raw_os_error().unwrap_or(EIO));
        if line.write_all(&code.to_ne_bytes()).is_err() {
            return;
        }
    }
}

impl Flush {
    fn carry_out(&self) -> io::Result<()> {
        self.file.sync_all()?;
        self.folder.as_ref().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}
