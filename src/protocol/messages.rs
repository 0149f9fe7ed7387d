//! The closed set of messages between the watcher and the doorkeeper.
//!
//! A message is one record on a socket that preserves record boundaries: a byte for its kind, then its
//! fields. Numbers are little-endian. An address is 4 or 6 and its 4 or 16 bytes (an IPv4 address always 4).
//! A text is its length in two bytes, then UTF-8 without control characters. Each message has exactly one
//! encoding: bytes that differ from the encoding of their decoded message are rejected.

use std::net::IpAddr;

use crate::door::lock::Turn;
use crate::door::misfit::Misfit;
use crate::door::spa::may_be_single_packet;
use crate::filter::interfaces::State;
use crate::filter::trouble::{CaptureError, Code, Trouble};
use crate::opening::event::Opening;
use crate::opening::log_limit::Cause;
use crate::protocol::bytes::Reader;
use crate::protocol::confinement::Confined;
use crate::protocol::knock::EncodedKnock;
use crate::protocol::values::Writer;

/// The longest message in bytes.
pub const LONGEST: usize = 2560;

/// Identifies a configuration sent to the watcher; the first is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

/// A step of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The attempt reached this stage, counted from 1.
    Advanced(u8),
    /// A wrong knock ended the attempt at this stage, and the door logs failures.
    Failed(u8),
    /// The attempt timed out at this stage.
    Expired(u8),
    /// The sequence was completed this many times, of the times required.
    Repeated(u32, u32),
    /// A single packet was made without the keys, and the door logs failures.
    WrongPacket,
    /// A single packet was sent again.
    PacketAgain,
    /// A complete list of one-time ports opens nothing, and the door logs failures.
    Misfit(Misfit),
}

/// A single packet on its way to the process with the encryption keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SinglePacket {
    /// The index of the door whose HMAC key verified it, counted from 0.
    pub door: usize,
    /// The source address of the datagram.
    pub sender: IpAddr,
    /// Its destination address.
    pub destination: IpAddr,
    /// The payload: at most [`MAX_PACKET`](crate::door::spa::MAX_PACKET) bytes of ASCII.
    pub packet: Vec<u8>,
}

/// A message from the watcher.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    /// The configuration of this generation is in force; all earlier messages refer to the one before.
    Adopted(Generation),
    /// An interface of the first configuration cannot be captured on; the watcher exits.
    Refused(CaptureError),
    /// Open a door. Each watcher numbers its openings from 1.
    Opened(u64, Generation, Opening),
    /// `Open_Rate` keeps a door closed, but its list is used up. Numbered like an opening.
    OverRate(u64, Generation, Opening),
    /// A single packet whose HMAC a door's key verified. Numbered like an opening.
    Single(u64, Generation, SinglePacket),
    /// A step of this knocker's attempt at this door.
    Stepped(Generation, usize, IpAddr, Step),
    /// Attempts ended between the halves of this one-time list of a door: the source, and their number so
    /// far.
    Tried(Generation, usize, IpAddr, Turn, u8),
    /// This many lines about attempts were dropped in the last second.
    LeftOut(u64),
    /// This many openings of a door were dropped in the last second, for this cause.
    Dropped(Generation, usize, Cause, u64),
    /// The state of an interface that is captured on or waited for, and whether it was reported before.
    Interface(String, State, bool),
    /// A recoverable failure; the watcher retries.
    Trouble(Trouble),
    /// Requests a packet socket; the answer is [`Order::Socket`].
    SocketWanted,
    /// A line for the log, in answer to [`Order::Tell`].
    Told(String),
    /// The file of the last [`Order::Describe`] is complete.
    Described,
    /// How the watcher is confined; sent before it reads anything.
    Confined(Confined),
    /// The watcher panicked, and exits after this message.
    Panicked(String),
    /// A fragment of a line for `-D`, and whether it completes the line.
    Explained(String, bool),
    /// A knock that other members of the fleet may need.
    Shared(EncodedKnock),
}

/// A message from the doorkeeper. The descriptor that comes with some of them is given in brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Adopt this configuration \[a file with a [`Bundle`](super::bundle::Bundle)\].
    Adopt(Generation),
    /// All openings up to this number were accepted, and their lists are used up.
    Taken(u64),
    /// The lines left in a door's one-time file after this opening was accepted \[the file's text\].
    Lines(u64, Generation, usize),
    /// A packet socket that is not bound to any interface \[the socket, unless the code is an error\].
    Socket(Code),
    /// Write your status into this file, for a status request \[an empty memfd\].
    Describe,
    /// Send your status as lines for the log.
    Tell,
    /// A knock that arrived at another member of the fleet.
    Heard(EncodedKnock),
    /// Send the remaining messages, and exit.
    Finish,
}

