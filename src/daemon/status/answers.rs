//! Answers connections to a status socket: it is written to, and never read.
//!
//! So there is nothing to parse and no command to obey. What somebody who reads slowly does not take waits here, for a
//! limited time and for a limited number of readers; all others wait in the kernel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, SocketFlags, accept_with, send, shutdown};

use crate::time::Now;

/// How many readers are answered at a time.
const READERS: usize = 4;
/// How long a reader may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait after a connection could not be accepted, say for want of descriptors.
const PAUSE: Duration = Duration::from_secs(1);
/// How many readers are answered before anything else is done.
const BATCH: usize = 16;

/// The status socket of a process, and those who read.
#[derive(Debug, Default)]
pub struct Answers {
    listener: Option<OwnedFd>,
    readers: Vec<Reader>,
    /// When to accept again, as uptime; the last time that did not work.
    next_try: Option<Duration>,
}

/// Somebody who has not read everything yet.
#[derive(Debug)]
struct Reader {
    stream: OwnedFd,
    rest: Vec<u8>,
    /// Until when that may take, as uptime.
    until: Duration,
}

impl Answers {
    /// Listens at this socket from now on, or at none.
    pub fn listen_at(&mut self, listener: Option<OwnedFd>) {
        self.listener = listener;
        self.next_try = None;
    }

    /// What to wait for: somebody who asks, if one may come now, and room for what waits.
    pub fn descriptors(&self, may_come: bool) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let may_come = may_come && self.readers.len() < READERS && self.next_try.is_none();
        let listener = self.listener.as_ref().filter(|_| may_come).map(|fd| (fd.as_fd(), PollFlags::POLLIN));
        let readers = self.readers.iter().map(|reader| (reader.stream.as_fd(), PollFlags::POLLOUT));
        listener.into_iter().chain(readers)
    }

    /// When to [`attend`](Self::attend) to them though nothing is ready, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.readers.iter().map(|reader| reader.until).chain(self.next_try).min()
    }

    /// Whether somebody asks who can be answered now.
    #[must_use]
    pub fn has_caller(&self) -> bool {
        let can_answer = self.readers.len() < READERS && self.next_try.is_none();
        let listener = self.listener.as_ref().filter(|_| can_answer);
        listener.is_some_and(|listener| {
            let mut descriptors = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            poll(&mut descriptors, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        })
    }

    /// Continues the answers that are not finished, and answers new connections with what `tell` returns.
    pub fn attend(&mut self, now: Now, tell: impl FnMut() -> String) {
        self.write_on(now);
        self.answer(now, tell);
    }

    /// Writes what those have not read yet who were answered.
    pub fn write_on(&mut self, now: Now) {
        self.readers.retain_mut(|reader| reader.until > now.uptime && !reader.is_served());
        if self.next_try.is_some_and(|at| at <= now.uptime) {
            self.next_try = None;
        }
    }

    /// Answers new connections with what `tell` returns.
    pub fn answer(&mut self, now: Now, mut tell: impl FnMut() -> String) {
        let Some(listener) = self.listener.as_ref().filter(|_| self.next_try.is_none()) else { return };
        for _ in 0..BATCH {
            if self.readers.len() >= READERS {
                return;
            }
            match accept_with(listener, SocketFlags::CLOEXEC) {
                Ok(stream) => {
                    // What it writes is refused, instead of taking up memory.
                    let _ = shutdown(&stream, Shutdown::Read);
                    let until = now.uptime.saturating_add(PATIENCE);
                    let mut reader = Reader { stream, rest: tell().into_bytes(), until };
                    if !reader.is_served() {
                        self.readers.push(reader);
                    }
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.next_try = Some(now.uptime.saturating_add(PAUSE));
                    return;
                }
            }
        }
    }
}

impl Reader {
    /// Writes what there is room for; whether there is nothing left to write, or nobody to write it to.
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
