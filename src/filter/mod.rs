//! Compiles an [`Interest`] to a classic BPF program for a cooked packet socket, whose packets begin
//! at the IP header on every link type (see the kernel's `Documentation/networking/filter.rst`).
//!
//! The program is an optimisation: it passes all packets of interest and may pass more, because
//! [`Interest::includes`] decides. It finds ports by binary search; if they do not fit the budget,
//! it merges neighbouring ones.

pub mod bpf;
pub mod bursts;
pub mod interest;
pub mod interfaces;
pub mod port_plan;
pub mod trouble;

mod addresses;

use std::net::IpAddr;

use ipnet::IpNet;
use litemap::LiteMap;

use crate::door::knock::{PacketRule, Protocol};
use crate::door::spa::FIRST_BYTES;
use crate::filter::addresses::{
    MAX_V4_ADDRESSES, MAX_V6_ADDRESSES, Places, from_sources, source_in, v4_packet, v6_packet,
};
use crate::filter::bpf::{
    AND, Assembler, ETHER_TYPE, INTERFACE, Instruction, JUMP_ANY_BIT, JUMP_EQUAL, JUMP_GREATER,
    JUMP_NOT_BELOW, LD_BYTE, LD_BYTE_X, LD_HALF, LD_HALF_X, LD_WORD, Label, PACKET_FOR_OTHERS,
    PACKET_OUTGOING, PACKET_TYPE, SUBTRACT, SUBTRACT_X, VLAN_TAG, VLAN_TAG_PRESENT,
};
use crate::filter::interest::{Interest, Interval};
use crate::filter::interfaces::CountOnce;
use crate::filter::port_plan::PortPlan;

/// The most instructions the kernel takes (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// How many bytes of a packet the kernel delivers: more than the longest IPv4 header and a TCP header.
pub const SNAPSHOT: u32 = 128;

/// Like [`SNAPSHOT`], for a packet that is needed as a whole: the longest IPv4 header, a UDP header and a
/// payload of 1,100 bytes.
pub const WHOLE_SNAPSHOT: u32 = 1168;

/// The properties of this host that the program depends on.
#[derive(Clone, Copy, Debug)]
pub struct HostProperties<'a> {
    /// The addresses of this host that knocks may be sent to.
    pub here: &'a [IpAddr],
    /// The index of the loopback interface, if it is captured: every packet appears there twice, once as an
    /// outgoing one.
    pub loopback: Option<u32>,
    /// Reject IPv6.
    pub only_v4: bool,
    /// Which packets to ignore, so that none is counted twice; set if more than one interface is captured.
    pub count_once: Option<&'a CountOnce>,
}

const ETHER_TYPE_IPV4: u32 = 0x0800;
/// The bits of a tag that name the VLAN.
const VLAN_ID: u32 = 0x0fff;
const ETHER_TYPE_IPV6: u32 = 0x86dd;

/// The program compares at most this many interface indexes.
const MAX_INTERFACES: usize = 1024;

/// The program for an interest, at most `budget` instructions long if that is possible (everything
/// but the ports takes about 200, and with many addresses up to 600).
#[must_use]
pub fn program(interest: &Interest, host: HostProperties<'_>, budget: usize) -> Vec<Instruction> {
    let budget = budget.min(MAX_INSTRUCTIONS);
    let ports = PortPlan::exact(interest);
    // An interval takes at least one instruction.
    if ports.intervals.len() < budget {
        for leaf in [4, 8, 16] {
            let program = assemble(interest, &ports, host, leaf);
            if program.len() <= budget {
                return program;
            }
        }
    }
    merged_program(interest, &ports, host, budget)
}

/// The program that rejects all packets.
#[must_use]
pub fn reject_all() -> Vec<Instruction> {
    let mut code = Assembler::default();
    let reject = code.finish(0);
    code.program(reject)
}

