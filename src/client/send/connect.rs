//! Knocks as knock 0.8 sends them: by the system's own connections and datagrams, without privileges.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::door::knock::Protocol;

/// What a UDP knock carries that has nothing else to say.
pub const DATAGRAM: &[u8] = &[0];

/// Sends one knock from a socket of its own, and waits for nothing.
///
/// TCP: the connection is begun and forgotten at once, so that one SYN leaves and is never sent
/// again. Only a listener that answers before the socket is closed sees a connection, and its end.
/// A destination that cannot be reached is no error: whoever knocks learns nothing from it. `data` is what
/// a datagram carries; it comes from `source_port`, or from any.
///
/// # Errors
/// The system grants no socket (out of descriptors, address family not supported), or not this port.
pub fn knock(
    destination: SocketAddr,
    protocol: Protocol,
    data: &[u8],
    source_port: Option<u16>,
) -> io::Result<()> {
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM.nonblocking(),
        Protocol::Udp => Type::DGRAM,
    };
    let socket = Socket::new(Domain::for_address(destination), kind, None)?;
    if let Some(port) = source_port {
        let any = match destination {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        socket.bind(&SockAddr::from(SocketAddr::new(any, port)))?;
    }
    let address = SockAddr::from(destination);
    let _unreachable = match protocol {
        Protocol::Tcp => socket.connect(&address),
        Protocol::Udp => socket.send_to(data, &address).map(drop),
    };
    Ok(())
}
