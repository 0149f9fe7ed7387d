//! Which packets the doors listen for, as a predicate.
//!
//! A packet that is of interest to no door is ignored: it neither advances nor fails an attempt. The
//! kernel's filter is generated from the same data and may pass more; this predicate decides.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::door::Door;
use crate::door::knock::{FlagRule, Knock, PacketRule, Protocol};
use crate::door::lock::Lock;
use crate::door::rules::Prefixes;
use crate::door::sequence::Sequence;
use crate::door::spa;

/// A range of ports with the same rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// TCP, UDP or ICMP, whose lengths take the place of ports.
    pub protocol: Protocol,
    /// The first port.
    pub low: u16,
    /// The last port; not below `low`.
    pub high: u16,
    /// The index of the rule set in [`Ports::rules`].
    pub rules: usize,
}

/// A set of ports, each with a rule set; at least one rule of the set must allow a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    intervals: Vec<Interval>,
    rules: Vec<Vec<PacketRule>>,
}

/// The rules that apply at a port, sorted, each with the number of ranges that require it. There are never
/// many.
#[derive(Default)]
struct ActiveRules(Vec<(PacketRule, i32)>);

impl ActiveRules {
    fn change(&mut self, rule: PacketRule, change: i32) {
        let place = self.0.binary_search_by_key(&rule, |(rule, _)| *rule);
        let at = place.unwrap_or_else(|at| {
            self.0.insert(at, (rule, 0));
            at
        });
        let Some((_, count)) = self.0.get_mut(at) else { return };
        *count += change;
        if *count == 0 {
            self.0.remove(at);
        }
    }
}

/// Ports that a door wants: protocol, first port, last port, rule.
type WantedPorts = (Protocol, u16, u16, PacketRule);

impl Ports {
    /// Merges ranges, which may overlap, into intervals, which do not.
    fn of(wanted: &[WantedPorts]) -> Ports {
        let mut ports = Ports::default();
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
            // The first port of each range (+1) and the port after its last (-1), up to 65536.
            let mut edges: Vec<(u32, PacketRule, i32)> = Vec::new();
            for &(_, low, high, rule) in wanted.iter().filter(|range| range.0 == protocol) {
                // Drop the part for other protocols, so that equal rules compare equal.
                let rule = match protocol {
                    Protocol::Tcp => PacketRule { flags: rule.flags, ..PacketRule::default() },
                    Protocol::Udp => PacketRule { flags: FlagRule::default(), ..rule },
                    Protocol::Icmp => PacketRule::default(),
                };
                edges.extend([(low.into(), rule, 1), (u32::from(high) + 1, rule, -1)]);
            }
            edges.sort_unstable();
            let mut active = ActiveRules::default();
            let mut open: Option<(u16, usize)> = None;
            for changes in edges.chunk_by(|a, b| a.0 == b.0) {
                let edge = changes.first().map_or(0, |change| change.0);
                for &(_, rule, change) in changes {
                    active.change(rule, change);
                }
                let next = (!active.0.is_empty()).then(|| ports.rule_set(&active));
                if let Some((low, rules)) = open {
                    if next == Some(rules) {
                        continue;
                    }
                    let high = u16::try_from(edge - 1).unwrap_or(u16::MAX);
                    ports.intervals.push(Interval { protocol, low, high, rules });
                }
                open = next.and_then(|rules| Some((u16::try_from(edge).ok()?, rules)));
            }
        }
        ports.intervals.shrink_to_fit();
        ports
    }

    fn rule_set(&mut self, active: &ActiveRules) -> usize {
        let anything = PacketRule::default();
        let has_anything = active.0.iter().any(|(rule, _)| *rule == anything);
        // A rule that allows everything makes the others redundant, except those that pass the packet as a
        // whole.
        let is_needed = |rule: &PacketRule| !has_anything || *rule == anything || rule.is_single_packet;
        let set = || active.0.iter().map(|(rule, _)| *rule).filter(is_needed);
        self.rules.iter().position(|known| known.iter().copied().eq(set())).unwrap_or_else(|| {
            self.rules.push(set().collect());
            self.rules.len() - 1
        })
    }

    /// The intervals: TCP, UDP, ICMP, each ascending, not overlapping.
    #[must_use]
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// The rule sets that the intervals refer to.
    #[must_use]
    pub fn rules(&self) -> &[Vec<PacketRule>] {
        &self.rules
    }

    #[cfg_attr(has_optimize_attribute, optimize(speed))]
    fn includes(&self, knock: &Knock) -> bool {
        let at = self
            .intervals
            .partition_point(|interval| (interval.protocol, interval.high) < (knock.protocol, knock.port));
        self.intervals
            .get(at)
            .filter(|interval| interval.protocol == knock.protocol && interval.low <= knock.port)
            .and_then(|interval| self.rules.get(interval.rules))
            .is_some_and(|set| set.iter().any(|rule| rule.allows(knock)))
    }
}

