//! Flushes files to the disk in the background: on a busy disk that takes a tenth of a second, in which the
//! doorkeeper's loop would open no door.
//!
//! It is a thread, because fsync(2) always blocks. It shares only the flush to do with the main thread,
//! sleeps while there is nothing to flush, and ends when the [`Flusher`] is dropped.

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

/// Stack size in bytes: the call depth is small.
const STACK_SIZE: usize = 128 * 1024;

/// One flush.
#[derive(Debug)]
struct Flush {
    file: Arc<File>,
    /// The folder, if its entries are to be flushed too.
    folder: Option<PathBuf>,
}

/// The next flush to do.
type Next = Mutex<Option<Flush>>;

/// The doorkeeper's end of the thread. It does one flush at a time.
#[derive(Debug)]
pub(super) struct Flusher {
    next: Arc<Next>,
    /// Carries a byte to the thread for each flush, and its error number back (a native-endian `i32`; 0 is
    /// success).
    socket: UnixStream,
}

impl Flusher {
    /// Starts the thread.
    ///
    /// # Errors
    /// Errors of `socketpair(2)` and of starting a thread.
    pub(super) fn start() -> io::Result<Flusher> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        let next = Arc::new(Next::default());
        let flushes = next.clone();
        thread::Builder::new()
            .name("flusher".into())
            .stack_size(STACK_SIZE)
            .spawn(move || run(&flushes, &theirs))?;
        Ok(Flusher { next, socket })
    }

    /// Begins to flush a file, and the entries of `folder` if there is one. Returns whether the thread took
    /// it.
    pub(super) fn flush(&self, file: Arc<File>, folder: Option<PathBuf>) -> bool {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(Flush { file, folder });
        (&self.socket).write_all(&[0]).is_ok()
    }

    /// Readable when a flush has finished.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The result of a finished flush; `None` if none has finished.
    pub(super) fn answer(&self) -> Option<io::Result<()>> {
        let mut code = [0; size_of::<i32>()];
        match (&self.socket).read_exact(&mut code) {
            Ok(()) => Some(match i32::from_ne_bytes(code) {
                0 => Ok(()),
                code => Err(io::Error::from_raw_os_error(code)),
            }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Waits until a flush has finished.
    ///
    /// # Errors
    /// An error of `fsync(2)`, or of opening the folder.
    pub(super) fn wait(&self) -> io::Result<()> {
        loop {
            if let Some(answer) = self.answer() {
                return answer;
            }
            wait_for(&mut [PollFd::new(self.descriptor(), PollFlags::POLLIN)], PollTimeout::NONE);
        }
    }
}

/// The main function of the thread.
fn run(next: &Next, mut socket: &UnixStream) {
    // The main thread handles the signals.
    let _ = SigSet::all().thread_block();
    while socket.read_exact(&mut [0]).is_ok() {
        let flush = next.lock().unwrap_or_else(PoisonError::into_inner).take();
        let result = flush.map_or(Ok(()), |flush| flush.carry_out());
        let code = result.err().map_or(0, |error| error.raw_os_error().unwrap_or(EIO));
        if socket.write_all(&code.to_ne_bytes()).is_err() {
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
