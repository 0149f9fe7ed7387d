//! Parses an IP packet into a [`Knock`].
//!
//! The input is what a cooked packet socket delivers: a packet that begins with its IP header and may
//! be truncated. No input makes this panic: every access is checked. A packet that is neither a TCP or
//! UDP port pair nor an echo request is `None`, without a reason, because no caller acts on the reason.
//!
//! Accepts what knockd 0.8 accepted: first fragments only, IPv4 options skipped, IPv6 without
//! extension headers; and echo requests that are not fragmented, because a fragment does not tell the
//! length of the whole; TTL and payload do not matter.
//!
//! Packets that no host accepts are `None` too: those from an [impossible source](is_possible_source), with a
//! wrong IPv4 header checksum, a source route, a length of 0, a TCP header of less than 20 bytes, or a UDP
//! length below 8 or beyond the end of the packet. The filter rejects what depends on the link: frames for
//! other stations, our own addresses as a source, packets shorter than they claim. Checksums of segments are
//! not checked: network cards compute them after (sending) or before (receiving) we see the packet, merged
//! segments have none, and anyone who can send packets can compute them.

pub mod checksum;
pub mod craft;
pub mod describe;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::door::knock::{Flags, Knock, Protocol};

/// Length of an IPv6 header in bytes (RFC 8200, 3).
pub const IPV6_HEADER: usize = 40;
/// Length of an IPv4 header without options in bytes (RFC 791, 3.1).
pub const IPV4_HEADER: usize = 20;

/// Byte of the TCP header whose upper half is the header's length in words (RFC 9293, 3.1).
const TCP_DATA_OFFSET: usize = 12;
/// The length of a TCP header without options in words.
const MIN_TCP_WORDS: u8 = 5;
/// Byte of the TCP header that holds the flags (RFC 9293, 3.1).
const TCP_FLAGS: usize = 13;

/// Byte of the UDP header that holds the length of header and payload (RFC 768).
const UDP_LENGTH: usize = 4;
/// Length of a UDP header in bytes.
const UDP_HEADER: u16 = 8;

/// Reads the big-endian 16-bit word at `at`.
fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

/// Bytes of an echo request before its data (RFC 792, RFC 4443, 4.1).
pub const ECHO_HEADER: usize = 8;

/// Parses one IP packet. `None` unless it holds a whole TCP or UDP port pair, or an echo request.
#[must_use]
#[cfg_attr(has_optimize_attribute, optimize(speed))]
pub fn parse(ip: &[u8]) -> Option<Knock> {
    match ip.first()? >> 4 {
        4 => parse_v4(ip),
        6 => parse_v6(ip),
        _ => None,
    }
}

/// Whether a host could have sent a packet from this address. False for 0.0.0.0/8 and ::, multicast and
/// broadcast addresses, and IPv4 addresses mapped to IPv6 (`::ffff:0:0/96`), which would evade an IPv4
/// `Deny`.
///
/// The kernel drops packets from these sources too. Its martians also include the broadcast addresses of
/// networks, which cannot be recognised here without their masks; but a door that is open for such an address
/// is open for nobody.
#[must_use]
pub fn is_possible_source(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.octets().first() != Some(&0) && !address.is_multicast() && !address.is_broadcast()
        }
        IpAddr::V6(address) => {
            !address.is_unspecified() && !address.is_multicast() && address.to_ipv4_mapped().is_none()
        }
    }
}

/// Whether IPv4 options have a source route (RFC 791, 3.1): hosts drop such packets unless they are
/// configured not to (`accept_source_route`).
fn has_source_route(mut options: &[u8]) -> bool {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const LOOSE_ROUTE: u8 = 131;
    const STRICT_ROUTE: u8 = 137;
    while let [kind, rest @ ..] = options {
        options = match *kind {
            END => return false,
            NOTHING => rest,
            LOOSE_ROUTE | STRICT_ROUTE => return true,
            _ => match rest.first().and_then(|&length| options.get(usize::from(length.max(2))..)) {
                Some(after) => after,
                None => return false,
            },
        };
    }
    false
}

/// The payload of a UDP datagram; `None` unless the packet holds it whole and is not a fragment.
#[must_use]
#[cfg_attr(has_optimize_attribute, optimize(speed))]
pub fn payload(ip: &[u8]) -> Option<&[u8]> {
    let (header, end, protocol) = match ip.first()? >> 4 {
        // Neither more fragments nor a fragment offset.
        4 if read_u16(ip, 6)? << 2 == 0 => {
            let header = usize::from(ip.first()? & 0x0f) * 4;
            (header, usize::from(read_u16(ip, 2)?), *ip.get(9)?)
        }
        6 => (IPV6_HEADER, IPV6_HEADER + usize::from(read_u16(ip, 4)?), *ip.get(6)?),
        _ => return None,
    };
    let datagram = ip.get(header..end).filter(|_| protocol == Protocol::Udp.number(true))?;
    datagram.get(usize::from(UDP_HEADER)..usize::from(read_u16(datagram, UDP_LENGTH)?))
}

