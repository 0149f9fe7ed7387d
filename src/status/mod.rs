//! What the daemon tells of itself when it is asked (`knockd --status`, SIGUSR1), and the forms it is shown in.
//!
//! Each of the daemon's two processes tells what it knows as lines `KEY VALUE` ([`facts`]), the last of which is
//! `end`. It writes them to each connection to its status socket, and reads nothing there. The program that asks
//! reads the lines of both ([`half`]) and shows them as a [`table`], as JSON or as [`metrics`] for Prometheus; so
//! the daemon itself needs none of these forms.
//!
//! **No sequence, seed, key, command or one-time line is ever told**, nor what they could be guessed from, such as a
//! hash of the configuration.

pub mod doorkeeper;
pub mod facts;
pub mod half;
pub mod keys;
pub mod metrics;
pub mod table;
pub mod watcher;
