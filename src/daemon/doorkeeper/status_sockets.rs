//! The status sockets of both processes, of which the doorkeeper serves both: the watcher may send nothing but messages.
//! And the counters that `--status` shows.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::poll::PollFlags;
use socket2::Type;

use crate::daemon::status::answers::Answers;
use crate::daemon::status::place::{Paths, Place, listen};
use crate::status::doorkeeper::Ledger;
use crate::time::Now;

/// The sockets, and what is told there.
#[derive(Debug)]
pub(super) struct Status {
    /// When this process began.
    pub(super) started: Now,
    /// What is counted.
    pub(super) ledger: Ledger,
    /// Who asks.
    pub(super) answers: Answers,
    /// Where the sockets are, or are to be.
    pub(super) path: Option<PathBuf>,
    places: Vec<Place>,
    /// Who asks for what the watcher knows.
    pub(super) relay: Answers,
    /// The file that the watcher is to write that into.
    pub(super) asked: Option<OwnedFd>,
    /// When to try again to make them, as uptime, and how many more times.
    pub(super) next_try: Option<(Duration, u32)>,
}

impl Status {
    /// Nobody can be asked yet.
    pub(super) fn new(now: Now) -> Status {
        Status {
            started: now,
            ledger: Ledger::default(),
            answers: Answers::default(),
            path: None,
            places: Vec::new(),
            relay: Answers::default(),
            asked: None,
            next_try: None,
        }
    }

    /// Who asks, and who has not read everything yet.
    pub(super) fn descriptors(&self, has_watcher: bool) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let may_ask = has_watcher && self.asked.is_none();
        self.answers.descriptors(true).chain(self.relay.descriptors(may_ask))
    }

    /// Whether there are sockets.
    pub(super) fn is_open(&self) -> bool {
        !self.places.is_empty()
    }

    /// When to look after it, as uptime.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let answers = self.answers.next_deadline().into_iter().chain(self.relay.next_deadline());
        self.next_try.map(|(at, _)| at).into_iter().chain(answers).min()
    }

    /// Nobody is answered any more, and the sockets are gone.
    pub(super) fn close(&mut self) {
        self.answers.listen_at(None);
        self.relay.listen_at(None);
        self.places.clear();
        self.next_try = None;
    }

    /// Makes both sockets.
    ///
    /// # Errors
    /// `AddrInUse` if somebody else listens there, or what the operating system says.
    pub(super) fn open(&mut self, paths: &Paths) -> io::Result<()> {
        let (watchers, watchers_place) = listen(&paths.watcher, Type::STREAM)?;
        let (own, own_place) = listen(&paths.doorkeeper, Type::STREAM)?;
        self.places = vec![watchers_place, own_place];
        self.relay.listen_at(Some(watchers));
        self.answers.listen_at(Some(own));
        Ok(())
    }
}
