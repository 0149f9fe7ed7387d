//! The messages between the doorkeeper and the fleet's program.
//!
//! | kind | message | fields |
//! |---|---|---|
//! | 1 | `Hello` | version; the shapes of all doors (8 bytes each) |
//! | 2 | `Opened` | an opening |
//! | 3 | `Ask` | an opening |
//! | 4 | `Open` | an opening |
//! | 5, 6, 7 | `Answer`: yes, no, unknown | the number of the question (8) |
//! | 8 | `Knock` | the knock, see `protocol/knock.rs` |
//!
//! The kind is one byte. An opening has these fields:
//!
//! | bytes | field |
//! |---|---|
//! | 8 | what is left of its time, in milliseconds; of `Ask`, how long the mark must be remembered |
//! | 8 | its number |
//! | 8 | the shape of the door |
//! | 8 | turn: which use of the lock; of a single packet, its time |
//! | 16 | the mark: of what one use is used up; zeros if nothing is |
//! | 1 | 1 if the opening has an end, 0 if it is only a command that runs |
//! | 5 or 17 | the knocker's address: 4 or 6, then its bytes |
//! | 1 | 6 (TCP) or 17 (UDP) if a single packet asked for one port; otherwise 0 |
//! | 2 | that port; otherwise 0 |
//! | 2 + n | the name in the single packet, behind its length |
//! | 2 + n | the door's name, behind its length |
//!
//! Numbers are little-endian.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::door::knock::{Knock, Protocol};
use crate::door::lock::Turn;
use crate::door::sequence::Stage;
use crate::door::spa::fields::is_user;
use crate::protocol::bytes::{self, Reader};
use crate::protocol::messages::{Crossing, only_spelling};
use crate::protocol::values::Writer;

/// The most bytes of a message: the longest name of a door has 127 characters, of up to 4 bytes each.
pub const LONGEST: usize = 640;
/// What `Hello` says: changes with the messages.
pub const VERSION: u64 = 3;

/// Of what one use is used up: the identity of a door's lists of one-time ports, or of a single packet; ones for the
/// lines of a one-time file, zeros if nothing is used up. Which use it is, the turn says and, where each address has
/// lists of its own, the knocker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub [u8; 16]);

/// An opening, as the fleet has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Counted where it was knocked, from a random number on.
    pub number: u64,
    /// The door's name.
    pub door: Arc<str>,
    /// What the door is: see [`shape`](super::marks::shape).
    pub shape: u64,
    /// For whom it opens.
    pub knocker: IpAddr,
    /// Which use of the lock; the time of a single packet.
    pub turn: Turn,
    /// Of what one use is used up.
    pub mark: Mark,
    /// What is left of its time, in whole milliseconds; how long the mark must be remembered, in a question.
    pub time: Duration,
    /// Whether it has an end: otherwise it is a command that runs, and nothing can be open already.
    pub has_end: bool,
    /// The name in the single packet, and a port that it asked for.
    pub access: Option<(String, Stage)>,
}

/// What knockd says to its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromKnockd {
    /// The version, and the shapes of all doors together.
    Hello(u64, u64),
    /// It was opened here.
    Opened(Shared),
    /// Whether its mark is used up.
    Ask(Shared),
    /// A knock that arrived here, and that other members may need.
    Knock(Knock),
}

/// What the peer says to knockd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToKnockd {
    /// It was opened elsewhere.
    Open(Shared),
    /// Whether the mark of the opening with this number is its own, or was used up elsewhere; none if that cannot
    /// be found out now.
    Answer(u64, Option<bool>),
    /// A knock that arrived elsewhere.
    Knock(Knock),
}

const HELLO: u8 = 1;
/// The kind of [`FromKnockd::Opened`].
pub const OPENED: u8 = 2;
/// The kind of [`FromKnockd::Ask`].
pub const ASK: u8 = 3;
const OPEN: u8 = 4;
const YES: u8 = 5;
const NO: u8 = 6;
const UNKNOWN: u8 = 7;
const KNOCK: u8 = 8;

impl FromKnockd {
    /// The opening that it is about, if it carries one.
    #[must_use]
    pub fn shared(&self) -> Option<&Shared> {
        match self {
            FromKnockd::Opened(shared) | FromKnockd::Ask(shared) => Some(shared),
            FromKnockd::Hello(..) | FromKnockd::Knock(_) => None,
        }
    }

    /// The same with this much time left, if it carries an opening.
    #[must_use]
    pub fn lasting(mut self, left: Duration) -> FromKnockd {
        if let FromKnockd::Opened(it) | FromKnockd::Ask(it) = &mut self {
            it.time = left;
        }
        self
    }
}

