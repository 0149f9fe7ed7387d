//! The closed set of messages between the watcher and the doorkeeper.
//!
//! Every message has the same size and is checked when it is read: what the watcher learns from the
//! network reaches the doorkeeper as a door's number, an address and a turn, and as nothing else.
//! Both ends are one program on one machine; numbers are little-endian all the same.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use crate::door::lock::Turn;
use crate::opening::event::Opening;

/// Bytes of a message: kind, family, two of nothing, door (4), turn (8), address (16).
pub const SIZE: usize = 32;

/// What the watcher says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read the configuration and say whether its fingerprint is this one.
    Prepare(u64),
    /// Use the configuration that was read last.
    Adopt,
    /// A door opened.
    Open(Opening),
    /// Close every door within the time there is, and end.
    Finish,
    /// Close every door at once, and end.
    FinishNow,
    /// The daemon listens for the first time.
    Begin,
    /// What the watcher has to say up to this opening is in the log; only where names are looked up.
    Logged(Opening),
    /// The one-time file of this door has no usable line left: to be said behind its last opening.
    Exhausted(usize),
}

/// What the doorkeeper says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The configuration was read; whether it is the one that was meant.
    Prepared(bool),
    /// A used line of this door's one-time file was struck, if that is possible.
    Struck(usize),
}

/// A message as it crosses.
pub type Message = [u8; SIZE];

/// What crosses, in either direction.
pub trait Crossing: Sized {
    /// The bytes of a message.
    fn encode(&self) -> Message;
    /// The message, if these bytes are one.
    fn decode(message: &Message) -> Option<Self>;
}

fn message(kind: u8, door: usize, number: u64, address: Option<IpAddr>) -> Message {
    let mut message = [0; SIZE];
    let (family, octets) = match address {
        None => (0, [0; 16]),
        Some(IpAddr::V4(address)) => (4, address.to_ipv6_compatible().octets()),
        Some(IpAddr::V6(address)) => (6, address.octets()),
    };
    let door = u32::try_from(door).unwrap_or(u32::MAX).to_le_bytes();
    let head = [kind, family, 0, 0].into_iter();
    let bytes = head.chain(door).chain(number.to_le_bytes()).chain(octets);
    message.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    message
}

/// The parts of a message; `None` if it is not one that [`message`] made.
fn parts(bytes: &Message) -> Option<(u8, usize, u64, Option<IpAddr>)> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    let (door, rest) = rest.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let octets = std::net::Ipv6Addr::from(*rest.first_chunk::<16>()?);
    let address = match head[1] {
        0 => None,
        4 => {
            let [.., a, b, c, d] = octets.octets();
            Some(IpAddr::from([a, b, c, d]))
        }
        6 => Some(IpAddr::V6(octets)),
        _ => return None,
    };
    let door = usize::try_from(u32::from_le_bytes(*door)).ok()?;
    let number = u64::from_le_bytes(*number);
    // Whatever was not copied over must be as it was made.
    (message(head[0], door, number, address) == *bytes).then_some((head[0], door, number, address))
}

impl Crossing for Request {
    fn encode(&self) -> Message {
        match *self {
            Request::Prepare(fingerprint) => message(1, 0, fingerprint, None),
            Request::Adopt => message(2, 0, 0, None),
            Request::Open(Opening { door, knocker, turn }) => message(3, door, turn.0, Some(knocker)),
            Request::Finish => message(4, 0, 0, None),
            Request::FinishNow => message(5, 0, 0, None),
            Request::Begin => message(6, 0, 0, None),
            Request::Logged(Opening { door, knocker, turn }) => message(7, door, turn.0, Some(knocker)),
            Request::Exhausted(door) => message(8, door, 0, None),
        }
    }

    fn decode(message: &Message) -> Option<Request> {
        Some(match parts(message)? {
            (1, 0, fingerprint, None) => Request::Prepare(fingerprint),
            (2, 0, 0, None) => Request::Adopt,
            (3, door, turn, Some(knocker)) => Request::Open(Opening { door, knocker, turn: Turn(turn) }),
            (4, 0, 0, None) => Request::Finish,
            (5, 0, 0, None) => Request::FinishNow,
            (6, 0, 0, None) => Request::Begin,
            (7, door, turn, Some(knocker)) => Request::Logged(Opening { door, knocker, turn: Turn(turn) }),
            (8, door, 0, None) => Request::Exhausted(door),
            _ => return None,
        })
    }
}

impl Crossing for Report {
    fn encode(&self) -> Message {
        match *self {
            Report::Prepared(is_same) => message(1, 0, is_same.into(), None),
            Report::Struck(door) => message(2, door, 0, None),
        }
    }

    fn decode(message: &Message) -> Option<Report> {
        Some(match parts(message)? {
            (1, 0, number @ 0..=1, None) => Report::Prepared(number == 1),
            (2, door, 0, None) => Report::Struck(door),
            _ => return None,
        })
    }
}

/// A connected pair of sockets that keep messages apart, closed when another program is run.
///
/// # Errors
/// What the operating system says.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Sends one message without waiting.
///
/// # Errors
/// `WouldBlock` when there is no room, or what the operating system says.
pub fn transmit(socket: &OwnedFd, message: &impl Crossing) -> io::Result<()> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    send(socket.as_raw_fd(), &message.encode(), flags)?;
    Ok(())
}

/// What a look at the socket showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// A message.
    Message(T),
    /// Something that is no message of ours.
    Nonsense,
    /// Nothing for now.
    Nothing,
    /// The other end is gone.
    Closed,
}

/// Takes one message without waiting.
pub fn receive<T: Crossing>(socket: &OwnedFd) -> Received<T> {
    let mut bytes = [0; SIZE + 1];
    match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
        Ok(0) => Received::Closed,
        Ok(SIZE) => bytes.first_chunk().and_then(T::decode).map_or(Received::Nonsense, Received::Message),
        Ok(_) => Received::Nonsense,
        Err(Errno::EAGAIN | Errno::EINTR) => Received::Nothing,
        Err(_) => Received::Closed,
    }
}
