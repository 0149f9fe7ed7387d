//! Parses the answers of nftables.

use netlink_packet_core::{
    NLA_HEADER_SIZE, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlasIterator, parse_i32, parse_u32_be,
    parse_u64_be,
};

use crate::firewall::message::NETFILTER_HEADER;

/// One message of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The request with this sequence number succeeded, or an answer in several parts is complete.
    Done {
        /// The sequence number of the request.
        sequence: u32,
    },
    /// The request was refused.
    Refused(Refused),
    /// An object that was asked for.
    Object {
        /// The sequence number of the request.
        sequence: u32,
        /// Its attributes.
        attributes: &'a [u8],
    },
}

/// A request that the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The sequence number of the request.
    pub sequence: u32,
    /// The error number (errno).
    pub errno: i32,
}

/// The answers in a datagram, without truncated messages.
pub fn answers(datagram: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let length = usize::try_from(message.length()).ok()?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(answer(&message))
    })
    .flatten()
}

fn answer<'a>(message: &NetlinkBuffer<&'a [u8]>) -> Option<Answer<'a>> {
    let sequence = message.sequence_number();
    Some(match message.message_type() {
        NLMSG_DONE => Answer::Done { sequence },
        NLMSG_ERROR => {
            let payload = message.payload();
            let code = parse_i32(payload.get(..4)?).ok()?;
            if code == 0 {
                return Some(Answer::Done { sequence });
            }
            let errno = code.saturating_neg();
            Answer::Refused(Refused { sequence, errno })
        }
        _ => Answer::Object { sequence, attributes: message.payload().get(NETFILTER_HEADER..)? },
    })
}

/// The attributes in these bytes, with their numbers.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let attributes = NlasIterator::new(bytes).map_while(Result::ok);
    attributes.filter_map(|attribute| {
        let length = usize::from(attribute.length());
        Some((attribute.kind(), attribute.into_inner().get(NLA_HEADER_SIZE..length)?))
    })
}

/// The value of the attribute with this number.
#[must_use]
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(number, _)| *number == kind).map(|(_, value)| value)
}

/// The value, a big-endian 32-bit number, of the attribute with this number.
#[must_use]
pub fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind).and_then(|value| parse_u32_be(value).ok())
}

/// The value, a big-endian 64-bit number, of the attribute with this number.
#[must_use]
pub fn long(bytes: &[u8], kind: u16) -> Option<u64> {
    find(bytes, kind).and_then(|value| parse_u64_be(value).ok())
}

/// The value, a string without its terminating 0, of the attribute with this number.
#[must_use]
pub fn text(bytes: &[u8], kind: u16) -> Option<String> {
    let value = find(bytes, kind)?;
    Some(String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned())
}