/// A message in either direction.
pub trait Crossing: Sized {
    /// Encodes the message in at most [`LONGEST`] bytes.
    fn encode(&self) -> Vec<u8>;
    /// Decodes a message; `None` if the bytes are not one.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

impl Reader<'_> {
    fn generation(&mut self) -> Option<Generation> {
        self.word().map(Generation)
    }

    fn state(&mut self) -> Option<State> {
        STATES.get(usize::from(self.byte()?)).copied()
    }
}

/// The causes of dropped openings, in the order of their numbers in messages.
const CAUSES: [Cause; 4] = [Cause::Rate, Cause::Queue, Cause::End, Cause::Reload];

/// The states of an interface, in the order of their numbers in messages.
const STATES: [State; 4] = [State::Ready, State::NoCarrier, State::Down, State::Missing];

fn number_of(state: State) -> u8 {
    STATES.iter().position(|it| *it == state).and_then(|it| u8::try_from(it).ok()).unwrap_or_default()
}

/// The decoded message, if its encoding equals the bytes.
pub(crate) fn only_spelling<T: Crossing>(message: T, bytes: &[u8]) -> Option<T> {
    (message.encode() == bytes).then_some(message)
}

impl Crossing for Report {
    fn encode(&self) -> Vec<u8> {
        let writer = match self {
            Report::Adopted(generation) => Writer::new(1).word(generation.0),
            Report::Refused(error) => Writer::new(2).capture(error),
            Report::Opened(number, generation, opening) => {
                Writer::new(3).long(*number).word(generation.0).opening(opening)
            }
            Report::OverRate(number, generation, opening) => {
                Writer::new(17).long(*number).word(generation.0).opening(opening)
            }
            Report::Stepped(generation, door, knocker, step) => {
                let writer = Writer::new(4).word(generation.0).door(*door).address(*knocker);
                match *step {
                    Step::Advanced(stage) => writer.byte(0).byte(stage),
                    Step::Failed(stage) => writer.byte(1).byte(stage),
                    Step::Expired(stage) => writer.byte(2).byte(stage),
                    Step::Repeated(done, wanted) => writer.byte(3).word(done).word(wanted),
                    Step::WrongPacket => writer.byte(4),
                    Step::PacketAgain => writer.byte(5),
                    Step::Misfit(Misfit::Used) => writer.byte(6),
                    Step::Misfit(Misfit::OtherPeriod(distance)) => {
                        writer.byte(7).byte(distance.cast_unsigned())
                    }
                }
            }
            Report::Tried(generation, door, knocker, turn, count) => {
                let writer = Writer::new(16).word(generation.0).door(*door).address(*knocker);
                writer.long(turn.0).byte(*count)
            }
            Report::LeftOut(lines) => Writer::new(5).long(*lines),
            Report::Dropped(generation, door, cause, count) => {
                let place = CAUSES.iter().position(|it| it == cause).and_then(|it| u8::try_from(it).ok());
                let writer = Writer::new(6).word(generation.0).door(*door);
                writer.byte(place.unwrap_or_default()).long(*count)
            }
            Report::Interface(what, state, was_known) => {
                Writer::new(7).text(what).byte(number_of(*state)).byte((*was_known).into())
            }
            Report::Trouble(Trouble::ListInterfaces(code)) => Writer::new(8).byte(0).code(*code),
            Report::Trouble(Trouble::Filter(code)) => Writer::new(8).byte(1).code(*code),
            Report::Trouble(Trouble::Capture(error)) => Writer::new(8).byte(2).capture(error),
            Report::Trouble(Trouble::Switch(interface, operation, code)) => {
                Writer::new(8).byte(3).text(interface).operation(*operation).code(*code)
            }
            Report::SocketWanted => Writer::new(9),
            Report::Explained(text, is_end) => Writer::new(10).text(text).byte((*is_end).into()),
            Report::Told(text) => Writer::new(12).text(text),
            Report::Single(number, generation, single) => {
                let writer = Writer::new(11).long(*number).word(generation.0).door(single.door);
                writer.address(single.sender).address(single.destination).bytes(&single.packet)
            }
            Report::Described => Writer::new(15),
            Report::Shared(EncodedKnock(bytes)) => Writer::new(18).array(bytes),
            Report::Confined(confined) => Writer::new(13).confined(confined),
            Report::Panicked(text) => Writer::new(14).text(text),
        };
        writer.0
    }

