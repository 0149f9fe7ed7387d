//! What a door opens in the kernel's firewall, and how: `Open` and what goes with it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::door::knock::Protocol;
use crate::door::ports::Ports;

/// What a door lets its knockers through to, without a command. Where it does so, and how it closes, is in
/// the door's [`OpenRules`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// To which ports.
    pub what: What,
    /// The door goes into our own table.
    pub is_guarded: bool,
    /// It stays open until somebody closes it by hand.
    pub is_for_ever: bool,
    /// Its section says so, whatever the time.
    pub says_for_ever: bool,
}

/// What holds for every door with `Open`, unless its section says something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRules {
    /// The door goes into these sets of the user's firewall.
    pub sets: Sets,
    /// It closes when the daemon ends; otherwise the kernel closes it in its time.
    pub closes_on_stop: bool,
    /// What was connected through it ends with it.
    pub closes_established: bool,
    /// It closes when the last connection through it has ended.
    pub closes_on_disconnect: bool,
    /// How many bits of the knocker's address count, for IPv4 and for IPv6.
    pub prefixes: (u8, u8),
}

/// The bits of an address.
pub const WHOLE: (u8, u8) = (32, 128);

impl Default for OpenRules {
    fn default() -> OpenRules {
        OpenRules {
            sets: Sets::default(),
            closes_on_stop: false,
            closes_established: false,
            closes_on_disconnect: false,
            prefixes: WHOLE,
        }
    }
}

impl OpenRules {
    /// Who is let in when this address knocked.
    #[must_use]
    pub fn network(&self, knocker: IpAddr) -> IpNet {
        let bits = if knocker.is_ipv4() { self.prefixes.0 } else { self.prefixes.1 };
        IpNet::new(knocker, bits).map_or(knocker.into(), |network| network.trunc())
    }
}

/// To which ports a door opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// These.
    Ports(Vec<Ports>),
    /// Those that the knocker's packet asks for.
    Request,
}

impl Open {
    /// The ports that are known before anybody knocks.
    #[must_use]
    pub fn ports(&self) -> &[Ports] {
        match &self.what {
            What::Ports(ports) => ports,
            What::Request => &[],
        }
    }

    /// Whether a port of this protocol is opened.
    #[must_use]
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.ports().iter().any(|ports| ports.contains(protocol, port))
    }
}

/// Which packets a table of nftables sees (`NFPROTO_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// IPv6.
    Ip6 = 10,
}

impl Family {
    /// What nft calls it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        }
    }

    /// The family that nft calls so.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Family> {
        [Family::Inet, Family::Ip, Family::Ip6].into_iter().find(|family| family.word() == word)
    }
}

/// The longest name of a table or a set, in bytes (`NFT_NAME_MAXLEN` without the 0).
pub const MAX_NAME: usize = 255;

/// Where a set of nftables is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetName {
    /// Of its table.
    pub family: Family,
    /// The table's name.
    pub table: String,
    /// Its own name.
    pub set: String,
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family.word(), self.table, self.set)
    }
}

/// The sets of the user's own firewall that a door goes into: `Nft_Set`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sets {
    /// For IPv4 knockers.
    pub v4: Option<SetName>,
    /// For IPv6 knockers.
    pub v6: Option<SetName>,
}

impl Sets {
    /// Reads `FAMILY TABLE SET4 [SET6]`, and adds it to what an earlier line named: a table of the family
    /// `ip` has no set for IPv6, one of the family `ip6` only that.
    #[must_use]
    pub fn with(mut self, text: &str) -> Option<Sets> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let (family, table, names) = match words.as_slice() {
            [family, table, names @ ..] => (Family::from_word(family)?, *table, names),
            _ => return None,
        };
        if words.iter().any(|word| word.len() > MAX_NAME) {
            return None;
        }
        let set_called = |set: &str| Some(SetName { family, table: table.to_owned(), set: set.to_owned() });
        match (family, names) {
            (Family::Inet, [v4]) => (self.v4, self.v6) = (set_called(v4), None),
            (Family::Inet, [v4, v6]) => (self.v4, self.v6) = (set_called(v4), set_called(v6)),
            (Family::Ip, [v4]) => self.v4 = set_called(v4),
            (Family::Ip6, [v6]) => self.v6 = set_called(v6),
            _ => return None,
        }
        Some(self)
    }

    /// The set for a knocker of this family.
    #[must_use]
    pub fn of(&self, is_v6: bool) -> Option<&SetName> {
        if is_v6 { self.v6.as_ref() } else { self.v4.as_ref() }
    }

    /// Whether no set is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    /// Each set, and whether it is for IPv6 knockers.
    pub fn iter(&self) -> impl Iterator<Item = (&SetName, bool)> {
        let v4 = self.v4.iter().map(|name| (name, false));
        v4.chain(self.v6.iter().map(|name| (name, true)))
    }
}
