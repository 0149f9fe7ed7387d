//! The encoding of a knock that gateways share.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | 0 (TCP), 1 (UDP) or 2 (ICMP) |
//! | 2 | the destination port; of an echo request, the number of data bytes |
//! | 2 | the TCP flags, or the payload bytes of a datagram; 0 if the header was cut before them |
//! | 5 or 17 | the source address: 4 or 6, then its bytes |
//! | 5 or 17 | the destination address |
//!
//! Numbers are little-endian. What only the debug output uses is left out. Each knock has exactly one encoding.

use crate::door::knock::{Flags, Knock, Protocol};
use crate::protocol::bytes::Reader;
use crate::protocol::values::Writer;

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];

impl Writer {
    pub(crate) fn knock(mut self, knock: &Knock) -> Writer {
        let value = knock.flags.map(|flags| flags.0.into()).or(knock.udp_length).unwrap_or(0);
        let [[port, port_high], [low, high]] = [knock.port, value].map(u16::to_le_bytes);
        self.0.extend_from_slice(&[knock.protocol as u8, port, port_high, low, high]);
        self.address(knock.source).address(knock.destination)
    }
}

impl Reader<'_> {
    pub(crate) fn knock(&mut self) -> Option<Knock> {
        let [protocol, port, port_high, low, high] = self.take()?;
        let protocol = *PROTOCOLS.get(usize::from(protocol))?;
        let value = u16::from_le_bytes([low, high]);
        let most = match protocol {
            Protocol::Tcp => u8::MAX.into(),
            Protocol::Udp => u16::MAX,
            Protocol::Icmp => 0,
        };
        if value > most {
            return None;
        }
        let (source, destination) = (self.canonical_address()?, self.canonical_address()?);
        Some(Knock {
            source,
            source_port: 0,
            destination,
            protocol,
            port: u16::from_le_bytes([port, port_high]),
            flags: (protocol == Protocol::Tcp).then_some(Flags(low)),
            udp_length: (protocol == Protocol::Udp).then_some(value),
            length: 0,
        })
    }
}
