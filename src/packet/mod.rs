//! Parses an IP packet into a [`Knock`].
//!
//! The input is what a cooked packet socket delivers: a packet that begins with its IP header and may
//! be truncated. No input makes this panic: every access is checked. A packet that is neither a TCP or
//! UDP port pair nor an echo request is `None`, without a reason, because no caller acts on the reason.
//!
//! Accepts what knockd 0.8 accepted: first fragments only, IPv4 options skipped, IPv6 without
//! extension headers; and echo requests that are not fragmented, because a fragment does not tell the
//! length of the whole; checksums, TTL and payload do not matter.

pub mod craft;
pub mod describe;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::door::knock::{Flags, Knock, Protocol};

/// Length of an IPv6 header in bytes (RFC 8200, 3).
pub const IPV6_HEADER: usize = 40;
/// Length of an IPv4 header without options in bytes (RFC 791, 3.1).
pub const IPV4_HEADER: usize = 20;

/// Byte of the TCP header that holds the flags (RFC 9293, 3.1).
const TCP_FLAGS: usize = 13;

/// Byte of the UDP header that holds the length of header and payload (RFC 768).
const UDP_LENGTH: usize = 4;
/// Length of a UDP header in bytes.
const UDP_HEADER: u16 = 8;

/// Reads the big-endian 16-bit word at `at`.
fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

/// Bytes of an echo request before its data (RFC 792, RFC 4443, 4.1).
pub const ECHO_HEADER: usize = 8;

/// Parses one IP packet. `None` unless it holds a whole TCP or UDP port pair, or an echo request.
#[must_use]
pub fn parse(ip: &[u8]) -> Option<Knock> {
    match ip.first()? >> 4 {
        4 => parse_v4(ip),
        6 => parse_v6(ip),
        _ => None,
    }
}

fn parse_v4(ip: &[u8]) -> Option<Knock> {
    let header = usize::from(ip.first()? & 0x0f) * 4;
    if header < IPV4_HEADER {
        return None;
    }
    let total = usize::from(word(ip, 2)?);
    let fragment = word(ip, 6)?;
    let (fragment_offset, more_fragments) = (fragment & 0x1fff, fragment & 0x2000 != 0);
    if fragment_offset != 0 {
        return None;
    }
    let protocol = protocol(*ip.get(9)?, true)?;
    let source: [u8; 4] = *ip.get(12..)?.first_chunk()?;
    let destination: [u8; 4] = *ip.get(16..)?.first_chunk()?;
    // Bytes beyond the packet's length are padding of the link. Linux sets the length to 0 in packets
    // of more than 65,535 bytes that it merged itself.
    let end = if total == 0 { ip.len() } else { total.min(ip.len()) };
    let length = if total == 0 { ip.len() } else { total };
    let (source, destination) = (Ipv4Addr::from(source).into(), Ipv4Addr::from(destination).into());
    let bytes = ip.get(header..end)?;
    if protocol == Protocol::Icmp {
        let whole = total.checked_sub(header).filter(|_| !more_fragments)?;
        return echo_request(bytes, whole, source, destination, length);
    }
    segment(bytes, protocol, source, destination, length)
}

fn parse_v6(ip: &[u8]) -> Option<Knock> {
    let payload = usize::from(word(ip, 4)?);
    let protocol = protocol(*ip.get(6)?, false)?;
    let source: [u8; 16] = *ip.get(8..)?.first_chunk()?;
    let destination: [u8; 16] = *ip.get(24..)?.first_chunk()?;
    let end = if payload == 0 { ip.len() } else { (IPV6_HEADER + payload).min(ip.len()) };
    let length = if payload == 0 { ip.len() } else { IPV6_HEADER + payload };
    let (source, destination) = (Ipv6Addr::from(source).into(), Ipv6Addr::from(destination).into());
    let bytes = ip.get(IPV6_HEADER..end)?;
    if protocol == Protocol::Icmp {
        return echo_request(bytes, payload, source, destination, length);
    }
    segment(bytes, protocol, source, destination, length)
}

fn protocol(number: u8, is_v4: bool) -> Option<Protocol> {
    let all = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];
    all.into_iter().find(|protocol| protocol.number(is_v4) == number)
}

/// An echo request that is `whole` bytes long according to the IP header.
fn echo_request(
    bytes: &[u8],
    whole: usize,
    source: IpAddr,
    destination: IpAddr,
    length: usize,
) -> Option<Knock> {
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

fn segment(
    bytes: &[u8],
    protocol: Protocol,
    source: IpAddr,
    destination: IpAddr,
    length: usize,
) -> Option<Knock> {
    let flags = match protocol {
        Protocol::Tcp => bytes.get(TCP_FLAGS).copied().map(Flags),
        Protocol::Udp | Protocol::Icmp => None,
    };
    let udp_length = match protocol {
        Protocol::Tcp | Protocol::Icmp => None,
        Protocol::Udp => word(bytes, UDP_LENGTH).and_then(|length| length.checked_sub(UDP_HEADER)),
    };
    Some(Knock {
        source,
        source_port: word(bytes, 0)?,
        destination,
        protocol,
        port: word(bytes, 2)?,
        flags,
        udp_length,
        length: u32::try_from(length).unwrap_or(u32::MAX),
    })
}
