//! An [`Interest`] as a classic BPF program for a cooked packet socket, whose packets begin at the
//! IP header whatever the link (see the kernel's `Documentation/networking/filter.rst`).
//!
//! The program passes all that is of interest and may pass more: it is an optimisation, and
//! [`Interest::includes`] decides. Ports are found by binary search; where they do not fit the
//! budget, neighbouring ones are taken together.
//!
//! Programs are assembled from their end: all jumps of classic BPF go forward, so every target is
//! known when the jump to it is made, and one that is out of reach gets a stepping stone.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::interest::{Interest, Interval};
use crate::knock::{FlagRule, Protocol};

/// The most instructions the kernel takes (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// How much of a packet is passed on, in bytes: the longest IPv4 header and a TCP header, and some.
pub const SNAPSHOT: u32 = 128;

/// One instruction, fields in host byte order (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip if the condition holds.
    pub jt: u8,
    /// How many instructions to skip if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// What else the program is to know.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Our own addresses.
    pub here: &'a [IpAddr],
    /// The index of the loopback interface, if it is listened on: it shows every packet twice, once
    /// as it leaves.
    pub loopback: Option<u32>,
    /// IPv6 does not exist.
    pub only_v4: bool,
}

// Instruction codes (linux/bpf_common.h).
const LD_WORD: u16 = 0x20;
const LD_HALF: u16 = 0x28;
const LD_BYTE: u16 = 0x30;
const LD_HALF_X: u16 = 0x48;
const LD_BYTE_X: u16 = 0x50;
const LDX_NUMBER: u16 = 0x01;
const LDX_HEADER_LENGTH: u16 = 0xb1;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_NOT_BELOW: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

// Offsets at which the kernel shows what is not in the packet (linux/filter.h, SKF_AD_*).
const ANCILLARY: u32 = 0xffff_f000;
const ETHER_TYPE: u32 = ANCILLARY;
const PACKET_TYPE: u32 = ANCILLARY + 4;
const INTERFACE: u32 = ANCILLARY + 8;
const VLAN_TAG_PRESENT: u32 = ANCILLARY + 48;

const PACKET_OUTGOING: u32 = 4;
const ETHER_TYPE_IPV4: u32 = 0x0800;
const ETHER_TYPE_IPV6: u32 = 0x86dd;

/// More addresses than these are not checked in the kernel.
const MAX_V4_ADDRESSES: usize = 64;
const MAX_V6_ADDRESSES: usize = 16;

/// The program for an interest, at most `budget` instructions long where that is possible at all
/// (about 200 are needed for the frame around the ports).
#[must_use]
pub fn program(interest: &Interest, around: Surroundings<'_>, budget: usize) -> Vec<Instruction> {
    let budget = budget.min(MAX_INSTRUCTIONS);
    let ports = Plan::exact(interest);
    for leaf in [4, 8, 16] {
        let program = assemble(interest, &ports, around, leaf);
        if program.len() <= budget {
            return program;
        }
    }
    // Too many: the fewest ports are taken together that make it fit.
    let (mut fits, mut too_many) = (1, ports.intervals.len());
    let mut best = assemble(interest, &ports.coarser(fits), around, 8);
    while too_many - fits > 1 {
        let middle = usize::midpoint(fits, too_many);
        let program = assemble(interest, &ports.coarser(middle), around, 8);
        if program.len() <= budget {
            (fits, best) = (middle, program);
        } else {
            too_many = middle;
        }
    }
    best
}

/// The ports to pass, and under which flag rules.
struct Plan {
    intervals: Vec<Interval>,
    rules: Vec<Vec<FlagRule>>,
}

impl Plan {
    fn exact(interest: &Interest) -> Plan {
        let ports = interest.ports();
        Plan { intervals: ports.intervals().to_vec(), rules: ports.rules().to_vec() }
    }

