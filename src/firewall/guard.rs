//! Our own table, which keeps the ports of doors shut where no other firewall does: `Guard`.
//!
//! ```text
//! table inet knockd {
//!     chain prerouting {
//!         type filter hook prerouting priority -150; policy accept;
//!         iif "lo" accept
//!         tcp flags & (fin | syn | rst | ack) != syn accept
//!         tcp dport @tcp_ports jump doors
//!     }
//!     chain doors {
//!         ip saddr 192.168.1.0/24 accept                                      Guard_Except
//!         tcp dport 22 ip saddr != @ssh4 fib daddr type local counter drop    one a port range and IP version
//!         tcp dport 22 ip6 saddr != @ssh6 fib daddr type local counter drop
//!     }
//! }
//! ```
//!
//! A drop is final whatever other tables decide, an accept is not: so the guard can only close. It comes
//! before the translation of destinations (-100), because packets for a port that a container publishes never
//! reach `input`; `fib` leaves alone what this machine forwards to others. TCP is judged by its flags:
//! conntrack takes a session that is older than the table for a new one and would cut it, and it would cost
//! every packet a microsecond. A fragment too short for the flags falls through to the drop. UDP has no
//! flags: there conntrack tells which packets belong to a flow that began while the door was open, so that a
//! session outlives its door as a TCP connection does; a guard without UDP ports does not switch conntrack
//! on.
//!
//! The table is always replaced as a whole, in one transaction, with all elements of its sets.

use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use litemap::LiteMap;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};

use crate::door::Door;
use crate::door::knock::Protocol;
use crate::door::open::{Family, SetName};
use crate::door::ports::Ports;
use crate::firewall::element::{Element, Time, push_all};
use crate::firewall::message::{Attributes, Batch, Kind};
use crate::firewall::rule::{Rule, Verdict};
use crate::sorted;

/// The name of the table.
pub const TABLE: &str = "knockd";
const FAMILY: Family = Family::Inet;

/// Nobody else can change the table while we run (`NFT_TABLE_F_OWNER`), and it stays when we end
/// (`NFT_TABLE_F_PERSIST`, Linux 6.9). With the first flag alone the kernel would remove it when we end, and
/// open everything.
pub const OWNED: u32 = 0x2 | 0x4;

const FILTER: &str = "filter";
const DOORS: &str = "doors";
const PREROUTING: (&str, u32) = ("prerouting", 0);
const INPUT: (&str, u32) = ("input", 1);
/// After conntrack (-200), before destinations are translated (-100).
const PRIORITY: i32 = -150;

// Attributes of tables, chains, rules and sets (NFTA_*).
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_ID: u16 = 10;
const HAS_TIMEOUTS: u32 = 0x10;
/// Key types: the number that nft uses, and the length in bytes.
const IPV4_ADDRESS: (u32, u32) = (7, 4);
const IPV6_ADDRESS: (u32, u32) = (8, 16);
const INET_SERVICE: (u32, u32) = (13, 2);

/// How many sets one rule looks up; a rule of the kernel has room for 128 expressions.
const LOOKUPS: usize = 40;
/// The longest name of a door, in bytes, that the names of its sets begin with unchanged.
const PLAIN_NAME: usize = 64;

/// What a kernel can do for the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// A table can have an owner and outlive it.
    pub owner: bool,
    /// The kernel has `fib`; otherwise the guard is at `input`, after the translation of destinations.
    pub fib: bool,
    /// The kernel has `ct`; otherwise a UDP session ends with its door.
    pub conntrack: bool,
}

impl Abilities {
    /// All of them.
    pub const ALL: Abilities = Abilities { owner: true, fib: true, conntrack: true };
}

/// The table to set up for these doors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    doors: Vec<Guarded>,
    except: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Guarded {
    name: String,
    ports: Vec<Ports>,
    prefixes: (u8, u8),
}

