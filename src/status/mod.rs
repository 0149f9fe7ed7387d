//! The daemon's status on request (`knockd --status`, SIGUSR1), and its output formats.
//!
//! Each of the daemon's two processes writes its part as lines `KEY VALUE` ([`writer`]), ended by the line
//! `end`, to every connection to its status socket, from which it reads nothing. The program that asks parses
//! the lines of both ([`process_status`]) and formats them as a [`table`], as JSON or as [`metrics`] for
//! Prometheus, so the daemon itself needs none of these formats.
//!
//! **The status never contains a sequence, seed, key, command or one-time line**, nor anything they could be
//! guessed from, such as a hash of the configuration.

pub mod doorkeeper;
pub mod keys;
pub mod metrics;
pub mod process_status;
pub mod table;
pub mod watcher;
pub mod writer;
