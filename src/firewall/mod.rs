//! The kernel's firewall, nftables, as values and as the bytes of netlink messages.
//!
//! A door that has `Open` lets an address in by an element of a set that some rule looks into. The
//! element carries its own time, so that the kernel closes the door whatever happens to us. The set is
//! the user's own ([`set`]), or one of the [`guard`] that we make. Nothing is sent here, and no program
//! is run: `daemon/doorkeeper/nftables` has the socket.

pub mod answer;
pub mod element;
pub mod flows;
pub mod guard;
pub mod message;
pub mod refusal;
pub mod rule;
pub mod sessions;
pub mod set;
