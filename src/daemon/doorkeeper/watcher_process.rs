//! The watcher as the doorkeeper sees it: a process that is started anew whenever it ends, and a socket to it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::PollFlags;

use crate::config::Sandbox;
use crate::daemon::cli::Arguments;
use crate::daemon::messages::{self, Received};
use crate::daemon::processes::{self, Role, Sibling};
use crate::protocol::confinement::Confinement;
use crate::protocol::messages::{Order, Report};
use crate::time::Now;

/// A watcher that keeps ending is started anew no more often than this.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// How many orders wait for a watcher that takes none; each may hold a descriptor.
const MOST_WAITING: usize = 64;

/// The watcher, or what is left of it.
#[derive(Debug)]
pub struct WatcherProcess {
    arguments: Vec<OsString>,
    /// What it gives up; none can be started without.
    confinement: Option<Confinement>,
    process: Option<Sibling>,
    orders: VecDeque<(Order, Option<OwnedFd>)>,
    /// The last opening that was taken, if that is still to be said.
    taken: Option<u64>,
    /// When it was started last, as uptime.
    started: Duration,
}

impl WatcherProcess {
    /// A watcher for a daemon with this command line, not started yet.
    #[must_use]
    pub fn new(arguments: &Arguments) -> WatcherProcess {
        let options = [(arguments.only_v4, "-4"), (arguments.debug, "-D")];
        WatcherProcess {
            arguments: options
                .into_iter()
                .filter(|(is_set, _)| *is_set)
                .map(|(_, word)| word.into())
                .collect(),
            confinement: None,
            process: None,
            orders: VecDeque::new(),
            taken: None,
            started: Duration::ZERO,
        }
    }

    /// What the next one gives up.
    pub fn confine(&mut self, confinement: Confinement) {
        self.confinement = Some(confinement);
    }

    /// Whether this is what it gives up.
    #[must_use]
    pub fn has_confinement(&self, confinement: &Confinement) -> bool {
        self.confinement.as_ref() == Some(confinement)
    }

    /// Whether it is not to run with anything that it was to give up.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.confinement.is_some_and(|it| it.sandbox == Sandbox::Require)
    }

    /// Starts one.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start(&mut self, now: Now) -> io::Result<()> {
        self.started = now.uptime;
        self.orders.clear();
        self.taken = None;
        let confinement = self.confinement.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        self.process = Some(processes::start_confined(Role::Watcher, self.arguments.clone(), confinement)?);
        Ok(())
    }

    /// When one that is gone may be started anew, as uptime; `None` while there is one.
    #[must_use]
    pub fn next_start(&self) -> Option<Duration> {
        self.process.is_none().then(|| self.started.saturating_add(RESTART_PAUSE))
    }

    /// Its process, if there is one.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Sends an order, as soon as there is room.
    pub fn send(&mut self, order: Order, descriptor: Option<OwnedFd>) {
        if self.orders.len() < MOST_WAITING || !matches!(order, Order::Socket(_) | Order::Heard(_)) {
            self.orders.push_back((order, descriptor));
            self.flush();
        }
    }

    /// Says that openings up to this one were taken.
    pub fn acknowledge(&mut self, number: u64) {
        self.taken = Some(number);
        self.flush();
    }

    /// Sends what waits, as far as there is room.
    pub fn flush(&mut self) {
        let Some(process) = &self.process else { return };
        if let Some(number) = self.taken
            && messages::transmit(&process.socket, &Order::Taken(number), None).is_ok()
        {
            self.taken = None;
        }
        while let Some((order, descriptor)) = self.orders.front() {
            if messages::transmit(&process.socket, order, descriptor.as_ref().map(AsFd::as_fd)).is_err() {
                return;
            }
            self.orders.pop_front();
        }
    }

    /// What it says, if it says something. One that closed its socket is gone.
    pub fn receive(&mut self) -> Received<Report> {
        let Some(process) = &self.process else { return Received::Nothing };
        let received = messages::receive(&process.socket);
        if matches!(received, Received::Closed) {
            self.end();
        }
        received
    }

    /// Ends it, if it is there.
    pub fn end(&mut self) {
        if let Some(process) = self.process.take() {
            process.end();
        }
    }

    /// The descriptor to wait on, and what for.
    #[must_use]
    pub fn descriptor(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, !self.orders.is_empty() || self.taken.is_some());
        self.process.as_ref().map(|process| (process.socket.as_fd(), events))
    }
}
