//! Decides what a door grants to a packet: its terms, and the granted request.

use std::net::IpAddr;

use super::Refusal;
use super::fields::{Fields, Kind, RequestedAccess};
use super::sealed::Keys;
use crate::door::knock::Protocol;
use crate::door::rules::Prefixes;
use crate::door::sequence::Stage;

/// Single packets as the lock of a door.
#[derive(Clone, Debug)]
pub struct SpaLock {
    /// The UDP port, host byte order.
    pub port: u16,
    /// How far the packet's time may be from ours, in seconds, both ways.
    pub max_age: u32,
    /// The terms, in the order in which they are tried; never empty.
    pub terms: Vec<Terms>,
}

/// The terms of one pair of keys: whose packets are accepted, and what they may ask for.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Both keys.
    pub keys: Keys,
    /// The ports that may be requested.
    pub open: RequestablePorts,
    /// The ports that may not be requested, even if `open` contains them.
    pub restricted: RequestablePorts,
    /// The users who may send packets; `None` is everybody.
    pub users: Option<Vec<String>>,
    /// The packet must name the address to let in.
    pub requires_source: bool,
    /// The source addresses of accepted packets; `None` is every address.
    pub sources: Option<Prefixes>,
    /// The destination addresses of accepted packets; `None` is every address.
    pub destinations: Option<Prefixes>,
    /// For how many seconds ports are opened if the packet does not say; `None` is as long as the door says.
    pub timeout: Option<u32>,
    /// The most seconds that a packet may ask for; `None` is as many as without asking.
    pub max_timeout: Option<u32>,
    /// The time (seconds since 1970) from which on these keys are not accepted.
    pub expires: Option<u64>,
}

/// Ports that may be requested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestablePorts(Vec<(Protocol, u16, u16)>);

impl RequestablePorts {
    /// Every port of both protocols.
    #[must_use]
    pub fn everything() -> RequestablePorts {
        RequestablePorts(vec![(Protocol::Tcp, 1, u16::MAX), (Protocol::Udp, 1, u16::MAX)])
    }

    /// Reads `tcp/22, udp/51820, tcp/8000-8010`, or `any`.
    #[must_use]
    pub fn parse(text: &str) -> Option<RequestablePorts> {
        if text.trim().eq_ignore_ascii_case("any") {
            return Some(RequestablePorts::everything());
        }
        let range = |item: &str| {
            let (protocol, ports) = item.trim().split_once('/')?;
            let (low, high) = ports.split_once('-').unwrap_or((ports, ports));
            let (low, high) = (low.parse().ok()?, high.parse().ok()?);
            (low != 0 && low <= high).then_some((Protocol::with_ports(protocol)?, low, high))
        };
        text.split(',').map(range).collect::<Option<Vec<_>>>().map(RequestablePorts)
    }

    /// Whether this port is among them.
    #[must_use]
    pub fn contains(&self, port: Stage) -> bool {
        self.0
            .iter()
            .any(|&(protocol, low, high)| port.protocol == protocol && (low..=high).contains(&port.port))
    }

    /// The ports, each a range of one protocol: first and last.
    #[must_use]
    pub fn ranges(&self) -> &[(Protocol, u16, u16)] {
        &self.0
    }
}

impl FromIterator<Stage> for RequestablePorts {
    fn from_iter<T: IntoIterator<Item = Stage>>(ports: T) -> RequestablePorts {
        RequestablePorts(ports.into_iter().map(|Stage { protocol, port }| (protocol, port, port)).collect())
    }
}

/// A request that a door granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The address to let in.
    pub address: IpAddr,
    /// The name of the user, as the packet claims: printable ASCII without characters special to a shell or a
    /// log.
    pub user: String,
    /// The ports to open, each once, in the order of the packet.
    pub ports: Vec<Stage>,
    /// For how many seconds; `None` is as long as the door says.
    pub seconds: Option<u32>,
}

