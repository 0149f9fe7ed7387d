//! The template of raw packets: the header fields that the user sets, and defaults for the rest.
//!
//! The defaults imitate a Linux host that opens a connection, so that firewalls and middleboxes treat a
//! crafted SYN like any other.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::door::knock::{Flags, Protocol};
use crate::door::sequence::Stage;
use crate::packet::craft::{Options, Packet, Segment, TCP_HEADER, Tcp};
use crate::packet::{IPV4_HEADER, IPV6_HEADER};
use crate::plan::ping;

/// The source ports of Linux' outgoing connections (`net.ipv4.ip_local_port_range`).
const EPHEMERAL_PORTS: RangeInclusive<u16> = 32768..=60999;
/// The source ports that need no privilege.
const UNPRIVILEGED_PORTS: RangeInclusive<u16> = 1024..=65535;
/// The payload of a UDP knock, unless another one is set.
pub const DEFAULT_UDP_PAYLOAD: &[u8] = &[0];

/// The source port of raw packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourcePort {
    /// A random one per packet, from the range that Linux uses.
    #[default]
    Ephemeral,
    /// A random one per packet, from 1024 on.
    Random,
    /// A fixed one.
    Fixed(u16),
}

/// The source of a packet's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PayloadSource {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The content of the file at this path.
    Path(String),
}

/// What raw packets have in common: their header fields and payload; `None` selects the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketTemplate {
    /// The TCP flags of stages without their own.
    pub flags: Flags,
    /// A spoofed source address, in place of the route's.
    pub source: Option<IpAddr>,
    /// Source port.
    pub source_port: SourcePort,
    /// Time to live, hop limit.
    pub ttl: u8,
    /// Type of service, traffic class.
    pub tos: u8,
    /// IPv4 identification.
    pub id: Option<u16>,
    /// The don't-fragment bit of IPv4.
    pub dont_fragment: bool,
    /// TCP sequence number.
    pub sequence: Option<u32>,
    /// TCP acknowledgment number.
    pub acknowledgment: u32,
    /// TCP window in bytes.
    pub window: Option<u16>,
    /// TCP urgent pointer.
    pub urgent: u16,
    /// Maximum segment size in bytes; by default, a SYN has the one of its route.
    pub mss: Option<u16>,
    /// The payload.
    pub data: Option<Vec<u8>>,
    /// Whether to make the TCP and UDP checksums wrong.
    pub bad_checksum: bool,
}

impl Default for PacketTemplate {
    fn default() -> PacketTemplate {
        PacketTemplate {
            flags: Flags::SYN,
            source: None,
            source_port: SourcePort::Ephemeral,
            ttl: 64,
            tos: 0,
            id: None,
            dont_fragment: true,
            sequence: None,
            acknowledgment: 0,
            window: None,
            urgent: 0,
            mss: None,
            data: None,
            bad_checksum: false,
        }
    }
}

/// The route from this host to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The source address that this host would use.
    pub source: IpAddr,
    /// The destination.
    pub destination: IpAddr,
    /// The path MTU in bytes.
    pub mtu: u32,
    /// The window scale that this host advertises, as a power of two.
    pub window_scale: u8,
}

/// The window scale that Linux advertises for a maximum receive buffer of this many bytes: enough for a
/// window as large as the buffer, at most 14 (RFC 7323).
#[must_use]
pub fn window_scale(buffer: u64) -> u8 {
    let bits = buffer.checked_ilog2().unwrap_or(0);
    u8::try_from(bits.saturating_sub(15).min(14)).unwrap_or_default()
}

