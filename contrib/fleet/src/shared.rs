//! The state shared by the threads: one lock, held briefly and never while waiting.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use knocking::fleet::message::FromKnockd;

use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::{Delays, Members, Seen, Spends, Told};
use crate::log::say;
use crate::queue::Queue;
use crate::record::Key;
use crate::report::Report;
use crate::socket::Socket;

/// The constant and the variable state of this process.
#[derive(Debug)]
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// The name of this member.
    pub member: String,
    /// The fleet's key.
    pub key: Key,
    /// The engine's password.
    pub password: Option<String>,
    /// The random session number of this process.
    pub session: u64,
    began: Instant,
    state: Mutex<State>,
}

/// The variable state.
#[derive(Debug, Default)]
pub struct State {
    /// The engine's clock.
    pub clock: Clock,
    /// Whether the sender has a connection to the engine.
    pub is_in_reach: bool,
    /// Since when, by the monotonic clock.
    pub reach_since: Duration,
    /// The connection to knockd.
    pub knockd: Option<Socket>,
    /// The session of the last knockd that was connected.
    pub knockd_session: u64,
    /// When the last connection to knockd ended, by the monotonic clock.
    pub knockd_lost: Duration,
    /// The openings passed to knockd.
    pub told_to_knockd: Told,
    /// The shapes of all doors of knockd.
    pub shape: u64,
    /// Whether to pass all open openings to knockd.
    pub is_to_tell_all: bool,
    /// The messages that wait for the engine.
    pub queue: Queue,
    /// The number of waiting messages.
    pub waiting: usize,
    /// The records of openings received.
    pub seen: Seen,
    /// The records of knocks received.
    pub heard: Seen,
    /// See [`Report`].
    pub knocks: (u64, u64),
    /// The marks used up.
    pub spends: Spends,
    /// The members.
    pub members: Members,
    /// The delays of other members' openings.
    pub delays: Delays,
    /// See [`Report`].
    pub sent: u64,
    /// See [`Report`].
    pub told: u64,
    /// See [`Report`].
    pub answers: (u64, u64),
    /// See [`Report`].
    pub forged: u64,
    /// See [`Report`].
    pub repeated: u64,
}

impl Shared {
    /// The state at the start, without connections.
    #[must_use]
    pub fn new(config: Config, member: String, key: Key, password: Option<String>, session: u64) -> Shared {
        Shared { config, member, key, password, session, began: Instant::now(), state: Mutex::default() }
    }

    /// The monotonic time since the start of this process.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// Locks the variable state. Ignores poisoning: a panic ends the process.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine's time in microseconds since 1970; `None` if it is not known yet.
    #[must_use]
    pub fn engine_time(&self) -> Option<u64> {
        let uptime = self.uptime();
        self.state().clock.now(uptime)
    }

    /// Records the engine's time in microseconds, asked for at this uptime. Returns the current uptime.
    pub fn note_engine_time(&self, time: u64, asked: Duration) -> Duration {
        let answered = self.uptime();
        let noted = self.state().clock.set_between(time, asked, answered);
        if let Err(behind) = noted {
            let seconds = behind.as_secs();
            say(&format!(
                "the engine's clock was set back by {seconds} s: its old time counts on here; set it right, or start knockd-fleet anew on all members when no door is open"
            ));
        }
        answered
    }

    /// Queues a message until the engine is in reach.
    pub fn wait(&self, message: FromKnockd) {
        let uptime = self.uptime();
        let mut state = self.state();
        state.queue.push(message, uptime);
        state.waiting = state.queue.len();
    }

    /// The status for the status socket.
    #[must_use]
    pub fn report(&self) -> Report {
        let uptime = self.uptime();
        let state = self.state();
        Report {
            fleet: self.config.fleet.clone(),
            member: self.member.clone(),
            engine: self.config.engine.clone(),
            engine_since: uptime.saturating_sub(state.reach_since),
            is_in_reach: state.is_in_reach,
            has_knockd: state.knockd.is_some(),
            waiting: u64::try_from(state.waiting).unwrap_or(u64::MAX),
            sent: state.sent,
            knocks: state.knocks,
            told: state.told,
            answers: state.answers,
            forged: state.forged,
            repeated: state.repeated,
            delays: state.delays.clone(),
            members: state.members.clone(),
            uptime,
        }
    }
}
