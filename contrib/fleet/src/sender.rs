//! The thread that writes to the engine: marks used up, openings, knocks, heartbeats.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use knocking::fleet::message::{FromKnockd, ToKnockd};
use knocking::opening::record::Record as Used;
use knocking::protocol::knock::EncodedKnock;
use redis::RedisResult;

use crate::engine::{Engine, Stream};
use crate::log::say;
use crate::record::{Alive, Body, Record, Spent};
use crate::shared::Shared;

/// The timeout of a command: knockd waits for 300 ms.
const PATIENCE: Duration = Duration::from_millis(200);
/// The first and the longest pause before reconnecting.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The interval between readings of the engine's clock.
const LOOK: Duration = Duration::from_secs(1);
/// The interval between heartbeats.
const BEAT: Duration = Duration::from_secs(2);
/// How many knocks may wait to be sent: about those of one second.
const MOST_KNOCKS: usize = 2048;

struct Sender<'a> {
    shared: &'a Shared,
    engine: Option<Engine>,
    next_try: Duration,
    pause: Duration,
    next_look: Duration,
    next_beat: Duration,
    openings: u64,
    beats: u64,
    knocks: u64,
    /// Knocks to send at once; they are dropped if the engine is out of reach.
    knocked: VecDeque<EncodedKnock>,
}

