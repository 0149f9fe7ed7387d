//! What is remembered over the end of a process, whatever its end: doors that stand open, cooldowns, and one-time
//! lists that were used.
//!
//! # The files
//!
//! Each daemon has a place of its own, which it holds by a lock on `PATH.lock` for as long as it lives:
//!
//! | file | what it holds |
//! |---|---|
//! | `PATH` | everything, as of the last time it was waited for the disk |
//! | `PATH.new` | everything, up to now; only while something has changed that the disk may not have |
//! | `PATH.tmp` | a `PATH.new` that is being written and counts for nothing yet |
//!
//! The place of a daemon that finds `PATH.lock` taken is `PATH.2`, then `PATH.3` and so on.
//!
//! **At every instant either `PATH.new` is whole and the newest state, or there is none and `PATH` is.** What the
//! daemon does, in this order, and what a kill of all its processes leaves in between:
//!
//! | step | a kill behind it leaves |
//! |---|---|
//! | write everything to `PATH.tmp` | the state from before the change; so nothing that follows from the change was done yet |
//! | rename it to `PATH.new` | the new state |
//! | run the commands; append a line to `PATH.new` for each one that was started or has ended | what is in there; a command that was started in that instant and has no line yet counts as not started |
//! | sync `PATH.new`; within a second also rename it to `PATH` and sync the folder | the same state, under either name |
//!
//! A change while `PATH.new` is there is appended to it; one that comes later begins a new one. A power failure
//! leaves what was synced: `PATH.new` and a line at its end may be missing or cut, and `PATH` is whole.
//!
//! **A place belongs to whoever holds its lock; what is in a place that nobody holds belongs to the next daemon
//! that starts.** That one locks all such places, writes what it found to its own, and then removes the other
//! files, `PATH.N` before `PATH.N.new`, before it serves a door. An opening keeps its key on the way, so that
//! one which is found in two places, after a kill in the middle, is still one opening.
//!
//! # The text
//!
//! ```text
//! knockd-state 2 BOOT SUM
//! open KEY PHASE PROCESS DUE-UNIX DUE-UPTIME AFTER LIMIT KNOCKER DOOR run COMMAND [for USER PORT SECONDS] SUM
//!                          (times in milliseconds; SECONDS is what a single packet asked for)
//! cooldown DUE-UNIX DUE-UPTIME AFTER KNOCKER DOOR SUM
//! admitted UNTIL-UNIX UNTIL-UPTIME AFTER SET KNOCKER DOOR PORTS SUM   (a door that the kernel opened)
//! dismissed KNOCKER DOOR PORTS SUM                                    (takes it away)
//! spent LOCK PERIOD OWNER SUM
//! floor LOCK PERIOD SUM
//! packet TIME ID SUM       (a single packet that was used)
//! packet-floor TIME SUM    (all that were made then or before are used)
//! end LINES SUM            (so many lines up to here are everything; what follows was appended)
//! open KEY ...             (replaces the line with this key)
//! closed KEY SUM           (takes it away)
//! ```
//!
//! PHASE is `opening`, `open` or `closing`; PROCESS is the start or stop command that runs, as `PID:START` (see
//! [`Process`]), or `-`. A damaged line costs what that line says and nothing else. If `PATH.new` is not whole, it
//! and `PATH` count together: rather close a door twice than leave it open.
//!
//! Files of version 1 (`knockd-state 1 BOOT`) are still read. They had no keys, no processes and no lines behind
//! the end.
//!
//! # What becomes of an opening
//!
//! The daemon that takes it over looks whether the command still runs. If so it waits for its end. A start
//! command that is gone is taken to have ended at once; a stop command that is gone is run again, since nobody saw
//! how it ended.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::door::Door;
use crate::door::lock::{Lock, OtpLock, Turn};
use crate::door::spa::replay::Used;
use crate::door::spent::Spent;
use crate::opening::admissions::Whose;
pub use crate::opening::record::{Admitted, Cooldown, Moment};
use crate::opening::record::{Reading, Record, seal, unsealed};
use crate::opening::{Key, Phase, Process, Stop};
use crate::time::Now;

/// What the first line begins with, and what it began with before.
const TITLE: &str = "knockd-state 2 ";
const TITLE_1: &str = "knockd-state 1";
/// How many used lists of a lock that are too old to be accepted are written one by one.
const OLD_LISTS: usize = 16;
/// How many damaged lines are named one by one.
const NAMED: usize = 5;

/// The lines of a text that are damaged and were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// The numbers of the first few, from 1.
    pub lines: Vec<usize>,
    /// How many more there are.
    pub more: usize,
}

