//! knockd-fleet: connects knockd's `Fleet_Socket` to an engine, a Redis or Valkey server.
//!
//! | file | what it holds |
//! |---|---|
//! | [`config`] | parses knockd-fleet.conf |
//! | [`record`] | the authenticated records that members exchange through the engine |
//! | [`clock`] | the engine's clock between readings |
//! | [`ledger`] | the records seen, the marks used up, and the known members |
//! | [`queue`] | messages that wait for the engine |
//! | [`report`] | `--status`: the status of a member, as text and as JSON |
//! | [`shared`] | the state shared by the threads |
//! | [`engine`] | connections to the engine, and its commands |
//! | [`sender`] | the thread that writes to the engine: marks used up, openings, knocks, heartbeats |
//! | [`reader`] | the thread that reads from the engine and passes openings to knockd |
//! | [`socket`] | a connection to knockd |
//! | [`knockd`] | the thread that communicates with knockd |
//! | [`status`] | the status socket |
//! | [`log`] | lines on standard error |
//!
//! The first six do no I/O and read no clock.
//!
//! The messages to knockd and their rules are in `knocking::fleet`; this documentation covers the engine.
//!
//! **Keys**, all below `knockd:FLEET:`
//!
//! | key | content |
//! |---|---|
//! | `log` | stream of openings, field `r` a [`record`], trimmed to about 10,000 |
//! | `beats` | stream of heartbeats, one per member every 2 s, trimmed to about 256 |
//! | `knocks` | stream of knocks, useful for two seconds, trimmed to about 16,384 |
//! | `spent:HEX` | a mark that is used up: `SET NX EX` is the atomic step that decides; the value names the user |
//! | `epoch` | missing if the engine has lost its data: then all known marks are set again |
//!
//! **Order.** Only the order of the log counts. **Time.** Only the engine's clock counts: a record has its
//! creation time by that clock, and its remaining time is its duration less its age. The monotonic clock
//! bridges the time between readings (every second). The members' wall clocks do not matter. A reading is
//! ignored if the engine's clock was set back ([`clock`]): expired records would be valid again.
//!
//! **Trust.** Write access to the engine must not suffice to open doors: each record has an HMAC-SHA256 with
//! the fleet's key over the fleet's name and the whole record. A replayed record is recognised by its session
//! and counter while it is valid, and is too old afterwards.
//! The names of `spent` keys are HMACs too, so they reveal nothing.
//!
//! **Faults.** A lost connection is re-established after 0.1, 0.2, ... 5 seconds, trying every address of the
//! host name. While the sender has no connection, the engine counts as out of reach: knockd's questions are
//! answered accordingly at once, and up to 1,024 questions and openings wait with their remaining time. The
//! reader reads the whole log again after each connect to the engine. It does the same after knockd has
//! connected, and passes on everything that is still open and was knocked elsewhere. For knocks at this
//! gateway, knockd has its state file and the kernel, including early closings.
//!
//! **Killed at any point.** Unread messages stay in knockd's socket. knockd decides a question without an
//! answer after 300 ms, and asks it again. An opening that was read but not sent to the engine is lost for
//! the other members, and closes at its own gateway. The next process reads everything in the engine again,
//! and knows by the place file what the same knockd was told.

pub mod clock;
pub mod config;
pub mod engine;
pub mod knockd;
pub mod ledger;
pub mod log;
pub mod queue;
pub mod reader;
pub mod record;
pub mod report;
pub mod sender;
pub mod shared;
pub mod socket;
pub mod status;
