//! The route to a destination.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::client::failure::{Failure, Status};
use crate::client::system;
use crate::plan::packet_template::{self, Route};
use crate::reason::reason;

/// The MTU to assume if the system does not report one: that of Ethernet.
const DEFAULT_MTU: u32 = 1500;
/// The window scale to assume if the system does not report one: that of a receive buffer of 6 MB.
const DEFAULT_WINDOW_SCALE: u8 = 7;

/// Finds the route to a destination, through the given interface if any. Sends nothing.
///
/// With a `spoofed` source, a missing route is not an error: the kernel may still be able to send the packet.
///
/// # Errors
/// There is no route, or no such interface.
pub fn find(
    destination: SocketAddr,
    interface: Option<&str>,
    spoofed: Option<IpAddr>,
) -> Result<Route, Failure> {
    match (query_kernel(destination, interface), spoofed) {
        (Ok(route), _) => Ok(route),
        (Err(_), Some(source)) => Ok(Route {
            source,
            destination: destination.ip(),
            mtu: DEFAULT_MTU,
            window_scale: window_scale(),
        }),
        (Err(error), None) => {
            let (to, why) = (destination.ip(), reason(&error));
            Err(Failure::new(Status::NotSent, format_args!("error: no way to {to}: {why}")))
        }
    }
}

/// Connects a datagram socket to the destination and reads its source address and the MTU of the route.
fn query_kernel(destination: SocketAddr, interface: Option<&str>) -> io::Result<Route> {
    let socket = Socket::new(Domain::for_address(destination), Type::DGRAM, None)?;
    if let Some(name) = interface {
        system::bind_interface(&socket, name)?;
    }
    let mut address = destination;
    // Any port but 0, which connect() rejects.
    address.set_port(9);
    socket.connect(&SockAddr::from(address))?;
    let source = match (socket.local_addr()?.as_socket(), destination) {
        (Some(local), _) => local.ip(),
        (None, SocketAddr::V4(_)) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (None, SocketAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    Ok(Route {
        source,
        destination: destination.ip(),
        mtu: system::path_mtu(&socket).unwrap_or(DEFAULT_MTU),
        window_scale: window_scale(),
    })
}

/// The window scale of the system's own connections, derived from the largest receive buffer (tcp(7),
/// `tcp_rmem` and `rmem_max`).
fn window_scale() -> u8 {
    let last_number = |path: &str| -> Option<u64> {
        fs::read_to_string(path).ok()?.split_whitespace().next_back()?.parse().ok()
    };
    let largest = ["/proc/sys/net/ipv4/tcp_rmem", "/proc/sys/net/core/rmem_max"].map(last_number);
    largest.into_iter().flatten().max().map_or(DEFAULT_WINDOW_SCALE, packet_template::window_scale)
}
