//! The messages between the doorkeeper and the fleet's program.
//!
//! | kind | message | fields |
//! |---|---|---|
//! | 1 | `Hello` | version; the shapes of all doors; the daemon's session (8 bytes each) |
//! | 2 | `Opened` | an opening |
//! | 3 | `Ask` | an opening |
//! | 4 | `Open` | an opening |
//! | 5, 6, 7 | `Answer`: yes, no, unknown | the number of the question (8) |
//! | 8 | `Knock` | the knock, see `protocol/knock.rs` |
//!
//! The kind is one byte; numbers are little-endian. An opening is two lines, as in the state file
//! ([`text`](crate::opening::text)):
//!
//! ```text
//! open SHAPE.NUMBER PHASE - END END TIME - KNOCKER DOOR run % [for USER PORT SECONDS] SUM
//! spent LOCK TURN OWNER SUM    or    packet TIME ID SUM
//! ```
//!
//! The first line has the shape of the door ([`shape`](super::marks::shape)) and the number of the opening for a key,
//! and no command. PHASE is `open` if the opening has an end, `opening` if it is only a command that runs. END is the
//! uptime (`CLOCK_BOOTTIME`) in milliseconds at which its time is over; it stands also where a state file has a Unix time.
//! TIME is the whole time in milliseconds. In `Ask`, both are about how long the mark must be remembered.
//! The second line is the mark: what the opening used up ([`used_up`](super::marks::used_up)).

use std::time::Duration;

use crate::opening::record::{Reading, Record};
use crate::opening::standing::{Phase, Stop};
use crate::protocol::bytes::Reader;
use crate::protocol::knock::EncodedKnock;
pub use crate::protocol::messages::LONGEST;
use crate::protocol::messages::{Crossing, only_spelling};
use crate::protocol::values::Writer;
use crate::time::Now;

/// What `Hello` says: changes with the messages.
pub const VERSION: u64 = 4;

/// An opening, as the fleet has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The door, the knocker, the access that a single packet asked for, the whole time, and its end as uptime. The key
    /// is the shape of the door, and a number counted from a random one on; there is no command.
    pub stop: Stop,
    /// Whether it has an end: otherwise it is a command that runs, and nothing can be open already.
    pub has_end: bool,
    /// The mark: a [`Record::Spent`] or a [`Record::Packet`].
    pub used: Record,
}

/// What knockd says to its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromKnockd {
    /// The version, the shapes of all doors together, and a random number of this daemon.
    Hello(u64, u64, u64),
    /// It was opened here.
    Opened(Box<Shared>),
    /// Whether its mark is used up.
    Ask(Box<Shared>),
    /// A knock that arrived here, and that other members may need.
    Knock(EncodedKnock),
}

/// What the peer says to knockd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToKnockd {
    /// It was opened elsewhere.
    Open(Box<Shared>),
    /// Whether the mark of the opening with this number is its own, or was used up elsewhere; none if that cannot
    /// be found out now.
    Answer(u64, Option<bool>),
    /// A knock that arrived elsewhere.
    Knock(EncodedKnock),
}

const HELLO: u8 = 1;
/// The kind of [`FromKnockd::Opened`].
pub const OPENED: u8 = 2;
/// The kind of [`FromKnockd::Ask`].
pub const ASK: u8 = 3;
/// The kind of [`ToKnockd::Open`].
pub const OPEN: u8 = 4;
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

    /// The same with this end, if it carries an opening.
    #[must_use]
    pub fn ending(mut self, due: Duration) -> FromKnockd {
        if let FromKnockd::Opened(it) | FromKnockd::Ask(it) = &mut self {
            it.stop.due = due;
        }
        self
    }
}

impl Crossing for FromKnockd {
    fn encode(&self) -> Vec<u8> {
        match self {
            FromKnockd::Hello(version, shape, session) => hello(*version, *shape, *session),
            FromKnockd::Opened(it) => it.encode(OPENED),
            FromKnockd::Ask(it) => it.encode(ASK),
            FromKnockd::Knock(it) => knock(it),
        }
    }

    fn decode(bytes: &[u8]) -> Option<FromKnockd> {
        let mut reader = Reader(bytes);
        let message = match reader.byte()? {
            HELLO => match reader.long()? {
                VERSION => FromKnockd::Hello(VERSION, reader.long()?, reader.long()?),
                // What follows is not known.
                version => return Some(FromKnockd::Hello(version, 0, 0)),
            },
            OPENED => FromKnockd::Opened(Box::new(Shared::decode(reader.0)?)),
            ASK => FromKnockd::Ask(Box::new(Shared::decode(reader.0)?)),
            KNOCK => FromKnockd::Knock(EncodedKnock(reader.take()?)),
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

    /// Without `only_spelling`, which would bring all that encodes into knockd: each field is checked.
    fn decode(bytes: &[u8]) -> Option<ToKnockd> {
        let (&kind, rest) = bytes.split_first()?;
        Some(match kind {
            OPEN => ToKnockd::Open(Box::new(Shared::decode(rest)?)),
            YES | NO | UNKNOWN => {
                let number = u64::from_le_bytes(rest.try_into().ok()?);
                ToKnockd::Answer(number, (kind != UNKNOWN).then_some(kind == YES))
            }
            KNOCK => ToKnockd::Knock(EncodedKnock(rest.try_into().ok()?)),
            _ => return None,
        })
    }
}

/// When a message is read: so late that its times stand as they are.
const AT_LAST: Reading =
    Reading { now: Now { uptime: Duration::MAX, unix: Duration::ZERO }, same_boot: true };

impl Shared {
    fn encode(&self, kind: u8) -> Vec<u8> {
        encode_opening(kind, &first_line(self.stop.clone(), self.has_end), &self.used)
    }

    /// The opening in a message, behind its kind.
    fn decode(fields: &[u8]) -> Option<Shared> {
        let (opening, used) = std::str::from_utf8(fields).ok()?.strip_suffix('\n')?.split_once('\n')?;
        let Record::Open(phase, stop) = Record::read(opening, AT_LAST)? else { return None };
        let used = Record::read(used, AT_LAST)?;
        let is_mark = matches!(used, Record::Spent(..) | Record::Packet(..));
        is_mark.then_some(Shared { stop, has_end: phase == Phase::Open, used })
    }
}

/// The first line of a message about an opening.
#[must_use]
pub fn first_line(stop: Stop, has_end: bool) -> Record {
    Record::Open(if has_end { Phase::Open } else { Phase::Opening(None) }, stop)
}

/// The message of this kind with these lines.
#[must_use]
pub fn encode_opening(kind: u8, opened: &Record, used: &Record) -> Vec<u8> {
    let mut message = Writer::new(kind).0;
    for record in [opened, used] {
        message.extend_from_slice(record.line(Now::default()).as_bytes());
    }
    message
}

/// The message [`FromKnockd::Hello`].
#[must_use]
pub fn hello(version: u64, shape: u64, session: u64) -> Vec<u8> {
    Writer::new(HELLO).long(version).long(shape).long(session).0
}

/// The message about a knock, in either direction.
#[must_use]
pub fn knock(knock: &EncodedKnock) -> Vec<u8> {
    Writer::new(KNOCK).array(&knock.0).0
}
