//! The netlink socket to nftables: transactions, and questions with their answers.

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

/// Room for one datagram of an answer: what the kernel puts into one at most.
const ANSWER: usize = 1 << 16;
/// Room for a batch, beyond what the system allows anybody: ten thousand elements take one megabyte.
const SEND_BUFFER: usize = 16 << 20;
/// Room for the answers of a batch of which everything is refused.
const RECEIVE_BUFFER: usize = 1 << 20;

/// A socket to nftables. A table with an owner belongs to it.
#[derive(Debug)]
pub struct Nftables {
    socket: OwnedFd,
    /// The number that the kernel gave it: it tells our own changes from those of others.
    pub number: u32,
    sequence: u32,
}

impl Nftables {
    /// A socket.
    ///
    /// # Errors
    /// The kernel has no nftables, or what else it says.
    pub fn open() -> Result<Nftables, Refusal> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let made = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter);
        let socket = made.map_err(|errno| match errno {
            Errno::EPROTONOSUPPORT => Refusal::NoNftables,
            errno => Refusal::Other(errno as i32),
        })?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(other)?;
        let number = getsockname::<NetlinkAddr>(socket.as_raw_fd()).map_err(other)?.pid();
        // The kernel answers at once. Should it ever not, we do not wait for ever.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(5)).map_err(other)?;
        // Not allowed in a container; then very large batches are refused.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER);
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        Ok(Nftables { socket, number, sequence: 1 })
    }

    /// Whether we may change this firewall at all, and whether there is one.
    ///
    /// # Errors
    /// Why not.
    pub fn try_out(&mut self) -> Result<(), Refusal> {
        self.table(Family::Inet, "knockd").map(|_| ())
    }

    /// What the kernel says of a table, if there is one of that name.
    ///
    /// # Errors
    /// Why it does not answer.
    pub fn table(&mut self, family: Family, table: &str) -> Result<Option<TableDescription>, Refusal> {
        let question = set::table_question(family, table, self.next());
        let mut found = None;
        self.ask(&question, &mut |attributes| found = Some(TableDescription::read(attributes)))?;
        Ok(found)
    }

    /// Hands the attributes of a set, if there is one of that name, to `read`.
    ///
    /// # Errors
    /// Why it does not answer.
    pub fn set<T>(&mut self, name: &SetName, read: impl Fn(&[u8]) -> T) -> Result<Option<T>, Refusal> {
        let question = set::question(name, self.next());
        let mut found = None;
        self.ask(&question, &mut |attributes| found = Some(read(attributes)))?;
        Ok(found)
    }

    /// All elements of a set; none if there is no such set.
    ///
    /// # Errors
    /// Why it does not answer.
    pub fn elements(&mut self, name: &SetName) -> Result<Vec<Found>, Refusal> {
        let question = element::all_question(name, self.next());
        let mut all = Vec::new();
        self.ask(&question, &mut |attributes| all.extend(element::found(attributes)))?;
        Ok(all)
    }

    /// An element of a set, if it is there.
    ///
    /// # Errors
    /// Why it does not answer.
    pub fn element(&mut self, name: &SetName, element: &Element) -> Result<Option<Found>, Refusal> {
        let question = element::question(name, element, self.next());
        let mut found = None;
        self.ask(&question, &mut |attributes| found = element::found(attributes).into_iter().next())?;
        Ok(found)
    }

    /// An empty batch, to be committed before the next one or question.
    #[must_use]
    pub fn batch(&mut self) -> Batch {
        Batch::new(self.next())
    }

    /// Commits a transaction: all of it, or nothing. What comes back was refused.
    ///
    /// # Errors
    /// Why the transaction as a whole was refused.
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
        // Whatever else is refused, the last message is answered, and last.
        self.receive(|answer| match answer {
            // What an earlier batch left behind when there was no room for all answers.
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

    /// Hands on each object of the answer; nothing if what is asked for is not there.
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
        send(self.socket.as_raw_fd(), bytes, MsgFlags::empty()).map_err(other)?;
        Ok(())
    }

    /// Reads answers until one `is_last`.
    fn receive(&self, mut is_last: impl FnMut(Answer<'_>) -> bool) -> Result<(), Refusal> {
        let mut buffer = vec![0; ANSWER];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                length => length.map_err(other)?,
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

fn other(errno: Errno) -> Refusal {
    Refusal::Other(errno as i32)
}
