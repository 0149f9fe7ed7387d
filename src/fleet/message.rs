//! The messages between the doorkeeper and the fleet's program.
//!
//! | kind | message | fields |
//! |---|---|---|
//! | 1 | `Hello` | version; the shapes of all doors (8 bytes each) |
//! | 2 | `Opened` | an opening |
//! | 3 | `Ask` | an opening |
//! | 4 | `Open` | an opening |
//! | 5, 6, 7 | `Yes`, `No`, `Unknown` | the number of the question (8) |
//! | 8 | `Passes` | 1 or 0 (1) |
//! | 9 | `Knock` | the knock, see `protocol/shared_knock.rs` |
//!
//! The kind is one byte. An opening has these fields:
//!
//! | bytes | field |
//! |---|---|
//! | 8 | what is left of its time, in milliseconds; of `Ask`, how long the mark must be remembered |
//! | 8 | its number |
//! | 8 | the shape of the door |
//! | 8 | turn: which use of the lock; of a single packet, its time |
//! | 16 | the mark: what was used up; zeros if nothing was |
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

use crate::door::knock::Protocol;
use crate::door::lock::Turn;
use crate::door::sequence::Stage;
use crate::door::spa::fields::is_user;
use crate::engine::sharing::SharedKnock;
use crate::protocol::bytes::Reader;
use crate::protocol::messages::{Crossing, only_spelling};
use crate::protocol::shared_knock;
use crate::protocol::values::Writer;

/// The most bytes of a message: the longest name of a door has 127 characters, of up to 4 bytes each.
pub const LONGEST: usize = 640;
/// What `Hello` says: changes with the messages.
pub const VERSION: u64 = 2;

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
    /// Whether knocks are passed on.
    Passes(bool),
    /// A knock for all members; from the peer, of any of them.
    Knock(SharedKnock),
}

/// The kinds of messages about openings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum About {
    /// [`Message::Opened`].
    Opened = 2,
    /// [`Message::Ask`].
    Ask = 3,
    /// [`Message::Open`].
    Open = 4,
}

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
        match self {
            Message::Hello(version, shape) => Writer::new(1).long(*version).long(*shape).0,
            Message::Opened(it) => it.encode(About::Opened),
            Message::Ask(it) => it.encode(About::Ask),
            Message::Open(it) => it.encode(About::Open),
            Message::Yes(number) => Writer::new(5).long(*number).0,
            Message::No(number) => Writer::new(6).long(*number).0,
            Message::Unknown(number) => Writer::new(7).long(*number).0,
            Message::Passes(is_on) => Writer::new(8).byte((*is_on).into()).0,
            Message::Knock(knock) => Writer::new(9).knock(knock).0,
        }
    }

    fn decode(bytes: &[u8]) -> Option<Message> {
        let mut reader = Reader(bytes);
        let message = match reader.byte()? {
            1 => Message::Hello(reader.long()?, reader.long()?),
            2 => Message::Opened(Shared::read(&mut reader)?),
            3 => Message::Ask(Shared::read(&mut reader)?),
            4 => Message::Open(Shared::read(&mut reader)?),
            5 => Message::Yes(reader.long()?),
            6 => Message::No(reader.long()?),
            7 => Message::Unknown(reader.long()?),
            8 => Message::Passes(reader.flag()?),
            9 => Message::Knock(shared_knock::read(&mut reader)?),
            _ => return None,
        };
        only_spelling(message, bytes)
    }
}

impl Shared {
    /// The message about this opening.
    #[must_use]
    pub fn encode(&self, about: About) -> Vec<u8> {
        let mut writer = Writer::new(about as u8);
        for number in [0, self.number, self.shape, self.turn.0] {
            writer = writer.long(number);
        }
        writer.0.extend(self.mark.0);
        writer = writer.byte(self.has_end.into()).address(self.knocker);
        let (protocol, port, user) = match &self.access {
            Some((user, Stage { protocol, port })) => (protocol.number(true), *port, user.as_str()),
            None => (0, 0, ""),
        };
        writer = writer.byte(protocol);
        writer.0.extend(port.to_le_bytes());
        let mut bytes = writer.bytes(user.as_bytes()).bytes(self.door.as_bytes()).0;
        set_time(&mut bytes, self.time);
        bytes
    }

    fn read(reader: &mut Reader<'_>) -> Option<Shared> {
        let time = Duration::from_millis(reader.long()?);
        let (number, shape, turn) = (reader.long()?, reader.long()?, Turn(reader.long()?));
        let (mark, has_end) = (Mark(reader.take()?), reader.flag()?);
        let knocker = reader.canonical_address()?;
        let (protocol, port) = (reader.byte()?, u16::from_le_bytes(reader.take()?));
        let (user, door) = (reader.text()?, reader.text()?);
        let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|it| it.number(true) == protocol);
        let access = protocol.map(|protocol| (user, Stage { protocol, port }));
        let is_doubtful = |(user, stage): &(String, Stage)| stage.port == 0 || !is_user(user);
        if access.as_ref().is_some_and(is_doubtful) {
            return None;
        }
        Some(Shared { number, door: door.into(), shape, knocker, turn, mark, time, has_end, access })
    }
}

/// Replaces what is left of the time in a message about an opening.
pub fn set_time(message: &mut [u8], left: Duration) {
    let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    if let Some(field) = message.get_mut(1..9) {
        field.copy_from_slice(&left.to_le_bytes());
    }
}