/// The program for ports that do not fit the budget: merges as few of them as possible.
fn merged_program(
    interest: &Interest,
    ports: &PortPlan,
    host: HostProperties<'_>,
    budget: usize,
) -> Vec<Instruction> {
    /// How many interval counts to try, each closer to the budget.
    const TRIES: usize = 6;
    let gaps = ports.gaps();
    let mut best = assemble(interest, &ports.coarser(&gaps, 1), host, 8);
    let mut count = budget.min(ports.intervals.len()) / 3;
    for _ in 0..TRIES {
        if count <= 1 {
            break;
        }
        let program = assemble(interest, &ports.coarser(&gaps, count), host, 8);
        let length = program.len();
        if length <= budget {
            // The last 1 % is not worth another try.
            let is_near = length + length / 100 >= budget;
            if best.len() > budget || length > best.len() {
                best = program;
            }
            if is_near {
                break;
            }
        }
        let next = count * budget / length;
        count = if length > budget { next.min(count - 1) } else { next.max(count + 1) };
    }
    best
}

fn assemble(interest: &Interest, plan: &PortPlan, host: HostProperties<'_>, leaf: usize) -> Vec<Instruction> {
    let mut code = Assembler::default();
    let reject = code.finish(0);
    let accept_whole = interest.has_single_packets().then(|| code.finish(WHOLE_SNAPSHOT));
    let accept = code.finish(SNAPSHOT);
    let accept = [accept, accept_whole.unwrap_or(accept)];

    // The code emitted up to `transport` runs with X = the length of the IP header.
    let mut by_protocol = Vec::new();
    for protocol in [Protocol::Icmp, Protocol::Udp, Protocol::Tcp] {
        let mut by_rules: LiteMap<usize, Label> = LiteMap::new();
        for interval in plan.intervals.iter().filter(|interval| interval.protocol == protocol) {
            if let Some(set) = plan.rules.get(interval.rules) {
                by_rules
                    .entry(interval.rules)
                    .or_insert_with(|| packet_rules(&mut code, protocol, set, accept, reject));
            }
        }
        let intervals: Vec<(Interval, Label)> = plan
            .intervals
            .iter()
            .filter(|interval| interval.protocol == protocol)
            .filter_map(|interval| Some((*interval, *by_rules.get(&interval.rules)?)))
            .collect();
        if !intervals.is_empty() {
            let search = search(&mut code, &intervals, leaf, reject);
            match protocol {
                Protocol::Tcp | Protocol::Udp => {
                    by_protocol.push((protocol.number(true), code.then(LD_HALF_X, 2, search)));
                }
                Protocol::Icmp => {
                    for is_v4 in [true, false] {
                        let request = echo_request(&mut code, is_v4, search, reject);
                        by_protocol.push((protocol.number(is_v4), request));
                    }
                }
            }
        }
    }
    let transport = by_protocol
        .into_iter()
        .fold(reject, |otherwise, (number, found)| code.branch(JUMP_EQUAL, number.into(), found, otherwise));

    let here = if interest.is_at_own_addresses() { host.here } else { &[] };
    let places = Places {
        here,
        targets: interest.targets().filter(|target| !here.contains(target)).collect(),
        own: host.count_once.map_or(host.here, |count_once| &count_once.own),
    };
    let v4 = v4_packet(&mut code, &places, transport, reject);
    let v4 = from_sources(&mut code, interest, true, v4, reject);
    let v6 = if host.only_v4 {
        reject
    } else {
        let v6 = v6_packet(&mut code, &places, transport, reject);
        from_sources(&mut code, interest, false, v6, reject)
    };

    let arriving = untagged(&mut code, v4, v6, reject);
    let mut entry = arriving;
    if let Some(count_once) = host.count_once {
        let leaving = leaving(&mut code, interest, host.only_v4, count_once, transport, reject);
        entry = each_once(&mut code, count_once, arriving, leaving, reject);
    } else if let Some(index) = host.loopback {
        let link = code.branch(JUMP_EQUAL, index, reject, arriving);
        let link = code.then(LD_WORD, INTERFACE, link);
        let direction = code.branch(JUMP_EQUAL, PACKET_OUTGOING, link, arriving);
        entry = code.then(LD_BYTE, PACKET_TYPE, direction);
    }
    code.program(entry)
}