    /// At most `count` intervals (and one for each protocol), by closing the narrowest gaps.
    fn coarser(&self, count: usize) -> Plan {
        let mut gaps: Vec<u32> = self
            .intervals
            .windows(2)
            .filter_map(|pair| match pair {
                [a, b] if a.protocol == b.protocol => Some(u32::from(b.low) - u32::from(a.high)),
                _ => None,
            })
            .collect();
        gaps.sort_unstable_by(|a, b| b.cmp(a));
        // Gaps at least this wide stay open; of equal ones as many as there is room for.
        let width = gaps.get(count.saturating_sub(1)).copied().unwrap_or(0);
        let mut room = count.saturating_sub(gaps.iter().filter(|&&gap| gap > width).count());
        let mut plan = Plan { intervals: Vec::new(), rules: self.rules.clone() };
        for &interval in &self.intervals {
            let joined = plan.intervals.last_mut().filter(|last| last.protocol == interval.protocol);
            let Some(last) = joined else {
                plan.intervals.push(interval);
                continue;
            };
            let gap = u32::from(interval.low) - u32::from(last.high);
            let stays_open = gap > width || (gap == width && room > 0);
            if stays_open {
                if gap == width {
                    room -= 1;
                }
                plan.intervals.push(interval);
            } else {
                last.high = interval.high;
                if last.rules != interval.rules {
                    let mut set: Vec<FlagRule> = [last.rules, interval.rules]
                        .into_iter()
                        .filter_map(|rules| plan.rules.get(rules))
                        .flatten()
                        .copied()
                        .collect();
                    set.sort_unstable();
                    set.dedup();
                    last.rules = plan.rules.iter().position(|known| *known == set).unwrap_or_else(|| {
                        plan.rules.push(set);
                        plan.rules.len() - 1
                    });
                }
            }
        }
        plan
    }
}

fn assemble(interest: &Interest, plan: &Plan, around: Surroundings<'_>, leaf: usize) -> Vec<Instruction> {
    let mut code = Assembler::default();
    let reject = code.finish(0);
    let accept = code.finish(SNAPSHOT);

    // From here on upwards, X is the length of the IP header.
    let by_rules: Vec<Label> =
        plan.rules.iter().map(|set| flag_rules(&mut code, set, accept, reject)).collect();
    let mut by_protocol = Vec::new();
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let intervals: Vec<(Interval, Label)> = plan
            .intervals
            .iter()
            .filter(|interval| interval.protocol == protocol)
            .filter_map(|interval| Some((*interval, *by_rules.get(interval.rules)?)))
            .collect();
        if !intervals.is_empty() {
            let search = search(&mut code, &intervals, leaf, reject);
            by_protocol.push((protocol, code.then(LD_HALF_X, 2, search)));
        }
    }
    let transport = by_protocol.into_iter().fold(reject, |otherwise, (protocol, found)| {
        code.branch(JUMP_EQUAL, protocol.number().into(), found, otherwise)
    });

    let own = if interest.is_for_us() { around.here } else { &[] };
    let addresses: Vec<IpAddr> = own.iter().copied().chain(interest.targets()).collect();
    let v4 = v4_packet(&mut code, &addresses, transport, reject);
    let v6 = if around.only_v4 { reject } else { v6_packet(&mut code, &addresses, transport, reject) };

    let family = code.branch(JUMP_EQUAL, ETHER_TYPE_IPV6, v6, reject);
    let family = code.branch(JUMP_EQUAL, ETHER_TYPE_IPV4, v4, family);
    let family = code.then(LD_HALF, ETHER_TYPE, family);
    let untagged = code.branch(JUMP_EQUAL, 0, family, reject);
    let untagged = code.then(LD_BYTE, VLAN_TAG_PRESENT, untagged);
    let mut entry = untagged;
    if let Some(index) = around.loopback {
        let link = code.branch(JUMP_EQUAL, index, reject, untagged);
        let link = code.then(LD_WORD, INTERFACE, link);
        let direction = code.branch(JUMP_EQUAL, PACKET_OUTGOING, link, untagged);
        entry = code.then(LD_BYTE, PACKET_TYPE, direction);
    }
    code.program(entry)
}

/// Passes a packet whose flags fit one of the rules.
fn flag_rules(code: &mut Assembler, set: &[FlagRule], accept: Label, reject: Label) -> Label {
    const TCP_FLAGS: u32 = 13;
    if set.iter().any(|rule| *rule == FlagRule::default()) {
        return accept;
    }
    set.iter().fold(reject, |otherwise, rule| {
        let compare = code.branch(JUMP_EQUAL, rule.set.0.into(), accept, otherwise);
        let mask = code.then(AND, rule.mask().0.into(), compare);
        code.then(LD_BYTE_X, TCP_FLAGS, mask)
    })
}