impl Guard {
    /// The guard of the doors with `Guard`; `None` if there are no such doors.
    #[must_use]
    pub fn of(doors: &[Door], except: &[IpNet]) -> Option<Guard> {
        let names = names(doors);
        let guarded: Vec<Guarded> = doors
            .iter()
            .zip(names)
            .filter_map(|(door, name)| {
                let open = door.open.as_ref().filter(|open| open.is_guarded)?;
                Some(Guarded { name, ports: open.ports().to_vec(), prefixes: door.rules.open.prefixes })
            })
            .collect();
        (!guarded.is_empty()).then(|| Guard { doors: guarded, except: except.to_vec() })
    }

    /// All sets of addresses, and whether they are for IPv6.
    pub fn sets(&self) -> impl Iterator<Item = (SetName, bool)> {
        self.doors.iter().flat_map(|door| [false, true].map(|is_v6| (set_name(&door.name, is_v6), is_v6)))
    }

    /// All ports that are guarded, each once, sorted.
    #[must_use]
    pub fn ports(&self) -> Vec<Ports> {
        self.groups().into_iter().map(|(ports, _)| ports).collect()
    }

    /// Whether this port is guarded.
    #[must_use]
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.doors.iter().any(|door| door.ports.iter().any(|ports| ports.contains(protocol, port)))
    }

    /// Port ranges that do not overlap, each with the doors that open it.
    fn groups(&self) -> Vec<(Ports, Vec<&Guarded>)> {
        let mut groups = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            // The ports at which doors begin, or have ended. 32 bits, because a range that ends with 65535
            // has ended at 65536.
            let mut changes: LiteMap<u32, (Vec<usize>, Vec<usize>)> = LiteMap::new();
            for (index, door) in self.doors.iter().enumerate() {
                for ports in door.ports.iter().filter(|ports| ports.protocol == protocol) {
                    changes.entry(ports.first.into()).or_default().0.push(index);
                    changes.entry(u32::from(ports.last) + 1).or_default().1.push(index);
                }
            }
            let mut open: LiteMap<usize, usize> = LiteMap::new();
            let mut begin = 0;
            for (at, (begins, ends)) in changes {
                let doors: Vec<&Guarded> = open.keys().filter_map(|index| self.doors.get(*index)).collect();
                if let (false, Ok(first), Ok(last)) =
                    (doors.is_empty(), u16::try_from(begin), u16::try_from(at.saturating_sub(1)))
                {
                    groups.push((Ports { protocol, first, last }, doors));
                }
                for index in begins {
                    *open.entry(index).or_default() += 1;
                }
                for index in ends {
                    if let Some(count) = open.get_mut(&index) {
                        *count -= 1;
                    }
                    open.retain(|_, count| *count > 0);
                }
                begin = at;
            }
        }
        groups
    }

    /// The table as one transaction. If it `replaces` something, the present table is removed, with all
    /// elements of its sets. The new sets contain `elements`, except those of sets that this guard does not
    /// have.
    #[must_use]
    pub fn batch(
        &self,
        first: u32,
        replaces: bool,
        abilities: Abilities,
        elements: &LiteMap<SetName, Vec<(Element, Option<Duration>)>>,
    ) -> Batch {
        let mut batch = Batch::new(first);
        if replaces {
            remove(&mut batch);
        }
        let table = Attributes::new().text(TABLE_NAME, TABLE);
        let table = if abilities.owner { table.number(TABLE_FLAGS, OWNED) } else { table };
        batch.add(Kind::NewTable, NLM_F_CREATE | NLM_F_EXCL, FAMILY, &table);
        let mut id = 0;
        let mut set = |batch: &mut Batch, name: &str, flags: u32, (kind, length): (u32, u32)| {
            id += 1;
            let attributes = Attributes::new()
                .text(SET_TABLE, TABLE)
                .text(SET_NAME, name)
                .number(SET_FLAGS, flags)
                .number(SET_KEY_TYPE, kind)
                .number(SET_KEY_LENGTH, length)
                .number(SET_ID, id);
            batch.add(Kind::NewSet, NLM_F_CREATE | NLM_F_EXCL, FAMILY, &attributes);
        };
        for (name, is_v6) in self.sets() {
            set(&mut batch, &name.set, HAS_TIMEOUTS, if is_v6 { IPV6_ADDRESS } else { IPV4_ADDRESS });
            let inside = elements.get(&name).into_iter().flatten();
            push_all(&mut batch, &name, inside.map(|(element, left)| (element, left.map(Time::For))));
        }
        let groups = self.groups();
        let (base, hook) = if abilities.fib { PREROUTING } else { INPUT };
        chain(&mut batch, base, Some(hook));
        chain(&mut batch, DOORS, None);
        let add = |batch: &mut Batch, chain: &str, rule: &Rule| {
            let attributes = Attributes::new().text(RULE_TABLE, TABLE).text(RULE_CHAIN, chain);
            let attributes = attributes.nested(RULE_EXPRESSIONS, rule.expressions());
            batch.add(Kind::NewRule, NLM_F_CREATE | NLM_F_APPEND, FAMILY, &attributes);
        };
        add(&mut batch, base, &Rule::new().from_loopback().then(Verdict::Accept));
        add(&mut batch, base, &Rule::new().of_later_tcp_segments().then(Verdict::Accept));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let of_protocol: Vec<Ports> =
                groups.iter().map(|(ports, _)| *ports).filter(|ports| ports.protocol == protocol).collect();
            let (single, ranges): (Vec<Ports>, Vec<Ports>) =
                of_protocol.into_iter().partition(|ports| ports.first == ports.last);
            let mut ways = Vec::new();
            if !single.is_empty() {
                let name = format!("{protocol}_ports");
                set(&mut batch, &name, 0, INET_SERVICE);
                let elements: Vec<Element> =
                    single.iter().map(|ports| Element::of_port(ports.first)).collect();
                let set = SetName { family: FAMILY, table: TABLE.to_owned(), set: name.clone() };
                push_all(&mut batch, &set, elements.iter().map(|element| (element, None)));
                ways.push(Rule::new().of_protocol(protocol).to_ports_in(&name));
            }
            ways.extend(
                joined(&ranges).into_iter().map(|ports| Rule::new().of_protocol(protocol).to_ports(ports)),
            );
            for rule in ways {
                if protocol == Protocol::Udp && abilities.conntrack {
                    add(&mut batch, base, &rule.clone().of_a_known_flow().then(Verdict::Accept));
                }
                add(&mut batch, base, &rule.then(Verdict::Jump(DOORS)));
            }
        }
        for except in &self.except {
            add(&mut batch, DOORS, &Rule::new().from_network(*except).then(Verdict::Accept));
        }
        for (ports, doors) in &groups {
            for is_v6 in [false, true] {
                let rule = || {
                    let rule = Rule::new().of_version(is_v6).of_protocol(ports.protocol);
                    rule.to_ports(*ports).source(is_v6)
                };
                let (some, more) = doors.split_at(doors.len().min(LOOKUPS));
                for door in more {
                    let open = rule().source_is_in(&plain_set_name(&door.name, is_v6), door.network(is_v6));
                    add(&mut batch, DOORS, &open.then(Verdict::Accept));
                }
                let shut = some.iter().fold(rule(), |rule, door| {
                    rule.source_is_not_in(&plain_set_name(&door.name, is_v6), door.network(is_v6))
                });
                let shut = if abilities.fib { shut.to_us() } else { shut };
                add(&mut batch, DOORS, &shut.counted().then(Verdict::Drop));
            }
        }
        batch
    }
}

