//! Connections through a door: lists them, reports when they end, and ends them with the door.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ipnet::IpNet;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::firewall::answer::{Answer, answers};
use crate::firewall::flows::{CHANGED_FLOWS, Flow, Stage, flow_deletion, flows, flows_question};
use crate::firewall::sessions::{
    Connection, ENDED_SOCKETS, Scope, connections, connections_question, destruction,
};
use crate::sorted;

/// Buffer for one datagram of an answer, in bytes.
const ANSWER_BUFFER: usize = 1 << 16;
/// Receive buffer for notifications of conntrack, in bytes.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Maximum number of notifications read at a time.
const MAX_NOTIFICATIONS: usize = 1024;

/// Peer address, peer port and local port, which identify a connection to this machine.
pub(super) type Endpoints = (IpAddr, u16, u16);

fn endpoints(connection: &Connection) -> Endpoints {
    (connection.peer, connection.peer_port, connection.port)
}

/// Two if the destination port is translated: a door may guard the port before or after translation.
fn endpoints_of_flow(flow: &Flow) -> [Endpoints; 2] {
    [flow.port, flow.answering_port].map(|port| (flow.peer, flow.peer_port, port))
}

/// All TCP connections through this door: to sockets of this machine, and those that conntrack tracks. A
/// connection may appear twice.
///
/// # Errors
/// The kernel lists neither.
pub(super) fn connections_through(scope: &Scope<'_>) -> Result<Vec<[Endpoints; 2]>, Errno> {
    let sockets = local_connections(scope);
    let flows = tracked_flows(scope);
    if let (Err(errno), Err(_)) = (&sockets, &flows) {
        return Err(*errno);
    }
    let sockets = sockets.unwrap_or_default().into_iter().map(|it| [endpoints(&it); 2]);
    let flows = flows.unwrap_or_default().into_iter().map(|it| endpoints_of_flow(&it));
    Ok(sockets.chain(flows).collect())
}

/// The established connections of this door that conntrack tracks.
fn tracked_flows(scope: &Scope<'_>) -> Result<Vec<Flow>, Errno> {
    let socket = open(SockProtocol::NetlinkNetFilter, 0)?;
    let mut found = Vec::new();
    ask(&socket, &flows_question(matches!(scope.network, IpNet::V6(_)), 1), |datagram| {
        let all = flows(datagram).into_iter();
        found.extend(all.filter(|it| it.stage == Stage::Connected && it.is_in(scope)));
    })?;
    Ok(found)
}

/// Fails if conntrack cannot list its flows or notify of them. An empty list may only mean that no rule uses
/// conntrack.
pub(super) fn check_conntrack() -> Result<(), Errno> {
    let socket = open(SockProtocol::NetlinkNetFilter, CHANGED_FLOWS)?;
    ask(&open(SockProtocol::NetlinkNetFilter, 0)?, &flows_question(false, 1), |_| {})?;
    drop(socket);
    Ok(())
}

/// All TCP connections through this door to sockets of this machine.
fn local_connections(scope: &Scope<'_>) -> Result<Vec<Connection>, Errno> {
    let socket = open(SockProtocol::NetlinkSockDiag, 0)?;
    let mut found = Vec::new();
    // An IPv6 socket may have IPv4 connections too.
    for is_v6 in [false, true] {
        ask(&socket, &connections_question(is_v6, 1), |datagram| {
            found.extend(connections(datagram).into_iter().filter(|it| it.is_in(scope)));
        })?;
    }
    Ok(found)
}

/// All TCP connections to sockets of this machine.
pub(super) fn all_local_connections() -> Result<Vec<Connection>, Errno> {
    let socket = open(SockProtocol::NetlinkSockDiag, 0)?;
    let mut found = Vec::new();
    for is_v6 in [false, true] {
        ask(&socket, &connections_question(is_v6, 1), |datagram| found.extend(connections(datagram)))?;
    }
    Ok(found)
}

