//! Elements of sets: who is let in, to which ports, for how long.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NetlinkBuffer};

use crate::door::open::SetName;
use crate::door::ports::Ports;
use crate::firewall::answer;
use crate::firewall::message::{Attributes, Batch, Kind, message};
use crate::firewall::set::{Description, Form};

// NFTA_SET_ELEM_LIST_*, NFTA_SET_ELEM_* and NFTA_DATA_*.
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const ITEM: u16 = 1;
const KEY: u16 = 1;
const FLAGS: u16 = 3;
const TIMEOUT: u16 = 4;
const EXPIRATION: u16 = 5;
const KEY_END: u16 = 10;
const VALUE: u16 = 1;

/// `NFT_SET_ELEM_INTERVAL_END`: the first address after a range.
const INTERVAL_END: u32 = 1;

/// The longest key, in bytes: an IPv6 address, a protocol and a port, each padded to a multiple of four
/// bytes.
const MAX_KEY: usize = 24;
/// How many elements go into one message: their attribute has a length of 16 bits.
const IN_A_MESSAGE: usize = 400;
/// The timeout that means "for ever" in a set with a default timeout: 100 years.
const VERY_LONG: Duration = Duration::from_hours(100 * 365 * 24);

/// The key of an element, as the kernel compares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    bytes: [u8; MAX_KEY],
    length: u8,
}

impl Key {
    /// A key of these parts, each padded to a multiple of four bytes.
    fn of(parts: &[&[u8]]) -> Key {
        let mut bytes = [0; MAX_KEY];
        let mut length = 0;
        for part in parts {
            bytes.iter_mut().skip(length).zip(*part).for_each(|(to, from)| *to = *from);
            length += part.len().next_multiple_of(4);
        }
        Key { bytes, length: u8::try_from(length).unwrap_or(u8::MAX) }
    }

    /// The bytes of the key in a message.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length.into()).unwrap_or(&self.bytes)
    }

    /// The address, if the key is an address alone.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let bytes = self.as_bytes();
        if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
            return Some(IpAddr::from(octets));
        }
        <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
    }
}

/// An element of a set, without its timeout.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Element {
    /// The key, or the first of a range.
    pub key: Key,
    /// The end of a range; `None` for a single key.
    pub end: Option<End>,
}

/// How a range ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// The last key, part by part.
    Last(Key),
    /// A separate element: the first address after the range; `None` if the range ends with the last address.
    FirstAfter(Option<Key>),
}

impl Element {
    /// The element of a network or address alone, as in the guard's sets.
    #[must_use]
    pub fn of_network(network: IpNet) -> Element {
        Element { key: Key::of(&[&octets(network.network())]), end: None }
    }

    /// The element of a port, in a set of ports.
    #[must_use]
    pub fn of_port(port: u16) -> Element {
        // A key of one part is not padded.
        Element { key: Key { length: 2, ..Key::of(&[&port.to_be_bytes()]) }, end: None }
    }

    /// The elements that let this network through to these ports. A set without ranges accepts only single
    /// addresses, and gets an element for each port.
    #[must_use]
    pub fn all(network: IpNet, ports: &[Ports], set: &Description) -> Vec<Element> {
        let (first, last) = (octets(network.network()), octets(network.broadcast()));
        match (set.form, set.has_intervals) {
            (Form::Address, false) => vec![Element::of_network(network)],
            (Form::Address, true) => {
                vec![Element {
                    key: Key::of(&[&first]),
                    end: Some(End::FirstAfter(
                        next(network.broadcast()).map(|after| Key::of(&[&octets(after)])),
                    )),
                }]
            }
            (Form::Service, has_intervals) => {
                let key = |address: &[u8], ports: &Ports, port: u16| {
                    Key::of(&[address, &[ports.protocol.number(true)], &port.to_be_bytes()])
                };
                let mut elements = Vec::new();
                for ports in ports {
                    if has_intervals {
                        // Without an end, nft shows a single value wrongly.
                        elements.push(Element {
                            key: key(&first, ports, ports.first),
                            end: Some(End::Last(key(&last, ports, ports.last))),
                        });
                    } else {
                        elements.extend(
                            (ports.first..=ports.last)
                                .map(|port| Element { key: key(&first, ports, port), end: None }),
                        );
                    }
                }
                elements
            }
        }
    }

    fn attributes(&self, time: Option<Time>) -> Attributes {
        let value = |key: &Key| Attributes::new().bytes(VALUE, key.as_bytes());
        let mut item = Attributes::new().nested(KEY, &value(&self.key));
        if let Some(End::Last(last)) = &self.end {
            item = item.nested(KEY_END, &value(last));
        }
        if let Some(time) = time.and_then(Time::as_written) {
            item = item.long(TIMEOUT, u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1));
        }
        let mut list = Attributes::new().nested(ITEM, &item);
        if let Some(End::FirstAfter(Some(after))) = &self.end {
            let end = Attributes::new().nested(KEY, &value(after)).number(FLAGS, INTERVAL_END);
            list = list.nested(ITEM, &end);
        }
        list
    }
}

/// How long an element stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// This long from now.
    For(Duration),
    /// For ever.
    ForEver {
        /// The set has a default timeout.
        has_default: bool,
    },
}

