//! The part of the kernel's program that checks source and destination addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::filter::bpf::{
    ADD, AND, Assembler, COPY_TO_X, INTERFACE, JUMP_ANY_BIT, JUMP_EQUAL, JUMP_NOT_BELOW, JUMP_NOT_BELOW_X,
    LD_BYTE, LD_HALF, LD_LENGTH, LD_WORD, LDX_HEADER_LENGTH, LDX_NUMBER, LOOPBACK_INTERFACE, Label,
    PACKET_OUTGOING, PACKET_TO_US, PACKET_TYPE,
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

/// The four words of an IPv6 address, most significant first.
fn words(address: Ipv6Addr) -> [u32; 4] {
    let bits = address.to_bits();
    [96, 64, 32, 0].map(|shift| u32::try_from((bits >> shift) & u128::from(u32::MAX)).unwrap_or(0))
}

/// The destinations of the packets to pass, and the addresses of this host.
pub(super) struct Places<'a> {
    /// The addresses of this host that knocks may be sent to.
    pub here: &'a [IpAddr],
    /// The targets of doors that are not in `here`.
    pub targets: Vec<IpAddr>,
    /// All known addresses of this host: a packet from one of them is forged, unless it arrives on loopback.
    pub own: &'a [IpAddr],
}

impl Places<'_> {
    /// The IPv4 addresses in `here`, `targets` and `own`.
    fn v4(&self) -> [Vec<Ipv4Addr>; 3] {
        let of = |addresses: &[IpAddr]| {
            sorted_unique(addresses.iter().filter_map(|address| match address {
                IpAddr::V4(address) => Some(*address),
                IpAddr::V6(_) => None,
            }))
        };
        [of(self.here), of(&self.targets), of(self.own)]
    }

    /// The same for IPv6.
    fn v6(&self) -> [Vec<Ipv6Addr>; 3] {
        let of = |addresses: &[IpAddr]| {
            sorted_unique(addresses.iter().filter_map(|address| match address {
                IpAddr::V6(address) => Some(*address),
                IpAddr::V4(_) => None,
            }))
        };
        [of(self.here), of(&self.targets), of(self.own)]
    }
}

/// Continues at `transport` for an IPv4 packet to one of the places, with A = its protocol and X = the length
/// of its header. Rejects fragments other than the first.
pub(super) fn v4_packet(code: &mut Assembler, places: &Places<'_>, transport: Label, reject: Label) -> Label {
    const LENGTH: u32 = 2;
    const FRAGMENT: u32 = 6;
    const PROTOCOL: u32 = 9;
    const DESTINATION: u32 = 16;
    const LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    let [here, targets, own] = places.v4();
    if here.is_empty() && targets.is_empty() {
        return reject;
    }
    let transport = code.then(LD_BYTE, PROTOCOL, transport);
    let transport = code.then(LDX_HEADER_LENGTH, 0, transport);
    let whole = code.branch(JUMP_ANY_BIT, 0x1fff, reject, transport);
    let whole = code.then(LD_HALF, FRAGMENT, whole);
    let whole = as_long_as_claimed(code, whole, reject);
    let whole = code.then(LD_HALF, LENGTH, whole);
    let mut to_us = whole;
    if own.len() <= MAX_V4_ADDRESSES {
        let own = own.into_iter().map(|address| IpAddr::V4(address).into()).chain([IpNet::V4(LOOPBACK)]);
        to_us = from_elsewhere(code, own, whole, reject);
    }
    let to_us = for_this_station(code, to_us, reject);
    if here.len() + targets.len() > MAX_V4_ADDRESSES {
        return if targets.is_empty() { to_us } else { whole };
    }
    let ours =
        targets.iter().map(|address| (address, whole)).chain(here.iter().map(|address| (address, to_us)));
    let ours = ours.fold(reject, |otherwise, (&address, found)| {
        code.branch(JUMP_EQUAL, address.into(), found, otherwise)
    });
    code.then(LD_WORD, DESTINATION, ours)
}

/// The same for IPv6.
pub(super) fn v6_packet(code: &mut Assembler, places: &Places<'_>, transport: Label, reject: Label) -> Label {
    const HEADER: u32 = 40;
    const LENGTH: u32 = 4;
    const NEXT_HEADER: u32 = 6;
    const DESTINATION: u32 = 24;
    let [here, targets, own] = places.v6();
    if here.is_empty() && targets.is_empty() {
        return reject;
    }
    let transport = code.then(LD_BYTE, NEXT_HEADER, transport);
    let transport = code.then(LDX_NUMBER, HEADER, transport);
    let whole = as_long_as_claimed(code, transport, reject);
    let whole = code.then(ADD, HEADER, whole);
    let whole = code.then(LD_HALF, LENGTH, whole);
    let mut to_us = whole;
    if own.len() <= MAX_V6_ADDRESSES {
        let own = own.into_iter().chain([Ipv6Addr::LOCALHOST]).map(|address| IpAddr::V6(address).into());
        to_us = from_elsewhere(code, own, whole, reject);
    }
    let to_us = for_this_station(code, to_us, reject);
    if here.len() + targets.len() > MAX_V6_ADDRESSES {
        return if targets.is_empty() { to_us } else { whole };
    }
    let ours =
        targets.iter().map(|address| (address, whole)).chain(here.iter().map(|address| (address, to_us)));
    ours.fold(reject, |otherwise, (&address, found)| {
        address_in(code, DESTINATION, &IpAddr::V6(address).into(), found, otherwise)
    })
}

/// Rejects a packet that is shorter than A, the length that it claims.
fn as_long_as_claimed(code: &mut Assembler, next: Label, reject: Label) -> Label {
    let compare = code.branch(JUMP_NOT_BELOW_X, 0, next, reject);
    let compare = code.then(LD_LENGTH, 0, compare);
    code.then(COPY_TO_X, 0, compare)
}

/// Rejects packets from this host's own addresses, unless they arrive on the loopback interface.
fn from_elsewhere(
    code: &mut Assembler,
    own: impl Iterator<Item = IpNet>,
    next: Label,
    reject: Label,
) -> Label {
    let wire = own.fold(next, |otherwise, prefix| source_in(code, &prefix, reject, otherwise));
    let interface = code.branch(JUMP_EQUAL, LOOPBACK_INTERFACE, next, wire);
    code.then(LD_WORD, INTERFACE, interface)
}

/// Rejects frames for other stations, and broadcast and multicast frames: routers and neighbours send a
/// packet for one of this host's addresses in a unicast frame.
fn for_this_station(code: &mut Assembler, next: Label, reject: Label) -> Label {
    let others = code.branch(JUMP_NOT_BELOW, PACKET_OUTGOING, next, reject);
    let to_us = code.branch(JUMP_EQUAL, PACKET_TO_US, next, others);
    code.then(LD_BYTE, PACKET_TYPE, to_us)
}

fn sorted_unique<T: Ord>(addresses: impl Iterator<Item = T>) -> Vec<T> {
    let mut addresses: Vec<T> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
