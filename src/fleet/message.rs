//! The messages between the doorkeeper and the fleet's program.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 1 | kind: 1 `Hello`, 2 `Opened`, 3 `Ask`, 4 `Knock`, 16 `Open`, 17 `Yes`, 18 `No`, 19 `Unknown`, 20 `Passes` |
//! | 1 | 1 | 4 or 6: the family of the address; 0 if the kind is not about an opening |
//! | 2 | 1 | 6 (TCP) or 17 (UDP) if a single packet asked for one port; otherwise 0 |
//! | 3 | 1 | 1 if the opening has an end, 0 if it is only a command that runs |
//! | 4 | 1 | length of the door's name, 1 to 127 |
//! | 5 | 1 | length of the name in a single packet, at most 48 |
//! | 6 | 2 | the port that a single packet asked for; otherwise 0 |
//! | 8 | 8 | number of the opening; of `Hello`, the version; of `Passes`, 1 or 0 |
//! | 16 | 8 | turn: which use of the lock; of a single packet, its time |
//! | 24 | 8 | shape of the door; of `Hello`, of all doors |
//! | 32 | 8 | what is left of its time, in milliseconds; of `Ask`, how long the mark must be remembered |
//! | 40 | 16 | the knocker's address; of IPv4, four bytes and twelve zeros |
//! | 56 | 16 | the mark: what was used up; zero if nothing was |
//! | 72 | 128 | the door's name, then zeros |
//! | 200 | 48 | the name in the single packet, then zeros |
//!
//! A `Knock` has nothing of this but its kind. At offset 8 follows the knock, see `protocol/shared_knock.rs`, then zeros.
//! Numbers are little-endian.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::door::knock::Protocol;
use crate::door::lock::Turn;
use crate::door::sequence::Stage;
use crate::door::spa::fields::is_user;
use crate::engine::sharing::SharedKnock;
use crate::octets;
use crate::protocol::bytes::Reader;
use crate::protocol::messages::Crossing;
use crate::protocol::shared_knock;

/// The bytes of every message.
pub const LENGTH: usize = 248;
/// What `Hello` says: changes with the messages.
pub const VERSION: u64 = 1;

/// Where the name of a door begins; the last byte of the field stays zero.
const NAME: usize = 72;
/// Where the name in a single packet begins.
const USER: usize = 200;

/// What was used up: different for each one-time line, list and single packet. All zeros is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub [u8; 16]);

/// An opening, as the fleet has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Drawn at random where it was knocked.
    pub number: u64,
    /// The door's name.
    pub door: Arc<str>,
    /// What the door is: see [`shape`](super::marks::shape).
    pub shape: u64,
    /// For whom it opens.
    pub knocker: IpAddr,
    /// Which use of the lock; the time of a single packet.
    pub turn: Turn,
    /// What was used up.
    pub mark: Mark,
    /// What is left of its time, in whole milliseconds; how long the mark must be remembered, in a question.
    pub time: Duration,
    /// Whether it has an end: otherwise it is a command that runs, and nothing can be open already.
    pub has_end: bool,
    /// The name in the single packet, and a port that it asked for.
    pub access: Option<(String, Stage)>,
}

/// Everything that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The version, and the shapes of all doors together.
    Hello(u64, u64),
    /// It was opened here.
    Opened(Shared),
    /// Whether its mark is used up.
    Ask(Shared),
    /// It was opened elsewhere.
    Open(Shared),
    /// The mark of this opening is its own.
    Yes(u64),
    /// The mark of this opening was used up elsewhere.
    No(u64),
    /// That cannot be found out now.
    Unknown(u64),
    /// A knock for all members; from the peer, of any of them.
    Knock(SharedKnock),
    /// Whether knocks are passed on.
    Passes(bool),
}

const HELLO: u8 = 1;
const OPENED: u8 = 2;
const ASK: u8 = 3;
const KNOCK: u8 = 4;
const OPEN: u8 = 16;
const YES: u8 = 17;
const NO: u8 = 18;
const UNKNOWN: u8 = 19;
const PASSES: u8 = 20;

impl Message {
    /// The opening that it is about, if it carries one.
    #[must_use]
    pub fn shared(&self) -> Option<&Shared> {
        match self {
            Message::Opened(shared) | Message::Ask(shared) | Message::Open(shared) => Some(shared),
            Message::Hello(..)
            | Message::Yes(_)
            | Message::No(_)
            | Message::Unknown(_)
            | Message::Knock(_)
            | Message::Passes(_) => None,
        }
    }

    /// The same with this much time left, if it carries an opening.
    #[must_use]
    pub fn lasting(mut self, left: Duration) -> Message {
        if let Message::Opened(it) | Message::Ask(it) | Message::Open(it) = &mut self {
            it.time = left;
        }
        self
    }
}

