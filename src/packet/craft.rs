//! Builds IP packets from values: TCP segments with any flags, UDP datagrams and echo requests, over
//! IPv4 and IPv6.
//!
//! The counterpart of [`packet::parse`](crate::packet::parse). Lengths and checksums are correct unless
//! a bad checksum is requested. [`packet_template`](crate::plan::packet_template) has the
//! usual values. Nothing here fragments.

use std::fmt;
use std::net::IpAddr;

use crate::door::knock::{Flags, Protocol};
use crate::packet::checksum::checksum;
use crate::packet::{IPV4_HEADER, IPV6_HEADER};

/// Length of a UDP header in bytes (RFC 768).
pub const UDP_HEADER: usize = 8;
/// Length of a TCP header without options in bytes (RFC 9293, 3.1).
pub const TCP_HEADER: usize = 20;

/// One packet, field by field. Numbers are in host byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address; of the same family as the source.
    pub destination: IpAddr,
    /// Type of service (RFC 791), traffic class (RFC 8200): DSCP and ECN (RFC 2474, RFC 3168).
    pub tos: u8,
    /// Time to live, hop limit.
    pub ttl: u8,
    /// Identification; IPv4 only.
    pub id: u16,
    /// The don't-fragment bit; IPv4 only, as routers never fragment IPv6.
    pub dont_fragment: bool,
    /// Flow label (RFC 6437), 20 bits; IPv6 only.
    pub flow_label: u32,
    /// Source port; the identifier of an echo request.
    pub source_port: u16,
    /// Destination port; the sequence number of an echo request.
    pub port: u16,
    /// What follows the IP header.
    pub segment: Segment,
    /// What follows the transport header.
    pub data: Vec<u8>,
    /// Whether the segment gets a wrong checksum.
    pub bad_checksum: bool,
}

/// The part of a packet that the protocols do not share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// A TCP segment.
    Tcp(Tcp),
    /// A UDP datagram.
    Udp,
    /// An ICMP echo request.
    Echo,
}

/// The fields of a TCP header (RFC 9293, 3.1), without the ports. Numbers are in host byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number; sent as it is, whether or not the ACK flag is set.
    pub acknowledgment: u32,
    /// The control bits.
    pub flags: Flags,
    /// Window, in bytes, not scaled.
    pub window: u16,
    /// Urgent pointer; sent as it is, whether or not the URG flag is set.
    pub urgent: u16,
    /// The options.
    pub options: Options,
}

/// The TCP options of a SYN, written in the order of Linux.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size in bytes (RFC 9293, 3.7.1).
    pub mss: Option<u16>,
    /// Selective acknowledgment permitted (RFC 2018).
    pub sack: bool,
    /// Timestamp value; the echo is 0 (RFC 7323).
    pub timestamp: Option<u32>,
    /// Window scale, as a power of two (RFC 7323).
    pub window_scale: Option<u8>,
}

impl Options {
    /// The options as in a TCP header, padded to a multiple of four bytes.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20);
        if let Some(mss) = self.mss {
            bytes.extend([2, 4]);
            bytes.extend(mss.to_be_bytes());
        }
        // Padded as by Linux: SACK and the timestamp fill twelve bytes together.
        match (self.sack, self.timestamp) {
            (true, Some(_)) => bytes.extend([4, 2, 8, 10]),
            (false, Some(_)) => bytes.extend([1, 1, 8, 10]),
            (true, None) => bytes.extend([1, 1, 4, 2]),
            (false, None) => {}
        }
        if let Some(value) = self.timestamp {
            bytes.extend(value.to_be_bytes());
            bytes.extend([0; 4]);
        }
        if let Some(shift) = self.window_scale {
            bytes.extend([1, 3, 3, shift]);
        }
        bytes
    }
}

/// Why a packet cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CraftError {
    /// It has this many bytes, too many for the length field of IP.
    TooLong(usize),
    /// One address is IPv4, the other is IPv6.
    MixedFamilies,
}

impl fmt::Display for CraftError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CraftError::TooLong(length) => write!(f, "a packet of {length} bytes is too long for IP"),
            CraftError::MixedFamilies => f.write_str("source and destination are not of one address family"),
        }
    }
}

impl std::error::Error for CraftError {}

