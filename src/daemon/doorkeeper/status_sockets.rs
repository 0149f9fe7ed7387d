//! The status sockets of both processes, and what is counted for whoever asks.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

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
    /// The watcher's socket: each watcher gets it.
    pub(super) watchers: Option<OwnedFd>,
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
            watchers: None,
            next_try: None,
        }
    }

    /// Who asks, and who has not read everything yet.
    pub(super) fn answers(&self) -> &Answers {
        &self.answers
    }

    /// When to look after it, as uptime.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.next_try.map(|(at, _)| at).into_iter().chain(self.answers.next_deadline()).min()
    }

    /// Nobody is answered any more, and the sockets are gone.
    pub(super) fn close(&mut self) {
        self.answers.listen_at(None);
        self.watchers = None;
        self.places.clear();
        self.next_try = None;
    }

    /// Makes both sockets.
    ///
    /// # Errors
    /// `AddrInUse` if somebody else listens there, or what the operating system says.
    pub(super) fn open(&mut self, paths: &Paths) -> io::Result<()> {
        let (watchers, watchers_place) = listen(&paths.watcher)?;
        let (own, own_place) = listen(&paths.doorkeeper)?;
        self.places = vec![watchers_place, own_place];
        self.watchers = Some(watchers);
        self.answers.listen_at(Some(own));
        Ok(())
    }
}
