//! The socket at which the program of a fleet is served, and what waits there: see [`crate::fleet`].

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
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
use crate::fleet::message::Message;
use crate::fleet::waiting::{Held, Queue, Recent};
use crate::opening::event::Opening;
use crate::time::Now;

/// How long to wait after the socket could not be made.
const PAUSE: Duration = Duration::from_secs(1);

/// What opens a door that can be opened once.
#[derive(Debug)]
pub(super) enum Knocked {
    /// A sequence.
    Sequence(Opening),
    /// A single packet.
    Packet(Box<Granted>),
}

impl Knocked {
    /// The door, who knocked, and which use of the lock it is; of a single packet its time.
    pub(super) fn opening(&self) -> Opening {
        match self {
            Knocked::Sequence(opening) => *opening,
            Knocked::Packet(granted) => granted.opening(),
        }
    }

    /// The single packet, if it was one.
    pub(super) fn packet(&self) -> Option<PacketId> {
        match self {
            Knocked::Sequence(_) => None,
            Knocked::Packet(granted) => Some(granted.id),
        }
    }
}

/// An opening that waits for an answer of the fleet.
#[derive(Debug)]
pub(super) struct HeldOpening {
    /// The door's name: its number may change meanwhile.
    pub(super) door: Arc<str>,
    /// What opens it.
    pub(super) knocked: Knocked,
}

/// The fleet, as the doorkeeper sees it.
#[derive(Debug)]
pub(super) struct Fleet {
    path: PathBuf,
    /// The socket, with its place in the file system.
    listener: Option<(OwnedFd, Place)>,
    /// When to try again to make it, as uptime.
    next_try: Option<Duration>,
    /// It could not be made, and that was said.
    is_in_trouble: bool,
    peer: Option<OwnedFd>,
    /// The peer passes knocks on.
    pub(super) passes_knocks: bool,
    queue: Queue,
    /// Openings that wait for an answer.
    pub(super) held: Held<HeldOpening>,
    /// Openings that were made or seen.
    pub(super) recent: Recent,
    random: RandomState,
    numbers: u64,
}

/// What became of somebody who connected.
#[derive(Debug)]
pub(super) enum Caller {
    /// It is the peer now.
    Taken,
    /// It belongs to this user, who may not speak here.
    Refused(u32),
}

impl Fleet {
    /// One that is to be served at this path.
    pub(super) fn new(path: PathBuf) -> Fleet {
        Fleet {
            path,
            listener: None,
            next_try: Some(Duration::ZERO),
            is_in_trouble: false,
            peer: None,
            passes_knocks: false,
            queue: Queue::default(),
            held: Held::default(),
            recent: Recent::default(),
            random: RandomState::new(),
            numbers: 0,
        }
    }

    /// Where it is served.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the socket if that is due.
    ///
    /// # Errors
    /// What the operating system says; once, until it can be made.
    pub(super) fn listen(&mut self, now: Now) -> io::Result<()> {
        if self.next_try.take_if(|at| *at <= now.uptime).is_none() {
            return Ok(());
        }
        match listen(&self.path, Type::SEQPACKET) {
            Ok(listener) => {
                self.listener = Some(listener);
                self.is_in_trouble = false;
                Ok(())
            }
            Err(error) => {
                self.next_try = Some(now.uptime.saturating_add(PAUSE));
                if std::mem::replace(&mut self.is_in_trouble, true) { Ok(()) } else { Err(error) }
            }
        }
    }

    /// What to wait for: a connection while there is no peer, or what the peer says and takes.
    pub(super) fn descriptor(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match (&self.peer, &self.listener) {
            (Some(peer), _) => {
                let mut events = PollFlags::POLLIN;
                events.set(PollFlags::POLLOUT, !self.queue.is_empty());
                Some((peer.as_fd(), events))
            }
            (None, Some((listener, _))) => Some((listener.as_fd(), PollFlags::POLLIN)),
            (None, None) => None,
        }
    }

    /// When to look after it though nothing is ready, as uptime.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.next_try.into_iter().chain(self.held.next_deadline()).min()
    }

    /// Whether there is a peer.
    pub(super) fn has_peer(&self) -> bool {
        self.peer.is_some()
    }

    /// How many messages wait for it.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Accepts a connection, if there is no peer yet.
    pub(super) fn accept(&mut self) -> Option<Caller> {
        let (listener, _) = self.listener.as_ref().filter(|_| self.peer.is_none())?;
        let peer = accept_with(listener, SocketFlags::CLOEXEC).ok()?;
        let user = socket_peercred(&peer).map_or(u32::MAX, |who| who.uid.as_raw());
        if user != 0 && user != geteuid().as_raw() {
            return Some(Caller::Refused(user));
        }
        self.peer = Some(peer);
        Some(Caller::Taken)
    }

    /// The peer is gone, or is not listened to any more.
    pub(super) fn part(&mut self) {
        (self.peer, self.passes_knocks) = (None, false);
    }

    /// Takes one message.
    pub(super) fn receive(&self) -> Received<Message> {
        self.peer.as_ref().map_or(Received::Nothing, messages::receive)
    }

    /// Says something to the peer now or never, in front of all else: a greeting or a knock.
    pub(super) fn say_now(&self, message: &Message) {
        // For a greeting there is room: nothing was sent yet, or little since. A peer that misses a later one shows older
        // shapes. A knock that comes late is of no use.
        if let Some(peer) = &self.peer {
            let _ = messages::transmit(peer, message, None);
        }
    }

    /// Sends a message now, or when there is a peer that has room for it.
    pub(super) fn say(&mut self, message: Message, now: Now) {
        self.queue.push(message, now.uptime);
        self.flush(now);
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush(&mut self, now: Now) {
        let Some(peer) = &self.peer else { return };
        while let Some(message) = self.queue.take(now.uptime) {
            if messages::transmit(peer, &message, None).is_err() {
                return self.queue.put_back(message, now.uptime);
            }
        }
    }

    /// A number that no other opening has.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.random.hash_one(self.numbers)
    }
}
