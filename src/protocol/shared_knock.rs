//! The encoding of a shared knock.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | 1: a stage reached earlier; 2: the first of these; 4: the last; 8: the recipient wrote it to the log |
//! | 1 | 6 (TCP), 17 (UDP) or 1 (ICMP) |
//! | 2 | the destination port; of an echo request, the number of data bytes |
//! | 1 | the kind of the next field: 0 none, 1 TCP flags, 2 the payload bytes of a datagram |
//! | 2 | its value |
//! | 5 or 17 | the source address: 4 or 6, then its bytes |
//! | 5 or 17 | the destination address |
//!
//! Numbers are little-endian. The reader accepts more than one encoding of a value; the caller must encode
//! the result and compare.

use crate::door::knock::{Flags, Knock, Protocol};
use crate::engine::sharing::{Part, SharedKnock};
use crate::protocol::bytes::{self, Reader};

const BEFORE: u8 = 1;
const FIRST: u8 = 2;
const LAST: u8 = 4;
const OWN: u8 = 8;

/// Appends a shared knock.
pub(crate) fn write(out: &mut Vec<u8>, shared: &SharedKnock) {
    let knock = &shared.knock;
    let mut part = if shared.is_own { OWN } else { 0 };
    if let Part::Before { is_first, is_last } = shared.part {
        part |= BEFORE | if is_first { FIRST } else { 0 } | if is_last { LAST } else { 0 };
    }
    let (what, value) = match (knock.flags, knock.udp_length) {
        (Some(flags), _) => (1, flags.0.into()),
        (None, Some(length)) => (2, length),
        (None, None) => (0, 0),
    };
    out.extend([part, knock.protocol.number(knock.source.is_ipv4())]);
    out.extend(knock.port.to_le_bytes());
    out.push(what);
    out.extend(value.to_le_bytes());
    bytes::address(out, knock.source);
    bytes::address(out, knock.destination);
}

/// Reads a shared knock.
pub(crate) fn read(reader: &mut Reader<'_>) -> Option<SharedKnock> {
    let [bits, protocol] = reader.take()?;
    let port = u16::from_le_bytes(reader.take()?);
    let what = reader.byte()?;
    let value = u16::from_le_bytes(reader.take()?);
    let (source, destination) = (reader.canonical_address()?, reader.canonical_address()?);
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp]
        .into_iter()
        .find(|it| it.number(source.is_ipv4()) == protocol)?;
    let has = |bit: u8| bits & bit != 0;
    let knock = Knock {
        source,
        source_port: 0,
        destination,
        protocol,
        port,
        flags: if what == 1 { Some(Flags(u8::try_from(value).ok()?)) } else { None },
        udp_length: (what == 2).then_some(value),
        length: 0,
    };
    let before = Part::Before { is_first: has(FIRST), is_last: has(LAST) };
    Some(SharedKnock { knock, part: if has(BEFORE) { before } else { Part::Now }, is_own: has(OWN) })
}