impl Time {
    fn as_written(self) -> Option<Duration> {
        match self {
            Time::For(time) => Some(time.min(VERY_LONG)),
            // Only new kernels take 0 for "for ever".
            Time::ForEver { has_default } => has_default.then_some(VERY_LONG),
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(address) => address.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// An operation on an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Add it; refused if it is present already.
    Add,
    /// Add it; if it is present already, old kernels do nothing and new ones set its timeout.
    AddOrKeep,
    /// Set its timeout, whether it is present or not, on every kernel. No packet sees it missing: all three
    /// messages are in one transaction.
    Renew,
    /// Remove it.
    Delete,
}

/// Adds an operation on an element to a batch; returns the sequence numbers of its messages.
pub fn push(
    batch: &mut Batch,
    set: &SetName,
    element: &Element,
    operation: Operation,
    time: Option<Time>,
) -> std::ops::RangeInclusive<u32> {
    let with = list(set, &element.attributes(time));
    let mut add = |kind, flags, attributes| batch.add(kind, flags, set.family, attributes);
    match operation {
        Operation::Add => {
            let sequence = add(Kind::NewSetElem, NLM_F_CREATE | NLM_F_EXCL, &with);
            sequence..=sequence
        }
        Operation::AddOrKeep => {
            let sequence = add(Kind::NewSetElem, NLM_F_CREATE, &with);
            sequence..=sequence
        }
        Operation::Delete => {
            let sequence = add(Kind::DelSetElem, 0, &with);
            sequence..=sequence
        }
        Operation::Renew => {
            let without = list(set, &element.attributes(None));
            let first = add(Kind::NewSetElem, NLM_F_CREATE, &with);
            add(Kind::DelSetElem, 0, &without);
            first..=add(Kind::NewSetElem, NLM_F_CREATE, &with)
        }
    }
}

/// Adds many elements of one set, which is new, to a batch.
pub fn push_all<'a>(
    batch: &mut Batch,
    set: &SetName,
    elements: impl IntoIterator<Item = (&'a Element, Option<Time>)>,
) {
    let mut elements = elements.into_iter().peekable();
    while elements.peek().is_some() {
        let some = elements.by_ref().take(IN_A_MESSAGE);
        let joined = some.fold(Vec::new(), |mut bytes, (element, time)| {
            bytes.extend_from_slice(element.attributes(time).as_bytes());
            bytes
        });
        batch.add(Kind::NewSetElem, NLM_F_CREATE, set.family, &list_of_bytes(set, &joined));
    }
}

fn list(set: &SetName, items: &Attributes) -> Attributes {
    Attributes::new().text(LIST_TABLE, &set.table).text(LIST_SET, &set.set).nested(LIST_ELEMENTS, items)
}

fn list_of_bytes(set: &SetName, items: &[u8]) -> Attributes {
    list(set, &Attributes::from(items))
}

/// Asks for one element.
#[must_use]
pub fn question(set: &SetName, element: &Element, sequence: u32) -> Vec<u8> {
    message(Kind::GetSetElem, 0, set.family, sequence, &list(set, &element.attributes(None)))
}

/// Asks for all elements of a set.
#[must_use]
pub fn all_question(set: &SetName, sequence: u32) -> Vec<u8> {
    let attributes = Attributes::new().text(LIST_TABLE, &set.table).text(LIST_SET, &set.set);
    message(Kind::GetSetElem, NLM_F_DUMP, set.family, sequence, &attributes)
}

/// An element that is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its key.
    pub key: Key,
    /// The rest of its timeout; `None` is for ever.
    pub left: Option<Duration>,
}

/// Reads the attributes of one answer to [`question`] or [`all_question`].
#[must_use]
pub fn found(attributes: &[u8]) -> Vec<Found> {
    let elements = answer::find(attributes, LIST_ELEMENTS).unwrap_or_default();
    let items = answer::attributes(elements).filter(|(kind, _)| *kind == ITEM);
    items
        .filter_map(|(_, item)| {
            let value = answer::find(answer::find(item, KEY)?, VALUE)?;
            let is_end = answer::number(item, FLAGS).unwrap_or_default() & INTERVAL_END != 0;
            let key = (value.len() <= MAX_KEY && !is_end).then(|| Key::of(&[value]))?;
            let timeout = answer::long(item, TIMEOUT).filter(|time| *time > 0);
            let left = timeout.map(|timeout| answer::long(item, EXPIRATION).unwrap_or(timeout));
            Some(Found { key, left: left.map(Duration::from_millis) })
        })
        .collect()
}

/// Whether this question is answered by any number of messages and an end.
#[must_use]
pub fn is_dump(question: &[u8]) -> bool {
    NetlinkBuffer::new_checked(question).is_ok_and(|message| message.flags() & NLM_F_DUMP == NLM_F_DUMP)
}

/// An element that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The table of its set; the family is that of the message.
    pub table: String,
    /// The set.
    pub set: String,
    /// Its key.
    pub key: Key,
}

/// Reads the attributes of a notification about elements.
#[must_use]
pub fn removed(attributes: &[u8]) -> Vec<Removed> {
    let names = answer::text(attributes, LIST_TABLE).zip(answer::text(attributes, LIST_SET));
    let Some((table, set)) = names else { return Vec::new() };
    let all = found(attributes).into_iter();
    all.map(|found| Removed { table: table.clone(), set: set.clone(), key: found.key }).collect()
}