impl Guarded {
    /// A network with the door's prefix length; its address does not matter.
    fn network(&self, is_v6: bool) -> IpNet {
        if is_v6 {
            IpNet::V6(Ipv6Net::new([0; 16].into(), self.prefixes.1).unwrap_or_default())
        } else {
            IpNet::V4(Ipv4Net::new([0; 4].into(), self.prefixes.0).unwrap_or_default())
        }
    }
}

/// Adds the removal of the table to a batch.
pub fn remove(batch: &mut Batch) {
    batch.add(Kind::DelTable, 0, FAMILY, &Attributes::new().text(TABLE_NAME, TABLE));
}

fn chain(batch: &mut Batch, name: &str, hook: Option<u32>) {
    let chain = Attributes::new().text(CHAIN_TABLE, TABLE).text(CHAIN_NAME, name);
    let chain = match hook {
        Some(number) => {
            let hook =
                Attributes::new().number(HOOK_NUMBER, number).bytes(HOOK_PRIORITY, &PRIORITY.to_be_bytes());
            chain.nested(CHAIN_HOOK, &hook).number(CHAIN_POLICY, 1).text(CHAIN_TYPE, FILTER)
        }
        None => chain,
    };
    batch.add(Kind::NewChain, NLM_F_CREATE | NLM_F_EXCL, FAMILY, &chain);
}

