//! Connections that a door let in, as sockets of this machine: netlink messages (`sock_diag(7)`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NetlinkBuffer};

use crate::door::knock::Protocol;
use crate::door::ports::Ports;
use crate::firewall::message::{HEADER, request};

/// `SOCK_DIAG_BY_FAMILY`: a question about sockets, and each answer to it.
const ABOUT_SOCKETS: u16 = 20;
/// `SOCK_DESTROY`.
const DESTROY_SOCKET: u16 = 21;
/// The multicast groups for TCP sockets that end, for IPv4 and IPv6, as bits.
pub const ENDED_SOCKETS: u32 = 1 << 0 | 1 << 2;

// The states of TCP in which a knocker is connected, as bits: established, being accepted (two), and closed
// by the knocker alone.
const CONNECTED: u32 = 1 << 1 | 1 << 3 | 1 << 12 | 1 << 8;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The length of `struct inet_diag_sockid`, in bytes: ports, addresses, interface, and a cookie that
/// identifies the socket.
const SOCKET_ID: usize = 48;
/// Its offset in `struct inet_diag_msg`.
const ID_AT: usize = 4;

/// The addresses that a door lets in, and the ports that it lets them connect to.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The knocker, or the network that was let in.
    pub network: IpNet,
    /// The ports of the door.
    pub ports: &'a [Ports],
}

impl Scope<'_> {
    /// Whether the door lets this address in to this port.
    #[must_use]
    pub fn has(&self, address: IpAddr, protocol: Protocol, port: u16) -> bool {
        self.network.contains(&address) && self.ports.iter().any(|ports| ports.contains(protocol, port))
    }
}

/// A TCP socket of this machine that is connected to another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    /// The address of the other machine.
    pub peer: IpAddr,
    /// Its port.
    pub peer_port: u16,
    /// Our port.
    pub port: u16,
    /// The address family of the socket, which may be IPv6 for an IPv4 connection.
    family: u8,
    id: [u8; SOCKET_ID],
}

impl Connection {
    /// Whether the door lets it in.
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

/// Asks for all TCP connections of sockets of one IP version.
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
    request(bytes, kind, flags, sequence)
}

/// The connections in a datagram: in an answer, or in notifications of sockets that ended.
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
