//! Plain knocks: ordinary connections and datagrams as in knock 0.8, which need no privileges; and pings.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::client::send::ping;
use crate::door::knock::Protocol;

/// The payload of a plain UDP knock.
pub const DATAGRAM: &[u8] = &[0];

/// Sends one knock from a new socket, and does not wait for an answer. `data` is the payload of a
/// datagram; without a `source_port` the system chooses one.
///
/// TCP: the socket is closed right after the connection was begun, so that exactly one SYN is sent. Only
/// if the port answers before that does the server see a connection, which ends at once. An unreachable
/// destination is not an error: knocks are not expected to be answered.
/// For ICMP the port of the destination is the number of data bytes.
///
/// # Errors
/// The system provides no socket (out of descriptors, address family not supported) or not this port.
pub fn knock(
    destination: SocketAddr,
    protocol: Protocol,
    data: &[u8],
    source_port: Option<u16>,
) -> io::Result<()> {
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
        Protocol::Icmp => return ping::knock(destination, destination.port()),
    };
    let socket = Socket::new(Domain::for_address(destination), kind, None)?;
    if let Some(port) = source_port {
        let any = match destination {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        socket.bind(&SockAddr::from(SocketAddr::new(any, port)))?;
    }
    socket.set_nonblocking(protocol == Protocol::Tcp)?;
    let address = SockAddr::from(destination);
    let _unreachable = match protocol {
        Protocol::Tcp => socket.connect(&address),
        Protocol::Udp | Protocol::Icmp => socket.send_to(data, &address).map(drop),
    };
    Ok(())
}
