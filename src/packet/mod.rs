//! Parses an IP packet into a [`Knock`].
//!
//! The input is what a cooked packet socket delivers: a packet that begins with its IP header and may
//! be truncated. No input makes this panic: every access is checked. A packet without a TCP or UDP
//! port pair is `None`, without a reason, because no caller acts on the reason.
//!
//! Accepts what knockd 0.8 accepted: first fragments only, IPv4 options skipped, IPv6 without
//! extension headers; checksums, TTL and payload do not matter.

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

/// Parses one IP packet. `None` unless it holds a whole TCP or UDP port pair.
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
    let fragment_offset = word(ip, 6)? & 0x1fff;
    if fragment_offset != 0 {
        return None;
    }
    let protocol = protocol(*ip.get(9)?)?;
    let source: [u8; 4] = *ip.get(12..)?.first_chunk()?;
    let destination: [u8; 4] = *ip.get(16..)?.first_chunk()?;
    // Bytes beyond the packet's length are padding of the link. Linux sets the length to 0 in packets
    // of more than 65,535 bytes that it merged itself.
    let end = if total == 0 { ip.len() } else { total.min(ip.len()) };
    let length = if total == 0 { ip.len() } else { total };
    segment(
        ip.get(header..end)?,
        protocol,
        IpAddr::V4(Ipv4Addr::from(source)),
        IpAddr::V4(Ipv4Addr::from(destination)),
        length,
    )
}

fn parse_v6(ip: &[u8]) -> Option<Knock> {
    let payload = usize::from(word(ip, 4)?);
    let protocol = protocol(*ip.get(6)?)?;
    let source: [u8; 16] = *ip.get(8..)?.first_chunk()?;
    let destination: [u8; 16] = *ip.get(24..)?.first_chunk()?;
    let end = if payload == 0 { ip.len() } else { (IPV6_HEADER + payload).min(ip.len()) };
    let length = if payload == 0 { ip.len() } else { IPV6_HEADER + payload };
    segment(
        ip.get(IPV6_HEADER..end)?,
        protocol,
        IpAddr::V6(Ipv6Addr::from(source)),
        IpAddr::V6(Ipv6Addr::from(destination)),
        length,
    )
}

fn protocol(number: u8) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| protocol.number() == number)
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
        Protocol::Udp => None,
    };
    let udp_length = match protocol {
        Protocol::Tcp => None,
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