impl Damage {
    fn add(&mut self, line: usize) {
        if self.lines.len() < NAMED {
            self.lines.push(line);
        } else {
            self.more += 1;
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.lines.is_empty()
    }

    /// The sentences that tell it, for the log.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        let one = self.lines.iter().map(|line| format!("line {line} is not in order and is left out"));
        let sum =
            (self.more > 0).then(|| format!("{} more lines are not in order and are left out", self.more));
        one.chain(sum)
    }
}

/// What one file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    records: Vec<Record>,
    /// What is damaged.
    pub damage: Damage,
    /// It says everything that there was to say when it was begun.
    pub is_whole: bool,
}

impl Text {
    /// Reads a file.
    #[must_use]
    pub fn read(text: &[u8], moment: Moment<'_>) -> Text {
        let mut read = Text::default();
        let mut reading = Reading { now: moment.now, same_boot: false };
        let is_this = |boot: &str| !moment.boot.is_empty() && boot.trim() == moment.boot;
        let mut twins: HashMap<u64, u64> = HashMap::new();
        for (number, line) in (1..).zip(text.split_inclusive(|&byte| byte == b'\n')) {
            let line = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
            if number == 1
                && let Some(boot) = line.and_then(boot_of)
            {
                reading.same_boot = is_this(boot);
                continue;
            }
            match line.and_then(|line| Record::read(line, reading)) {
                Some(Record::End(lines)) => read.is_whole |= lines + 2 == number,
                Some(Record::Open(phase, mut stop)) => {
                    if stop.key.number == 0 {
                        // Version 1: the same knocker may have opened the same door several times.
                        let twin = twins.entry(stop.key.origin).or_default();
                        *twin += 1;
                        stop.key.number = *twin;
                    }
                    read.records.push(Record::Open(phase, stop));
                }
                Some(record) => read.records.push(record),
                None => read.damage.add(number),
            }
        }
        read
    }
}

/// The boot that the first line names.
fn boot_of(line: &str) -> Option<&str> {
    let boot = unsealed(line).and_then(|line| line.strip_prefix(TITLE));
    boot.or_else(|| line.strip_prefix(TITLE_1))
}

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The openings that are not closed; each is due at a time of this boot's uptime.
    pub openings: BTreeMap<Key, (Phase, Stop)>,
    /// Cooldowns that go on, the latest last.
    pub cooldowns: Vec<Cooldown>,
    /// The doors that are open in the kernel.
    pub admitted: BTreeMap<Whose, Admitted>,
    /// What is spent of each lock, by its identity.
    pub spent: BTreeMap<u64, Spent>,
    /// Single packets that were used.
    pub used: Used,
}

impl State {
    /// What the two files of a place say together; `None` for one that is not there.
    #[must_use]
    pub fn of(settled: Option<Text>, new: Option<Text>) -> State {
        let is_enough = new.as_ref().is_some_and(|new| new.is_whole);
        let mut state = State::default();
        for text in settled.filter(|_| !is_enough).into_iter().chain(new) {
            text.records.into_iter().for_each(|record| state.take(record));
        }
        state
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Open(phase, stop) => {
                self.openings.insert(stop.key, (phase, stop));
            }
            Record::Closed(key) => {
                self.openings.remove(&key);
            }
            Record::Cooldown(it) => {
                self.cooldowns.retain(|other| (other.knocker, &other.door) != (it.knocker, &it.door));
                self.cooldowns.push(it);
            }
            Record::Admitted(it) => {
                self.admitted.insert(it.whose.clone(), it);
            }
            Record::Dismissed(whose) => {
                self.admitted.remove(&whose);
            }
            Record::Spent(lock, period, owner) => {
                self.spent.entry(lock).or_default().insert(period, owner, 0);
            }
            Record::Packet(time, id) => self.used.merge([(time, id)], None),
            Record::PacketFloor(time) => self.used.merge([], Some(time)),
            Record::Floor(lock, period) => self.spent.entry(lock).or_default().raise_floor(period),
            Record::End(_) => {}
        }
    }

    /// Adds what another place says. Where both know an opening, ours is the later word.
    pub fn add(&mut self, other: State) {
        for (key, opening) in other.openings {
            self.openings.entry(key).or_insert(opening);
        }
        for it in other.cooldowns {
            let known =
                self.cooldowns.iter().find(|mine| (mine.knocker, &mine.door) == (it.knocker, &it.door));
            if known.is_none_or(|mine| mine.until < it.until) {
                self.take(Record::Cooldown(it));
            }
        }
        for (whose, it) in other.admitted {
            self.admitted.entry(whose).or_insert(it);
        }
        self.used.merge(other.used.packets(), other.used.floor());
        for (lock, spent) in other.spent {
            let mine = self.spent.entry(lock).or_default();
            inherit(mine, &spent);
        }
    }

    /// Whether there is nothing to remember.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.openings.is_empty()
            && self.cooldowns.is_empty()
            && self.admitted.is_empty()
            && self.spent.is_empty()
            && self.used.is_empty()
    }

    /// Lists that were spent stay spent on the doors that have the same lock.
    pub fn restore_spent(&self, doors: &mut [Door]) {
        for lock in doors.iter_mut().filter_map(otp_of) {
            if let Some(spent) = self.spent.get(&lock.otp.identity()) {
                inherit(&mut lock.spent, spent);
            }
        }
    }
}

