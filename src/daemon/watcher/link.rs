//! The watcher's end of the socket to the doorkeeper.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags};

use crate::daemon::clock::now;
use crate::daemon::messages::{self, Received};
use crate::daemon::poll::{poll_timeout, wait_for};
use crate::filter::trouble::Code;
use crate::octets;
use crate::opening::event::Opening;
use crate::protocol::messages::{Generation, Order, Report, SinglePacket};
use crate::protocol::outbox::Outbox;
use crate::protocol::values::LONGEST_TEXT;

/// How long to wait for a packet socket; the doorkeeper answers at once unless it is stopped.
const SOCKET_PATIENCE: Duration = Duration::from_millis(250);
/// The same before the first configuration: no knock can be missed yet, and a booting machine may be slow.
const FIRST_PATIENCE: Duration = Duration::from_secs(10);
/// `EAGAIN`: no answer arrived.
const NO_ANSWER: Code = Code(11);
/// `EMFILE`: an answer came without its descriptor, because this process has too many open files.
const NO_ROOM: Code = Code(24);

/// The doorkeeper, as the watcher sees it.
#[derive(Debug)]
pub struct Link {
    socket: OwnedFd,
    outbox: Outbox,
    /// Orders received while waiting for a packet socket.
    orders: VecDeque<(Order, Option<OwnedFd>)>,
    /// A spare packet socket, so that a flood need not wait for one.
    reserve: Option<OwnedFd>,
    /// The number of unanswered requests for sockets.
    asked: u32,
    is_closed: bool,
}

impl Link {
    /// The link over this socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Link {
        Link {
            socket,
            outbox: Outbox::new(),
            orders: VecDeque::new(),
            reserve: None,
            asked: 0,
            is_closed: false,
        }
    }

    /// Whether the doorkeeper has closed its end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// The descriptor to poll.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The events to poll for.
    #[must_use]
    pub fn events(&self) -> PollFlags {
        let mut events = PollFlags::POLLIN;
        events.set(PollFlags::POLLOUT, self.outbox.first().is_some());
        events
    }

    /// Whether messages are waiting for room in the socket.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.outbox.first().is_some()
    }

    /// Whether received orders are waiting.
    #[must_use]
    pub fn has_orders(&self) -> bool {
        !self.orders.is_empty()
    }

    /// The next order, if there is one.
    pub fn receive(&mut self) -> Option<(Order, Option<OwnedFd>)> {
        self.orders.pop_front().or_else(|| self.take())
    }

    fn take(&mut self) -> Option<(Order, Option<OwnedFd>)> {
        loop {
            match messages::receive(&self.socket) {
                Received::Message(Order::Taken(number), _) => self.outbox.taken(number),
                Received::Message(Order::Socket(_), socket) => {
                    self.asked = self.asked.saturating_sub(1);
                    self.reserve = socket.or(self.reserve.take());
                }
                Received::Message(order, descriptor) => return Some((order, descriptor)),
                Received::Nonsense => {}
                Received::Nothing => return None,
                Received::Closed => {
                    self.is_closed = true;
                    return None;
                }
            }
        }
    }

    /// Sends waiting messages, as far as there is room in the socket.
    pub fn flush(&mut self) {
        while let Some(report) = self.outbox.first() {
            if messages::transmit(&self.socket, report, None).is_err() {
                return;
            }
            self.outbox.sent();
        }
    }

    /// Sends a report, which may be dropped when too many are waiting.
    pub fn say(&mut self, report: Report) {
        self.outbox.say(report);
        self.flush();
    }

    /// Reports that the description is written.
    pub fn described(&mut self) {
        self.outbox.say_first(Report::Described);
        self.flush();
    }

    /// Sends a line for `-D`.
    pub fn explain(&mut self, line: &str) {
        let line = octets::escaped(line);
        let mut rest = &*line;
        loop {
            let (piece, behind) = rest.split_at(rest.floor_char_boundary(LONGEST_TEXT));
            self.say(Report::Explained(piece.to_owned(), behind.is_empty()));
            if behind.is_empty() {
                return;
            }
            rest = behind;
        }
    }

    /// Reports that a one-time list is used up although its door stays closed. Returns whether there was room
    /// for the message.
    pub fn use_up(&mut self, opening: Opening) -> bool {
        let has_room = self.outbox.use_up(opening);
        self.flush();
        has_room
    }

    /// Requests an opening. Returns whether there was room for the message.
    pub fn open(&mut self, opening: Opening) -> bool {
        let has_room = self.outbox.open(opening);
        self.flush();
        has_room
    }

    /// Passes on a single packet. Returns whether there was room for the message.
    pub fn pass(&mut self, single: SinglePacket) -> bool {
        let has_room = self.outbox.pass(single);
        self.flush();
        has_room
    }

    /// Reports that a configuration is in force.
    pub fn adopt(&mut self, generation: Generation) {
        self.outbox.adopt(generation);
        self.flush();
    }

    /// The configuration in force.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.outbox.generation()
    }

    /// Whether these are the latest lines of the door's one-time file.
    #[must_use]
    pub fn is_latest(&self, number: u64, generation: Generation, door: usize) -> bool {
        self.outbox.is_latest(number, generation, door)
    }

    /// Returns an unbound packet socket, the spare one if there is one, and requests the next. Without a
    /// spare one it waits for up to a quarter of a second.
    ///
    /// # Errors
    /// The doorkeeper's error code, or `EAGAIN` if it did not answer in time.
    pub fn packet_socket(&mut self) -> Result<OwnedFd, Code> {
        if let Some(socket) = self.reserve.take() {
            self.ask_for_socket();
            return Ok(socket);
        }
        if self.asked == 0 {
            self.ask_for_socket();
        }
        let is_first = self.outbox.generation() == Generation::default();
        let deadline = now().uptime.saturating_add(if is_first { FIRST_PATIENCE } else { SOCKET_PATIENCE });
        loop {
            match messages::receive(&self.socket) {
                Received::Message(Order::Taken(number), _) => self.outbox.taken(number),
                Received::Message(Order::Socket(code), socket) => {
                    self.asked = self.asked.saturating_sub(1);
                    let socket = socket.ok_or(if code.0 == 0 { NO_ROOM } else { code })?;
                    self.ask_for_socket();
                    return Ok(socket);
                }
                Received::Message(order, descriptor) => self.orders.push_back((order, descriptor)),
                Received::Nonsense => {}
                Received::Nothing if now().uptime >= deadline => return Err(NO_ANSWER),
                Received::Nothing => {
                    let descriptor = PollFd::new(self.socket.as_fd(), self.events());
                    wait_for(&mut [descriptor], poll_timeout(Some(deadline), now()));
                    self.flush();
                }
                Received::Closed => {
                    self.is_closed = true;
                    return Err(NO_ANSWER);
                }
            }
        }
    }

    fn ask_for_socket(&mut self) {
        self.asked += 1;
        self.outbox.say_first(Report::SocketWanted);
        self.flush();
    }
}
