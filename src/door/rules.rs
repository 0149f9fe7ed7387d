//! The optional rules of a door, against scanners and noise. They are data; the engine applies them.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::door::open::OpenRules;
use crate::door::sequence::Stage;

/// The requirements of a door besides its sequence. By default there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a directive of its own")]
pub struct Rules {
    /// Any [hit](super::Door::fails_strict) of the knocker that is not the next stage fails the attempt.
    pub is_strict: bool,
    /// Stages exempt from that: ports of services in use, and lengths of pings.
    pub strict_except: Vec<Stage>,
    /// A repeat of the stage just reached is ignored.
    pub allows_duplicates: bool,
    /// Who may knock; `None` is everybody.
    pub allow: Option<Prefixes>,
    /// Who may not knock, even if `allow` has them.
    pub deny: Prefixes,
    /// How long a knocker's knocks are ignored after it opened the door.
    pub cooldown: Duration,
    /// The minimum and maximum payload of a UDP knock in bytes.
    pub udp_length: Option<(u16, u16)>,
    /// How often the sequence must be completed.
    pub repeat: Option<Repeat>,
    /// Wrong knocks are logged.
    pub logs_failures: bool,
    /// After a start without a state file, the one-time lists accepted at that moment count as used
    /// (`otp_trust_start = no`).
    pub distrusts_start: bool,
    /// How often it may open.
    pub open_rate: OpenRate,
    /// How many start commands may run at once; 0 is no limit, and `None` is [`MAX_COMMANDS_OF_DOOR`].
    pub max_commands: Option<u16>,
    /// A one-time sequence opens nothing until the fleet confirms that it was not used at another gateway.
    pub needs_fleet: bool,
    /// How the door opens and closes in the kernel's firewall, if it does.
    pub open: OpenRules,
}

/// How many start commands may run at once at one door, unless its `Max_Commands` says otherwise.
pub const MAX_COMMANDS_OF_DOOR: u16 = 16;

/// `Open_Rate`: how often a door may open, for all knockers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpenRate {
    /// Without a limit, unless one knock opens the door: then [`Rate::OF_ONE_KNOCK`].
    #[default]
    ByLength,
    /// Without a limit.
    Unlimited,
    /// At most this often.
    AtMost(Rate),
}

/// A token bucket: after a quiet time `times` at once, then `times` per `within`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub times: u32,
    /// More than zero.
    pub within: Duration,
}

impl Rate {
    /// The default for a door that one knock opens: anyone who can send a packet can open it, from any forged
    /// source.
    pub const OF_ONE_KNOCK: Rate = Rate { times: 10, within: Duration::from_secs(1) };
}

/// `Repeat = TIMES in SECONDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// How often the sequence must be completed; at least once.
    pub times: u8,
    /// Completions longer ago than this do not count.
    pub within: Duration,
}

impl Rules {
    /// Whether this knocker may knock at all.
    #[must_use]
    pub fn admit(&self, knocker: IpAddr) -> bool {
        !self.deny.contains(knocker) && self.allow.as_ref().is_none_or(|allow| allow.contains(knocker))
    }
}

/// A set of addresses, written as prefixes of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes(Vec<IpNet>);

impl Prefixes {
    /// The union of the prefixes.
    #[must_use]
    pub fn new(prefixes: &[IpNet]) -> Prefixes {
        let truncated: Vec<IpNet> = prefixes.iter().map(IpNet::trunc).collect();
        // Aggregated prefixes do not overlap, so one comparison decides.
        let mut joined = IpNet::aggregate(&truncated);
        joined.sort_unstable();
        Prefixes(joined)
    }

    /// Reads `192.0.2.0/24, 2001:db8::/32`; an address alone is a prefix of its full length.
    #[must_use]
    pub fn parse(text: &str) -> Option<Prefixes> {
        let prefix = |item: &str| -> Option<IpNet> {
            let item = item.trim();
            item.parse().ok().or_else(|| item.parse::<IpAddr>().map(IpNet::from).ok())
        };
        let prefixes: Option<Vec<IpNet>> = text.split(',').map(prefix).collect();
        Some(Prefixes::new(&prefixes?))
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
