//! Port knocking: the parts that `knockd` and `knock` are made of.
//!
//! Two small state machines that do no I/O, and two programs around them. The [`engine`] knows who
//! is knocking, the [`opening`] room knows which doors stand open; both are told what happened and what
//! time it is, and answer with values. The client turns the same sequences into packets.
//!
//! | room | what it holds |
//! |---|---|
//! | [`time`] | both clocks at one instant, passed down |
//! | [`reason`] | why the operating system said no, in its own words |
//! | [`door`] | what a door is: knocks, sequences, rules, locks, one-time passwords |
//! | [`packet`] | IP bytes to a knock, values to IP packets, packets in words |
//! | [`opening`] | which doors stand open: events and their log lines, what to run and when, the state |
//! | [`filter`] | what is listened for and where, as a predicate and as a program for the kernel |
//! | [`engine`] | who is knocking: knocks in, events out |
//! | [`config`] | a knockd.conf, from text to doors |
//! | [`plan`] | what the client sends, in which order; a knock.conf, from text to targets |
//! | [`daemon`] | the daemon's processes: sockets, commands, log, signals |
//! | [`client`] | the client's command line, sockets and files |
//!
//! **Everything outside [`daemon`], [`client`] and `bin/` is pure**: it opens nothing, asks no clock and
//! prints nothing. A room sees only the rooms above it in this table ([`packet`], the first to touch what
//! strangers send, sees only [`door::knock`]); inside a room the order is free, but no two files import
//! each other. [`daemon`] and [`client`] do not know each other. A test, `tests/architecture.rs`, reads
//! the sources and holds them to this.
//!
//! To read: [`door::knock`], [`door::sequence`], [`door`], [`door::lock`], [`engine`], [`opening::event`],
//! [`opening`]; that is port knocking. Then `daemon/watcher/` and `daemon/doorkeeper/`; that is the daemon.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod client;
pub mod config;
pub mod daemon;
pub mod door;
pub mod engine;
pub mod filter;
pub mod opening;
pub mod packet;
pub mod plan;
pub mod reason;
pub mod time;
