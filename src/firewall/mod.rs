//! The kernel's firewall, nftables, as values and as the bytes of netlink messages.
//!
//! A door with `Open` lets an address in by an element of a set that some rule looks up. The element has a
//! timeout, so that the kernel closes the door whatever happens to us. The set is the user's own ([`set`]),
//! or belongs to our [`guard`]. Nothing is sent here, and no program is run: `daemon/doorkeeper/nftables` has
//! the socket.

pub mod answer;
pub mod element;
pub mod flows;
pub mod guard;
pub mod message;
pub mod refusal;
pub mod rule;
pub mod sessions;
pub mod set;
