//! What we listen for, as a predicate.
//!
//! A packet that is of interest to no door does not exist: it neither counts nor resets anything.
//! The kernel's filter is made from the same data and may pass more; what is said here decides.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::door::Door;
use crate::door::knock::{FlagRule, Flags, Knock, PacketRule, Protocol};
use crate::door::lock::Lock;
use crate::door::rules::Prefixes;
use crate::door::sequence::Sequence;

/// Neighbouring ports that are treated alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The first port.
    pub low: u16,
    /// The last port; not below `low`.
    pub high: u16,
    /// Which of the rule sets holds for them.
    pub rules: usize,
}

/// A set of ports, each with the flag rules of which a packet must fit at least one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    intervals: Vec<Interval>,
    rules: Vec<Vec<PacketRule>>,
}

/// The rules that hold at a port, in order, each with how many want it. There are never many.
#[derive(Default)]
struct Active(Vec<(PacketRule, i32)>);

impl Active {
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

/// Ports that somebody wants, before they are sorted out.
type Wish = (Protocol, u16, u16, PacketRule);

impl Ports {
    /// Sorts wishes, which may overlap, into intervals, which do not.
    fn of(wishes: &[Wish]) -> Ports {
        let mut ports = Ports::default();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            // Where a wish begins (+1) and where it is over (-1), by port; 65536 is beyond the last.
            let mut edges: Vec<(u32, PacketRule, i32)> = Vec::new();
            for &(_, low, high, rule) in wishes.iter().filter(|wish| wish.0 == protocol) {
                // What says nothing of this protocol does not tell rules apart.
                let rule = match protocol {
                    Protocol::Tcp => PacketRule { udp_length: None, ..rule },
                    Protocol::Udp => PacketRule { flags: FlagRule::default(), ..rule },
                };
                edges.extend([(low.into(), rule, 1), (u32::from(high) + 1, rule, -1)]);
            }
            edges.sort_unstable();
            let mut active = Active::default();
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

    fn rule_set(&mut self, active: &Active) -> usize {
        let anything = PacketRule::default();
        let has_anything = active.0.iter().any(|(rule, _)| *rule == anything);
        // A rule that asks for nothing makes the others idle.
        let set = || active.0.iter().map(|(rule, _)| *rule).filter(|rule| !has_anything || *rule == anything);
        self.rules.iter().position(|known| known.iter().copied().eq(set())).unwrap_or_else(|| {
            self.rules.push(set().collect());
            self.rules.len() - 1
        })
    }

    /// The intervals: TCP before UDP, ascending, not overlapping.
    #[must_use]
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// The rule sets that the intervals refer to.
    #[must_use]
    pub fn rules(&self) -> &[Vec<PacketRule>] {
        &self.rules
    }

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

/// Ports at our own addresses, and at those of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Places {
    here: Ports,
    targets: HashMap<IpAddr, Ports>,
}

impl Places {
    fn of(doors: &[Door], wish: impl Fn(&Door, &mut Vec<Wish>)) -> Places {
        let mut here = Vec::new();
        let mut targets: HashMap<IpAddr, Vec<Wish>> = HashMap::new();
        for door in doors {
            match door.target {
                None => wish(door, &mut here),
                Some(target) => wish(door, targets.entry(target).or_default()),
            }
        }
        let targets = targets.into_iter().map(|(target, wishes)| (target, Ports::of(&wishes))).collect();
        Places { here: Ports::of(&here), targets }
    }

    fn include(&self, knock: &Knock, own: bool) -> bool {
        (own && self.here.includes(knock))
            || self.targets.get(&knock.destination).is_some_and(|ports| ports.includes(knock))
    }
}

/// What the doors together listen for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Knocks: what is on some door's list.
    knocks: Places,
    /// Hits: what fails attempts on strict doors.
    hits: Places,
    /// Both, at whichever address, where that is more than the knocks at our own addresses.
    all: Option<Ports>,
    sources: Sources,
}

/// Whose packets are of interest to no door, whatever they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// All but these, if every door names who may knock.
    pub allow: Option<Vec<IpNet>>,
    /// These, where every door says so.
    pub deny: Vec<IpNet>,
}

impl Interest {
    /// What these doors listen for now and, of one-time files, for `ahead` lines more.
    #[must_use]
    pub fn of(doors: &[Door], ahead: usize) -> Interest {
        let knocks = Places::of(doors, |door, wishes| wish_knocks(door, ahead, wishes));
        let hits = Places::of(doors, wish_hits);
        let is_simple = knocks.targets.is_empty() && hits == Places::default();
        let all = (!is_simple).then(|| {
            let mut all = Vec::new();
            for door in doors {
                wish_knocks(door, ahead, &mut all);
                wish_hits(door, &mut all);
            }
            Ports::of(&all)
        });
        Interest { knocks, hits, all, sources: sources(doors) }
    }

    /// Whether a packet may be a knock; `own` tells whether its destination is one of our addresses.
    #[must_use]
    pub fn includes(&self, knock: &Knock, own: bool) -> bool {
        self.knocks.include(knock, own)
    }

    /// Whether a packet may fail an attempt on a strict door.
    #[must_use]
    pub fn includes_hit(&self, knock: &Knock, own: bool) -> bool {
        self.hits.include(knock, own)
    }

    /// Whether some door listens for knocks at our own addresses.
    #[must_use]
    pub fn is_for_us(&self) -> bool {
        !self.knocks.here.intervals.is_empty()
    }

    /// The addresses of others that doors listen for.
    pub fn targets(&self) -> impl Iterator<Item = IpAddr> {
        self.knocks.targets.keys().copied()
    }

    /// All ports of all doors, whichever address they are for.
    #[must_use]
    pub fn ports(&self) -> &Ports {
        self.all.as_ref().unwrap_or(&self.knocks.here)
    }

    /// Whose packets count at all.
    #[must_use]
    pub fn sources(&self) -> &Sources {
        &self.sources
    }
}

fn wish_knocks(door: &Door, ahead: usize, wishes: &mut Vec<Wish>) {
    let rule = door.packet_rule();
    let sequences = match &door.lock {
        Lock::Fixed(sequence) => vec![sequence],
        Lock::OneTime(lines) => lines.lines().take(1 + ahead).collect(),
        Lock::Otp(lock) => {
            // All that may ever be on a list: a wrong guess costs the attempt, and the filter need
            // not change with the period.
            wishes.extend(lock.otp.ranges().map(|(protocol, low, high)| (protocol, low, high, rule)));
            return;
        }
    };
    for stage in sequences.into_iter().flat_map(Sequence::stages) {
        wishes.push((stage.protocol, stage.port, stage.port, rule));
    }
}

/// Every port but the excepted ones, of packets that begin something.
fn wish_hits(door: &Door, wishes: &mut Vec<Wish>) {
    if !door.rules.is_strict {
        return;
    }
    let rule = PacketRule { flags: FlagRule { set: Flags::SYN, clear: Flags::ACK }, udp_length: None };
    for protocol in [Protocol::Tcp, Protocol::Udp] {
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
                wishes.push((protocol, low, port - 1, rule));
            }
            low = port.checked_add(1);
        }
        if let Some(low) = low {
            wishes.push((protocol, low, u16::MAX, rule));
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
