//! Answers connections to a status socket: writes to them, and never reads.
//!
//! So there is no input to parse and no command to execute. Text that a slow reader has not taken is kept
//! here, for a limited time and a limited number of readers; further readers wait in the kernel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, SocketFlags, accept_with, send, shutdown};

use crate::time::Now;

/// Maximum number of readers served at the same time.
const MAX_READERS: usize = 4;
/// Time limit for a reader.
const READER_TIMEOUT: Duration = Duration::from_secs(10);
/// Delay after a failed accept(2), e.g. for lack of descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Maximum number of connections answered in one turn of the loop.
const MAX_ACCEPTS_PER_TURN: usize = 16;

/// The status socket of a process, and its readers.
#[derive(Debug, Default)]
pub struct StatusServer {
    listener: Option<OwnedFd>,
    readers: Vec<Reader>,
    /// After a failed accept(2): when to try again, as uptime.
    next_try: Option<Duration>,
}

/// A reader that has not read the whole text yet.
#[derive(Debug)]
struct Reader {
    stream: OwnedFd,
    rest: Vec<u8>,
    /// Deadline for the reader, as uptime.
    deadline: Duration,
}

impl StatusServer {
    /// Listens at this socket from now on; at none if `None`.
    pub fn listen_at(&mut self, listener: Option<OwnedFd>) {
        self.listener = listener;
        self.next_try = None;
    }

    /// The descriptors to poll: the listener if `accepts` and there is room for a reader, and readers with
    /// unsent text.
    pub fn descriptors(&self, accepts: bool) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let accepts = accepts && self.readers.len() < MAX_READERS && self.next_try.is_none();
        let listener = self.listener.as_ref().filter(|_| accepts).map(|fd| (fd.as_fd(), PollFlags::POLLIN));
        let readers = self.readers.iter().map(|reader| (reader.stream.as_fd(), PollFlags::POLLOUT));
        listener.into_iter().chain(readers)
    }

    /// When to call [`serve`](Self::serve) even if no descriptor is ready, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.readers.iter().map(|reader| reader.deadline).chain(self.next_try).min()
    }

    /// Whether a connection is waiting that can be answered now.
    #[must_use]
    pub fn has_waiting_reader(&self) -> bool {
        let can_answer = self.readers.len() < MAX_READERS && self.next_try.is_none();
        let listener = self.listener.as_ref().filter(|_| can_answer);
        listener.is_some_and(|listener| {
            let mut descriptors = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            poll(&mut descriptors, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        })
    }

    /// Continues the answers that are not finished, and answers new connections with what `status` returns.
    pub fn serve(&mut self, now: Now, status: impl FnMut() -> String) {
        self.continue_writing(now);
        self.answer(now, status);
    }

    /// Continues the unfinished answers.
    pub fn continue_writing(&mut self, now: Now) {
        self.readers.retain_mut(|reader| reader.deadline > now.uptime && !reader.is_served());
        if self.next_try.is_some_and(|at| at <= now.uptime) {
            self.next_try = None;
        }
    }

    /// Answers new connections with what `status` returns.
    pub fn answer(&mut self, now: Now, mut status: impl FnMut() -> String) {
        let Some(listener) = self.listener.as_ref().filter(|_| self.next_try.is_none()) else { return };
        for _ in 0..MAX_ACCEPTS_PER_TURN {
            if self.readers.len() >= MAX_READERS {
                return;
            }
            match accept_with(listener, SocketFlags::CLOEXEC) {
                Ok(stream) => {
                    // Refuses what the reader writes, so that it takes up no memory.
                    let _ = shutdown(&stream, Shutdown::Read);
                    let deadline = now.uptime.saturating_add(READER_TIMEOUT);
                    let mut reader = Reader { stream, rest: status().into_bytes(), deadline };
                    if !reader.is_served() {
                        self.readers.push(reader);
                    }
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.next_try = Some(now.uptime.saturating_add(ACCEPT_RETRY_DELAY));
                    return;
                }
            }
        }
    }
}

impl Reader {
    /// Writes as much as the socket takes. Returns whether everything has been written or the reader is gone.
    fn is_served(&mut self) -> bool {
        while !self.rest.is_empty() {
            match send(&self.stream, &self.rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(written) => drop(self.rest.drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                Err(_) => return true,
            }
        }
        true
    }
}
