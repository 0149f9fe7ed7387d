//! Who is confined, and what that needs.

use std::os::fd::BorrowedFd;

/// Who is confined: that decides what it needs.
#[derive(Clone, Copy, Debug)]
pub enum Tenant<'a> {
    /// Receives packets.
    Watcher(Descriptors<'a>),
    /// Looks up names with the C library.
    Resolver,
}

/// The descriptors of the watcher whose numbers the list of system calls has. It may not close them, so that no packet
/// socket can take their place.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors<'a> {
    /// Messages to the doorkeeper are sent on these.
    pub links: [BorrowedFd<'a>; 2],
    /// Questions about interfaces are sent on this, if it could be opened.
    pub survey: Option<BorrowedFd<'a>>,
}
