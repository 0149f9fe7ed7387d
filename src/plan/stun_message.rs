//! The two STUN messages (RFC 8489) that the client needs: a binding request, and the address in its
//! response. All numbers are in network byte order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The constant after the type and length of every message (RFC 8489, 5).
const MAGIC_COOKIE: u32 = 0x2112_a442;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// Matches a response to its request.
pub type TransactionId = [u8; 12];

/// A binding request without attributes.
#[must_use]
pub fn binding_request(id: TransactionId) -> Vec<u8> {
    let length = 0_u16;
    [&BINDING_REQUEST.to_be_bytes()[..], &length.to_be_bytes(), &MAGIC_COOKIE.to_be_bytes(), &id].concat()
}

/// Returns the address that the server saw (XOR-MAPPED-ADDRESS), if the datagram is the success response to
/// request `id`.
///
/// Skips all other attributes, even unknown ones that RFC 8489 requires to be understood: servers of RFC 3489
/// send some that are obsolete.
#[must_use]
pub fn mapped_address(answer: &[u8], id: TransactionId) -> Option<IpAddr> {
    let (kind, rest) = split_u16(answer)?;
    let (length, rest) = split_u16(rest)?;
    let (cookie, rest) = rest.split_first_chunk()?;
    let (response_id, mut rest) = rest.split_first_chunk()?;
    let is_ours =
        kind == BINDING_SUCCESS && u32::from_be_bytes(*cookie) == MAGIC_COOKIE && *response_id == id;
    if !is_ours || usize::from(length) != rest.len() {
        return None;
    }
    while let Some((name, after)) = split_u16(rest) {
        let (length, after) = split_u16(after)?;
        let length = usize::from(length);
        let value = after.get(..length)?;
        if name == XOR_MAPPED_ADDRESS {
            return decode_xor_address(value, id);
        }
        // Attributes are padded to multiples of four bytes.
        rest = after.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Decodes the value of XOR-MAPPED-ADDRESS: an address masked with the cookie and the transaction ID, so that
/// no NAT rewrites it (RFC 8489, 14.2).
fn decode_xor_address(value: &[u8], id: TransactionId) -> Option<IpAddr> {
    // A zero byte, the address family, and two bytes of the port.
    let ([_, family, _, _], address) = value.split_first_chunk()?;
    let cookie = MAGIC_COOKIE.to_be_bytes();
    match (family, address.len()) {
        (1, 4) => {
            let bits = u32::from_be_bytes(address.try_into().ok()?) ^ MAGIC_COOKIE;
            Some(Ipv4Addr::from_bits(bits).into())
        }
        (2, 16) => {
            let mask: [u8; 16] = [&cookie[..], &id].concat().try_into().ok()?;
            let bits = u128::from_be_bytes(address.try_into().ok()?) ^ u128::from_be_bytes(mask);
            Some(Ipv6Addr::from_bits(bits).into())
        }
        _ => None,
    }
}

fn split_u16(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u16::from_be_bytes(*number), rest))
}
