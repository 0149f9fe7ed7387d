//! Doors that the kernel opens and closes by itself: what the doorkeeper does in nftables.
//!
//! Knocks are gathered first and committed in one transaction, before anything else is done for them. Nothing
//! here waits for the disk.

mod claim;
mod closing;
mod commit;
mod doorbell;
mod firewall;
mod partings;
mod said;
mod sessions;
mod socket;
mod standing;
mod without_daemon;

pub(super) use firewall::Firewall;
pub(super) use said::Said;
pub(in crate::daemon) use without_daemon::{guard, known_sets, unguard};
