//! The doors with `Open`: the doorkeeper adds elements to sets of nftables, and the kernel lets the knockers
//! in and expires the elements.
//!
//! Openings are gathered first and committed in one transaction, before anything else is done for them.
//! Nothing here waits for the disk.

mod changes;
mod closing;
mod commit;
mod disconnects;
mod firewall;
mod guard_lock;
mod guard_table;
mod log_message;
mod sessions;
mod socket;
mod without_daemon;

pub(super) use firewall::Firewall;
pub(super) use log_message::LogMessage;
pub(in crate::daemon) use without_daemon::{guard, known_sets, unguard};
