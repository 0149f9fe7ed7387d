//! Connections that a door let in: sockets of this machine (`sock_diag(7)`) and flows that conntrack knows, as
//! netlink messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer};

use crate::door::knock::Protocol;
use crate::door::ports::Ports;
use crate::firewall::answer;
use crate::firewall::message::{Attributes, HEADER, NETFILTER_HEADER};

/// `SOCK_DIAG_BY_FAMILY`: a question about sockets, and each answer to it.
const ABOUT_SOCKETS: u16 = 20;
/// `SOCK_DESTROY`.
const DESTROY_SOCKET: u16 = 21;
/// The groups that hear of TCP sockets that end, for IPv4 and IPv6, as bits.
pub const ENDED_SOCKETS: u32 = 1 << 0 | 1 << 2;

// The states of TCP in which a knocker is connected, as bits: established, being accepted (two), and closed by
// the knocker alone.
const CONNECTED: u32 = 1 << 1 | 1 << 3 | 1 << 12 | 1 << 8;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `struct inet_diag_sockid`: ports, addresses, interface, and what tells the socket from all others.
const SOCKET_ID: usize = 48;
/// Where `struct inet_diag_msg` has it.
const ID_AT: usize = 4;

/// Types of conntrack's messages (`NFNL_SUBSYS_CTNETLINK`).
const GET_FLOWS: u16 = 1 << 8 | 1;
const DELETE_FLOW: u16 = 1 << 8 | 2;
// CTA_*.
const ORIGINAL: u16 = 1;
const ZONE: u16 = 18;
const ADDRESSES: u16 = 1;
const PORTS: u16 = 2;
const SOURCE4: u16 = 1;
const SOURCE6: u16 = 3;
const PROTOCOL: u16 = 1;
const DESTINATION_PORT: u16 = 3;

/// Who may be connected to what.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The knocker, or the network that was let in.
    pub network: IpNet,
    /// The ports of the door.
    pub ports: &'a [Ports],
}

impl Scope<'_> {
    fn has(&self, address: IpAddr, protocol: Protocol, port: u16) -> bool {
        self.network.contains(&address) && self.ports.iter().any(|ports| ports.contains(protocol, port))
    }
}

/// A TCP socket of this machine that is connected to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    /// The other machine.
    pub peer: IpAddr,
    /// Its port.
    pub peer_port: u16,
    /// Our port.
    pub port: u16,
    /// The family of the socket, which may be that of IPv6 for an IPv4 connection.
    family: u8,
    id: [u8; SOCKET_ID],
}

impl Connection {
    /// Whether it is one that the door lets in.
    #[must_use]
    pub fn is_in(&self, scope: &Scope<'_>) -> bool {
        scope.has(self.peer, Protocol::Tcp, self.port)
    }

    fn read(message: &[u8]) -> Option<Connection> {
        let family = *message.first()?;
        let id: [u8; SOCKET_ID] = message.get(ID_AT..ID_AT + SOCKET_ID)?.try_into().ok()?;
        let port = |at: usize| Some(u16::from_be_bytes(id.get(at..at + 2)?.try_into().ok()?));
        let peer = id.get(20..36)?;
        let peer = match family {
            AF_INET => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(peer.get(..4)?).ok()?)),
            AF_INET6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(peer).ok()?)).to_canonical(),
            _ => return None,
        };
        Some(Connection { peer, peer_port: port(2)?, port: port(0)?, family, id })
    }
}

/// Asks for all TCP connections, of sockets of one IP version.
#[must_use]
pub fn connections_question(is_v6: bool, sequence: u32) -> Vec<u8> {
    let family = if is_v6 { AF_INET6 } else { AF_INET };
    socket_message(ABOUT_SOCKETS, NLM_F_DUMP, sequence, (family, CONNECTED), &[0; SOCKET_ID])
}

/// Ends a connection: both sides see a reset.
#[must_use]
pub fn destruction(connection: &Connection, sequence: u32) -> Vec<u8> {
    socket_message(DESTROY_SOCKET, NLM_F_ACK, sequence, (connection.family, u32::MAX), &connection.id)
}

fn socket_message(
    kind: u16,
    flags: u16,
    sequence: u32,
    (family, states): (u8, u32),
    id: &[u8; SOCKET_ID],
) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes.extend_from_slice(&[family, Protocol::Tcp.number(true), 0, 0]);
    bytes.extend_from_slice(&states.to_ne_bytes());
    bytes.extend_from_slice(id);
    seal(bytes, kind, flags, sequence)
}

fn seal(mut bytes: Vec<u8>, kind: u16, flags: u16, sequence: u32) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut head = NetlinkBuffer::new(&mut bytes);
    head.set_length(length);
    head.set_message_type(kind);
    head.set_flags(NLM_F_REQUEST | flags);
    head.set_sequence_number(sequence);
    bytes
}

/// The connections in a datagram: of an answer, or of sockets that ended.
#[must_use]
pub fn connections(datagram: &[u8]) -> Vec<Connection> {
    let mut found = Vec::new();
    let mut rest = datagram;
    while let Ok(message) = NetlinkBuffer::new_checked(rest) {
        if message.message_type() == ABOUT_SOCKETS {
            found.extend(Connection::read(message.payload()));
        }
        rest = rest.get((message.length() as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Asks conntrack for all flows of one IP version.
#[must_use]
pub fn flows_question(is_v6: bool, sequence: u32) -> Vec<u8> {
    let bytes = netfilter_message(if is_v6 { AF_INET6 } else { AF_INET }, &Attributes::new());
    seal(bytes, GET_FLOWS, NLM_F_DUMP, sequence)
}

fn netfilter_message(family: u8, attributes: &Attributes) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes.extend_from_slice(&[family, 0, 0, 0]);
    bytes.extend_from_slice(attributes.as_bytes());
    bytes
}

/// The message that makes conntrack forget a flow, if the door lets it in; made of what an answer to
/// [`flows_question`] says behind its first four bytes.
#[must_use]
pub fn forgetting(flow: &[u8], scope: &Scope<'_>, sequence: u32) -> Option<Vec<u8>> {
    let original = answer::find(flow, ORIGINAL)?;
    let addresses = answer::find(original, ADDRESSES)?;
    let ports = answer::find(original, PORTS)?;
    let source = match (answer::find(addresses, SOURCE4), answer::find(addresses, SOURCE6)) {
        (Some(source), _) => IpAddr::from(<[u8; 4]>::try_from(source).ok()?),
        (_, Some(source)) => IpAddr::from(<[u8; 16]>::try_from(source).ok()?),
        _ => return None,
    };
    let protocol = [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .find(|protocol| answer::find(ports, PROTOCOL) == Some(&[protocol.number(true)]))?;
    let port = u16::from_be_bytes(answer::find(ports, DESTINATION_PORT)?.try_into().ok()?);
    if !scope.has(source, protocol, port) {
        return None;
    }
    let attributes = Attributes::new().nested(ORIGINAL, &Attributes::from(original));
    let attributes = match answer::find(flow, ZONE) {
        Some(zone) => attributes.bytes(ZONE, zone),
        None => attributes,
    };
    let family = if source.is_ipv6() { AF_INET6 } else { AF_INET };
    debug_assert_eq!(NETFILTER_HEADER, 4);
    Some(seal(netfilter_message(family, &attributes), DELETE_FLOW, NLM_F_ACK, sequence))
}
