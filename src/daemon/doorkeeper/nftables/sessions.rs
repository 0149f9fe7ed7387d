//! Connections that a door let in: which there are, when they end, and how they are ended with the door.

use std::collections::HashSet;
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
use crate::firewall::sessions::{
    Connection, ENDED_SOCKETS, Scope, connections, connections_question, destruction, flows_question,
    forgetting,
};

/// Room for one datagram of an answer.
const ANSWER: usize = 1 << 16;
/// Notifications that are looked at in one go.
const RINGS: usize = 1024;

/// The two ends of a connection that tell it from others of the same machine.
pub(super) type Ends = (IpAddr, u16, u16);

pub(super) fn ends(connection: &Connection) -> Ends {
    (connection.peer, connection.peer_port, connection.port)
}

/// All TCP connections that this door lets in, as sockets of this machine.
pub(super) fn connected(scope: &Scope<'_>) -> Result<Vec<Connection>, Errno> {
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
pub(super) fn all_connected() -> Result<Vec<Connection>, Errno> {
    let socket = open(SockProtocol::NetlinkSockDiag, 0)?;
    let mut found = Vec::new();
    for is_v6 in [false, true] {
        ask(&socket, &connections_question(is_v6, 1), |datagram| found.extend(connections(datagram)))?;
    }
    Ok(found)
}

/// Ends what the door let in: TCP connections to this machine see a reset, and conntrack forgets the flows, so
/// that the firewall takes what comes next for new.
///
/// # Errors
/// What could not be ended, and why.
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
        // There is no conntrack, so nothing that it could know.
        Ok(()) | Err(Errno::EPROTONOSUPPORT | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOENT) => {}
        Err(errno) => wrong.push(format!("flows of conntrack: {}", errno.desc())),
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn destroy(scope: &Scope<'_>) -> Result<(), Errno> {
    let there = connected(scope)?;
    let socket = open(SockProtocol::NetlinkSockDiag, 0)?;
    for connection in there {
        match ask(&socket, &destruction(&connection, 1), |_| {}) {
            // It ended by itself.
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
            Answer::Object { attributes, .. } => forgetting(attributes, scope, 2),
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

/// Hears of TCP connections that end.
#[derive(Debug)]
pub(super) struct Farewells(OwnedFd);

impl Farewells {
    /// Listens from now on.
    pub(super) fn new() -> Result<Farewells, Errno> {
        Ok(Farewells(open(SockProtocol::NetlinkSockDiag, ENDED_SOCKETS)?))
    }

    /// The connections that ended since the last call; `None` if there were so many that some were lost.
    pub(super) fn ended(&self) -> Option<HashSet<Ends>> {
        let mut ended = HashSet::new();
        let mut buffer = [0; 4096];
        for _ in 0..RINGS {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    let found = connections(buffer.get(..length).unwrap_or_default());
                    ended.extend(found.iter().map(ends));
                }
                Err(Errno::ENOBUFS) => return None,
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        Some(ended)
    }
}

impl AsFd for Farewells {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn open(protocol: SockProtocol, groups: u32) -> Result<OwnedFd, Errno> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
    Ok(socket)
}

/// Sends a request, and hands on what comes back until it is complete.
fn ask(socket: &OwnedFd, request: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), Errno> {
    send(socket.as_raw_fd(), request, MsgFlags::empty())?;
    let mut buffer = vec![0; ANSWER];
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
