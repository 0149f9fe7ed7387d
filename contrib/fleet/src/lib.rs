//! knockd-fleet: the program between knockd's `Fleet_Socket` and an engine, a Redis or Valkey server.
//!
//! | file | what it holds |
//! |---|---|
//! | [`config`] | reads knockd-fleet.conf |
//! | [`record`] | what members write for each other into the engine, authenticated |
//! | [`clock`] | the engine's time, between two looks at it |
//! | [`ledger`] | what was seen and spent, and which members there are |
//! | [`report`] | `--status`: what is told of a member, as text and as JSON |
//! | [`shared`] | what the threads share |
//! | [`engine`] | connections to the engine, and the commands |
//! | [`sender`] | the thread that writes to the engine: spends, openings, signs of life |
//! | [`reader`] | the thread that reads from it, and has knockd open |
//! | [`socket`] | a connection to knockd |
//! | [`knockd`] | the thread that speaks with knockd |
//! | [`status`] | the status socket |
//! | [`log`] | lines on standard error |
//!
//! The first five do no I/O and read no clock.
//!
//! What is said to knockd, and the rules for it, stand in `knocking::fleet`. Here is what concerns the engine.
//!
//! **Keys**, all below `knockd:FLEET:`
//!
//! | key | what |
//! |---|---|
//! | `log` | stream of openings, field `r` a [`record`], trimmed to about 10,000 |
//! | `beats` | stream of signs of life, one each 2 s a member, trimmed to about 256 |
//! | `knocks` | stream of knocks, of use for two seconds, trimmed to about 4,096 |
//! | `spent:HEX` | what was used up: `SET NX EX` is the one atomic step that decides; the value is who did it |
//! | `epoch` | is missing when the engine has lost its data: then all that is known to be spent is set again |
//!
//! **Order.** The order of the log is the only one. **Time.** The engine's: a record says when it was made by the engine's
//! clock, what is left of it is its time less its age. Between two looks (each second) the monotonic clock counts on. No
//! clock of a member matters. A time of the engine that was set back is not taken ([`clock`]): records that are over would be
//! valid again.
//!
//! **Trust.** Who can write to the engine must not open doors: each record has an HMAC-SHA256 with the fleet's key over the
//! fleet's name and all of it. A record that is repeated is known by its session and counter as long as it is valid, and too
//! old afterwards; knockd opens each opening once by its number. Names of `spent` keys are HMACs too: they tell nothing.
//!
//! **Faults.** Each connection is made anew after 0.1, 0.2, ... 5 seconds, with a try at every address of the name. While
//! the sender has none, the engine is out of reach: questions are answered so at once, and questions and openings wait,
//! 1,024 at most, with what is left of their time. After each connect the reader reads the whole log again; after knockd has
//! connected too, and then it is told of everything that is still open and was knocked elsewhere. What was knocked here it has
//! in its state file and the kernel, also that it was closed early.
//!
//! **Killed at any point.** What was not read from knockd's socket waits in knockd. A question without an answer is decided
//! there after 300 ms, and asked again. An opening that was read and not sent to the engine is lost for the other members,
//! and closes where it was knocked. What the engine has is read again by the next process, and knockd opens it once.

pub mod clock;
pub mod config;
pub mod engine;
pub mod knockd;
pub mod ledger;
pub mod log;
pub mod reader;
pub mod record;
pub mod report;
pub mod sender;
pub mod shared;
pub mod socket;
pub mod status;