/// Where a packet came from and went to, and when.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The source address of the datagram.
    pub sender: IpAddr,
    /// Its destination address.
    pub destination: IpAddr,
    /// When it came, in seconds since 1970.
    pub unix: u64,
}

impl SpaLock {
    /// The most seconds for which a packet of this user can open this port at `unix` (seconds since 1970),
    /// with any of the keys; `None` if no packet of this user can. Addresses are not considered.
    #[must_use]
    pub fn longest_grant(&self, user: &str, port: Stage, unix: u64, door_timeout: u32) -> Option<u32> {
        let mut longest = None;
        for terms in &self.terms {
            if !terms.have_expired(unix) && terms.admit_user(user) && terms.grant_port(port) {
                longest = longest.max(Some(terms.longest(door_timeout)));
            }
        }
        longest
    }
}

impl Terms {
    fn have_expired(&self, unix: u64) -> bool {
        self.expires.is_some_and(|expires| unix >= expires)
    }

    fn admit_user(&self, user: &str) -> bool {
        self.users.as_ref().is_none_or(|users| users.iter().any(|it| it == user))
    }

    fn grant_port(&self, port: Stage) -> bool {
        self.open.contains(port) && !self.restricted.contains(port)
    }

    /// The most seconds for which ports are opened, whatever a packet asks for.
    fn longest(&self, door_timeout: u32) -> u32 {
        let default = self.timeout.unwrap_or(door_timeout);
        default.max(self.max_timeout.unwrap_or(default))
    }

    /// Checks that the keys are valid when a packet arrives, for its sender and its destination.
    ///
    /// # Errors
    /// [`Refusal::Expired`] and [`Refusal::Source`].
    pub fn admit(&self, arrival: Arrival) -> Result<(), Refusal> {
        let is_in =
            |prefixes: &Option<Prefixes>, address| prefixes.as_ref().is_none_or(|it| it.contains(address));
        if self.have_expired(arrival.unix) {
            return Err(Refusal::Expired);
        }
        if is_in(&self.sources, arrival.sender) && is_in(&self.destinations, arrival.destination) {
            Ok(())
        } else {
            Err(Refusal::Source)
        }
    }

    /// The request in these fields, if these terms grant it. `door_timeout` is the door's own time in
    /// seconds.
    ///
    /// # Errors
    /// The first reason not to grant it.
    pub fn grant(&self, fields: &Fields, sender: IpAddr, door_timeout: u32) -> Result<Request, Refusal> {
        let ports = match (fields.kind, &fields.message.access) {
            (Kind::Access | Kind::TimedAccess, RequestedAccess::Ports(ports)) => ports,
            (Kind::Command, _) | (_, RequestedAccess::Command(_)) => return Err(Refusal::Kind("a command")),
            (Kind::Nat | Kind::TimedNat | Kind::LocalNat | Kind::TimedLocalNat, _) => {
                return Err(Refusal::Kind("address translation"));
            }
        };
        if !self.admit_user(&fields.user) {
            return Err(Refusal::User);
        }
        let named = fields.message.address.to_canonical();
        if named.is_unspecified() && self.requires_source {
            return Err(Refusal::NoSource);
        }
        let address = if named.is_unspecified() { sender } else { named };
        if ports.iter().any(|&port| !self.grant_port(port)) {
            return Err(Refusal::Port);
        }
        let mut distinct = Vec::with_capacity(ports.len());
        for port in ports {
            if !distinct.contains(port) {
                distinct.push(*port);
            }
        }
        let requested = fields.timeout.filter(|&seconds| seconds > 0);
        let default = self.timeout.unwrap_or(door_timeout);
        let seconds = requested
            .map_or(self.timeout, |requested| Some(requested.min(self.max_timeout.unwrap_or(default))));
        Ok(Request { address, user: fields.user.clone(), ports: distinct, seconds })
    }
}

/// Whether a packet's time differs from the current time by at most `max_age`; all in seconds, both times
/// since 1970.
#[must_use]
pub fn is_in_time(time: u64, unix: u64, max_age: u32) -> bool {
    time.abs_diff(unix) <= max_age.into()
}
