//! Sends crafted packets through raw sockets that take whole IP packets.
//!
//! A raw socket of protocol 255 (`IPPROTO_RAW`) expects packets with an IP header, over IPv4 and IPv6
//! (raw(7); `inet6_create` in Linux sets "header included" too), so that no socket option is needed. The
//! packets are routed and pass the host's firewall like any others. The kernel writes the header checksum of
//! IPv4, and fills in source and identification only where they are zero.

use std::io;
use std::net::{IpAddr, SocketAddr};

use litemap::LiteMap;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::client::failure::{Failure, Status};
use crate::client::lookup::route;
use crate::client::send::connect::interface_failure;
use crate::client::system;
use crate::plan::packet_template::Route;
use crate::reason::reason;

/// The protocol number for packets with an IP header.
const IPPROTO_RAW: i32 = 255;

/// Sends IP packets through one socket per address family.
#[derive(Debug, Default)]
pub struct RawSender {
    interface: Option<String>,
    v4: Option<Socket>,
    v6: Option<Socket>,
    routes: LiteMap<SocketAddr, Route>,
}

impl RawSender {
    /// A sender through this interface; `None` lets the route decide.
    pub fn new(interface: Option<String>) -> RawSender {
        RawSender { interface, ..RawSender::default() }
    }

    /// Opens the sockets for these destinations, so that a missing privilege is reported before the first
    /// packet.
    ///
    /// # Errors
    /// Raw sockets are not permitted, not supported by this system, or the interface does not exist.
    pub fn open(&mut self, destinations: &[SocketAddr]) -> Result<(), Failure> {
        if !system::HAS_RAW_PACKETS {
            return Err(Failure::new(
                Status::NotPermitted,
                "error: --raw needs Linux: this system changes raw packets, or drops them",
            ));
        }
        for destination in destinations {
            let socket = match destination {
                SocketAddr::V4(_) => &mut self.v4,
                SocketAddr::V6(_) => &mut self.v6,
            };
            if socket.is_none() {
                let opened = Socket::new(
                    Domain::for_address(*destination),
                    Type::RAW,
                    Some(Protocol::from(IPPROTO_RAW)),
                )
                .map_err(|error| open_failure(&error))?;
                bind_interface(&opened, self.interface.as_deref())?;
                *socket = Some(opened);
            }
        }
        Ok(())
    }

    /// The route to a destination from [`route::find`], cached.
    ///
    /// # Errors
    /// Those of [`route::find`].
    pub fn route(&mut self, destination: SocketAddr, spoofed: Option<IpAddr>) -> Result<Route, Failure> {
        // Routes do not depend on the port.
        let mut destination = destination;
        destination.set_port(0);
        if let Some(route) = self.routes.get(&destination) {
            return Ok(*route);
        }
        let route = route::find(destination, self.interface.as_deref(), spoofed)?;
        self.routes.insert(destination, route);
        Ok(route)
    }

    /// Sends one IP packet.
    ///
    /// # Errors
    /// send(2) failed: the packet exceeds the MTU, there is no route, or the local firewall blocks it.
    pub fn send(&self, packet: &[u8], destination: SocketAddr) -> Result<(), Failure> {
        let socket = match destination {
            SocketAddr::V4(_) => &self.v4,
            SocketAddr::V6(_) => &self.v6,
        };
        // In raw IPv6 addresses the port is a protocol number, which must be 0 or the socket's.
        let mut address = destination;
        address.set_port(0);
        let sent = match socket {
            Some(socket) => socket.send_to(packet, &SockAddr::from(address)).map(drop),
            None => Err(io::Error::from(io::ErrorKind::NotConnected)),
        };
        sent.map_err(|error| {
            let (length, to) = (packet.len(), destination.ip());
            Failure::new(
                Status::NotSent,
                format_args!("error: cannot send a raw packet of {length} bytes to {to}: {}", reason(&error)),
            )
        })
    }
}

fn open_failure(error: &io::Error) -> Failure {
    let words = reason(error);
    if error.kind() == io::ErrorKind::PermissionDenied {
        let program =
            std::env::current_exe().map_or_else(|_| "knock".to_owned(), |path| path.display().to_string());
        return Failure::new(
            Status::NotPermitted,
            format_args!(
                "error: cannot open a raw socket: {words}; --raw needs CAP_NET_RAW: run as root, or once: \
                 setcap cap_net_raw+ep {program}"
            ),
        );
    }
    Failure::new(Status::NotSent, format_args!("error: cannot open a raw socket: {words}"))
}

fn bind_interface(socket: &Socket, interface: Option<&str>) -> Result<(), Failure> {
    let Some(name) = interface else { return Ok(()) };
    system::bind_interface(socket, name).map_err(|error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            open_failure(&error)
        } else {
            interface_failure(name, &error)
        }
    })
}