/// Ports at this host's addresses, and at the targets of doors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Destinations {
    here: Ports,
    targets: HashMap<IpAddr, Ports>,
}

impl Destinations {
    fn of(doors: &[Door], add_ports: impl Fn(&Door, &mut Vec<WantedPorts>)) -> Destinations {
        let mut here = Vec::new();
        let mut targets: HashMap<IpAddr, Vec<WantedPorts>> = HashMap::new();
        for door in doors {
            match door.target {
                None => add_ports(door, &mut here),
                Some(target) => add_ports(door, targets.entry(target).or_default()),
            }
        }
        let targets = targets.into_iter().map(|(target, wanted)| (target, Ports::of(&wanted))).collect();
        Destinations { here: Ports::of(&here), targets }
    }

    #[cfg_attr(has_optimize_attribute, optimize(speed))]
    fn include(&self, knock: &Knock, own: bool) -> bool {
        (own && self.here.includes(knock))
            || self.targets.get(&knock.destination).is_some_and(|ports| ports.includes(knock))
    }
}

/// The packets that the doors together listen for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// The stages of all doors.
    knocks: Destinations,
    /// The hits that fail attempts on strict doors.
    hits: Destinations,
    /// Single packets.
    singles: Destinations,
    /// The ports of all three, at any address; `None` if that is the same as `knocks.here`.
    all: Option<Ports>,
    sources: Sources,
}

/// The sources whose packets can be of interest to any door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Only these; `None` unless every door has `Allow`.
    pub allow: Option<Vec<IpNet>>,
    /// Except these, which every door denies.
    pub deny: Vec<IpNet>,
}

impl Interest {
    /// The interest of these doors now, and for the next `ahead` lines of one-time files.
    #[must_use]
    pub fn of(doors: &[Door], ahead: usize) -> Interest {
        let knocks = Destinations::of(doors, |door, wanted| add_knock_ports(door, ahead, wanted));
        let hits = Destinations::of(doors, add_hit_ports);
        let singles = Destinations::of(doors, add_single_packet_ports);
        let nothing = Destinations::default();
        let is_simple = knocks.targets.is_empty() && hits == nothing && singles == nothing;
        let all = (!is_simple).then(|| {
            let mut all = Vec::new();
            for door in doors {
                add_knock_ports(door, ahead, &mut all);
                add_hit_ports(door, &mut all);
                add_single_packet_ports(door, &mut all);
            }
            Ports::of(&all)
        });
        Interest { knocks, hits, singles, all, sources: sources(doors) }
    }

    /// Whether a packet may be a knock; `own` says whether its destination is one of this host's
    /// addresses.
    #[must_use]
    #[cfg_attr(has_optimize_attribute, optimize(speed))]
    pub fn includes(&self, knock: &Knock, own: bool) -> bool {
        self.knocks.include(knock, own)
    }

    /// Whether a packet may fail an attempt on a strict door.
    #[must_use]
    #[cfg_attr(has_optimize_attribute, optimize(speed))]
    pub fn includes_hit(&self, knock: &Knock, own: bool) -> bool {
        self.hits.include(knock, own)
    }

    /// Whether a packet may be a single packet for some door, as far as its header tells.
    #[must_use]
    pub fn includes_single_packet(&self, knock: &Knock, own: bool) -> bool {
        self.singles.include(knock, own)
    }

