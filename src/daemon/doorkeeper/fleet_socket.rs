//! The socket at which the program of a fleet is served, and what waits there: see [`crate::fleet`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::poll::PollFlags;
use nix::unistd::geteuid;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{SocketFlags, accept_with};
use socket2::Type;

use crate::daemon::messages::{self, Received};
use crate::daemon::status::place::{Place, listen};
use crate::door::spa::sealed::PacketId;
use crate::engine::single_packets::Granted;
use crate::fleet::waiting::{Held, LEAST, MOST_QUEUED};
use crate::opening::event::Opening;
use crate::time::Now;

/// How long to wait after the socket could not be made.
const PAUSE: Duration = Duration::from_secs(1);

/// What opens a door that can be opened once.
#[derive(Debug)]
pub(super) struct Knocked {
    /// The opening; the turn of a single packet is its time.
    pub(super) opening: Opening,
    /// The single packet, if it was one.
    pub(super) packet: Option<PacketId>,
    /// What that packet asks for, if it is granted.
    pub(super) granted: Option<Box<Granted>>,
}

impl Knocked {
    /// A sequence.
    pub(super) fn of(opening: Opening) -> Knocked {
        Knocked { opening, packet: None, granted: None }
    }
}

/// The fleet, as the doorkeeper sees it.
#[derive(Debug)]
pub(super) struct Fleet {
    /// Where it is served.
    pub(super) path: PathBuf,
    /// The socket, with its place in the file system.
    listener: Option<(OwnedFd, Place)>,
    /// When to try to make it, as uptime; zero is the first time.
    next_try: Option<Duration>,
    peer: Option<OwnedFd>,
    /// Messages about openings on their way to the peer, each with the uptime at which its time is over.
    queue: Vec<(Duration, Vec<u8>)>,
    /// Openings that wait for an answer.
    pub(super) held: Held<Knocked>,
    /// A random number, by which the peer knows this daemon again.
    pub(super) session: u64,
    /// The number of the last opening; the first one is random.
    number: u64,
}

impl Fleet {
    /// One that is to be served at this path. Openings are numbered from `number`, which is random.
    pub(super) fn new(path: PathBuf, number: u64) -> Fleet {
        Fleet {
            path,
            listener: None,
            next_try: Some(Duration::ZERO),
            peer: None,
            queue: Vec::new(),
            held: Held::default(),
            session: number,
            number,
        }
    }

    /// Makes the socket if that is due.
    ///
    /// # Errors
    /// What the operating system says; once, until it can be made.
    pub(super) fn listen(&mut self, now: Now) -> io::Result<()> {
        let Some(tried) = self.next_try.take_if(|at| *at <= now.uptime) else { return Ok(()) };
        match listen(&self.path, Type::SEQPACKET) {
            Ok(listener) => self.listener = Some(listener),
            Err(error) => {
                self.next_try = Some(now.uptime.saturating_add(PAUSE));
                if tried.is_zero() {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// What to wait for: a connection while there is no peer, or what the peer says and takes.
    pub(super) fn descriptor(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, self.has_peer() && !self.queue.is_empty());
        let listener = self.listener.as_ref().map(|(listener, _)| listener);
        self.peer.as_ref().or(listener).map(|socket| (socket.as_fd(), events))
    }

    /// When to look after it though nothing is ready, as uptime.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.next_try.or_else(|| self.held.next_deadline())
    }

    /// Whether there is a peer.
    pub(super) fn has_peer(&self) -> bool {
        self.peer.is_some()
    }

    /// Accepts a connection, if there is no peer yet; whether there is one now. Whoever is neither root nor the daemon's
    /// own user is turned away.
    pub(super) fn accept(&mut self) -> bool {
        let Some((listener, _)) = self.listener.as_ref().filter(|_| self.peer.is_none()) else {
            return false;
        };
        let Ok(peer) = accept_with(listener, SocketFlags::CLOEXEC) else { return false };
        let user = socket_peercred(&peer).map_or(u32::MAX, |who| who.uid.as_raw());
        let may_speak = user == 0 || user == geteuid().as_raw();
        self.peer = may_speak.then_some(peer);
        may_speak
    }

    /// The peer is gone, or is not listened to any more.
    pub(super) fn part(&mut self) {
        self.peer = None;
    }

    /// Takes one message; returns its length.
    pub(super) fn receive(&self, bytes: &mut [u8]) -> Received<usize> {
        self.peer.as_ref().map_or(Received::Nothing, |peer| messages::receive_bytes(peer, bytes))
    }

    /// Says something to the peer now or never, in front of all else: a greeting or a knock.
    pub(super) fn say_now(&self, message: &[u8]) {
        // For a greeting there is room: nothing was sent yet, or little since. A peer that misses a later one shows older
        // shapes. A knock that comes late is of no use.
        if let Some(peer) = &self.peer {
            let _ = messages::transmit_bytes(peer, message, None);
        }
    }

    /// Sends a message now, or when there is a peer that has room for it, unless its time is over at the uptime `due`.
    /// The oldest one is dropped if too many wait.
    pub(super) fn say(&mut self, due: Duration, message: Vec<u8>, now: Now) {
        if self.queue.len() >= MOST_QUEUED {
            self.queue.remove(0);
        }
        self.queue.push((due, message));
        self.flush(now);
    }

    /// Drops what has no time left, and sends what waits, as far as there is room.
    pub(super) fn flush(&mut self, now: Now) {
        let mut has_room = true;
        self.queue.retain(|(due, message)| {
            if *due < now.uptime.saturating_add(LEAST) {
                return false;
            }
            let send = |peer| messages::transmit_bytes(peer, message, None).is_ok();
            has_room = has_room && self.peer.as_ref().is_some_and(send);
            !has_room
        });
    }

    /// A number that no other opening of the fleet has.
    pub(super) fn number(&mut self) -> u64 {
        self.number = self.number.wrapping_add(1);
        self.number
    }
}
