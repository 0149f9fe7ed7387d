//! Decides whether to trust the answers of STUN servers.
//!
//! The answers are not authenticated, yet they determine the address that a list is computed for or a door is
//! opened for: an attacker who forges one, and sees the knocks, can use them from that address. So a second
//! server must confirm the answer, or it must be within prefixes that the user expects.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::door::rules::Prefixes;

/// The default port of STUN servers (RFC 8489, 18.6).
pub const STUN_PORT: u16 = 3478;

/// The servers to ask, and the addresses that the user expects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stun {
    /// Names and ports of the servers; all of them are asked.
    pub servers: Vec<(String, u16)>,
    /// The prefixes that must contain the answer; empty if any address will do.
    pub expected: Prefixes,
}

/// Why an answer is not trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StunError {
    /// There is only one server, and no expected address.
    Unconfirmed,
    /// Two names resolve to this same server.
    SameServer(IpAddr),
    /// The servers report these different addresses.
    Disagree(Vec<IpAddr>),
    /// This address is not among the expected ones.
    Unexpected(IpAddr),
    /// This address is not a public one.
    NotPublic(IpAddr),
}

impl fmt::Display for StunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StunError::Unconfirmed => f.write_str(
                "one STUN server alone is not believed, because anyone on the way can forge its answer: name a \
                 second one ('stun:SERVER stun:SERVER') or where the answer has to be ('stun:SERVER 203.0.113.0/24')",
            ),
            StunError::SameServer(address) => {
                write!(f, "two names of STUN servers lead to {address}, which cannot confirm itself")
            }
            StunError::Disagree(addresses) => {
                f.write_str("the STUN servers disagree, or an answer is forged:")?;
                addresses.iter().try_for_each(|address| write!(f, " {address}"))
            }
            StunError::Unexpected(address) => {
                write!(f, "the STUN server says {address}, which is not where the answer has to be")
            }
            StunError::NotPublic(address) => {
                write!(f, "the STUN server says {address}, which is no address of the internet")
            }
        }
    }
}

impl std::error::Error for StunError {}

impl Stun {
    /// Parses `stun:SERVER[:PORT]`, followed by further servers in the same form, or by expected addresses
    /// and prefixes, separated by blanks.
    #[must_use]
    pub fn parse(text: &str) -> Option<Stun> {
        let (servers, expected): (Vec<&str>, Vec<&str>) =
            text.split_whitespace().partition(|word| word.starts_with("stun:"));
        let servers: Option<Vec<(String, u16)>> =
            servers.iter().map(|word| parse_server(word.strip_prefix("stun:")?)).collect();
        let servers = servers.filter(|servers| !servers.is_empty() && text.starts_with("stun:"))?;
        let expected =
            if expected.is_empty() { Prefixes::default() } else { Prefixes::parse(&expected.join(","))? };
        Some(Stun { servers, expected })
    }

    /// Checks that answers could be confirmed, before any server is asked.
    ///
    /// # Errors
    /// [`StunError::Unconfirmed`].
    pub fn check(&self) -> Result<(), StunError> {
        let is_confirmed = self.servers.len() > 1 || !self.expected.prefixes().is_empty();
        if is_confirmed { Ok(()) } else { Err(StunError::Unconfirmed) }
    }

    /// Returns the confirmed address; `answers` are each server's own address and the address it reports.
    ///
    /// # Errors
    /// Why the answers are not trusted.
    pub fn confirm(&self, answers: &[(IpAddr, IpAddr)]) -> Result<IpAddr, StunError> {
        self.check()?;
        let mut reported: Vec<IpAddr> = Vec::new();
        for (index, &(server, address)) in answers.iter().enumerate() {
            if answers.iter().take(index).any(|(other, _)| *other == server) {
                return Err(StunError::SameServer(server));
            }
            if !reported.contains(&address) {
                reported.push(address);
            }
        }
        let [address] = *reported.as_slice() else { return Err(StunError::Disagree(reported)) };
        let is_expected = self.expected.contains(address);
        if !is_expected && !self.expected.prefixes().is_empty() {
            return Err(StunError::Unexpected(address));
        }
        match scope(address) {
            AddressScope::Global => Ok(address),
            AddressScope::Private if is_expected => Ok(address),
            AddressScope::Private | AddressScope::NotRoutable => Err(StunError::NotPublic(address)),
        }
    }
}

/// The scope in which an address can be the source of a packet.
enum AddressScope {
    /// The internet.
    Global,
    /// Private networks and those of providers (RFC 1918, 4193, 6598).
    Private,
    /// Only valid within a host or on a link, or never a source.
    NotRoutable,
}

fn scope(address: IpAddr) -> AddressScope {
    match address {
        IpAddr::V4(v4) => scope_v4(v4),
        IpAddr::V6(v6) => scope_v6(v6),
    }
}

fn scope_v4(address: Ipv4Addr) -> AddressScope {
    match address.octets() {
        [0 | 127 | 224..=255, ..] | [169, 254, ..] => AddressScope::NotRoutable,
        [100, 64..=127, ..] => AddressScope::Private,
        _ if address.is_private() => AddressScope::Private,
        _ => AddressScope::Global,
    }
}

fn scope_v6(address: Ipv6Addr) -> AddressScope {
    if address.is_unique_local() {
        return AddressScope::Private;
    }
    // Global unicast addresses are in 2000::/3 only (RFC 4291, IANA).
    if address.segments().first().is_some_and(|first| first & 0xe000 == 0x2000) {
        AddressScope::Global
    } else {
        AddressScope::NotRoutable
    }
}

/// Parses `SERVER`, `SERVER:PORT`, an IPv6 address, or one in brackets with or without a port.
fn parse_server(text: &str) -> Option<(String, u16)> {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, "")) => (name, None),
        Some((name, port)) => (name, Some(port.strip_prefix(':')?)),
        None if text.parse::<IpAddr>().is_ok() => (text, None),
        None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    let port = port.map_or(Some(STUN_PORT), |port| port.parse().ok().filter(|&port| port > 0))?;
    (!name.is_empty()).then(|| (name.to_owned(), port))
}
