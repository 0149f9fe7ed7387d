//! Plain knocks: connection attempts and datagrams as in knock 0.8, which need no privileges; and pings.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::client::failure::Failure;
use crate::client::send::ping;
use crate::client::system;
use crate::door::knock::Protocol;
use crate::reason::reason;

/// The source port and the interface that the socket of a plain knock is bound to.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketBinding<'a> {
    /// The source port of a datagram; `None` lets the system choose.
    pub source_port: Option<u16>,
    /// The interface; `None` lets the route decide.
    pub interface: Option<&'a str>,
}

/// Checks before the first knock that packets can be sent through this interface.
///
/// # Errors
/// The interface does not exist, is not permitted, or cannot be chosen on this system.
pub fn check_interface(interface: Option<&str>, addresses: &[SocketAddr]) -> Result<(), Failure> {
    let (Some(name), Some(&address)) = (interface, addresses.first()) else { return Ok(()) };
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None);
    let bound = socket.and_then(|socket| system::bind_interface(&socket, name));
    bound.map_err(|error| interface_failure(name, &error))
}

/// The error for an interface that cannot be used.
pub fn interface_failure(name: &str, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::Unsupported {
        return Failure::refused(format_args!("--interface works on Linux only"));
    }
    Failure::refused(format_args!("cannot use interface {name}: {}", reason(error)))
}

/// Sends one knock from a new socket, without waiting for an answer. `data` is the payload of a datagram.
///
/// TCP: the socket is closed as soon as the connection attempt has begun, so that exactly one SYN is sent.
/// The server sees a connection, which ends at once, only if the port answers before that. ICMP: the port of
/// the destination is the number of data bytes. An unreachable destination is not an error: knocks are not
/// expected to be answered.
///
/// # Errors
/// The socket cannot be opened (out of descriptors, address family not supported) or bound to the interface
/// or port.
pub fn knock(
    destination: SocketAddr,
    protocol: Protocol,
    data: &[u8],
    binding: SocketBinding<'_>,
) -> io::Result<()> {
    let kind = match protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
        Protocol::Icmp => return ping::knock(destination, destination.port(), binding.interface),
    };
    let socket = Socket::new(Domain::for_address(destination), kind, None)?;
    if let Some(name) = binding.interface {
        system::bind_interface(&socket, name)?;
    }
    if let Some(port) = binding.source_port {
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
