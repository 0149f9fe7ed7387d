//! Runs the engine with random doors and steps, and compares it with the model after every step: the same
//! events, the same number of attempts in progress, the same next deadline.
#![no_main]

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use arbitrary::Arbitrary;
use fuzzing::model::{Model, Reported};
use fuzzing::town::{self, KNOCKERS, OURS, PLACES, PlainLock, Town, address, one};
use knocking::door::knock::{Flags, Knock, Protocol};
use knocking::door::lock::OneTime;
use knocking::door::sequence::Stage;
use knocking::engine::{Engine, MAX_ATTEMPTS};
use knocking::opening::event::Event;
use knocking::time::Now;
use libfuzzer_sys::fuzz_target;

/// The most steps of a run; more would be slow and find nothing new.
const MOST_STEPS: usize = 60;

#[derive(Arbitrary, Debug)]
struct Input {
    town: Town,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// One packet.
    Packet { from: u8, to: u8, stage: u8, flags: u8, length: u8 },
    /// The first knocks of a list that opens a door, or of one some periods away.
    Play { from: u8, door: u8, count: u8, offset: i8, repeats_at: Option<u8> },
    /// Time passes, in quarters of a second, without a wake-up.
    Pass(u8),
    /// The watcher wakes up at the engine's deadline, or a little later.
    WakeUp { later: bool },
    /// The wall clock is set.
    Clock(u8),
    /// A line was struck: these are left in the file, or it could not be read.
    Refill { door: u8, left: Option<Vec<Vec<u8>>> },
    /// The addresses of this host change.
    Relocate(u8),
    /// SIGHUP.
    Reload,
}

const CLOCKS: [u64; 6] = [0, 59, 1_700_000_000, 1_700_000_030, 4_000_000_000, i64::MAX.unsigned_abs()];

struct Scene {
    engine: Engine,
    model: Model,
    now: Now,
}

impl Scene {
    fn new(town: &Town) -> Scene {
        let plain = town.plain();
        let (text, files) = town::config(&plain);
        let here: Vec<IpAddr> = OURS.iter().take(2).map(|text| text.parse().expect("an address")).collect();
        Scene {
            engine: Engine::new(fuzzing::doors(&text, &files), here.iter().copied()),
            model: Model::new(plain, here),
            now: Now { uptime: Duration::from_secs(1000), unix: Duration::from_secs(1_700_000_000) },
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Packet { from, to, stage, flags, length } => {
                let stage = town::stage(*stage);
                let flags = (*flags < 0xf0).then_some(Flags(*flags));
                let packet = packet(address(&KNOCKERS, *from), address(&PLACES, *to), stage, flags, *length);
                self.observe(&packet);
            }
            Step::Play { from, door, count, offset, repeats_at } => {
                self.play(address(&KNOCKERS, *from), *door, usize::from(*count), *offset, *repeats_at);
            }
            Step::Pass(quarters) => self.pass(Duration::from_millis(250) * u32::from(*quarters)),
            Step::WakeUp { later } => self.wake_up(*later),
            Step::Clock(by) => self.now.unix = Duration::from_secs(one(&CLOCKS, *by)),
            Step::Refill { door, left } => self.refill(*door, left.as_deref()),
            Step::Relocate(which) => {
                let ours = (0_u8..).zip(OURS).filter(|(bit, _)| which >> bit & 1 == 1);
                let ours = ours.map(|(_, text)| text.parse().expect("an address"));
                self.model.here = ours.collect();
                self.engine.relocate(self.model.here.iter().copied());
            }
            Step::Reload => {
                // The files no longer have the used lines.
                let mut plain = self.model.doors.clone();
                plain.retain(|door| !matches!(&door.lock, PlainLock::OneTime(lines) if lines.is_empty()));
                if plain.len() == self.model.doors.len() {
                    let (text, files) = town::config(&plain);
                    let here = self.model.here.iter().copied();
                    let mut engine = Engine::new(fuzzing::doors(&text, &files), here);
                    engine.inherit(&self.engine, self.now);
                    self.engine = engine;
                    self.model.reload();
                }
            }
        }
        assert!(self.engine.attempts() <= MAX_ATTEMPTS);
        assert_eq!(self.engine.attempts(), self.model.attempts(), "attempts in progress");
        assert_eq!(self.engine.next_deadline(), self.model.next_deadline(), "the next deadline");
    }

