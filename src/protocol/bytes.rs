//! The building blocks of messages and bundles: little-endian numbers, addresses, and bytes of a known
//! length.

use std::net::IpAddr;

/// The bytes yet to be read. Each method takes its part from the front, or returns `None` if too few bytes
/// are left.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    /// Takes N bytes as an array.
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    /// Takes `length` bytes without copying them.
    pub(crate) fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    /// A boolean as one byte; 0 is false.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        self.byte().map(|byte| byte != 0)
    }

    pub(crate) fn word(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(crate) fn long(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// An address written by [`address`].
    pub(crate) fn address(&mut self) -> Option<IpAddr> {
        let kind = self.byte()?;
        self.address_of(kind)
    }

    /// An address in its only encoding: rejects IPv4-mapped IPv6 addresses.
    pub(crate) fn canonical_address(&mut self) -> Option<IpAddr> {
        self.address().filter(|address| address.to_canonical() == *address)
    }

    /// The rest of an address whose first byte, its kind, was read already.
    pub(crate) fn address_of(&mut self, kind: u8) -> Option<IpAddr> {
        match kind {
            4 => self.take::<4>().map(IpAddr::from),
            6 => self.take::<16>().map(IpAddr::from),
            _ => None,
        }
    }
}

/// Appends an address: 4 or 6, then its 4 or 16 bytes.
pub(crate) fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            out.push(4);
            out.extend(address.octets());
        }
        IpAddr::V6(address) => {
            out.push(6);
            out.extend(address.octets());
        }
    }
}
