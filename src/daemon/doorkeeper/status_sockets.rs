//! The status sockets of both processes, and the counters for `--status`. The doorkeeper serves both sockets:
//! the watcher may send only messages.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::poll::PollFlags;
use socket2::Type;

use crate::daemon::status::place::{Paths, Place, listen};
use crate::daemon::status::server::StatusServer;
use crate::status::doorkeeper::DoorkeeperCounters;
use crate::time::Now;

/// The sockets, the counters, and the readers.
#[derive(Debug)]
pub(super) struct Status {
    /// When this process started.
    pub(super) started: Now,
    /// The counters.
    pub(super) counters: DoorkeeperCounters,
    /// Readers of the doorkeeper's status.
    pub(super) readers: StatusServer,
    /// The configured path of the sockets; `None` without status sockets.
    pub(super) path: Option<PathBuf>,
    places: Vec<Place>,
    /// Readers of the watcher's status.
    pub(super) watcher_readers: StatusServer,
    /// The file that the watcher is writing its status to.
    pub(super) watcher_answer: Option<OwnedFd>,
    /// When to retry opening the sockets, as uptime, and how many retries are left.
    pub(super) next_try: Option<(Duration, u32)>,
}

impl Status {
    /// No sockets yet.
    pub(super) fn new(now: Now) -> Status {
        Status {
            started: now,
            counters: DoorkeeperCounters::default(),
            readers: StatusServer::default(),
            path: None,
            places: Vec::new(),
            watcher_readers: StatusServer::default(),
            watcher_answer: None,
            next_try: None,
        }
    }

    /// The descriptors to poll: sockets that accept readers, and readers with unsent text.
    pub(super) fn descriptors(&self, has_watcher: bool) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let may_ask = has_watcher && self.watcher_answer.is_none();
        self.readers.descriptors(true).chain(self.watcher_readers.descriptors(may_ask))
    }

    /// Whether the sockets are open.
    pub(super) fn is_open(&self) -> bool {
        !self.places.is_empty()
    }

    /// When to retry opening or to serve the readers next, as uptime.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let deadlines = self.readers.next_deadline().into_iter().chain(self.watcher_readers.next_deadline());
        self.next_try.map(|(at, _)| at).into_iter().chain(deadlines).min()
    }

    /// Closes and removes the sockets.
    pub(super) fn close(&mut self) {
        self.readers.listen_at(None);
        self.watcher_readers.listen_at(None);
        self.places.clear();
        self.next_try = None;
    }

    /// Opens both sockets.
    ///
    /// # Errors
    /// `AddrInUse` if another process listens there, or another error of `bind(2)` and the like.
    pub(super) fn open(&mut self, paths: &Paths) -> io::Result<()> {
        let (watchers, watchers_place) = listen(&paths.watcher, Type::STREAM)?;
        let (own, own_place) = listen(&paths.doorkeeper, Type::STREAM)?;
        self.places = vec![watchers_place, own_place];
        self.watcher_readers.listen_at(Some(watchers));
        self.readers.listen_at(Some(own));
        Ok(())
    }
}