impl Crossing for FromKnockd {
    fn encode(&self) -> Vec<u8> {
        match self {
            FromKnockd::Hello(version, shape) => hello(*version, *shape),
            FromKnockd::Opened(it) => it.encode(OPENED),
            FromKnockd::Ask(it) => it.encode(ASK),
            FromKnockd::Knock(it) => knock(it),
        }
    }

    fn decode(bytes: &[u8]) -> Option<FromKnockd> {
        let mut reader = Reader(bytes);
        let message = match reader.byte()? {
            HELLO => FromKnockd::Hello(reader.long()?, reader.long()?),
            OPENED => FromKnockd::Opened(Shared::decode(reader.0)?),
            ASK => FromKnockd::Ask(Shared::decode(reader.0)?),
            KNOCK => FromKnockd::Knock(reader.knock()?),
            _ => return None,
        };
        only_spelling(message, bytes)
    }
}

impl Crossing for ToKnockd {
    fn encode(&self) -> Vec<u8> {
        match self {
            ToKnockd::Open(it) => it.encode(OPEN),
            ToKnockd::Answer(number, Some(true)) => Writer::new(YES).long(*number).0,
            ToKnockd::Answer(number, Some(false)) => Writer::new(NO).long(*number).0,
            ToKnockd::Answer(number, None) => Writer::new(UNKNOWN).long(*number).0,
            ToKnockd::Knock(it) => knock(it),
        }
    }

    /// Without [`only_spelling`], which would bring all that encodes into knockd: each field is checked.
    fn decode(bytes: &[u8]) -> Option<ToKnockd> {
        let (&kind, rest) = bytes.split_first()?;
        Some(match kind {
            OPEN => ToKnockd::Open(Shared::decode(rest)?),
            YES | NO | UNKNOWN => {
                let number = u64::from_le_bytes(rest.try_into().ok()?);
                ToKnockd::Answer(number, (kind != UNKNOWN).then_some(kind == YES))
            }
            KNOCK => {
                let mut reader = Reader(rest);
                let knock = reader.knock()?;
                if !reader.0.is_empty() {
                    return None;
                }
                ToKnockd::Knock(knock)
            }
            _ => return None,
        })
    }
}

impl Shared {
    /// The message of this kind about the opening.
    #[must_use]
    pub fn encode(&self, kind: u8) -> Vec<u8> {
        let mut out = Writer::new(kind).0;
        let time = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX);
        for number in [time, self.number, self.shape, self.turn.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.mark.0);
        out.push(self.has_end.into());
        bytes::address(&mut out, self.knocker);
        let (protocol, port, user) = match &self.access {
            Some((user, Stage { protocol, port })) => (protocol.number(true), *port, user.as_str()),
            None => (0, 0, ""),
        };
        let [low, high] = port.to_le_bytes();
        out.extend_from_slice(&[protocol, low, high]);
        Writer(out).bytes(user.as_bytes()).bytes(self.door.as_bytes()).0
    }

    /// The opening in a message, behind its kind.
    fn decode(fields: &[u8]) -> Option<Shared> {
        let mut reader = Reader(fields);
        let [time, number, shape, turn] = [reader.long()?, reader.long()?, reader.long()?, reader.long()?];
        let (mark, has_end) = (Mark(reader.take()?), reader.byte()?);
        let knocker = reader.canonical_address()?;
        let (protocol, port) = (reader.byte()?, u16::from_le_bytes(reader.take()?));
        let [user, door] = [reader.str()?, reader.str()?];
        let asked = [Protocol::Tcp, Protocol::Udp].into_iter().find(|it| it.number(true) == protocol);
        let is_asked = port != 0 && is_user(user);
        let is_nothing = protocol == 0 && port == 0 && user.is_empty();
        if has_end > 1 || !reader.0.is_empty() || !(if asked.is_some() { is_asked } else { is_nothing }) {
            return None;
        }
        Some(Shared {
            number,
            door: door.into(),
            shape,
            knocker,
            turn: Turn(turn),
            mark,
            time: Duration::from_millis(time),
            has_end: has_end > 0,
            access: asked.map(|protocol| (user.to_owned(), Stage { protocol, port })),
        })
    }
}

/// The message [`FromKnockd::Hello`].
#[must_use]
pub fn hello(version: u64, shape: u64) -> Vec<u8> {
    Writer::new(HELLO).long(version).long(shape).0
}

/// The message about a knock, in either direction.
#[must_use]
pub fn knock(knock: &Knock) -> Vec<u8> {
    Writer::new(KNOCK).knock(knock).0
}

/// Replaces what is left of the time in a message about an opening.
pub fn set_time(message: &mut [u8], left: Duration) {
    let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    if let Some(field) = message.get_mut(1..9) {
        field.copy_from_slice(&left.to_le_bytes());
    }
}