    /// Whether some door accepts single packets, so that packets are needed as a whole.
    #[must_use]
    pub fn has_single_packets(&self) -> bool {
        self.singles != Destinations::default()
    }

    /// Whether some door listens at this host's addresses.
    #[must_use]
    pub fn is_at_own_addresses(&self) -> bool {
        !(self.knocks.here.intervals.is_empty() && self.singles.here.intervals.is_empty())
    }

    /// The targets of all doors.
    pub fn targets(&self) -> impl Iterator<Item = IpAddr> {
        let singles = self.singles.targets.keys().filter(|target| !self.knocks.targets.contains_key(target));
        self.knocks.targets.keys().chain(singles).copied()
    }

    /// All ports of all doors, at any address.
    #[must_use]
    pub fn ports(&self) -> &Ports {
        self.all.as_ref().unwrap_or(&self.knocks.here)
    }

    /// The sources whose packets can be of interest.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }
}

fn add_knock_ports(door: &Door, ahead: usize, wanted: &mut Vec<WantedPorts>) {
    let rule = door.packet_rule();
    let sequences = match &door.lock {
        Lock::Fixed(sequence) => vec![sequence],
        Lock::OneTime(lines) => lines.lines().take(1 + ahead).collect(),
        Lock::Otp(lock) => {
            // All ports that a list can ever have: a wrong guess must fail the attempt, and the filter
            // need not change with the period.
            for (protocol, low, high) in lock.otp.ranges() {
                wanted.push((protocol, low, high, rule));
            }
            return;
        }
        // A single packet is not a knock, and fails no attempt either.
        Lock::Spa(_) => return,
    };
    for stage in sequences.into_iter().flat_map(Sequence::stages) {
        wanted.push((stage.protocol, stage.port, stage.port, rule));
    }
}

fn add_single_packet_ports(door: &Door, wanted: &mut Vec<WantedPorts>) {
    let Lock::Spa(lock) = &door.lock else { return };
    let length = |bytes| u16::try_from(bytes).unwrap_or(u16::MAX);
    let rule = PacketRule {
        udp_length: Some((length(spa::MIN_PACKET), length(spa::MAX_PACKET))),
        is_single_packet: true,
        ..PacketRule::default()
    };
    wanted.push((Protocol::Udp, lock.port, lock.port, rule));
}

/// Hits on all ports but the excepted ones.
fn add_hit_ports(door: &Door, wanted: &mut Vec<WantedPorts>) {
    if !door.rules.is_strict {
        return;
    }
    let [opens, knocks] = door.hit_flags().map(|flags| PacketRule { flags, ..PacketRule::default() });
    let rules = if opens == knocks { vec![opens] } else { vec![opens, knocks] };
    let mut add = |protocol, low, high| wanted.extend(rules.iter().map(|rule| (protocol, low, high, *rule)));
    let echo = door.lock.has_echo().then_some(Protocol::Icmp);
    for protocol in [Protocol::Tcp, Protocol::Udp].into_iter().chain(echo) {
        let mut excepted: Vec<u16> = door
            .rules
            .strict_except
            .iter()
            .filter(|stage| stage.protocol == protocol)
            .map(|stage| stage.port)
            .collect();
        excepted.sort_unstable();
        let mut low = Some(0);
        for port in excepted {
            if let Some(low) = low
                && low < port
            {
                add(protocol, low, port - 1);
            }
            low = port.checked_add(1);
        }
        if let Some(low) = low {
            add(protocol, low, u16::MAX);
        }
    }
}

fn sources(doors: &[Door]) -> Sources {
    let allow: Option<Vec<IpNet>> = doors
        .iter()
        .map(|door| door.rules.allow.as_ref().map(|allow| allow.prefixes().to_vec()))
        .collect::<Option<Vec<_>>>()
        .filter(|lists| !lists.is_empty())
        .map(|lists| Prefixes::new(&lists.concat()).prefixes().to_vec());
    let mut deny = doors.first().map(|door| door.rules.deny.prefixes().to_vec()).unwrap_or_default();
    deny.retain(|prefix| doors.iter().all(|door| door.rules.deny.prefixes().contains(prefix)));
    Sources { allow, deny }
}
