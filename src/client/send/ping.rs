//! Stages `length:icmp`: echo requests, sent through a ping socket where permitted (icmp(7)), else through a
//! raw socket; on Windows, where both need an administrator, through the system's ICMP API.

use std::io;
#[cfg(not(windows))]
use std::net::IpAddr;
use std::net::SocketAddr;

#[cfg(not(windows))]
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::client::failure::Failure;
#[cfg(not(windows))]
use crate::client::failure::Status;
use crate::client::system;
use crate::plan::ping;
use crate::reason::reason;

/// Sends one echo request with `length` data bytes, and does not wait for the reply.
///
/// # Errors
/// The socket cannot be opened or bound to the interface. An unreachable destination is not an error.
#[cfg(not(windows))]
pub fn knock(mut destination: SocketAddr, length: u16, interface: Option<&str>) -> io::Result<()> {
    let socket = open(destination.ip())?;
    if let Some(name) = interface {
        system::bind_interface(&socket, name)?;
    }
    // In raw IPv6 addresses the port is a protocol number, which must be 0 or the socket's.
    destination.set_port(0);
    // The kernel replaces the identifier on ping sockets, so that several programs can ping at once.
    let identifier = u16::try_from(std::process::id() & 0xffff).unwrap_or_default();
    let message = ping::echo_request(destination.ip(), identifier, length);
    let _unreachable = socket.send_to(&message, &SockAddr::from(destination));
    Ok(())
}

/// Sends one echo request with `length` data bytes, and waits briefly for the reply. The interface is
/// ignored: choosing one works on Linux only.
///
/// # Errors
/// Windows rejects the request. An unreachable destination is not an error.
#[cfg(windows)]
pub fn knock(destination: SocketAddr, length: u16, _: Option<&str>) -> io::Result<()> {
    system::ping(destination, ping::echo_data(length))
}

/// Checks before the first knock that pings are permitted.
///
/// # Errors
/// The socket cannot be opened; the message says how to permit it.
#[cfg(not(windows))]
pub fn check(destination: SocketAddr) -> Result<(), Failure> {
    open(destination.ip()).map(drop).map_err(|error| {
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

/// Checks before the first knock that pings can be sent.
///
/// # Errors
/// Windows lacks the ICMP API or the address family.
#[cfg(windows)]
pub fn check(destination: SocketAddr) -> Result<(), Failure> {
    let may_send = system::check_pings(destination.ip());
    may_send.map_err(|error| Failure::refused(format_args!("cannot send pings: {}", reason(&error))))
}

#[cfg(not(windows))]
fn open(destination: IpAddr) -> io::Result<Socket> {
    let (domain, protocol) = match destination {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = |kind| Socket::new(domain, kind, Some(protocol));
    socket(Type::DGRAM).or_else(|_| socket(Type::RAW))
}
