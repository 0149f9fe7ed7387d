//! Echo requests as ping(8) sends them: what the client sends for a stage `length:icmp`.

use std::net::IpAddr;

use crate::door::knock::Protocol;
use crate::packet::checksum::checksum;

/// The sequence number of the first echo request of a ping.
pub const FIRST: u16 = 1;

/// So many data bytes, which count up from 0 as those of ping(8) do.
#[must_use]
pub fn data(length: u16) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(length.into()).collect()
}

/// An echo request without an IP header, as ping sockets and raw sockets take it.
///
/// The checksum is that of IPv4: for `ICMPv6`, which includes the addresses in it, the system writes it
/// (RFC 3542, 3.1).
#[must_use]
pub fn message(destination: IpAddr, identifier: u16, length: u16) -> Vec<u8> {
    let mut bytes = vec![Protocol::echo_request(destination.is_ipv4()), 0, 0, 0];
    bytes.extend(identifier.to_be_bytes());
    bytes.extend(FIRST.to_be_bytes());
    bytes.extend(data(length));
    let sum = checksum(&[&bytes]);
    if let Some(place) = bytes.get_mut(2..4) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}