/// Ends the connections through the door: TCP connections to this machine are reset, and their flows are
/// removed from conntrack, so that the firewall treats further packets as new.
///
/// # Errors
/// A sentence that says which connections could not be ended, and why.
pub(super) fn end(scope: &Scope<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    if let Err(errno) = destroy(scope) {
        let advice = if matches!(errno, Errno::EOPNOTSUPP | Errno::ENOENT | Errno::EINVAL) {
            "; the kernel needs CONFIG_INET_DIAG_DESTROY for it"
        } else {
            ""
        };
        wrong.push(format!("connections to this machine: {}{advice}", errno.desc()));
    }
    match forget(scope) {
        // There is no conntrack, so there are no flows.
        Ok(()) | Err(Errno::EPROTONOSUPPORT | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOENT) => {}
        Err(errno) => wrong.push(format!("flows of conntrack: {}", errno.desc())),
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn destroy(scope: &Scope<'_>) -> Result<(), Errno> {
    let connections = local_connections(scope)?;
    let socket = open(SockProtocol::NetlinkSockDiag, 0)?;
    for connection in connections {
        match ask(&socket, &destruction(&connection, 1), |_| {}) {
            // It has ended already.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn forget(scope: &Scope<'_>) -> Result<(), Errno> {
    let socket = open(SockProtocol::NetlinkNetFilter, 0)?;
    let mut deletions = Vec::new();
    let is_v6 = matches!(scope.network, IpNet::V6(_));
    ask(&socket, &flows_question(is_v6, 1), |datagram| {
        deletions.extend(answers(datagram).filter_map(|answer| match answer {
            Answer::Object { attributes, .. } => flow_deletion(attributes, scope, 2),
            Answer::Done { .. } | Answer::Refused(_) => None,
        }));
    })?;
    for deletion in deletions {
        match ask(&socket, &deletion, |_| {}) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Listens for TCP connections that end.
#[derive(Debug)]
pub(super) struct DisconnectListener {
    /// Notifications of sockets of this machine.
    sockets: Option<OwnedFd>,
    /// Notifications of conntrack, which include forwarded connections.
    flows: Option<OwnedFd>,
}

impl DisconnectListener {
    /// Listens from now on, as far as the kernel supports it.
    pub(super) fn new() -> DisconnectListener {
        let flows = open(SockProtocol::NetlinkNetFilter, CHANGED_FLOWS).ok();
        if let Some(flows) = &flows {
            // Above rmem_max, because conntrack reports every change of every flow; without the privilege the
            // default size has to do.
            let _ = setsockopt(flows, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        }
        DisconnectListener { sockets: open(SockProtocol::NetlinkSockDiag, ENDED_SOCKETS).ok(), flows }
    }

    /// The connections that ended since the last call, sorted. Under a flood some are lost: their doors close
    /// when their time is over.
    pub(super) fn ended(&self) -> Vec<Endpoints> {
        let mut ended = Vec::new();
        drain(self.sockets.as_ref(), |datagram| ended.extend(connections(datagram).iter().map(endpoints)));
        drain(self.flows.as_ref(), |datagram| {
            let over = flows(datagram).into_iter().filter(|it| it.stage == Stage::Ended);
            ended.extend(over.flat_map(|it| endpoints_of_flow(&it)));
        });
        sorted::sort(&mut ended);
        ended
    }

    /// Readable when a connection ended or, for conntrack, changed.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.sockets, &self.flows].into_iter().flatten().map(AsFd::as_fd)
    }
}

/// Reads the pending notifications of a socket, without blocking.
fn drain(socket: Option<&OwnedFd>, mut each: impl FnMut(&[u8])) {
    let Some(socket) = socket else { return };
    let mut buffer = [0; 8192];
    for _ in 0..MAX_NOTIFICATIONS {
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => each(buffer.get(..length).unwrap_or_default()),
            // Some were lost; others follow.
            Err(Errno::ENOBUFS | Errno::EINTR) => {}
            Err(_) => break,
        }
    }
}

fn open(protocol: SockProtocol, groups: u32) -> Result<OwnedFd, Errno> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
    Ok(socket)
}

/// Sends a request, and passes each datagram of the answer to `each` until the answer is complete.
fn ask(socket: &OwnedFd, request: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), Errno> {
    send(socket.as_raw_fd(), request, MsgFlags::empty())?;
    let mut buffer = vec![0; ANSWER_BUFFER];
    loop {
        let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            length => length?,
        };
        let datagram = buffer.get(..length).unwrap_or_default();
        each(datagram);
        for answer in answers(datagram) {
            match answer {
                Answer::Done { .. } => return Ok(()),
                Answer::Refused(refused) => return Err(Errno::from_raw(refused.errno)),
                Answer::Object { .. } => {}
            }
        }
    }
}