impl Packet {
    /// TCP, UDP or ICMP.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self.segment {
            Segment::Tcp(_) => Protocol::Tcp,
            Segment::Udp => Protocol::Udp,
            Segment::Echo => Protocol::Icmp,
        }
    }

    /// The packet in network byte order, from the first byte of its IP header.
    ///
    /// # Errors
    /// See [`CraftError`].
    pub fn build(&self) -> Result<Vec<u8>, CraftError> {
        let mut segment = self.segment()?;
        let pseudo = self.pseudo_header(segment.len())?;
        // ICMP over IPv4 has no pseudo-header (RFC 792).
        let covered =
            if self.protocol() == Protocol::Icmp && self.source.is_ipv4() { &[][..] } else { &pseudo };
        let sum = checksum(&[covered, &segment]);
        let at = match self.segment {
            Segment::Tcp(_) => 16,
            Segment::Udp => 6,
            Segment::Echo => 2,
        };
        if let Some(field) = segment.get_mut(at..at + 2) {
            field.copy_from_slice(&self.sent_checksum(sum).to_be_bytes());
        }
        let mut bytes = self.ip_header(segment.len())?;
        bytes.append(&mut segment);
        Ok(bytes)
    }

    /// The transport header with a checksum of zero, and the data.
    fn segment(&self) -> Result<Vec<u8>, CraftError> {
        let mut bytes = Vec::with_capacity(TCP_HEADER + 20 + self.data.len());
        if matches!(self.segment, Segment::Echo) {
            bytes.extend([Protocol::echo_request(self.source.is_ipv4()), 0, 0, 0]);
        }
        bytes.extend(self.source_port.to_be_bytes());
        bytes.extend(self.port.to_be_bytes());
        match &self.segment {
            Segment::Tcp(tcp) => {
                let options = tcp.options.bytes();
                let words = u8::try_from((TCP_HEADER + options.len()) / 4).unwrap_or(15);
                bytes.extend(tcp.sequence.to_be_bytes());
                bytes.extend(tcp.acknowledgment.to_be_bytes());
                bytes.extend([words << 4, tcp.flags.0]);
                bytes.extend(tcp.window.to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(tcp.urgent.to_be_bytes());
                bytes.extend(options);
            }
            Segment::Udp => {
                bytes.extend(length(UDP_HEADER + self.data.len())?.to_be_bytes());
                bytes.extend([0, 0]);
            }
            Segment::Echo => {}
        }
        bytes.extend(&self.data);
        Ok(bytes)
    }

    /// The pseudo-header that the checksum covers too (RFC 9293, 3.1; RFC 8200, 8.1).
    fn pseudo_header(&self, segment: usize) -> Result<Vec<u8>, CraftError> {
        let mut bytes = Vec::with_capacity(40);
        let protocol = self.protocol().number(self.source.is_ipv4());
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend([0, protocol]);
                bytes.extend(length(segment)?.to_be_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend([0, 0]);
                bytes.extend(length(segment)?.to_be_bytes());
                bytes.extend([0, 0, 0, protocol]);
            }
            _ => return Err(CraftError::MixedFamilies),
        }
        Ok(bytes)
    }

    /// The header before a segment of this many bytes (RFC 791, 3.1; RFC 8200, 3).
    fn ip_header(&self, segment: usize) -> Result<Vec<u8>, CraftError> {
        let mut bytes = Vec::with_capacity(IPV6_HEADER + segment);
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes.extend([0x45, self.tos]);
                bytes.extend(length(IPV4_HEADER + segment)?.to_be_bytes());
                bytes.extend(self.id.to_be_bytes());
                bytes.extend([if self.dont_fragment { 0x40 } else { 0 }, 0]);
                bytes.extend([self.ttl, self.protocol().number(true), 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                let sum = checksum(&[&bytes]);
                if let Some(field) = bytes.get_mut(10..12) {
                    field.copy_from_slice(&sum.to_be_bytes());
                }
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let first = 6 << 28 | u32::from(self.tos) << 20 | self.flow_label & 0xf_ffff;
                bytes.extend(first.to_be_bytes());
                bytes.extend(length(segment)?.to_be_bytes());
                bytes.extend([self.protocol().number(false), self.ttl]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
            }
            _ => return Err(CraftError::MixedFamilies),
        }
        Ok(bytes)
    }

    /// The checksum to send, given the correct one.
    fn sent_checksum(&self, correct: u16) -> u16 {
        // A UDP checksum of 0 means "none" (RFC 768), which IPv6 forbids.
        let correct = if matches!(self.segment, Segment::Udp) && correct == 0 { 0xffff } else { correct };
        if !self.bad_checksum {
            return correct;
        }
        match correct ^ 0x0100 {
            0 => 0x0200,
            wrong => wrong,
        }
    }
}

fn length(bytes: usize) -> Result<u16, CraftError> {
    u16::try_from(bytes).map_err(|_| CraftError::TooLong(bytes))
}
