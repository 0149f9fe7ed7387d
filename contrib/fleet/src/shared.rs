//! What the threads share: one lock, held for moments, never during a wait.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use knocking::fleet::message::Message;
use knocking::fleet::waiting::Queue;

use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::{Delays, Members, Seen, Spends, Told};
use crate::log::say;
use crate::record::Key;
use crate::report::Report;
use crate::socket::Socket;

/// What stays as it is, and what does not.
#[derive(Debug)]
pub struct Shared {
    /// What the file says.
    pub config: Config,
    /// The name of this member.
    pub member: String,
    /// The fleet's key.
    pub key: Key,
    /// The password at the engine.
    pub password: Option<String>,
    /// Drawn at random for this process.
    pub session: u64,
    began: Instant,
    state: Mutex<State>,
}

/// What changes.
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
    /// When the last connection to knockd ended, by the monotonic clock.
    pub knockd_lost: Duration,
    /// Openings that knockd was told.
    pub told_to_knockd: Told,
    /// The shapes of all doors of knockd.
    pub shape: u64,
    /// knockd is to be told of everything that is open.
    pub is_to_tell_all: bool,
    /// What waits for the engine.
    pub queue: Queue,
    /// How many messages that are.
    pub waiting: usize,
    /// Records of openings that came.
    pub seen: Seen,
    /// Records of knocks that came.
    pub heard: Seen,
    /// See [`Report`].
    pub knocks: (u64, u64),
    /// What was used up.
    pub spends: Spends,
    /// The members.
    pub members: Members,
    /// How long openings were on their way.
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
    /// At the beginning nothing is connected.
    #[must_use]
    pub fn new(config: Config, member: String, key: Key, password: Option<String>, session: u64) -> Shared {
        Shared { config, member, key, password, session, began: Instant::now(), state: Mutex::default() }
    }

    /// The monotonic clock, from the beginning of this process on.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// What changes. A thread that panics ends the process.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine's time, if it is known, in microseconds.
    #[must_use]
    pub fn engine_time(&self) -> Option<u64> {
        let uptime = self.uptime();
        self.state().clock.now(uptime)
    }

    /// The engine, asked at this uptime, said that it is this time, in microseconds. Returns the uptime of now.
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

    /// A message has to wait for the engine.
    pub fn wait(&self, message: Message) {
        let uptime = self.uptime();
        let mut state = self.state();
        state.queue.push(message, uptime);
        state.waiting = state.queue.len();
    }

    /// What the status socket tells.
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