    fn play(&mut self, knocker: IpAddr, door: u8, count: usize, offset: i8, repeats_at: Option<u8>) {
        let count_of_doors = self.model.doors.len();
        if count_of_doors == 0 {
            return;
        }
        let door = usize::from(door) % count_of_doors;
        let plain = self.model.doors[door].clone();
        let Some(to) = plain.target.or_else(|| self.model.here.first().copied()) else { return };
        let length = plain.udp_length.map_or(1, |(least, _)| u8::try_from(least).unwrap_or(0));
        let stages = self.model.list(door, knocker, offset, self.now);
        for (index, stage) in stages.into_iter().take(count).enumerate() {
            let packet = packet(knocker, to, stage, Some(plain.flags.set), length);
            for _ in 0..if repeats_at == u8::try_from(index).ok() { 2 } else { 1 } {
                self.observe(&packet);
            }
        }
    }

    fn observe(&mut self, knock: &Knock) {
        let mut events = Vec::new();
        self.engine.observe(knock, self.now, &mut events);
        let expected = self.model.observe(knock, self.now);
        compare(&events, expected);
        if !events.is_empty() {
            let is_past = |due| due < self.now.uptime;
            assert!(!self.engine.next_deadline().is_some_and(is_past), "a deadline in the past");
        }
        for event in events {
            // Every event can be shown.
            let _ = (event.line(Some("host")), event.debug_line());
            assert_eq!(event.is_silent(), event.line(None).is_none());
        }
    }

    fn wake_up(&mut self, later: bool) {
        let due = self.engine.next_deadline();
        if let Some(due) = due {
            let wait = due.saturating_sub(self.now.uptime) + Duration::from_millis(later.into());
            // Deadlines are at most decades away.
            if wait < Duration::from_hours(1) {
                self.pass(wait);
            }
        }
        let mut events = Vec::new();
        self.engine.expire(self.now, &mut events);
        assert_eq!(due.is_some_and(|due| due <= self.now.uptime), !events.is_empty(), "woken up in vain");
        compare(&events, self.model.expire(self.now));
        let is_over = |due| due <= self.now.uptime;
        assert!(!self.engine.next_deadline().is_some_and(is_over), "the engine is not done");
    }

    fn refill(&mut self, door: u8, left: Option<&[Vec<u8>]>) {
        let Some(index) = usize::from(door).checked_rem(self.model.doors.len()) else { return };
        let PlainLock::OneTime(before) = &self.model.doors[index].lock else {
            assert!(!self.engine.refill(index, None), "a door without a file");
            return;
        };
        let left = left.map(|left| if left.is_empty() { Vec::new() } else { town::lines(left) });
        let expected = left.as_ref().unwrap_or(before).is_empty();
        let fresh = left.as_ref().map(|left| {
            OneTime::read(PathBuf::from("/"), town::file(left).as_bytes(), |error| panic!("{error}"))
        });
        assert_eq!(self.engine.refill(index, fresh), expected);
        if let Some(left) = left {
            self.model.refill(index, left);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = Now { uptime: self.now.uptime + time, unix: self.now.unix.saturating_add(time) };
    }
}

fn packet(source: IpAddr, destination: IpAddr, stage: Stage, flags: Option<Flags>, length: u8) -> Knock {
    let is_tcp = stage.protocol == Protocol::Tcp;
    Knock {
        source,
        source_port: 40_000,
        destination,
        protocol: stage.protocol,
        port: stage.port,
        flags: flags.filter(|_| is_tcp),
        udp_length: (!is_tcp && length < 0xf0).then_some(length.into()),
        length: 40,
    }
}

/// Compares the engine's events with those of the model. A line of a one-time file has no period.
fn compare(events: &[Event], mut expected: Vec<Reported>) {
    let is_timed = |door: usize| {
        expected.iter().any(|it| matches!(it, Reported::Opened(other, _, Some(_)) if *other == door))
    };
    let without_line = |told: Reported| match told {
        Reported::Opened(door, knocker, _) if !is_timed(door) => Reported::Opened(door, knocker, None),
        told => told,
    };
    let mut told: Vec<Reported> = events.iter().filter_map(Reported::of).map(without_line).collect();
    told.sort_unstable();
    expected.sort_unstable();
    assert_eq!(told, expected, "the engine's events and those of the model");
}

fuzz_target!(|input: Input| {
    let mut scene = Scene::new(&input.town);
    for step in input.steps.iter().take(MOST_STEPS) {
        scene.step(step);
    }
});