fn parse_v4(ip: &[u8]) -> Option<Knock> {
    let header = usize::from(ip.first()? & 0x0f) * 4;
    if header < IPV4_HEADER {
        return None;
    }
    let header_bytes = ip.get(..header)?;
    // Over a header with the correct checksum, the checksum is 0.
    if checksum::checksum(&[header_bytes]) != 0 || has_source_route(header_bytes.get(IPV4_HEADER..)?) {
        return None;
    }
    let total = usize::from(read_u16(ip, 2)?);
    let fragment = read_u16(ip, 6)?;
    let (fragment_offset, more_fragments) = (fragment & 0x1fff, fragment & 0x2000 != 0);
    if fragment_offset != 0 {
        return None;
    }
    let protocol = known_protocol(*ip.get(9)?, true)?;
    let source: [u8; 4] = *ip.get(12..)?.first_chunk()?;
    let destination: [u8; 4] = *ip.get(16..)?.first_chunk()?;
    let (source, destination) = (Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into());
    // Bytes beyond the packet's length are padding of the link. A length of 0, which Linux gives packets of
    // more than 65,535 bytes that it merged itself, is not a knock either: those belong to connections.
    let bytes = ip.get(header..total.min(ip.len()))?;
    let whole = total.checked_sub(header)?;
    if protocol == Protocol::Icmp {
        return parse_echo_request(
            bytes,
            Some(whole).filter(|_| !more_fragments)?,
            source,
            destination,
            total,
        );
    }
    parse_segment(bytes, protocol, source, destination, total)
        // A first fragment is shorter than the datagram claims.
        .filter(|knock| more_fragments || has_valid_udp_length(knock, bytes, whole))
}

fn parse_v6(ip: &[u8]) -> Option<Knock> {
    let payload = usize::from(read_u16(ip, 4)?);
    let protocol = known_protocol(*ip.get(6)?, false)?;
    let source: [u8; 16] = *ip.get(8..)?.first_chunk()?;
    let destination: [u8; 16] = *ip.get(24..)?.first_chunk()?;
    let length = IPV6_HEADER + payload;
    let (source, destination) = (Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into());
    let bytes = ip.get(IPV6_HEADER..length.min(ip.len()))?;
    if protocol == Protocol::Icmp {
        return parse_echo_request(bytes, payload, source, destination, length);
    }
    parse_segment(bytes, protocol, source, destination, length)
        .filter(|knock| has_valid_udp_length(knock, bytes, payload))
}

/// Whether the length in a UDP header is that of a datagram within `whole` bytes; true for other
/// protocols, and where the length is cut off.
fn has_valid_udp_length(knock: &Knock, bytes: &[u8], whole: usize) -> bool {
    let claimed = read_u16(bytes, UDP_LENGTH).filter(|_| knock.protocol == Protocol::Udp);
    claimed.is_none_or(|claimed| claimed >= UDP_HEADER && usize::from(claimed) <= whole)
}

fn known_protocol(number: u8, is_v4: bool) -> Option<Protocol> {
    let all = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];
    all.into_iter().find(|protocol| protocol.number(is_v4) == number)
}

/// An echo request that is `whole` bytes long according to the IP header.
fn parse_echo_request(
    bytes: &[u8],
    whole: usize,
    source: IpAddr,
    destination: IpAddr,
    length: usize,
) -> Option<Knock> {
    if !is_possible_source(source) {
        return None;
    }
    let is_request = bytes.starts_with(&[Protocol::echo_request(source.is_ipv4()), 0]);
    let data = whole.checked_sub(ECHO_HEADER).filter(|_| is_request)?;
    Some(Knock {
        source,
        source_port: 0,
        destination,
        protocol: Protocol::Icmp,
        port: u16::try_from(data).ok()?,
        flags: None,
        udp_length: None,
        length: u32::try_from(length).unwrap_or(u32::MAX),
    })
}

fn parse_segment(
    bytes: &[u8],
    protocol: Protocol,
    source: IpAddr,
    destination: IpAddr,
    length: usize,
) -> Option<Knock> {
    let is_cut_short = || bytes.get(TCP_DATA_OFFSET).is_some_and(|byte| byte >> 4 < MIN_TCP_WORDS);
    if !is_possible_source(source) || (protocol == Protocol::Tcp && is_cut_short()) {
        return None;
    }
    let flags = match protocol {
        Protocol::Tcp => bytes.get(TCP_FLAGS).copied().map(Flags),
        Protocol::Udp | Protocol::Icmp => None,
    };
    let udp_length = match protocol {
        Protocol::Tcp | Protocol::Icmp => None,
        Protocol::Udp => read_u16(bytes, UDP_LENGTH).and_then(|length| length.checked_sub(UDP_HEADER)),
    };
    Some(Knock {
        source,
        source_port: read_u16(bytes, 0)?,
        destination,
        protocol,
        port: read_u16(bytes, 2)?,
        flags,
        udp_length,
        length: u32::try_from(length).unwrap_or(u32::MAX),
    })
}
