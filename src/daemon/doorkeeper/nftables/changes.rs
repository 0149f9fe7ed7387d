//! Notifications of changes that other processes make to the ruleset.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_packet_core::NetlinkBuffer;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use socket2::{SockFilter, Socket};

use crate::filter::bpf::{Assembler, Instruction, JUMP_EQUAL, LD_HALF, LD_WORD};
use crate::firewall::answer::text;
use crate::firewall::element::{Removed, removed};
use crate::firewall::guard;
use crate::firewall::message::{Kind, NETFILTER_HEADER};

/// `NFNLGRP_NFTABLES`, as a bit.
const GROUP: u32 = 1 << 6;
/// Offsets of the message type and of the requester's port ID in `struct nlmsghdr`.
const TYPE: u32 = 4;
const ASKED_BY: u32 = 12;
/// The attribute with the name of the table, in notifications of all kinds.
const TABLE_NAME: u16 = 1;
/// Maximum number of datagrams read at a time.
const MAX_DATAGRAMS: usize = 1024;

/// A netlink socket that receives the notifications.
#[derive(Debug)]
pub struct ChangeListener {
    socket: Socket,
}

/// What has changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Tables, chains, rules or sets changed, or notifications were lost.
    pub ruleset: bool,
    /// Some of these changes were in our own table, or may have been.
    pub guard: bool,
    /// Elements that others removed.
    pub removed: Vec<Removed>,
}

impl ChangeListener {
    /// Listens from now on, but not to changes by the socket with the port ID `own`.
    ///
    /// # Errors
    /// Errors of `socket(2)`, `bind(2)` and `SO_ATTACH_FILTER`.
    pub fn new(own: u32) -> io::Result<ChangeListener> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        let socket = Socket::from(socket);
        let filter: Vec<SockFilter> =
            program(own).into_iter().map(|it| SockFilter::new(it.code, it.jt, it.jf, it.k)).collect();
        socket.attach_filter(&filter)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUP))?;
        Ok(ChangeListener { socket })
    }

    /// The changes since the last call; `None` if there were none.
    pub fn read(&self) -> Option<Changes> {
        let mut changes = None;
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..MAX_DATAGRAMS {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    let changes = changes.get_or_insert_with(Changes::default);
                    read_datagram(buffer.get(..length).unwrap_or_default(), changes);
                }
                // The buffer overflowed: some were lost.
                Err(Errno::ENOBUFS) => {
                    let changes = changes.get_or_insert_with(Changes::default);
                    (changes.ruleset, changes.guard) = (true, true);
                }
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        changes
    }
}

impl AsFd for ChangeListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads a datagram, which may hold a whole transaction.
fn read_datagram(datagram: &[u8], changes: &mut Changes) {
    let mut rest = datagram;
    while let Ok(message) = NetlinkBuffer::new_checked(rest) {
        let kind = message.message_type();
        let attributes = message.payload().get(NETFILTER_HEADER..).unwrap_or_default();
        if kind == Kind::DelSetElem.number() {
            changes.removed.extend(removed(attributes));
        } else if kind != Kind::NewSetElem.number() && kind != Kind::NewGen.number() {
            changes.ruleset = true;
            changes.guard |= text(attributes, TABLE_NAME).as_deref() == Some(guard::TABLE);
        }
        let length = (message.length() as usize).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
    }
}

/// Accepts datagrams that we did not cause ourselves, unless they begin with a new element or the end of a
/// transaction.
fn program(own: u32) -> Vec<Instruction> {
    let mut code = Assembler::default();
    let pass = code.finish(u32::MAX);
    let reject = code.finish(0);
    // The kernel loads big-endian numbers; these fields are in the machine's byte order.
    let half = |number: u16| u32::from(u16::from_be_bytes(number.to_ne_bytes()));
    let of_new_element = code.branch(JUMP_EQUAL, half(Kind::NewSetElem.number()), reject, pass);
    let of_generation = code.branch(JUMP_EQUAL, half(Kind::NewGen.number()), reject, of_new_element);
    let kind = code.then(LD_HALF, TYPE, of_generation);
    let asked_by = code.branch(JUMP_EQUAL, u32::from_be_bytes(own.to_ne_bytes()), reject, kind);
    let entry = code.then(LD_WORD, ASKED_BY, asked_by);
    code.program(entry)
}