impl PacketTemplate {
    /// Builds the packet for `stage` along `route`; `flags` are the stage's own flags.
    ///
    /// `random` returns unpredictable numbers.
    pub fn packet(
        &self,
        stage: Stage,
        flags: Option<Flags>,
        route: &Route,
        random: &mut dyn FnMut() -> u64,
    ) -> Packet {
        let source_port = match self.source_port {
            SourcePort::Ephemeral => random_in(random(), &EPHEMERAL_PORTS),
            SourcePort::Random => random_in(random(), &UNPRIVILEGED_PORTS),
            SourcePort::Fixed(port) => port,
        };
        let payload = |default: &[u8]| self.data.clone().unwrap_or_else(|| default.to_vec());
        let (segment, data) = match stage.protocol {
            Protocol::Tcp => {
                (Segment::Tcp(self.tcp(flags.unwrap_or(self.flags), route, random)), payload(&[]))
            }
            Protocol::Udp => (Segment::Udp, payload(DEFAULT_UDP_PAYLOAD)),
            Protocol::Icmp => (Segment::Echo, ping::echo_data(stage.port)),
        };
        let port = if stage.protocol == Protocol::Icmp { ping::FIRST_SEQUENCE_NUMBER } else { stage.port };
        Packet {
            source: self.source.unwrap_or(route.source),
            destination: route.destination,
            tos: self.tos,
            ttl: self.ttl,
            // The kernel replaces an identification of zero by one of its own.
            id: self.id.unwrap_or_else(|| random_in(random(), &(1..=u16::MAX))),
            dont_fragment: self.dont_fragment,
            flow_label: random_u32(random()) & 0xf_ffff,
            source_port,
            port,
            segment,
            data,
            bad_checksum: self.bad_checksum,
        }
    }

    fn tcp(&self, flags: Flags, route: &Route, random: &mut dyn FnMut() -> u64) -> Tcp {
        let headers = match route.destination {
            IpAddr::V4(_) => IPV4_HEADER + TCP_HEADER,
            IpAddr::V6(_) => IPV6_HEADER + TCP_HEADER,
        };
        let max_payload = usize::try_from(route.mtu).unwrap_or(usize::MAX).saturating_sub(headers);
        let mss = self.mss.unwrap_or(u16::try_from(max_payload).unwrap_or(u16::MAX)).max(1);
        // Linux sends these options in a SYN.
        let options = if flags.contains(Flags::SYN) {
            Options {
                mss: Some(mss),
                sack: true,
                timestamp: Some(random_u32(random())),
                window_scale: Some(route.window_scale),
            }
        } else {
            Options { mss: self.mss, ..Options::default() }
        };
        Tcp {
            sequence: self.sequence.unwrap_or_else(|| random_u32(random())),
            acknowledgment: self.acknowledgment,
            flags,
            // As many whole segments as fit: 64240 on Ethernet.
            window: self.window.unwrap_or(u16::MAX / mss * mss),
            urgent: self.urgent,
            options,
        }
    }
}

/// Parses the value of `--data`: `hex:` and digits, `file:` and a path, `size:` and a number of zero bytes,
/// or text, with or without the prefix `text:`.
///
/// # Errors
/// Digits that do not form whole bytes, a path that is not UTF-8, an invalid number or one that is too large.
pub fn parse_payload(value: &[u8]) -> Result<PayloadSource, &'static str> {
    let after_prefix = |prefix: &str| value.strip_prefix(prefix.as_bytes()).map(str::from_utf8);
    if let Some(digits) = after_prefix("hex:") {
        let digits = digits.map_err(|_| "not hexadecimal digits")?;
        return parse_hex(digits).map(PayloadSource::Bytes).ok_or("not pairs of hexadecimal digits");
    }
    if let Some(path) = after_prefix("file:") {
        return path.map(|path| PayloadSource::Path(path.to_owned())).map_err(|_| "the path is not UTF-8");
    }
    if let Some(size) = after_prefix("size:") {
        let size: Option<u16> = size.ok().and_then(|size| size.parse().ok());
        return size
            .map(|size| PayloadSource::Bytes(vec![0; size.into()]))
            .ok_or("the size is not between 0 and 65535");
    }
    Ok(PayloadSource::Bytes(value.strip_prefix(b"text:").unwrap_or(value).to_vec()))
}

fn parse_hex(digits: &str) -> Option<Vec<u8>> {
    let values: Option<Vec<u8>> =
        digits.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok())).collect();
    let values = values?;
    let (pairs, odd) = values.as_chunks::<2>();
    odd.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// The upper 32 bits of a random number.
fn random_u32(random: u64) -> u32 {
    u32::try_from(random >> 32).unwrap_or_default()
}

/// Maps a random number to a range. The remainder is slightly biased, which does not matter for a port.
fn random_in(random: u64, range: &RangeInclusive<u16>) -> u16 {
    let span = u64::from(range.end() - range.start()) + 1;
    range.start() + u16::try_from(random % span).unwrap_or_default()
}
