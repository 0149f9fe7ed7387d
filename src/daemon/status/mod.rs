//! The status of the daemon: the sockets that serve it, and the command that asks for it.

pub mod ask;
pub mod place;
pub mod server;