/// Branches on IPv4 and IPv6; rejects everything else, and frames with a VLAN tag. A tag of VLAN 0 carries
/// only a priority: the kernel treats such a frame as untagged (IEEE 802.1Q).
fn untagged(code: &mut Assembler, v4: Label, v6: Label, reject: Label) -> Label {
    let family = code.branch(JUMP_EQUAL, ETHER_TYPE_IPV6, v6, reject);
    let family = code.branch(JUMP_EQUAL, ETHER_TYPE_IPV4, v4, family);
    let family = code.then(LD_HALF, ETHER_TYPE, family);
    let of_no_vlan = code.branch(JUMP_ANY_BIT, VLAN_ID, reject, family);
    let of_no_vlan = code.then(LD_HALF, VLAN_TAG, of_no_vlan);
    let untagged = code.branch(JUMP_EQUAL, 0, family, of_no_vlan);
    code.then(LD_BYTE, VLAN_TAG_PRESENT, untagged)
}

/// With several interfaces, makes each packet count once: rejects packets for other stations, all packets of
/// `counted_elsewhere` interfaces and the outgoing packets of `outgoing_counted_elsewhere` ones.
fn each_once(
    code: &mut Assembler,
    count_once: &CountOnce,
    arriving: Label,
    leaving: Label,
    reject: Label,
) -> Label {
    let leaving = if leaving == reject {
        reject
    } else {
        let leaving = is_one_of(code, &count_once.outgoing_counted_elsewhere, reject, leaving);
        code.then(LD_WORD, INTERFACE, leaving)
    };
    let direction = code.branch(JUMP_EQUAL, PACKET_FOR_OTHERS, reject, arriving);
    let direction = code.branch(JUMP_EQUAL, PACKET_OUTGOING, leaving, direction);
    let direction = code.then(LD_BYTE, PACKET_TYPE, direction);
    let interface = is_one_of(code, &count_once.counted_elsewhere, reject, direction);
    code.then(LD_WORD, INTERFACE, interface)
}

/// Passes packets that this host sends to a target on another host. Packets that it forwards, or sends to
/// itself, count on arrival.
fn leaving(
    code: &mut Assembler,
    interest: &Interest,
    only_v4: bool,
    count_once: &CountOnce,
    transport: Label,
    reject: Label,
) -> Label {
    let elsewhere: Vec<IpAddr> =
        interest.targets().filter(|target| !count_once.own.contains(target)).collect();
    let mut families = [reject; 2];
    for (is_v4, entry) in [true, false].into_iter().zip(&mut families) {
        let of_family = |addresses: &[IpAddr]| -> Vec<IpAddr> {
            addresses.iter().filter(|address| address.is_ipv4() == is_v4).copied().collect()
        };
        let (to, from) = (of_family(&elsewhere), of_family(&count_once.own));
        let most = if is_v4 { MAX_V4_ADDRESSES } else { MAX_V6_ADDRESSES };
        // Too many addresses to check: pass no packet, since missing one is better than counting it twice.
        if to.is_empty() || to.len().max(from.len()) > most || only_v4 && !is_v4 {
            continue;
        }
        let packet = if is_v4 { v4_packet } else { v6_packet };
        let places = Places { here: &[], targets: to, own: &[] };
        let packet = packet(code, &places, transport, reject);
        let packet = from_sources(code, interest, is_v4, packet, reject);
        *entry = from
            .iter()
            .fold(reject, |otherwise, &address| source_in(code, &IpNet::from(address), packet, otherwise));
    }
    let [v4, v6] = families;
    if families == [reject; 2] { reject } else { untagged(code, v4, v6, reject) }
}