/// Joins ranges that follow each other: a later rule distinguishes their doors.
fn joined(ranges: &[Ports]) -> Vec<Ports> {
    let mut joined: Vec<Ports> = Vec::new();
    for ports in ranges {
        match joined.last_mut() {
            Some(before) if u32::from(before.last) + 1 == u32::from(ports.first) => before.last = ports.last,
            _ => joined.push(*ports),
        }
    }
    joined
}

/// The names of the sets of these doors, without the digit of the IP version: the door's name if nft can
/// parse it, and always the same for the same list of names.
#[must_use]
pub fn names(doors: &[Door]) -> Vec<String> {
    let mut times: LiteMap<&str, u32> = LiteMap::new();
    let mut plain: Vec<&str> = doors.iter().map(|door| &*door.name).filter(|name| is_plain(name)).collect();
    plain.sort_unstable();
    let mut taken: Vec<String> = Vec::new();
    doors
        .iter()
        .map(|door| {
            let time = times.entry(&door.name).or_default();
            *time += 1;
            if *time == 1 && is_plain(&door.name) {
                return door.name.to_string();
            }
            // A name that no door has, and that no other name is converted to.
            let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
            let readable: String = door.name.chars().map(letter).take(PLAIN_NAME).collect();
            let mut number = *time;
            loop {
                let name = format!("door_{readable}_{number}_");
                if plain.binary_search(&name.as_str()).is_err() && sorted::insert(&mut taken, name.clone()) {
                    return name;
                }
                number += 1;
            }
        })
        .collect()
}

/// Whether a set's name may begin with this, unchanged.
fn is_plain(name: &str) -> bool {
    // "doors" and the like would do no harm, but the sets of ports are called `tcp_ports` and `udp_ports`.
    let is_other = name.starts_with("tcp_port") || name.starts_with("udp_port");
    let mut characters = name.chars();
    !is_other
        && name.len() <= PLAIN_NAME
        && characters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The sets of these doors for IPv4 and for IPv6, in the order of the doors.
#[must_use]
pub fn sets_of(doors: &[Door]) -> Vec<[Arc<SetName>; 2]> {
    let sets = |name: String| [false, true].map(|is_v6| Arc::new(set_name(&name, is_v6)));
    names(doors).into_iter().map(sets).collect()
}

fn plain_set_name(door: &str, is_v6: bool) -> String {
    format!("{door}{}", if is_v6 { 6 } else { 4 })
}

/// The set of the guard for a door, by the name that [`names`] gave it.
fn set_name(door: &str, is_v6: bool) -> SetName {
    SetName { family: FAMILY, table: TABLE.to_owned(), set: plain_set_name(door, is_v6) }
}