impl Crossing for Message {
    fn encode(&self) -> Vec<u8> {
        let (kind, number, shape) = match self {
            Message::Hello(version, shape) => (HELLO, *version, *shape),
            Message::Opened(it) => (OPENED, it.number, it.shape),
            Message::Ask(it) => (ASK, it.number, it.shape),
            Message::Open(it) => (OPEN, it.number, it.shape),
            Message::Yes(number) => (YES, *number, 0),
            Message::No(number) => (NO, *number, 0),
            Message::Unknown(number) => (UNKNOWN, *number, 0),
            Message::Passes(is_on) => (PASSES, (*is_on).into(), 0),
            Message::Knock(knock) => {
                let mut out = vec![KNOCK];
                out.resize(8, 0);
                shared_knock::write(&mut out, knock);
                out.resize(LENGTH, 0);
                return out;
            }
        };
        let mut out = [0; LENGTH];
        out[0] = kind;
        out[8..16].copy_from_slice(&number.to_le_bytes());
        out[24..32].copy_from_slice(&shape.to_le_bytes());
        if let Some(it) = self.shared() {
            it.write(&mut out);
        }
        out.to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Message> {
        let message = read(bytes.try_into().ok()?)?;
        (message.encode() == bytes).then_some(message)
    }
}

impl Shared {
    /// Writes the fields that only openings have.
    fn write(&self, out: &mut [u8; LENGTH]) {
        let small = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
        let name = octets::bytes(&self.door);
        match self.knocker {
            IpAddr::V4(address) => {
                out[1] = 4;
                out[40..44].copy_from_slice(&address.octets());
            }
            IpAddr::V6(address) => {
                out[1] = 6;
                out[40..56].copy_from_slice(&address.octets());
            }
        }
        out[3] = self.has_end.into();
        out[4] = small(name.len());
        if let Some((user, port)) = &self.access {
            out[2] = port.protocol.number(true);
            out[5] = small(user.len());
            out[6..8].copy_from_slice(&port.port.to_le_bytes());
            put(&mut out[USER..], user.as_bytes());
        }
        out[16..24].copy_from_slice(&self.turn.0.to_le_bytes());
        let time = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX);
        out[32..40].copy_from_slice(&time.to_le_bytes());
        out[56..72].copy_from_slice(&self.mark.0);
        put(&mut out[NAME..USER], &name);
    }
}

/// Puts the bytes into a field, as far as they fit.
fn put(field: &mut [u8], bytes: &[u8]) {
    field.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
}

/// What the bytes say, if those that count are in order.
fn read(bytes: &[u8; LENGTH]) -> Option<Message> {
    let ([head, number, turn, shape, time, ..], _) = bytes.as_chunks::<8>() else { return None };
    let [kind, family, protocol, has_end, name, user, port @ ..] = *head;
    let [number, turn, shape, time] = [number, turn, shape, time].map(|it| u64::from_le_bytes(*it));
    match kind {
        HELLO => return Some(Message::Hello(number, shape)),
        YES => return Some(Message::Yes(number)),
        NO => return Some(Message::No(number)),
        UNKNOWN => return Some(Message::Unknown(number)),
        PASSES => return Some(Message::Passes(number != 0)),
        KNOCK => return shared_knock::read(&mut Reader(&bytes[8..])).map(Message::Knock),
        _ => {}
    }
    let knocker = match family {
        4 => IpAddr::from(*bytes[40..].first_chunk::<4>()?),
        6 => IpAddr::from(*bytes[40..].first_chunk::<16>()?),
        _ => return None,
    };
    let door = bytes[NAME..USER - 1].get(..name.into()).filter(|name| !name.is_empty())?;
    let user = std::str::from_utf8(bytes[USER..].get(..user.into())?).ok()?;
    let protocol = match protocol {
        0 => None,
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        _ => return None,
    };
    let port = u16::from_le_bytes(port);
    if protocol.is_some() && (port == 0 || !is_user(user)) {
        return None;
    }
    let shared = Shared {
        number,
        door: octets::text(door).into(),
        shape,
        // An IPv4 address does not come in the clothes of IPv6.
        knocker: Some(knocker).filter(|knocker| knocker.to_canonical() == *knocker)?,
        turn: Turn(turn),
        mark: Mark(*bytes[56..].first_chunk()?),
        time: Duration::from_millis(time),
        has_end: has_end != 0,
        access: protocol.map(|protocol| (user.to_owned(), Stage { protocol, port })),
    };
    match kind {
        OPENED => Some(Message::Opened(shared)),
        ASK => Some(Message::Ask(shared)),
        OPEN => Some(Message::Open(shared)),
        _ => None,
    }
}