/// Lists that are spent stay spent on the doors of a new configuration that have the same lock.
pub fn inherit_spent(before: &[Door], after: &mut [Door]) {
    let mut known = HashMap::new();
    for door in before {
        if let Lock::Otp(it) = &door.lock {
            known.entry(it.otp.identity()).or_insert(&it.spent);
        }
    }
    for lock in after.iter_mut().filter_map(otp_of) {
        if let Some(&spent) = known.get(&lock.otp.identity()) {
            lock.spent = spent.clone();
        }
    }
}

/// Returns what a daemon has to do about an opening that it takes over. `runs` says whether a process still runs,
/// `find` looks for a start command of this door and knocker whose process was not written down.
#[must_use]
pub fn taken_over(
    phase: Phase,
    mut stop: Stop,
    now: Now,
    runs: impl Fn(Process) -> bool,
    find: impl Fn(&Stop) -> Option<Process>,
) -> (Phase, Stop) {
    match phase {
        Phase::Opening(Some(process)) | Phase::Closing(Some(process)) if runs(process) => (phase, stop),
        // Killed between starting the command and writing down its process: the door must not be closed before
        // the command has opened it.
        Phase::Opening(None) => match find(&stop) {
            Some(process) => (Phase::Opening(Some(process)), stop),
            None => (Phase::Open, stop),
        },
        Phase::Opening(_) | Phase::Open => (Phase::Open, stop),
        Phase::Closing(_) => {
            stop.due = now.uptime;
            (Phase::Open, stop)
        }
    }
}

/// The list that opened this door, if lists of this door are used up.
#[must_use]
pub fn spent(door: &Door, turn: Turn, knocker: IpAddr) -> Option<Record> {
    let Lock::Otp(lock) = &door.lock else { return None };
    let owner = lock.owner(knocker);
    (!lock.is_reusable).then(|| Record::Spent(lock.otp.identity(), turn.0, owner))
}

/// The whole text: of doors that stand open, of cooldowns, of doors that the kernel opened, and of what is spent of the locks of these doors.
#[must_use]
pub fn write(
    standing: &[(Phase, &Stop)],
    cooldowns: &[Cooldown],
    admitted: &BTreeMap<Whose, Admitted>,
    doors: &[Door],
    used: &Used,
    moment: Moment<'_>,
) -> Vec<u8> {
    let mut text = format!("{TITLE}{}", moment.boot);
    seal(&mut text);
    let mut count = 0;
    let mut add = |record: &Record| {
        count += 1;
        text += &record.line(moment.now);
    };
    for (phase, stop) in standing {
        add(&Record::Open(*phase, (*stop).clone()));
    }
    for cooldown in cooldowns {
        add(&Record::Cooldown(cooldown.clone()));
    }
    for it in admitted.values() {
        add(&Record::Admitted(it.clone()));
    }
    for door in doors {
        let Lock::Otp(lock) = &door.lock else { continue };
        let identity = lock.otp.identity();
        let accepted = *lock.otp.accepted(moment.now.unix).start();
        let old = lock.spent.lists().filter(|(period, _)| *period < accepted).count();
        let dropped = old.saturating_sub(OLD_LISTS);
        let floor = lock.spent.floor().max(lock.spent.lists().take(dropped).map(|(period, _)| period).max());
        if let Some(floor) = floor {
            add(&Record::Floor(identity, floor));
        }
        for (period, owner) in lock.spent.lists().skip(dropped) {
            add(&Record::Spent(identity, period, owner));
        }
    }
    if let Some(floor) = used.floor() {
        add(&Record::PacketFloor(floor));
    }
    for (time, id) in used.packets() {
        add(&Record::Packet(time, id));
    }
    text += &Record::End(count).line(moment.now);
    text.into_bytes()
}

fn inherit(mine: &mut Spent, other: &Spent) {
    if let Some(floor) = other.floor() {
        mine.raise_floor(floor);
    }
    for (period, owner) in other.lists() {
        mine.insert(period, owner, 0);
    }
}

fn otp_of(door: &mut Door) -> Option<&mut OtpLock> {
    match &mut door.lock {
        Lock::Otp(lock) => Some(lock),
        Lock::Fixed(_) | Lock::OneTime(_) | Lock::Spa(_) => None,
    }
}
