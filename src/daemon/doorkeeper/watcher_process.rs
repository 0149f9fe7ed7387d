//! The watcher as the doorkeeper sees it: a process that is restarted whenever it ends, and a socket to it.

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

/// Minimum time between two starts of a watcher that keeps ending.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// While this many orders wait for a watcher that reads none, new `Socket` and `Heard` orders are dropped:
/// each may hold a descriptor.
const MOST_WAITING: usize = 64;

/// The watcher process, if it runs, and the orders queued for it.
#[derive(Debug)]
pub struct WatcherProcess {
    arguments: Vec<OsString>,
    /// The confinement of the watcher; it cannot be started without one.
    confinement: Option<Confinement>,
    process: Option<Sibling>,
    orders: VecDeque<(Order, Option<OwnedFd>)>,
    /// The number of the last opening taken, until the acknowledgement has been sent.
    taken: Option<u64>,
    /// Time of the last start, as uptime.
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

    /// Sets the confinement of the next watcher.
    pub fn confine(&mut self, confinement: Confinement) {
        self.confinement = Some(confinement);
    }

    /// Whether the watcher has this confinement.
    #[must_use]
    pub fn has_confinement(&self, confinement: &Confinement) -> bool {
        self.confinement.as_ref() == Some(confinement)
    }

    /// Whether the watcher must not run unless the whole confinement applies (`Sandbox::Require`).
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.confinement.is_some_and(|it| it.sandbox == Sandbox::Require)
    }

    /// Starts a watcher. Queued orders are dropped.
    ///
    /// # Errors
    /// `InvalidInput` without a confinement, or the process cannot be started.
    pub fn start(&mut self, now: Now) -> io::Result<()> {
        self.started = now.uptime;
        self.orders.clear();
        self.taken = None;
        let confinement = self.confinement.as_ref().ok_or(io::ErrorKind::InvalidInput)?;
        self.process = Some(processes::start_confined(Role::Watcher, self.arguments.clone(), confinement)?);
        Ok(())
    }

    /// Earliest time of the next start, as uptime; `None` while a watcher runs.
    #[must_use]
    pub fn next_start(&self) -> Option<Duration> {
        self.process.is_none().then(|| self.started.saturating_add(RESTART_DELAY))
    }

    /// The PID of the watcher, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// Whether the watcher runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Queues an order, and sends it as soon as the socket has room.
    pub fn send(&mut self, order: Order, descriptor: Option<OwnedFd>) {
        if self.orders.len() < MOST_WAITING || !matches!(order, Order::Socket(_) | Order::Heard(_)) {
            self.orders.push_back((order, descriptor));
            self.flush();
        }
    }

    /// Acknowledges the openings up to this number.
    pub fn acknowledge(&mut self, number: u64) {
        self.taken = Some(number);
        self.flush();
    }

    /// Sends the acknowledgement and queued orders, as far as the socket has room.
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

    /// Receives a report, if there is one. A watcher that has closed its socket counts as ended.
    pub fn receive(&mut self) -> Received<Report> {
        let Some(process) = &self.process else { return Received::Nothing };
        let received = messages::receive(&process.socket);
        if matches!(received, Received::Closed) {
            self.end();
        }
        received
    }

    /// Ends the watcher, if it runs.
    pub fn end(&mut self) {
        if let Some(process) = self.process.take() {
            process.end();
        }
    }

    /// The socket and the events to poll for, if the watcher runs.
    #[must_use]
    pub fn descriptor(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, !self.orders.is_empty() || self.taken.is_some());
        self.process.as_ref().map(|process| (process.socket.as_fd(), events))
    }
}
