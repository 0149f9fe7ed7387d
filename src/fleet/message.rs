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

/// The bytes that hold the name of a door, one more than it may have.
const NAME: usize = 128;
/// The bytes that hold the name in a single packet.
const USER: usize = 48;

/// What was used up: different for each one-time line, list and single packet. All zeros is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub [u8; 16]);

/// An opening, as the fleet has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Drawn at random where it was knocked.
    pub number: u64,
    /// The door's name.
    pub door: String,
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
            Message::Knock(_) => (KNOCK, 0, 0),
            Message::Passes(is_on) => (PASSES, (*is_on).into(), 0),
        };
        let mut out = Vec::with_capacity(LENGTH);
        let Some(it) = self.shared() else {
            out.push(kind);
            out.resize(8, 0);
            if let Message::Knock(knock) = self {
                shared_knock::write(&mut out, knock);
                out.resize(LENGTH, 0);
                return out;
            }
            out.extend(number.to_le_bytes());
            out.resize(24, 0);
            out.extend(shape.to_le_bytes());
            out.resize(LENGTH, 0);
            return out;
        };
        let name = octets::bytes(&it.door);
        let (user, port) = it.access.as_ref().map_or(("", None), |(user, port)| (user, Some(port)));
        let small = |length: usize| u8::try_from(length).unwrap_or(u8::MAX);
        out.extend([
            kind,
            if it.knocker.is_ipv4() { 4 } else { 6 },
            port.map_or(0, |port| port.protocol.number(true)),
            it.has_end.into(),
            small(name.len()),
            small(user.len()),
        ]);
        out.extend(port.map_or(0, |port| port.port).to_le_bytes());
        let time = u64::try_from(it.time.as_millis()).unwrap_or(u64::MAX);
        for number in [number, it.turn.0, shape, time] {
            out.extend(number.to_le_bytes());
        }
        match it.knocker {
            IpAddr::V4(address) => out.extend(address.octets()),
            IpAddr::V6(address) => out.extend(address.octets()),
        }
        out.resize(56, 0);
        out.extend(it.mark.0);
        out.extend(name);
        out.resize(72 + NAME, 0);
        out.extend(user.bytes());
        out.resize(LENGTH, 0);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Message> {
        let message = read(bytes)?;
        (message.encode() == bytes).then_some(message)
    }
}

/// What the bytes say, if those that count are in order.
fn read(bytes: &[u8]) -> Option<Message> {
    let mut reader = Reader(bytes);
    let [kind, family, protocol, has_end, name, user] = reader.take()?;
    let port = u16::from_le_bytes(reader.take()?);
    if kind == KNOCK {
        return shared_knock::read(&mut reader).map(Message::Knock);
    }
    let (number, turn, shape, time) = (reader.long()?, reader.long()?, reader.long()?, reader.long()?);
    match kind {
        HELLO => return Some(Message::Hello(number, shape)),
        YES => return Some(Message::Yes(number)),
        NO => return Some(Message::No(number)),
        UNKNOWN => return Some(Message::Unknown(number)),
        PASSES => return Some(Message::Passes(number != 0)),
        _ => {}
    }
    let address: [u8; 16] = reader.take()?;
    let knocker = match family {
        4 => IpAddr::from(*address.first_chunk::<4>()?),
        6 => IpAddr::from(address),
        _ => return None,
    };
    let mark = Mark(reader.take()?);
    let (name, user) = (usize::from(name), usize::from(user));
    let door = reader.slice(NAME)?.get(..name).filter(|name| (1..NAME).contains(&name.len()))?;
    let user = std::str::from_utf8(reader.slice(USER)?.get(..user)?).ok()?;
    let with =
        |protocol| Some((user.to_owned(), Stage { protocol, port })).filter(|_| is_user(user) && port > 0);
    let access = match protocol {
        0 => None,
        6 => Some(with(Protocol::Tcp)?),
        17 => Some(with(Protocol::Udp)?),
        _ => return None,
    };
    let shared = Shared {
        number,
        door: octets::text(door).into_owned(),
        shape,
        // An IPv4 address does not come in the clothes of IPv6.
        knocker: Some(knocker).filter(|knocker| knocker.to_canonical() == *knocker)?,
        turn: Turn(turn),
        mark,
        time: Duration::from_millis(time),
        has_end: has_end != 0,
        access,
    };
    match kind {
        OPENED => Some(Message::Opened(shared)),
        ASK => Some(Message::Ask(shared)),
        OPEN => Some(Message::Open(shared)),
        _ => None,
    }
}
