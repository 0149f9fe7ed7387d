//! Port knocking: the parts that `knockd` and `knock` are made of.
//!
//! Two state machines without I/O, and two programs around them. The [`engine`] tracks who is knocking,
//! [`opening`] tracks which doors are open. Both are told what happened and the time, and return values that
//! say what to do. The client turns the same sequences into packets.
//!
//! | room | what it holds |
//! |---|---|
//! | [`time`] | the time as a value: uptime and Unix time, read at one instant |
//! | [`sorted`] | sets as sorted lists |
//! | [`octets`] | converts bytes that may not be UTF-8 to text and back |
//! | [`json`] | writes JSON |
//! | [`reason`] | the text of an operating-system error |
//! | [`command_line`] | reads a command line as `getopt_long` does |
//! | [`trust`] | decides from owners and modes whether a file can be trusted |
//! | [`door`] | what a door is: knock, sequence, rules, lock, one-time passwords |
//! | [`packet`] | parses an IP packet into a knock, builds packets, describes them as text |
//! | [`firewall`] | the kernel's firewall: elements, sets and our own table, as netlink messages |
//! | [`opening`] | which doors are open: events and their log lines, which command to run when, the saved state |
//! | [`filter`] | which packets to capture on which interfaces: a predicate, and a BPF program for the kernel |
//! | [`engine`] | who is knocking: takes knocks, returns events |
//! | [`config`] | parses a knockd.conf into doors and options |
//! | [`new_door`] | generates a door: random ports or fresh keys, as text for both ends |
//! | [`simulation`] | plays captured or described packets against a configuration |
//! | [`protocol`] | the messages between the daemon's two processes, and which of them waits for which answer |
//! | [`fleet`] | the messages between the doorkeeper and the program of a fleet, and the openings that wait for its answer |
//! | [`status`] | the daemon's status, and its output formats |
//! | [`plan`] | the packets that the client sends and their order; parses the client's profiles and passwords |
//! | [`daemon`] | knockd's processes: sockets, commands, log, signals |
//! | [`client`] | knock: command line, files, sockets |
//!
//! **Everything outside [`daemon`], [`client`] and `bin/` is pure**: it does no I/O, reads no clock and
//! prints nothing.
//!
//! Imports: a room imports only from rooms above it in the table, and [`daemon`] and [`client`] never from
//! each other. [`packet`], the first to read bytes from strangers, imports only [`door::knock`]. Inside a
//! room the order is free. No two files import each other, directly or through others. The test
//! `tests/repository/architecture.rs` reads the sources and enforces all of this.
//!
//! Reading order: [`door::knock`], [`door::sequence`], [`door`], [`door::lock`], [`engine`],
//! [`opening::event`], [`opening`] are port knocking; [`packet`] and [`filter`] bring the knocks in. Then the
//! daemon: `daemon/watcher/` faces the network, `daemon/doorkeeper/` is the main process and runs the
//! commands, and [`protocol`] holds the messages between them.
#![cfg_attr(test, allow(clippy::unwrap_used))]
// contrib/build-static.sh optimises for size, but not the functions that each packet of a flood runs
// through: those have the attribute `optimize(speed)`.
#![cfg_attr(has_optimize_attribute, feature(optimize_attribute))]

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