/// Branches on whether the interface index in A is one of `indexes`.
fn is_one_of(code: &mut Assembler, indexes: &[u32], yes: Label, no: Label) -> Label {
    fn search(code: &mut Assembler, sorted: &[u32], yes: Label, no: Label) -> Label {
        if sorted.len() > 4 {
            let (left, right) = sorted.split_at(sorted.len() / 2);
            let first = right.first().copied().unwrap_or_default();
            let right = search(code, right, yes, no);
            let left = search(code, left, yes, no);
            return code.branch(JUMP_NOT_BELOW, first, right, left);
        }
        sorted.iter().fold(no, |otherwise, &index| code.branch(JUMP_EQUAL, index, yes, otherwise))
    }
    let mut sorted: Vec<u32> = indexes.iter().copied().take(MAX_INTERFACES).collect();
    sorted.sort_unstable();
    search(code, &sorted, yes, no)
}

/// Passes a packet that one of the rules allows.
fn packet_rules(
    code: &mut Assembler,
    protocol: Protocol,
    set: &[PacketRule],
    [accept, accept_whole]: [Label; 2],
    reject: Label,
) -> Label {
    const TCP_FLAGS: u32 = 13;
    const UDP_LENGTH: u32 = 4;
    const UDP_HEADER: u32 = 8;
    let length_in = |code: &mut Assembler, (least, most): (u16, u16), inside, outside| {
        let (least, most) = (u32::from(least) + UDP_HEADER, u32::from(most) + UDP_HEADER);
        let not_longer = code.branch(JUMP_GREATER, most, outside, inside);
        let not_shorter = code.branch(JUMP_NOT_BELOW, least, not_longer, outside);
        code.then(LD_HALF_X, UDP_LENGTH, not_shorter)
    };
    let (singles, others): (Vec<&PacketRule>, Vec<&PacketRule>) =
        set.iter().partition(|rule| rule.is_single_packet);
    let others = if others.iter().any(|rule| **rule == PacketRule::default()) {
        accept
    } else {
        others.into_iter().fold(reject, |otherwise, rule| match (protocol, rule.udp_length) {
            (Protocol::Tcp, _) => {
                let compare = code.branch(JUMP_EQUAL, rule.flags.set.0.into(), accept, otherwise);
                let mask = code.then(AND, rule.flags.mask().0.into(), compare);
                code.then(LD_BYTE_X, TCP_FLAGS, mask)
            }
            (Protocol::Udp, None) | (Protocol::Icmp, _) => accept,
            (Protocol::Udp, Some(range)) => length_in(code, range, accept, otherwise),
        })
    };
    // Checked first: a single packet must be passed as a whole, even if another rule allows it too.
    singles.into_iter().filter_map(|rule| rule.udp_length).fold(others, |otherwise, range| {
        let first = FIRST_BYTES
            .iter()
            .fold(otherwise, |no, &byte| code.branch(JUMP_EQUAL, byte.into(), accept_whole, no));
        let first = code.then(LD_BYTE_X, UDP_HEADER, first);
        length_in(code, range, first, otherwise)
    })
}

/// Continues at `search` for an echo request, with A = the number of its data bytes according to the IP
/// header.
fn echo_request(code: &mut Assembler, is_v4: bool, search: Label, reject: Label) -> Label {
    const V4_TOTAL_LENGTH: u32 = 2;
    const V6_PAYLOAD_LENGTH: u32 = 4;
    const ECHO_HEADER: u32 = 8;
    let length = code.then(SUBTRACT, ECHO_HEADER, search);
    let length = if is_v4 {
        let length = code.then(SUBTRACT_X, 0, length);
        code.then(LD_HALF, V4_TOTAL_LENGTH, length)
    } else {
        code.then(LD_HALF, V6_PAYLOAD_LENGTH, length)
    };
    // The type, and code 0.
    let kind = u32::from(Protocol::echo_request(is_v4)) << 8;
    let kind = code.branch(JUMP_EQUAL, kind, length, reject);
    code.then(LD_HALF_X, 0, kind)
}

/// Looks up the port in A: binary search down to `leaf` intervals, then one by one.
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
