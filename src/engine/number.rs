//! Addresses as numbers, to sort and to compare them.

use std::net::IpAddr;

/// An address as an integer. An IPv4 address takes its IPv4-mapped IPv6 form, which no packet has as its
/// destination.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}
