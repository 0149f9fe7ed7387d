//! Requests to nftables as bytes: attributes, and batches of messages (linux/netfilter/nfnetlink.h).
//!
//! A batch is one transaction: the kernel does all of it, or nothing. Headers of messages and of attributes
//! are in host byte order; values of attributes are big-endian unless noted otherwise.

use netlink_packet_core::{NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_REQUEST, NetlinkBuffer, NlaBuffer};

use crate::door::open::Family;

/// Bytes of `struct nlmsghdr`.
pub const HEADER: usize = 16;
/// Bytes of `struct nfgenmsg` after it: family, version, resource (big-endian).
pub const NETFILTER_HEADER: usize = 4;
/// `NFNL_SUBSYS_NFTABLES`: the upper byte of a message's type, and the resource of a batch.
pub const NFTABLES: u16 = 10;

/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// The type of a message (`NFT_MSG_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    NewTable = 0,
    GetTable = 1,
    DelTable = 2,
    NewChain = 3,
    NewRule = 6,
    NewSet = 9,
    GetSet = 10,
    NewSetElem = 12,
    GetSetElem = 13,
    DelSetElem = 14,
    NewGen = 15,
}

impl Kind {
    /// The type in the header of a message.
    #[must_use]
    pub const fn number(self) -> u16 {
        NFTABLES << 8 | self as u16
    }
}

/// A list of attributes under construction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// An empty list.
    #[must_use]
    pub fn new() -> Attributes {
        Attributes::default()
    }

    /// The attributes as they go into a message.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends an attribute with this value.
    #[must_use]
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Attributes {
        let start = self.open();
        self.0.extend_from_slice(value);
        self.close(start, kind, false);
        self
    }

    /// Appends a name, with its terminating 0.
    #[must_use]
    pub fn text(mut self, kind: u16, text: &str) -> Attributes {
        let start = self.open();
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        self.close(start, kind, false);
        self
    }

    /// Appends a 32-bit number.
    #[must_use]
    pub fn number(self, kind: u16, number: u32) -> Attributes {
        self.bytes(kind, &number.to_be_bytes())
    }

    /// Appends a 64-bit number.
    #[must_use]
    pub fn long(self, kind: u16, number: u64) -> Attributes {
        self.bytes(kind, &number.to_be_bytes())
    }

    /// Appends an attribute that contains attributes.
    #[must_use]
    pub fn nested(mut self, kind: u16, inner: &Attributes) -> Attributes {
        let start = self.open();
        self.0.extend_from_slice(&inner.0);
        self.close(start, kind, true);
        self
    }

    fn open(&mut self) -> usize {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; NLA_HEADER_SIZE]);
        start
    }

    fn close(&mut self, start: usize, kind: u16, is_nested: bool) {
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        if let Some(head) = self.0.get_mut(start..) {
            let mut head = NlaBuffer::new(head);
            head.set_kind(kind);
            head.set_length(length);
            if is_nested {
                head.set_nested_flag();
            }
        }
    }
}

impl From<&[u8]> for Attributes {
    /// Attributes that are already encoded.
    fn from(bytes: &[u8]) -> Attributes {
        Attributes(bytes.to_vec())
    }
}

/// A message outside a batch, such as a question.
#[must_use]
pub fn message(kind: Kind, flags: u16, family: Family, sequence: u32, attributes: &Attributes) -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes, (kind.number(), NLM_F_REQUEST | flags, sequence), (family as u8, 0), attributes);
    bytes
}

/// Fills in the header of a request to a subsystem of the kernel other than nftables. `bytes` must begin with
/// room for the header.
#[must_use]
pub(super) fn request(mut bytes: Vec<u8>, kind: u16, flags: u16, sequence: u32) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut head = NetlinkBuffer::new(&mut bytes);
    head.set_length(length);
    head.set_message_type(kind);
    head.set_flags(NLM_F_REQUEST | flags);
    head.set_sequence_number(sequence);
    bytes
}

fn push(
    bytes: &mut Vec<u8>,
    (kind, flags, sequence): (u16, u16, u32),
    (family, resource): (u8, u16),
    attributes: &Attributes,
) {
    let start = bytes.len();
    let [high, low] = resource.to_be_bytes();
    bytes.extend_from_slice(&[0; HEADER]);
    bytes.extend_from_slice(&[family, 0, high, low]);
    bytes.extend_from_slice(attributes.as_bytes());
    let length = bytes.len() - start;
    if let Some(head) = bytes.get_mut(start..) {
        let mut head = NetlinkBuffer::new(head);
        head.set_length(u32::try_from(length).unwrap_or(u32::MAX));
        head.set_message_type(kind);
        head.set_flags(flags);
        head.set_sequence_number(sequence);
    }
}

/// A transaction under construction.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    first: u32,
    next: u32,
    /// The offset of the last message that was added.
    last: Option<usize>,
}

impl Batch {
    /// An empty batch, whose messages are numbered from `first` on.
    #[must_use]
    pub fn new(first: u32) -> Batch {
        let mut bytes = Vec::new();
        push(&mut bytes, (BATCH_BEGIN, NLM_F_REQUEST, first), (0, NFTABLES), &Attributes::new());
        Batch { bytes, first, next: first.wrapping_add(1), last: None }
    }

    /// Adds a message. Returns its sequence number, by which the kernel refers to it in a refusal.
    pub fn add(&mut self, kind: Kind, flags: u16, family: Family, attributes: &Attributes) -> u32 {
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        self.last = Some(self.bytes.len());
        push(
            &mut self.bytes,
            (kind.number(), NLM_F_REQUEST | flags, sequence),
            (family as u8, 0),
            attributes,
        );
        sequence
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// The sequence number of the batch itself: a refusal with this number means the whole batch.
    #[must_use]
    pub fn first(&self) -> u32 {
        self.first
    }

    /// The bytes to send at once, and the sequence number of the last message. The kernel always answers that
    /// message, even if the batch fails, and after all refusals.
    #[must_use]
    pub fn finish(mut self) -> (Vec<u8>, u32) {
        if let Some(head) = self.last.and_then(|start| self.bytes.get_mut(start..)) {
            let mut head = NetlinkBuffer::new(head);
            let flags = head.flags();
            head.set_flags(flags | NLM_F_ACK);
        }
        let last = self.next.wrapping_sub(1);
        push(&mut self.bytes, (BATCH_END, NLM_F_REQUEST, self.next), (0, NFTABLES), &Attributes::new());
        (self.bytes, last)
    }
}
