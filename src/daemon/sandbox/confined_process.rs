//! The confined processes and their needs.

use std::os::fd::BorrowedFd;

/// The process to confine.
#[derive(Clone, Copy, Debug)]
pub enum ConfinedProcess<'a> {
    /// Receives packets.
    Watcher(Descriptors<'a>),
    /// Looks up names with the C library.
    Resolver,
}

/// The watcher's descriptors whose numbers are in the list of system calls. It may not close them, so that no
/// packet socket can get their numbers.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors<'a> {
    /// The sockets on which it sends messages to the doorkeeper.
    pub links: [BorrowedFd<'a>; 2],
    /// The socket on which it sends queries about interfaces, if it could be opened.
    pub survey: Option<BorrowedFd<'a>>,
}
