//! What we listen for, as a predicate.
//!
//! A packet that is of interest to no door does not exist: it neither counts nor resets anything.
//! The kernel's filter is made from the same data and may pass more; what is said here decides.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::door::Door;
use crate::knock::{FlagRule, Knock, Protocol};
use crate::lock::Lock;
use crate::sequence::Sequence;

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
    rules: Vec<Vec<FlagRule>>,
}

/// Ports that somebody wants, before they are sorted out.
type Wish = (Protocol, u16, u16, FlagRule);

impl Ports {
    /// Sorts wishes, which may overlap, into intervals, which do not.
    fn of(wishes: &[Wish]) -> Ports {
        let mut ports = Ports::default();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            // Where a wish begins (+1) and where it is over (-1), by port; 65536 is beyond the last.
            let mut edges: BTreeMap<u32, Vec<(FlagRule, i32)>> = BTreeMap::new();
            for &(_, low, high, rule) in wishes.iter().filter(|wish| wish.0 == protocol) {
                // UDP has no flags: all its rules are the same.
                let rule = if protocol == Protocol::Udp { FlagRule::default() } else { rule };
                edges.entry(low.into()).or_default().push((rule, 1));
                edges.entry(u32::from(high) + 1).or_default().push((rule, -1));
            }
            let mut active: BTreeMap<FlagRule, i32> = BTreeMap::new();
            let mut open: Option<(u16, usize)> = None;
            for (edge, changes) in edges {
                for (rule, change) in changes {
                    let count = active.entry(rule).or_default();
                    *count += change;
                    if *count == 0 {
                        active.remove(&rule);
                    }
                }
                let next = (!active.is_empty()).then(|| ports.rule_set(active.keys().copied().collect()));
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
        ports
    }

    fn rule_set(&mut self, mut set: Vec<FlagRule>) -> usize {
        // A rule that asks for nothing makes the others idle.
        if set.contains(&FlagRule::default()) {
            set = vec![FlagRule::default()];
        }
        self.rules.iter().position(|known| *known == set).unwrap_or_else(|| {
            self.rules.push(set);
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
    pub fn rules(&self) -> &[Vec<FlagRule>] {
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

/// What the doors together listen for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    here: Ports,
    targets: HashMap<IpAddr, Ports>,
    all: Ports,
}

impl Interest {
    /// What these doors listen for now and, of one-time files, for `ahead` lines more.
    #[must_use]
    pub fn of(doors: &[Door], ahead: usize) -> Interest {
        let mut here = Vec::new();
        let mut targets: HashMap<IpAddr, Vec<Wish>> = HashMap::new();
        let mut all = Vec::new();
        for door in doors {
            let wishes = match door.target {
                None => &mut here,
                Some(target) => targets.entry(target).or_default(),
            };
            let from = wishes.len();
            wish(door, ahead, wishes);
            all.extend_from_slice(wishes.get(from..).unwrap_or_default());
        }
        Interest {
            here: Ports::of(&here),
            targets: targets.into_iter().map(|(target, wishes)| (target, Ports::of(&wishes))).collect(),
            all: Ports::of(&all),
        }
    }

    /// Whether a packet exists for us; `own` tells whether its destination is one of our addresses.
    #[must_use]
    pub fn includes(&self, knock: &Knock, own: bool) -> bool {
        (own && self.here.includes(knock))
            || self.targets.get(&knock.destination).is_some_and(|ports| ports.includes(knock))
    }

    /// Whether some door listens for knocks at our own addresses.
    #[must_use]
    pub fn is_for_us(&self) -> bool {
        !self.here.intervals.is_empty()
    }

    /// The addresses of others that doors listen for.
    pub fn targets(&self) -> impl Iterator<Item = IpAddr> {
        self.targets.keys().copied()
    }

    /// All ports of all doors, whichever address they are for.
    #[must_use]
    pub fn ports(&self) -> &Ports {
        &self.all
    }
}

fn wish(door: &Door, ahead: usize, wishes: &mut Vec<Wish>) {
    let sequences = match &door.lock {
        Lock::Fixed(sequence) => vec![sequence],
        Lock::OneTime(lines) => lines.lines().take(1 + ahead).collect(),
        Lock::Otp(lock) => {
            // All that may ever be on a list: a wrong guess costs the attempt, and the filter need
            // not change with the period.
            wishes.extend(lock.otp.ranges().map(|(protocol, low, high)| (protocol, low, high, door.flags)));
            return;
        }
    };
    for stage in sequences.into_iter().flat_map(Sequence::stages) {
        wishes.push((stage.protocol, stage.port, stage.port, door.flags));
    }
}
