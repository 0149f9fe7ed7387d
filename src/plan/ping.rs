//! Builds the echo requests for stages `length:icmp`, in the format of ping(8).

use std::net::IpAddr;

use crate::door::knock::Protocol;
use crate::packet::checksum::checksum;

/// The sequence number of ping(8)'s first echo request.
pub const FIRST_SEQUENCE_NUMBER: u16 = 1;

/// `length` data bytes that count up from 0, as in ping(8).
#[must_use]
pub fn echo_data(length: u16) -> Vec<u8> {
    (0..=u8::MAX).cycle().take(length.into()).collect()
}

/// Builds an echo request without an IP header, for ping sockets and raw sockets.
///
/// The checksum is IPv4's. For `ICMPv6`, whose checksum covers the addresses, the kernel computes it (RFC
/// 3542, 3.1).
#[must_use]
pub fn echo_request(destination: IpAddr, identifier: u16, length: u16) -> Vec<u8> {
    let mut bytes = vec![Protocol::echo_request(destination.is_ipv4()), 0, 0, 0];
    bytes.extend(identifier.to_be_bytes());
    bytes.extend(FIRST_SEQUENCE_NUMBER.to_be_bytes());
    bytes.extend(echo_data(length));
    let checksum = checksum(&[&bytes]);
    if let Some(field) = bytes.get_mut(2..4) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
    bytes
}