/// Sends messages until the channel is closed.
pub fn run(shared: &Shared, messages: &Receiver<FromKnockd>) {
    let mut sender = Sender {
        shared,
        engine: None,
        next_try: Duration::ZERO,
        pause: PAUSES.0,
        next_look: Duration::ZERO,
        next_beat: Duration::ZERO,
        openings: 0,
        beats: 0,
        knocks: 0,
        knocked: VecDeque::new(),
    };
    loop {
        let next =
            if sender.engine.is_some() { sender.next_look.min(sender.next_beat) } else { sender.next_try };
        match messages.recv_timeout(next.saturating_sub(shared.uptime())) {
            Ok(message) => sender.take(message),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Ok(message) = messages.try_recv() {
            sender.take(message);
        }
        sender.attend();
    }
}

impl Sender<'_> {
    fn take(&mut self, message: FromKnockd) {
        match message {
            FromKnockd::Knock(knock) if self.knocked.len() < MOST_KNOCKS => self.knocked.push_back(knock),
            FromKnockd::Knock(_) => {}
            other => self.shared.wait(other),
        }
    }

    fn attend(&mut self) {
        let uptime = self.shared.uptime();
        if self.engine.is_none() && self.next_try <= uptime {
            match Engine::connect(self.shared, PATIENCE).and_then(|engine| self.begin(engine)) {
                Ok(()) => self.pause = PAUSES.0,
                Err(error) => self.lose(&error),
            }
        }
        if let Some(mut engine) = self.engine.take() {
            match self.send(&mut engine) {
                Ok(()) => self.engine = Some(engine),
                Err(error) => self.lose(&error),
            }
        }
        if self.engine.is_none() {
            self.knocked.clear();
            self.answer_unknown();
        }
    }

    /// Starts using a new connection: reads the engine's clock, and restores the known marks.
    fn begin(&mut self, mut engine: Engine) -> RedisResult<()> {
        self.look(&mut engine)?;
        self.set_again(&mut engine)?;
        let uptime = self.shared.uptime();
        let mut state = self.shared.state();
        (state.is_in_reach, state.reach_since) = (true, uptime);
        drop(state);
        say("the engine is in reach");
        self.engine = Some(engine);
        Ok(())
    }

    fn lose(&mut self, error: &redis::RedisError) {
        self.engine = None;
        let uptime = self.shared.uptime();
        self.next_try = uptime.saturating_add(self.pause);
        self.pause = (2 * self.pause).min(PAUSES.1);
        let mut state = self.shared.state();
        let is_news = state.is_in_reach || state.reach_since.is_zero();
        if is_news {
            (state.is_in_reach, state.reach_since) = (false, uptime);
            drop(state);
            say(&format!("the engine is out of reach: {error}; trying again"));
        }
    }

    /// Answers the waiting questions with "unknown" while the engine is out of reach; they stay in the queue.
    fn answer_unknown(&mut self) {
        let state = self.shared.state();
        let Some(knockd) = state.knockd.clone() else { return };
        let numbers: Vec<u64> = state
            .queue
            .messages()
            .filter_map(
                |message| if let FromKnockd::Ask(it) = message { Some(it.stop.key.number) } else { None },
            )
            .collect();
        drop(state);
        for number in numbers {
            knockd.say(ToKnockd::Answer(number, None));
        }
    }

    fn look(&mut self, engine: &mut Engine) -> RedisResult<()> {
        let asked = self.shared.uptime();
        let time = engine.time()?;
        let uptime = self.shared.note_engine_time(time, asked);
        self.next_look = uptime.saturating_add(LOOK);
        if !engine.has_epoch()? {
            self.set_again(engine)?;
        }
        Ok(())
    }

    /// Restores the known marks in an engine that has lost its data.
    fn set_again(&mut self, engine: &mut Engine) -> RedisResult<()> {
        let Some(now) = self.shared.engine_time() else { return Ok(()) };
        let kept: Vec<([u8; 16], u64)> = self.shared.state().spends.kept(now).collect();
        for (name, seconds) in kept {
            engine.spend(name, &self.shared.member, seconds)?;
        }
        engine.begin_epoch(self.shared.session)
    }

    fn send(&mut self, engine: &mut Engine) -> RedisResult<()> {
        if self.next_look <= self.shared.uptime() {
            self.look(engine)?;
        }
        loop {
            let uptime = self.shared.uptime();
            let Some(message) = self.shared.state().queue.take(uptime) else { break };
            let delivered = self.deliver(engine, &message);
            let mut state = self.shared.state();
            if delivered.is_err() {
                state.queue.put_back(message, uptime);
            }
            state.waiting = state.queue.len();
            drop(state);
            delivered?;
        }
        while let Some(knock) = self.knocked.pop_front() {
            self.knocks += 1;
            self.write(engine, self.knocks, Body::Knocked(knock))?;
            self.shared.state().knocks.0 += 1;
        }
        if self.next_beat <= self.shared.uptime() {
            self.next_beat = self.shared.uptime().saturating_add(BEAT);
            self.beats += 1;
            let state = self.shared.state();
            let waiting = u64::try_from(state.waiting).unwrap_or(u64::MAX);
            let alive = Alive { openings: state.sent, waiting, shape: state.shape };
            drop(state);
            self.write(engine, self.beats, Body::Alive(alive))?;
        }
        Ok(())
    }

    fn deliver(&mut self, engine: &mut Engine, message: &FromKnockd) -> RedisResult<()> {
        let shared = self.shared;
        match message {
            FromKnockd::Ask(question) => {
                let name = shared.key.spent(question);
                let user = format!("{} {:x} {:x}", shared.member, shared.session, question.stop.key.number);
                let is_first = engine.spend(name, &user, question.stop.due.as_secs())?;
                let now = shared.engine_time().unwrap_or_default();
                let life = u64::try_from(question.stop.due.as_micros()).unwrap_or(u64::MAX);
                let mut state = shared.state();
                state.spends.note(name, now.saturating_add(life), now);
                let count = if is_first { &mut state.answers.0 } else { &mut state.answers.1 };
                *count += 1;
                let knockd = state.knockd.clone();
                drop(state);
                if let Some(knockd) = knockd {
                    knockd.say(ToKnockd::Answer(question.stop.key.number, Some(is_first)));
                }
                Ok(())
            }
            FromKnockd::Opened(opening) => {
                let mut opening = opening.clone();
                let now = shared.engine_time().unwrap_or_default();
                let name = shared.key.spent(&opening);
                let left = shared.state().spends.left(&name, now);
                let spent = left.map(|seconds| Spent { name, seconds });
                // The turn is enough for the other members. Who can read the engine learns nothing about the lock.
                if let Used::Spent(lock, _, owner) = &mut opening.used {
                    (*lock, *owner) = (0, None);
                }
                self.openings += 1;
                self.write(engine, self.openings, Body::Opened { shared: opening, spent })?;
                shared.state().sent += 1;
                Ok(())
            }
            FromKnockd::Hello(..) | FromKnockd::Knock(_) => Ok(()),
        }
    }

    fn write(&self, engine: &mut Engine, counter: u64, body: Body) -> RedisResult<()> {
        let stream = match body {
            Body::Opened { .. } => Stream::Log,
            Body::Alive(_) => Stream::Beats,
            Body::Knocked(_) => Stream::Knocks,
        };
        let record = Record {
            member: self.shared.member.clone(),
            session: self.shared.session,
            counter,
            made: self.shared.engine_time().unwrap_or_default(),
            body,
        };
        engine.write(stream, &record.encode(&self.shared.key))
    }
}
