//! How a door opens ports in the kernel's firewall: `Open` and the directives that go with it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::door::knock::Protocol;
use crate::door::ports::Ports;

/// The ports that a door opens for its knockers, without a command. The door's [`OpenRules`] say where it
/// opens them, and how it closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The ports.
    pub opened: OpenedPorts,
    /// It opens in our own table (`Guard`).
    pub is_guarded: bool,
    /// It stays open until somebody closes it by hand.
    pub is_for_ever: bool,
    /// `Open_Forever` is set, even if `Cmd_Timeout` overrides it.
    pub says_for_ever: bool,
}

/// Settings of doors with `Open`; a section can override each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRules {
    /// The sets of the user's firewall to which the door adds its knockers.
    pub sets: Sets,
    /// It closes when the daemon ends; otherwise the kernel closes it when its time is over.
    pub closes_on_stop: bool,
    /// Closing it ends the connections made through it.
    pub closes_established: bool,
    /// It closes when the last connection through it has ended.
    pub closes_on_disconnect: bool,
    /// The prefix lengths, for IPv4 and IPv6, of the network around the knocker's address that is let in.
    pub prefixes: (u8, u8),
}

/// The prefix lengths, for IPv4 and IPv6, of a single address.
pub const SINGLE_ADDRESS: (u8, u8) = (32, 128);

impl Default for OpenRules {
    fn default() -> OpenRules {
        OpenRules {
            sets: Sets::default(),
            closes_on_stop: false,
            closes_established: false,
            closes_on_disconnect: false,
            prefixes: SINGLE_ADDRESS,
        }
    }
}

impl OpenRules {
    /// The network to let in when this address knocks.
    #[must_use]
    pub fn network(&self, knocker: IpAddr) -> IpNet {
        let bits = if knocker.is_ipv4() { self.prefixes.0 } else { self.prefixes.1 };
        IpNet::new(knocker, bits).map_or(knocker.into(), |network| network.trunc())
    }
}

/// Which ports a door opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenedPorts {
    /// These ports.
    Listed(Vec<Ports>),
    /// The ports that the knocker's single packet asks for.
    Requested,
}

impl Open {
    /// The ports that are known before anybody knocks.
    #[must_use]
    pub fn ports(&self) -> &[Ports] {
        match &self.opened {
            OpenedPorts::Listed(ports) => ports,
            OpenedPorts::Requested => &[],
        }
    }

    /// Whether this port is among those known before anybody knocks.
    #[must_use]
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.ports().iter().any(|ports| ports.contains(protocol, port))
    }
}

/// The family of an nftables table, which determines the packets that the table sees (`NFPROTO_*`).
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
    /// The keyword of nft.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        }
    }

    /// The family with this keyword of nft.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Family> {
        [Family::Inet, Family::Ip, Family::Ip6].into_iter().find(|family| family.word() == word)
    }
}

/// The longest name of a table or a set, in bytes (`NFT_NAME_MAXLEN` without the 0).
pub const MAX_NAME: usize = 255;

/// The full name of an nftables set.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetName {
    /// The family of its table.
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

/// The sets of the user's own firewall to which a door adds its knockers: `Nft_Set`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sets {
    /// For IPv4 knockers.
    pub v4: Option<SetName>,
    /// For IPv6 knockers.
    pub v6: Option<SetName>,
}

impl Sets {
    /// Reads `FAMILY TABLE SET4 [SET6]`, and merges it with the sets of an earlier line: family `ip` replaces
    /// only the set for IPv4, `ip6` only the set for IPv6.
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
