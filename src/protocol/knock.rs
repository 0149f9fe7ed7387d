//! The encoding of a knock that gateways share. Only the watchers look into it.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | 0 (TCP), 1 (UDP) or 2 (ICMP) |
//! | 2 | the destination port; of an echo request, the number of data bytes |
//! | 2 | the TCP flags, or the payload bytes of a datagram; 0 if the header was cut before them |
//! | 16 | the source address; of IPv4, the IPv4-mapped IPv6 address |
//! | 16 | the destination address |
//!
//! Numbers are little-endian. What only the debug output uses is left out.

use std::net::{IpAddr, Ipv6Addr};

use crate::door::knock::{Flags, Knock, Protocol};

/// The length of an encoded knock in bytes.
pub const LENGTH: usize = 37;

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];

/// An encoded knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EncodedKnock(pub [u8; LENGTH]);

impl EncodedKnock {
    /// Encodes a knock.
    #[must_use]
    pub fn of(knock: &Knock) -> EncodedKnock {
        let value = knock.flags.map(|flags| flags.0.into()).or(knock.udp_length).unwrap_or(0);
        let [[port, port_high], [low, high]] = [knock.port, value].map(u16::to_le_bytes);
        let mut bytes = [0; LENGTH];
        if let Some((head, addresses)) = bytes.split_first_chunk_mut()
            && let Some((source, destination)) = addresses.split_first_chunk_mut()
            && let Some(destination) = destination.first_chunk_mut()
        {
            *head = [knock.protocol as u8, port, port_high, low, high];
            write(source, knock.source);
            write(destination, knock.destination);
        }
        EncodedKnock(bytes)
    }

    /// Decodes the knock; `None` if the bytes are not one.
    #[must_use]
    pub fn knock(&self) -> Option<Knock> {
        let (&[protocol, port, port_high, low, high], addresses) = self.0.split_first_chunk()?;
        let protocol = *PROTOCOLS.get(usize::from(protocol))?;
        let (source, destination) = addresses.split_first_chunk::<16>()?;
        let destination = destination.first_chunk::<16>()?;
        Some(Knock {
            source: read(source),
            source_port: 0,
            destination: read(destination),
            protocol,
            port: u16::from_le_bytes([port, port_high]),
            flags: (protocol == Protocol::Tcp).then_some(Flags(low)),
            udp_length: (protocol == Protocol::Udp).then_some(u16::from_le_bytes([low, high])),
            length: 0,
        })
    }
}

#[inline(never)]
fn write(field: &mut [u8; 16], address: IpAddr) {
    *field = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
}

#[inline(never)]
fn read(field: &[u8; 16]) -> IpAddr {
    Ipv6Addr::from_octets(*field).to_canonical()
}
