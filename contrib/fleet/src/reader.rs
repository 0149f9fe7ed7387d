//! The thread that reads from the engine and passes openings to knockd.

use std::fs;
use std::time::Duration;

use knocking::fleet::message::ToKnockd;
use knocking::fleet::waiting::LEAST;
use redis::RedisResult;

use crate::engine::{Engine, Entry, Place, Stream};
use crate::log::say;
use crate::record::{Body, Fault, Record};
use crate::shared::Shared;

/// The longest time that the engine blocks until there are new entries.
const BLOCK: Duration = Duration::from_millis(250);
/// The additional timeout for each command.
const PATIENCE: Duration = Duration::from_secs(3);
/// The first and the longest pause before reconnecting.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Openings passed to knockd this long before its connection ended are in its state file, or closed.
const SETTLED: Duration = Duration::from_secs(2);
/// Knocks older than this are ignored.
const LATE: Duration = Duration::from_secs(2);
/// The minimum interval between log lines about forged records.
const QUIET: Duration = Duration::from_mins(1);

struct Reader<'a> {
    shared: &'a Shared,
    /// How far the previous process had read, and the session of the knockd that it passed all of that to.
    earlier: (Place, u64),
    /// The session of the knockd that everything up to `place` was passed to.
    session: u64,
    /// How far this process has read the log.
    place: Place,
    beats: Place,
    knocks: Place,
    last_line: Option<Duration>,
}

/// How an entry was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// It was just written.
    Live,
    /// It was there when the whole log was read.
    Again,
}

