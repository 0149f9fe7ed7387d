//! The system calls that the confined processes may make: those they were observed to need, and no more. All
//! others fail with `EPERM`.
//!
//! **Watcher.** It waits, receives, and sends only on the socket to the doorkeeper and the kernel's netlink
//! socket, whose descriptor numbers are in the list. So it can receive frames, but not send any. It gets no
//! new descriptors except from the doorkeeper, cannot replace the descriptors that may send (no `dup2`, and
//! it may not close them), and cannot open anything by path. On a packet socket it may set only the filter
//! and the receive ring: neither promiscuous mode nor a send ring. Text for others it writes into a memory
//! file that it is given, with `pwrite`, which fails on sockets. No memory becomes executable.
//!
//! **Resolver.** The C library looks up names with files, name servers and local services (nscd,
//! systemd-resolved), as the administrator has configured it, so this list is wider: reading files, internet
//! and local sockets. It cannot write a file, run a program, or access another process.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc::{self, c_int, c_long};

use crate::daemon::sandbox::confined_process::{ConfinedProcess, Descriptors};
use crate::daemon::sandbox::numbers::{
    ABOUT_SOCKETS, CLIENT, CLOCK, CLOSE, FCNTL, FILES, IOCTL, MAP, MEMORY, OPEN, OPENAT, POLL, READ, READ_AT,
    RECEIVE, RUNTIME, SEND, SENDMSG, SETSOCKOPT, SLEEP, SOCKET, WRITE_AT,
};

/// An allowed system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The system call number.
    pub number: u32,
    /// Alternatives for the arguments: the call is allowed if all tests of one of them hold, or if the list
    /// is empty.
    pub only: Vec<Vec<Test>>,
}

/// A test of an argument, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// The argument is one of these values.
    In(u32, Vec<u32>),
    /// The argument is none of these values.
    NotIn(u32, Vec<u32>),
    /// None of these bits is set in the argument.
    NoBits(u32, u32),
    /// The argument masked with these bits equals the value (argument, bits, value).
    Masked(u32, u32, u32),
}

/// The system calls of this process, the most frequent first.
#[must_use]
pub fn of(process: &ConfinedProcess<'_>) -> Vec<Call> {
    match process {
        ConfinedProcess::Watcher(descriptors) => of_watcher(descriptors),
        ConfinedProcess::Resolver => of_resolver(),
    }
}

fn of_watcher(descriptors: &Descriptors<'_>) -> Vec<Call> {
    let links = numbers(descriptors.links);
    let survey = numbers(descriptors.survey);
    let filter = option(libc::SOL_SOCKET, &[libc::SO_ATTACH_FILTER]);
    let ring = option(
        libc::SOL_PACKET,
        &[libc::PACKET_VERSION, libc::PACKET_RX_RING, libc::PACKET_FANOUT, libc::PACKET_FANOUT_DATA],
    );
    let kept = links.iter().chain(&survey).copied().collect();
    [
        any(POLL),
        any(RECEIVE),
        any(CLOCK),
        only(SENDMSG, &[vec![Test::In(0, links)]]),
        only(SEND, &[vec![Test::In(0, survey)]]),
        only(SETSOCKOPT, &[filter, ring]),
        any(ABOUT_SOCKETS),
        only(CLOSE, &[vec![Test::NotIn(0, kept)]]),
        only(FCNTL, &[vec![Test::In(1, commands())]]),
        any(READ),
        any(READ_AT),
        any(WRITE_AT),
        only(MAP, &[vec![Test::NoBits(2, word(libc::PROT_EXEC))]]),
        any(MEMORY),
        any(SLEEP),
        any(RUNTIME),
    ]
    .concat()
}

fn of_resolver() -> Vec<Call> {
    let domains = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].map(word).to_vec();
    let writes = word(libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC);
    let reading = |argument| vec![Test::Masked(argument, writes, word(libc::O_RDONLY))];
    let requests =
        vec![u32::try_from(libc::FIONREAD).unwrap_or(0), u32::try_from(libc::FIONBIO).unwrap_or(0)];
    [
        any(POLL),
        any(RECEIVE),
        any(SEND),
        any(SENDMSG),
        any(CLOCK),
        only(OPEN, &[reading(1)]),
        only(OPENAT, &[reading(2)]),
        any(FILES),
        any(READ),
        any(READ_AT),
        any(CLOSE),
        only(SOCKET, &[vec![Test::In(0, domains)]]),
        any(CLIENT),
        any(SETSOCKOPT),
        any(ABOUT_SOCKETS),
        only(FCNTL, &[vec![Test::In(1, commands())]]),
        only(IOCTL, &[vec![Test::In(1, requests)]]),
        // The C library loads its modules for the name sources.
        any(MAP),
        any(MEMORY),
        any(SLEEP),
        any(RUNTIME),
    ]
    .concat()
}

/// The commands of `fcntl` that duplicate a descriptor or get and set its flags; not those with which a
/// socket sends signals to processes.
fn commands() -> Vec<u32> {
    let commands = [libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];
    commands.map(word).to_vec()
}

/// The tests of `setsockopt` for one of these options at this level.
fn option(level: c_int, options: &[c_int]) -> Vec<Test> {
    vec![Test::In(1, vec![word(level)]), Test::In(2, options.iter().copied().map(word).collect())]
}

fn any(calls: &[c_long]) -> Vec<Call> {
    only(calls, &[])
}

fn only(calls: &[c_long], only: &[Vec<Test>]) -> Vec<Call> {
    let calls = calls.iter().filter_map(|&number| u32::try_from(number).ok());
    calls.map(|number| Call { number, only: only.to_vec() }).collect()
}

fn numbers<'a>(descriptors: impl IntoIterator<Item = BorrowedFd<'a>>) -> Vec<u32> {
    descriptors.into_iter().map(|descriptor| word(descriptor.as_raw_fd())).collect()
}

/// A `c_int` argument as the word that the filter sees.
fn word(argument: c_int) -> u32 {
    argument.cast_unsigned()
}
