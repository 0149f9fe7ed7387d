//! Stages `length:icmp`: an echo request, through a ping socket where the system grants one (icmp(7)),
//! else through a raw one.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::client::failure::{Failure, Status};
use crate::client::system;
use crate::plan::ping;
use crate::reason::reason;

/// Sends one echo request with so many data bytes, and waits for nothing.
///
/// # Errors
/// The system grants no socket. A destination that cannot be reached is no error.
pub fn knock(mut destination: SocketAddr, length: u16, interface: Option<&str>) -> io::Result<()> {
    let socket = open(destination.ip())?;
    if let Some(name) = interface {
        system::bind_interface(&socket, name)?;
    }
    // The port of a raw IPv6 address is a protocol number, and must not contradict the socket's.
    destination.set_port(0);
    // The system replaces the identifier where several programs may ping.
    let identifier = u16::try_from(std::process::id() & 0xffff).unwrap_or_default();
    let message = ping::message(destination.ip(), identifier, length);
    let _unreachable = socket.send_to(&message, &SockAddr::from(destination));
    Ok(())
}

/// Finds out whether pings may be sent, before the first knock.
///
/// # Errors
/// They may not; with what to do about it.
pub fn check(destination: IpAddr) -> Result<(), Failure> {
    open(destination).map(drop).map_err(|error| {
        let words = reason(&error);
        if error.kind() != io::ErrorKind::PermissionDenied {
            return Failure::refused(format_args!("cannot open a socket for pings: {words}"));
        }
        let program =
            std::env::current_exe().map_or_else(|_| "knock".to_owned(), |path| path.display().to_string());
        Failure::new(
            Status::NotPermitted,
            format_args!(
                "error: cannot open a socket for pings: {words}; run as root, or once: \
                 sysctl net.ipv4.ping_group_range='0 2147483647', or: setcap cap_net_raw+ep {program}"
            ),
        )
    })
}

fn open(destination: IpAddr) -> io::Result<Socket> {
    let (domain, protocol) = match destination {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = |kind| Socket::new(domain, kind, Some(protocol));
    socket(Type::DGRAM).or_else(|_| socket(Type::RAW))
}