    fn decode(bytes: &[u8]) -> Option<Report> {
        let mut reader = Reader(bytes);
        let report = match reader.byte()? {
            1 => Report::Adopted(reader.generation()?),
            2 => Report::Refused(reader.capture()?),
            3 => Report::Opened(reader.long()?, reader.generation()?, reader.opening()?),
            4 => {
                let (generation, door) = (reader.generation()?, reader.door()?);
                let knocker = reader.canonical_address()?;
                let step = match reader.byte()? {
                    0 => Step::Advanced(reader.byte()?),
                    1 => Step::Failed(reader.byte()?),
                    2 => Step::Expired(reader.byte()?),
                    3 => Step::Repeated(reader.word()?, reader.word()?),
                    4 => Step::WrongPacket,
                    5 => Step::PacketAgain,
                    6 => Step::Misfit(Misfit::Used),
                    7 => Step::Misfit(Misfit::OtherPeriod(reader.byte()?.cast_signed())),
                    _ => return None,
                };
                Report::Stepped(generation, door, knocker, step)
            }
            16 => {
                let (generation, door) = (reader.generation()?, reader.door()?);
                let (knocker, turn) = (reader.canonical_address()?, Turn(reader.long()?));
                Report::Tried(generation, door, knocker, turn, reader.byte()?)
            }
            5 => Report::LeftOut(reader.long()?),
            6 => {
                let (generation, door) = (reader.generation()?, reader.door()?);
                let cause = *CAUSES.get(usize::from(reader.byte()?))?;
                Report::Dropped(generation, door, cause, reader.long()?)
            }
            7 => Report::Interface(reader.text()?, reader.state()?, reader.flag()?),
            8 => Report::Trouble(match reader.byte()? {
                0 => Trouble::ListInterfaces(reader.code()?),
                1 => Trouble::Filter(reader.code()?),
                2 => Trouble::Capture(reader.capture()?),
                3 => Trouble::Switch(reader.text()?, reader.operation()?, reader.code()?),
                _ => return None,
            }),
            9 => Report::SocketWanted,
            10 => Report::Explained(reader.text()?, reader.flag()?),
            11 => {
                let (number, generation) = (reader.long()?, reader.generation()?);
                let (door, sender, destination) =
                    (reader.door()?, reader.canonical_address()?, reader.canonical_address()?);
                let packet = reader.short_bytes().filter(|packet| may_be_single_packet(packet))?.to_vec();
                Report::Single(number, generation, SinglePacket { door, sender, destination, packet })
            }
            12 => Report::Told(reader.text()?),
            15 => Report::Described,
            17 => Report::OverRate(reader.long()?, reader.generation()?, reader.opening()?),
            18 => Report::Shared(EncodedKnock(reader.take()?)),
            13 => Report::Confined(reader.confined()?),
            14 => Report::Panicked(reader.text()?),
            _ => return None,
        };
        only_spelling(report, bytes)
    }
}

impl Crossing for Order {
    fn encode(&self) -> Vec<u8> {
        let writer = match *self {
            Order::Adopt(generation) => Writer::new(1).word(generation.0),
            Order::Taken(number) => Writer::new(2).long(number),
            Order::Lines(number, generation, door) => {
                Writer::new(3).long(number).word(generation.0).door(door)
            }
            Order::Socket(code) => Writer::new(4).code(code),
            Order::Finish => Writer::new(5),
            Order::Describe => Writer::new(6),
            Order::Tell => Writer::new(7),
            Order::Heard(EncodedKnock(ref bytes)) => Writer::new(9).array(bytes),
        };
        writer.0
    }

    fn decode(bytes: &[u8]) -> Option<Order> {
        let mut reader = Reader(bytes);
        let order = match reader.byte()? {
            1 => Order::Adopt(reader.generation()?),
            2 => Order::Taken(reader.long()?),
            3 => Order::Lines(reader.long()?, reader.generation()?, reader.door()?),
            4 => Order::Socket(reader.code()?),
            5 => Order::Finish,
            6 => Order::Describe,
            7 => Order::Tell,
            9 => Order::Heard(EncodedKnock(reader.take()?)),
            _ => return None,
        };
        only_spelling(order, bytes)
    }
}
