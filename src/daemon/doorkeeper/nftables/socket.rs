//! The netlink socket to nftables: transactions and queries.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::door::open::{Family, SetName};
use crate::firewall::answer::{Answer, Refused, answers};
use crate::firewall::element::{self, Element, Found};
use crate::firewall::message::Batch;
use crate::firewall::refusal::Refusal;
use crate::firewall::set::{self, TableDescription};

/// Buffer for one datagram of an answer, in bytes: the most that the kernel puts into one.
const ANSWER_BUFFER: usize = 1 << 16;
/// Send buffer for a batch, in bytes, above `wmem_max`: ten thousand elements take one megabyte.
const SEND_BUFFER: usize = 16 << 20;
/// Receive buffer in bytes, for the answers when every message of a batch is refused.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A netlink socket to nftables. It owns the tables that it creates with the owner flag.
#[derive(Debug)]
pub struct Nftables {
    socket: OwnedFd,
    /// Its netlink port ID, which distinguishes our changes from those of others.
    pub port_id: u32,
    sequence: u32,
}

impl Nftables {
    /// Opens a socket.
    ///
    /// # Errors
    /// [`Refusal::NoNftables`] if the kernel has no nfnetlink, or another error of `socket(2)` and the like.
    pub fn open() -> Result<Nftables, Refusal> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let made = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter);
        let socket = made.map_err(|errno| match errno {
            Errno::EPROTONOSUPPORT => Refusal::NoNftables,
            errno => Refusal::Other(errno as i32),
        })?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(refusal_of)?;
        let port_id = getsockname::<NetlinkAddr>(socket.as_raw_fd()).map_err(refusal_of)?.pid();
        // The kernel answers at once. If it ever does not, this keeps us from waiting forever.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(5)).map_err(refusal_of)?;
        // Not allowed in a container; very large batches are refused then.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER);
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        Ok(Nftables { socket, port_id, sequence: 1 })
    }

    /// Checks that the kernel has nftables and that we may use it.
    ///
    /// # Errors
    /// The kernel has no nftables, or we may not use it.
    pub fn try_out(&mut self) -> Result<(), Refusal> {
        self.table(Family::Inet, "knockd").map(|_| ())
    }

    /// The kernel's description of a table; `None` if there is no table of that name.
    ///
    /// # Errors
    /// The kernel refuses the query or does not answer.
    pub fn table(&mut self, family: Family, table: &str) -> Result<Option<TableDescription>, Refusal> {
        let question = set::table_question(family, table, self.next());
        let mut found = None;
        self.ask(&question, &mut |attributes| found = Some(TableDescription::read(attributes)))?;
        Ok(found)
    }

    /// Passes the attributes of a set to `read`; `None` if there is no set of that name.
    ///
    /// # Errors
    /// The kernel refuses the query or does not answer.
    pub fn set<T>(&mut self, name: &SetName, read: impl Fn(&[u8]) -> T) -> Result<Option<T>, Refusal> {
        let question = set::question(name, self.next());
        let mut found = None;
        self.ask(&question, &mut |attributes| found = Some(read(attributes)))?;
        Ok(found)
    }

    /// All elements of a set; empty if there is no such set.
    ///
    /// # Errors
    /// The kernel refuses the query or does not answer.
    pub fn elements(&mut self, name: &SetName) -> Result<Vec<Found>, Refusal> {
        let question = element::all_question(name, self.next());
        let mut all = Vec::new();
        self.ask(&question, &mut |attributes| all.extend(element::found(attributes)))?;
        Ok(all)
    }

    /// An element of a set; `None` if the set does not contain it.
    ///
    /// # Errors
    /// The kernel refuses the query or does not answer.
    pub fn element(&mut self, name: &SetName, element: &Element) -> Result<Option<Found>, Refusal> {
        let question = element::question(name, element, self.next());
        let mut found = None;
        self.ask(&question, &mut |attributes| found = element::found(attributes).into_iter().next())?;
        Ok(found)
    }

    /// An empty batch, to be committed before the next batch or query.
    #[must_use]
    pub fn batch(&mut self) -> Batch {
        Batch::new(self.next())
    }

    /// Commits a transaction: all of it or nothing. Returns the messages that were refused.
    ///
    /// # Errors
    /// The transaction as a whole was refused.
    pub fn commit(&mut self, batch: Batch) -> Result<Vec<Refused>, Refusal> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let first = batch.first();
        let (bytes, last) = batch.finish();
        self.sequence = last.wrapping_add(2);
        self.send(&bytes)?;
        let mut refused = Vec::new();
        let mut whole = None;
        // Whatever else is refused, the last message is always acknowledged, and last.
        self.receive(|answer| match answer {
            // Left over from an earlier batch whose answers did not all fit.
            Answer::Refused(it) if it.sequence.wrapping_sub(first) > last.wrapping_sub(first) => false,
            Answer::Refused(it) => {
                if it.sequence == first {
                    whole = Some(Refusal::of(it, first));
                } else {
                    refused.push(it);
                }
                it.sequence == last || it.sequence == first
            }
            Answer::Done { sequence } => sequence == last,
            Answer::Object { .. } => false,
        })?;
        match whole {
            Some(refusal) => Err(refusal),
            None => Ok(refused),
        }
    }

    fn next(&mut self) -> u32 {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        sequence
    }

    /// Passes each object of the answer to `each`; none if the object does not exist.
    fn ask(&mut self, question: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<(), Refusal> {
        const ENOENT: i32 = Errno::ENOENT as i32;
        let sequence = self.sequence.wrapping_sub(1);
        let is_dump = element::is_dump(question);
        self.send(question)?;
        let mut result = Ok(());
        self.receive(|answer| match answer {
            Answer::Object { sequence: of, attributes } if of == sequence => {
                each(attributes);
                !is_dump
            }
            Answer::Done { sequence: of } => of == sequence,
            Answer::Refused(refused) if refused.sequence == sequence => {
                if refused.errno != ENOENT {
                    result = Err(Refusal::of(refused, sequence));
                }
                true
            }
            Answer::Object { .. } | Answer::Refused(_) => false,
        })?;
        result
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Refusal> {
        send(self.socket.as_raw_fd(), bytes, MsgFlags::empty()).map_err(refusal_of)?;
        Ok(())
    }

    /// Reads answers until `is_last` returns true for one.
    fn receive(&self, mut is_last: impl FnMut(Answer<'_>) -> bool) -> Result<(), Refusal> {
        let mut buffer = vec![0; ANSWER_BUFFER];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                length => length.map_err(refusal_of)?,
            };
            let datagram = buffer.get(..length).unwrap_or_default();
            let mut is_over = false;
            for answer in answers(datagram) {
                is_over |= is_last(answer);
            }
            if is_over {
                return Ok(());
            }
        }
    }
}

fn refusal_of(errno: Errno) -> Refusal {
    Refusal::Other(errno as i32)
}
