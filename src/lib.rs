//! Port knocking: the parts that `knockd` and `knock` are made of.
//!
//! Two small state machines that do no I/O, and two programs around them. The [`engine`] knows who
//! is knocking, the [`opening`]s know which doors stand open; both are told what happened and what
//! time it is, and answer with values. The client turns the same sequences into packets.
//!
//! | module | what it holds |
//! |---|---|
//! | [`time`] | both clocks at one instant, passed down |
//! | [`reason`] | why the operating system said no, in its own words |
//! | [`flood`] | lines of the log that come too thick |
//! | [`pace`] | packets that come too thick to wake up for each |
//! | [`knock`] | what arrives: one packet, reduced |
//! | [`sequence`] | stages, sequences and their text form |
//! | [`otp`] | a shared seed and the time, as port sequences |
//! | [`spent`] | one-time lists that were used |
//! | [`lock`] | which sequences open a door now, and what becomes of them |
//! | [`rules`] | what a door asks beyond its sequence |
//! | [`door`] | a lock, the rules of knocking, what to run |
//! | [`event`] | what happened, and its line in the log |
//! | [`opening`] | what to run now, what to run later |
//! | [`state`] | what is remembered over the end of a process |
//! | [`interest`] | what we listen for, as a predicate |
//! | [`beginnings`] | which doors an attempt begins on with a knock |
//! | [`expiring`] | what is remembered of a knocker for a time |
//! | [`attempts`] | the bounded table of attempts under way |
//! | [`engine`] | knocks in, events out |
//! | [`interfaces`] | which interfaces are listened on, as things are |
//! | [`coarse`] | ports taken together where there is no room for all |
//! | [`bpf`] | classic BPF and its assembler |
//! | [`filter`] | an interest as a program for the kernel |
//! | [`packet`] | IP bytes to a knock |
//! | [`config`] | a knockd.conf, from text to doors |
//! | [`craft`] | values to IP packets |
//! | [`shape`] | how a raw packet is to look |
//! | [`dissect`] | a packet in words |
//! | [`password`] | a one-time password as the client knocks it: when, and seen from where |
//! | [`plan`] | what the client sends, in which order |
//! | [`profile`] | a knock.conf, from text to targets |
//! | [`daemon`] | the daemon's two processes: sockets, commands, log, signals |
//! | [`client`] | the client's command line, sockets and files |
//!
//! **A file directly under `src/`, or in `src/config/`, is pure**: it opens nothing, asks no clock and
//! prints nothing. It sees only what stands above it in this table (`packet` sees only `knock`).
//! I/O lives in [`daemon`] and [`client`], which do not know each other. A test reads the sources
//! and holds them to this.
//!
//! To read: [`knock`], [`sequence`], [`door`], [`lock`], [`engine`], [`event`], [`opening`]; that is
//! port knocking. Then `daemon/watcher.rs` and `daemon/doorkeeper.rs`; that is the daemon.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod attempts;
pub mod beginnings;
pub mod bpf;
pub mod client;
pub mod coarse;
pub mod config;
pub mod craft;
pub mod daemon;
pub mod dissect;
pub mod door;
pub mod engine;
pub mod event;
pub mod expiring;
pub mod filter;
pub mod flood;
pub mod interest;
pub mod interfaces;
pub mod knock;
pub mod lock;
pub mod opening;
pub mod otp;
pub mod pace;
pub mod packet;
pub mod password;
pub mod plan;
pub mod profile;
pub mod reason;
pub mod rules;
pub mod sequence;
pub mod shape;
pub mod spent;
pub mod state;
pub mod time;
