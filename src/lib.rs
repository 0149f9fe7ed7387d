//! Port knocking: the parts that `knockd` and `knock` are made of.
//!
//! Two state machines without I/O, and two programs around them. The [`engine`] tracks who is knocking,
//! [`opening`] tracks which doors stand open. Both are told what happened and what time it is, and return
//! values that say what to do. The client turns the same sequences into packets.
//!
//! | room | what it holds |
//! |---|---|
//! | [`time`] | the time as a value: uptime and Unix time, read at one instant |
//! | [`sorted`] | sets that are sorted lists |
//! | [`octets`] | bytes that need not be UTF-8 as text, and back |
//! | [`json`] | writes JSON |
//! | [`reason`] | the text of an operating-system error |
//! | [`command_line`] | reads a command line as `getopt_long` does |
//! | [`trust`] | whether a file can be trusted: from owners and modes to a verdict and a sentence |
//! | [`door`] | what a door is: knock, sequence, rules, lock, one-time passwords |
//! | [`packet`] | parses an IP packet into a knock, builds packets, describes them as text |
//! | [`firewall`] | the kernel's firewall: elements, sets and our own table, as netlink messages |
//! | [`opening`] | which doors stand open: events and their log lines, which command to run when, the saved state |
//! | [`filter`] | what to listen for and on which interfaces: a predicate, and a program for the kernel |
//! | [`engine`] | who is knocking: takes knocks, returns events |
//! | [`config`] | parses a knockd.conf into doors and options |
//! | [`new_door`] | makes up a door: random ports or fresh keys, as text for both ends |
//! | [`simulation`] | what would happen: plays captured or described packets against a configuration |
//! | [`protocol`] | what the daemon's two processes say to each other, and who waits for whom |
//! | [`fleet`] | what the doorkeeper and the program of a fleet say to each other, and which openings wait for an answer |
//! | [`status`] | what the daemon tells of itself, and the forms in which that is shown |
//! | [`plan`] | what the client sends and in which order; parses the client's profiles and passwords |
//! | [`daemon`] | knockd's processes: sockets, commands, log, signals |
//! | [`client`] | knock: command line, files, sockets |
//!
//! **Everything outside [`daemon`], [`client`] and `bin/` is pure**: it does no I/O, reads no clock and
//! prints nothing.
//!
//! Who may import whom: a room imports only from rooms above it in the table, but [`daemon`] and [`client`]
//! never from each other. [`packet`], the first to read what strangers send, imports only [`door::knock`].
//! Inside a room the order is free. No two files import each other, directly or through others. The test
//! `tests/repository/architecture.rs` reads the sources and enforces all of this.
//!
//! Reading order: [`door::knock`], [`door::sequence`], [`door`], [`door::lock`], [`engine`],
//! [`opening::event`], [`opening`] are port knocking; [`packet`] and [`filter`] bring the knocks in. Then the
//! daemon: `daemon/watcher/` faces the network, `daemon/doorkeeper/` is the main process and runs the commands,
//! and [`protocol`] is what they say to each other.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod client;
pub mod command_line;
pub mod config;
#[cfg(target_os = "linux")]
pub mod daemon;
pub mod door;
pub mod engine;
pub mod filter;
pub mod firewall;
#[cfg(target_os = "linux")]
pub mod fleet;
pub mod json;
#[cfg(target_os = "linux")]
pub mod new_door;
pub mod octets;
pub mod opening;
pub mod packet;
pub mod plan;
#[cfg(target_os = "linux")]
pub mod protocol;
pub mod reason;
pub mod simulation;
pub mod sorted;
#[cfg(target_os = "linux")]
pub mod status;
pub mod time;
pub mod trust;
