//! The part of the kernel's program that checks source and destination addresses.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use crate::filter::bpf::{
    AND, Assembler, JUMP_ANY_BIT, JUMP_EQUAL, LD_BYTE, LD_HALF, LD_WORD, LDX_HEADER_LENGTH, LDX_NUMBER, Label,
};
use crate::filter::interest::Interest;

/// With more addresses than this, the kernel's program does not check them.
pub(super) const MAX_V4_ADDRESSES: usize = 64;
pub(super) const MAX_V6_ADDRESSES: usize = 16;

/// Rejects the sources that no door admits, and continues at `next` for all others.
pub(super) fn from_sources(
    code: &mut Assembler,
    interest: &Interest,
    is_v4: bool,
    next: Label,
    reject: Label,
) -> Label {
    let of_family = |prefixes: &[IpNet]| -> Vec<IpNet> {
        prefixes.iter().filter(|prefix| matches!(prefix, IpNet::V4(_)) == is_v4).copied().collect()
    };
    let most = if is_v4 { MAX_V4_ADDRESSES } else { MAX_V6_ADDRESSES };
    let sources = interest.sources();
    let mut entry = next;
    if let Some(allow) = sources.allow.as_deref().map(of_family).filter(|allow| allow.len() <= most) {
        entry = allow.iter().fold(reject, |otherwise, prefix| source_in(code, prefix, entry, otherwise));
    }
    let deny = of_family(&sources.deny);
    if deny.len() <= most {
        entry = deny.iter().fold(entry, |otherwise, prefix| source_in(code, prefix, reject, otherwise));
    }
    entry
}

/// Branches on whether the source address is in a prefix.
pub(super) fn source_in(code: &mut Assembler, prefix: &IpNet, inside: Label, outside: Label) -> Label {
    const V4_SOURCE: u32 = 12;
    const V6_SOURCE: u32 = 8;
    let offset = if prefix.addr().is_ipv4() { V4_SOURCE } else { V6_SOURCE };
    address_in(code, offset, prefix, inside, outside)
}

/// Branches on whether the address at an offset is in a prefix, comparing word by word.
fn address_in(code: &mut Assembler, offset: u32, prefix: &IpNet, inside: Label, outside: Label) -> Label {
    let (network, mask) = match prefix {
        IpNet::V4(prefix) => (vec![prefix.network().to_bits()], vec![prefix.netmask().to_bits()]),
        IpNet::V6(prefix) => (words(prefix.network()).to_vec(), words(prefix.netmask()).to_vec()),
    };
    let parts = (0_u32..).zip(network).zip(mask).filter(|(_, mask)| *mask != 0);
    let parts: Vec<((u32, u32), u32)> = parts.collect();
    parts.into_iter().rev().fold(inside, |matches, ((at, network), mask)| {
        let compare = code.branch(JUMP_EQUAL, network, matches, outside);
        let compare = if mask == u32::MAX { compare } else { code.then(AND, mask, compare) };
        code.then(LD_WORD, offset + 4 * at, compare)
    })
}

/// The four words of an IPv6 address, the first one first.
fn words(address: Ipv6Addr) -> [u32; 4] {
    let bits = address.to_bits();
    [96, 64, 32, 0].map(|shift| u32::try_from((bits >> shift) & u128::from(u32::MAX)).unwrap_or(0))
}

/// Continues at `transport` for an IPv4 packet (no later fragment) to one of the addresses, with A = its
/// protocol and X = the length of its header.
pub(super) fn v4_packet(
    code: &mut Assembler,
    addresses: &[IpAddr],
    transport: Label,
    reject: Label,
) -> Label {
    const FRAGMENT: u32 = 6;
    const PROTOCOL: u32 = 9;
    const DESTINATION: u32 = 16;
    let wanted = sorted_unique(addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    }));
    if wanted.is_empty() {
        return reject;
    }
    let transport = code.then(LD_BYTE, PROTOCOL, transport);
    let transport = code.then(LDX_HEADER_LENGTH, 0, transport);
    let whole = code.branch(JUMP_ANY_BIT, 0x1fff, reject, transport);
    let whole = code.then(LD_HALF, FRAGMENT, whole);
    if wanted.len() > MAX_V4_ADDRESSES {
        return whole;
    }
    let ours = wanted
        .iter()
        .fold(reject, |otherwise, &address| code.branch(JUMP_EQUAL, address.into(), whole, otherwise));
    code.then(LD_WORD, DESTINATION, ours)
}

/// The same for IPv6.
pub(super) fn v6_packet(
    code: &mut Assembler,
    addresses: &[IpAddr],
    transport: Label,
    reject: Label,
) -> Label {
    const HEADER: u32 = 40;
    const NEXT_HEADER: u32 = 6;
    const DESTINATION: u32 = 24;
    let wanted = sorted_unique(addresses.iter().filter_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    }));
    if wanted.is_empty() {
        return reject;
    }
    let transport = code.then(LD_BYTE, NEXT_HEADER, transport);
    let transport = code.then(LDX_NUMBER, HEADER, transport);
    if wanted.len() > MAX_V6_ADDRESSES {
        return transport;
    }
    wanted.into_iter().fold(reject, |otherwise, address| {
        address_in(code, DESTINATION, &IpAddr::V6(address).into(), transport, otherwise)
    })
}

fn sorted_unique<T: Ord>(addresses: impl Iterator<Item = T>) -> Vec<T> {
    let mut addresses: Vec<T> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