/// Finds the port in A among the intervals, by halves and at last, among `leaf` of them, one by one.
fn search(code: &mut Assembler, intervals: &[(Interval, Label)], leaf: usize, reject: Label) -> Label {
    if intervals.len() > leaf {
        let (left, right) = intervals.split_at(intervals.len() / 2);
        let first = right.first().map_or(0, |(interval, _)| interval.low.into());
        let right = search(code, right, leaf, reject);
        let left = search(code, left, leaf, reject);
        return code.branch(JUMP_NOT_BELOW, first, right, left);
    }
    intervals.iter().rev().fold(reject, |otherwise, &(Interval { low, high, .. }, found)| {
        if low == high {
            code.branch(JUMP_EQUAL, low.into(), found, otherwise)
        } else {
            let below_end = code.branch(JUMP_GREATER, high.into(), otherwise, found);
            code.branch(JUMP_NOT_BELOW, low.into(), below_end, reject)
        }
    })
}

fn v4_packet(code: &mut Assembler, addresses: &[IpAddr], transport: Label, reject: Label) -> Label {
    const FRAGMENT: u32 = 6;
    const PROTOCOL: u32 = 9;
    const DESTINATION: u32 = 16;
    let mut wanted: Vec<Ipv4Addr> = addresses
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
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

fn v6_packet(code: &mut Assembler, addresses: &[IpAddr], transport: Label, reject: Label) -> Label {
    const HEADER: u32 = 40;
    const NEXT_HEADER: u32 = 6;
    const DESTINATION: u32 = 24;
    let mut wanted: Vec<Ipv6Addr> = addresses
        .iter()
        .filter_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        })
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return reject;
    }
    let transport = code.then(LD_BYTE, NEXT_HEADER, transport);
    let transport = code.then(LDX_NUMBER, HEADER, transport);
    if wanted.len() > MAX_V6_ADDRESSES {
        return transport;
    }
    wanted.iter().fold(reject, |otherwise, address| {
        let octets = address.octets();
        octets.chunks_exact(4).rev().zip([12, 8, 4, 0]).fold(transport, |matches, (bytes, offset)| {
            let word = bytes.iter().fold(0, |word, &byte| word << 8 | u32::from(byte));
            let compare = code.branch(JUMP_EQUAL, word, matches, otherwise);
            code.then(LD_WORD, DESTINATION + offset, compare)
        })
    })
}

/// An instruction that was emitted: its distance from the end of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Label(usize);

#[derive(Default)]
struct Assembler {
    /// Last instruction first.
    reversed: Vec<Instruction>,
    /// For a target that may be far by now, the last instruction that leads there.
    stones: HashMap<Label, Label>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }

    /// How many instructions the next one would have to skip to get to `target`.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - 1 - target.0
    }

    /// Ends the program; 0 rejects the packet.
    fn finish(&mut self, bytes: u32) -> Label {
        self.push(RETURN, 0, 0, bytes)
    }

    /// An instruction that goes on at `next`.
    fn then(&mut self, code: u16, k: u32, next: Label) -> Label {
        if self.distance(next) > 0 {
            self.stone(next);
        }
        self.push(code, 0, 0, k)
    }

    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        // Making one stepping stone moves the other target away by one instruction, hence twice.
        let (yes, no) = (self.reach(yes), self.reach(no));
        let (jt, jf) = (self.distance(yes), self.distance(no));
        let byte = |distance| u8::try_from(distance).unwrap_or(u8::MAX);
        self.push(code, byte(jt), byte(jf), k)
    }

    /// The target itself, or something near that leads there.
    fn reach(&mut self, target: Label) -> Label {
        // One less than a jump can do: the other target may need a stone yet.
        const REACH: usize = u8::MAX as usize - 1;
        let near = self.stones.get(&target).copied().unwrap_or(target);
        if self.distance(near) <= REACH { near } else { self.stone(target) }
    }

    fn stone(&mut self, target: Label) -> Label {
        // A program's end is copied: that is quicker than a jump to it.
        let end = self.reversed.get(target.0).copied().filter(|instruction| instruction.code == RETURN);
        let stone = if let Some(end) = end {
            self.push(end.code, 0, 0, end.k)
        } else {
            let distance = u32::try_from(self.distance(target)).unwrap_or(0);
            self.push(JUMP, 0, 0, distance)
        };
        self.stones.insert(target, stone);
        stone
    }

    fn program(mut self, entry: Label) -> Vec<Instruction> {
        if self.distance(entry) > 0 {
            self.stone(entry);
        }
        self.reversed.reverse();
        self.reversed
    }
}
