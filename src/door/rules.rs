//! Rules that a door can add, against scanners and noise. A rule is data; the engine asks here.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::door::knock::{Flags, Knock, Protocol};
use crate::door::sequence::Stage;

/// What a door asks beyond its sequence. The default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Any other hit of the knocker fails the attempt, whatever the port.
    pub is_strict: bool,
    /// Hits that do not: services in use.
    pub strict_except: Vec<Stage>,
    /// A repeat of the stage just reached is ignored.
    pub allows_duplicates: bool,
    /// Who may knock; everybody, if there are none.
    pub allow: Option<Prefixes>,
    /// Who may not, whatever `allow` says.
    pub deny: Prefixes,
    /// How long a knocker's knocks are ignored after it opened the door.
    pub cooldown: Duration,
    /// How many payload bytes a datagram has that counts: the least and the most.
    pub udp_length: Option<(u16, u16)>,
    /// How often the sequence must be made.
    pub repeat: Option<Repeat>,
    /// Wrong knocks are logged.
    pub logs_failures: bool,
}

/// `Repeat = TIMES in SECONDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// How often the sequence must be made; at least once.
    pub times: u8,
    /// Within which time.
    pub within: Duration,
}

impl Rules {
    /// Whether this knocker may knock at all.
    #[must_use]
    pub fn admit(&self, knocker: IpAddr) -> bool {
        !self.deny.contains(knocker) && self.allow.as_ref().is_none_or(|allow| allow.contains(knocker))
    }

    /// Whether this packet, which is not the next stage, fails an attempt under the strict rule.
    #[must_use]
    pub fn is_other_hit(&self, knock: &Knock) -> bool {
        self.is_strict && is_hit(knock) && !self.strict_except.contains(&Stage::of(knock))
    }
}

/// Whether a packet begins something: a TCP segment with SYN and without ACK, or any datagram.
#[must_use]
pub fn is_hit(knock: &Knock) -> bool {
    match (knock.protocol, knock.flags) {
        (Protocol::Udp, _) => true,
        (Protocol::Tcp, Some(flags)) => flags.contains(Flags::SYN) && !flags.contains(Flags::ACK),
        (Protocol::Tcp, None) => false,
    }
}

/// A set of addresses, written as prefixes of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes(Vec<IpNet>);

impl Prefixes {
    /// The addresses that at least one of the prefixes has.
    #[must_use]
    pub fn new(prefixes: &[IpNet]) -> Prefixes {
        let truncated: Vec<IpNet> = prefixes.iter().map(IpNet::trunc).collect();
        // Joined and not overlapping, so that one look decides.
        let mut joined = IpNet::aggregate(&truncated);
        joined.sort_unstable();
        Prefixes(joined)
    }

    /// Whether an address is in the set.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let after = self.0.partition_point(|prefix| prefix.network() <= address);
        after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|prefix| prefix.contains(&address))
    }

    /// The prefixes, joined and sorted.
    #[must_use]
    pub fn prefixes(&self) -> &[IpNet] {
        &self.0
    }
}