/// Runs until the process ends.
pub fn run(shared: &Shared) {
    let text = fs::read_to_string(&shared.config.place_file).unwrap_or_default();
    let (place, session) = text.trim().split_once(' ').unwrap_or((&text, ""));
    let earlier = (Place::parse(place).unwrap_or_default(), session.parse().unwrap_or_default());
    let mut reader = Reader {
        shared,
        earlier,
        session: 0,
        place: Place::default(),
        beats: Place::default(),
        knocks: Place::default(),
        last_line: None,
    };
    let mut pause = PAUSES.0;
    loop {
        if let Ok(mut engine) = Engine::connect(shared, BLOCK + PATIENCE)
            && reader.begin(&mut engine).is_ok()
        {
            pause = PAUSES.0;
            // The sender reports errors of the engine.
            let _ = reader.go_on(&mut engine);
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(PAUSES.1);
    }
}

impl Reader<'_> {
    /// Reads all existing entries.
    fn begin(&mut self, engine: &mut Engine) -> RedisResult<()> {
        let asked = self.shared.uptime();
        let time = engine.time()?;
        self.shared.note_engine_time(time, asked);
        // Skip earlier knocks. Places contain milliseconds of the engine's clock.
        self.knocks = Place(time / 1_000, 0);
        self.read_all(engine)?;
        let mut after = None;
        loop {
            let entries = engine.range(Stream::Beats, after)?;
            let Some((last, _)) = entries.last() else { return Ok(()) };
            (after, self.beats) = (Some(*last), *last);
            for (_, record) in &entries {
                self.hear(record);
            }
        }
    }

    fn read_all(&mut self, engine: &mut Engine) -> RedisResult<()> {
        self.session = self.shared.state().knockd_session;
        let mut after = None;
        // After the engine lost its data, or its clock was set back, places start lower.
        let mut place = Place::default();
        loop {
            let entries = engine.range(Stream::Log, after)?;
            let Some((last, _)) = entries.last() else { break };
            (after, place) = (Some(*last), *last);
            for entry in &entries {
                self.act(entry, How::Again);
            }
        }
        self.place = place;
        if place < self.earlier.0 {
            // The engine is another one, or was emptied: how far the previous process had read says nothing.
            self.earlier = (Place::default(), 0);
            return self.read_all(engine);
        }
        self.keep_place();
        Ok(())
    }

    fn go_on(&mut self, engine: &mut Engine) -> RedisResult<()> {
        loop {
            let mut state = self.shared.state();
            let is_new_knockd = std::mem::take(&mut state.is_to_tell_all);
            drop(state);
            if is_new_knockd {
                self.read_all(engine)?;
            }
            let [log, beats, knocks] = engine.wait([self.place, self.beats, self.knocks], BLOCK)?;
            for (place, record) in &knocks {
                self.hear_knock(record);
                self.knocks = *place;
            }
            for entry in &log {
                self.act(entry, How::Live);
                self.place = entry.0;
            }
            if !log.is_empty() {
                self.keep_place();
            }
            for (place, record) in &beats {
                self.hear(record);
                self.beats = *place;
            }
        }
    }

    /// Stores the place, so that the next process does not repeat actions that must happen only once.
    fn keep_place(&mut self) {
        let path = &self.shared.config.place_file;
        let state = self.shared.state();
        if state.knockd.is_none() || state.is_to_tell_all {
            return;
        }
        drop(state);
        let new = path.with_extension("new");
        let written = fs::write(&new, format!("{} {}\n", self.place, self.session))
            .and_then(|()| fs::rename(&new, path));
        if let Err(error) = written
            && self.may_say()
        {
            say(&format!("could not write {}: {error}", path.display()));
        }
    }

    fn may_say(&mut self) -> bool {
        let uptime = self.shared.uptime();
        let may = self.last_line.is_none_or(|at| at + QUIET <= uptime);
        if may {
            self.last_line = Some(uptime);
        }
        may
    }

    fn decode(&mut self, bytes: &[u8]) -> Option<Record> {
        match Record::decode(bytes, &self.shared.key) {
            Ok(record) => Some(record),
            Err(fault) => {
                let mut state = self.shared.state();
                state.forged += 1;
                let count = state.forged;
                drop(state);
                if self.may_say() {
                    let why = match fault {
                        Fault::Mac => "not made with this fleet's key",
                        Fault::Form => "damaged, or of another version",
                    };
                    say(&format!("a record in the engine is {why} and is left out, {count} by now"));
                }
                None
            }
        }
    }

    fn act(&mut self, (place, bytes): &Entry, how: How) {
        let Some(record) = self.decode(bytes) else { return };
        let Body::Opened { shared: opening, spent } = &record.body else { return };
        let shared = self.shared;
        let uptime = shared.uptime();
        let mut state = shared.state();
        let Some(now) = state.clock.now(uptime) else { return };
        if let Some(spent) = spent {
            let until = record.made.saturating_add(spent.seconds.saturating_mul(1_000_000));
            state.spends.note(spent.name, until, now);
        }
        let Some(knockd) = state.knockd.clone() else { return };
        let Some(left) = record.left(now) else {
            state.repeated += u64::from(how == How::Live);
            return;
        };
        let time = u64::try_from(opening.stop.due.as_micros()).unwrap_or(u64::MAX);
        let is_new = state.seen.is_new(&record, record.made.saturating_add(time), now);
        let is_own = record.member == shared.member;
        if how == How::Live && !is_new {
            state.repeated += 1;
            return;
        }
        if how == How::Live && !is_own {
            state.delays.note(now.saturating_sub(record.made));
        }
        // For knocks at this gateway, knockd has its state file and the kernel, including early closings:
        // passing them on would open the door again.
        if is_own {
            return;
        }
        // A command without an end runs once: knockd cannot tell that it has run before.
        let was_earlier = *place <= self.earlier.0;
        let is_done = !opening.has_end && (!is_new || was_earlier);
        let (number, session) = (opening.stop.key.number, state.knockd_session);
        let lost = state.knockd_lost.saturating_sub(SETTLED);
        let is_known = state.told_to_knockd.is_known(number, session, lost);
        if is_done || is_known || left < LEAST || !shared.config.shares(&opening.stop.door) {
            return;
        }
        let until = record.made.saturating_add(time);
        if was_earlier && session == self.earlier.1 {
            return state.told_to_knockd.note(number, (uptime, session), until, now);
        }
        state.told += u64::from(is_new);
        drop(state);
        if !opening.has_end {
            // Whatever happens to this process now, the command is not run again.
            self.place = *place;
            self.keep_place();
        }
        let mut opening = opening.clone();
        opening.stop.due = left;
        let is_told = knockd.send(ToKnockd::Open(opening)).is_ok();
        let mut state = shared.state();
        if is_told {
            state.told_to_knockd.note(number, (uptime, session), until, now);
        } else {
            state.is_to_tell_all = true;
        }
    }

    fn hear_knock(&mut self, bytes: &[u8]) {
        let Some(record) = self.decode(bytes) else { return };
        let Body::Knocked(knock) = record.body else { return };
        let uptime = self.shared.uptime();
        let mut state = self.shared.state();
        let now = state.clock.now(uptime).unwrap_or_default();
        let until = record.made.saturating_add(u64::try_from(LATE.as_micros()).unwrap_or(u64::MAX));
        if !record.is_fresh(now, LATE) || !state.heard.is_new(&record, until, now) {
            state.repeated += 1;
            return;
        }
        state.knocks.1 += 1;
        let knockd = state.knockd.clone();
        drop(state);
        // What arrived here, knockd has processed already.
        if let Some(knockd) = knockd.filter(|_| record.session != self.shared.session) {
            knockd.say(ToKnockd::Knock(knock));
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let Some(record) = self.decode(bytes) else { return };
        let Body::Alive(alive) = record.body else { return };
        let uptime = self.shared.uptime();
        let mut state = self.shared.state();
        let delay = state.clock.now(uptime).unwrap_or_default().saturating_sub(record.made);
        // An entry read late shows when the member sent it, not that it is alive now.
        let heard = uptime.saturating_sub(Duration::from_micros(delay));
        state.members.hear(&record, alive, delay, heard);
    }
}
