//! The state that survives the daemon, however it ends: open doors, cooldowns, and one-time lists and single
//! packets that were used.
//!
//! # The files
//!
//! Each daemon has state files of its own, and holds a lock on `PATH.lock` as long as it runs:
//!
//! | file | what it holds |
//! |---|---|
//! | `PATH` | the complete state at the last sync to the disk |
//! | `PATH.new` | the complete current state; exists only while there are changes that may not be on the disk yet |
//! | `PATH.tmp` | a `PATH.new` that is being written; ignored by readers |
//!
//! A daemon that finds `PATH.lock` locked uses `PATH.2`, then `PATH.3` and so on.
//!
//! **At every instant the newest state is in `PATH.new`, complete, or, if that does not exist, in `PATH`.**
//! The steps in order, and what is left if all processes are killed after each:
//!
//! | step | left after a kill |
//! |---|---|
//! | write the complete state to `PATH.tmp`; sync it if there is a `PATH.new` already | the state before the change; no command that follows from the change was started yet |
//! | rename it to `PATH.new` | the new state |
//! | run the commands; append a line to `PATH.new` for each one that started or ended | the lines written so far; a command that was just started and has no line yet counts as not started |
//! | sync `PATH.new`; within a second also rename it to `PATH` and sync the folder | the same state, under one of the two names |
//!
//! While `PATH.new` exists, changes are appended to it; otherwise a change creates a new one. After a power
//! failure only synced data is certain: `PATH.new` may be missing or lack its last line, and `PATH` is
//! complete.
//!
//! The daemon does not wait for a sync, since fsync takes a tenth of a second on a busy disk: a thread does
//! it beside the loop, one sync at a time, and changes made meanwhile are in the next one. Only a daemon that
//! starts, ends, or takes over the state of another one waits.
//!
//! **State files belong to the process that holds their lock; the next daemon to start takes over all
//! unlocked ones.** It locks them, writes their content to its own files, syncs these, and then removes the
//! others, `PATH.N` before `PATH.N.new`, before it serves a door. Openings keep their keys, so an opening
//! that is found in two files, after a kill halfway, is recognised as one.
//!
//! [`text`](super::text) has the lines of a file.
//!
//! # Taking over an opening
//!
//! The daemon that takes over an opening checks whether its command still runs, and if so waits for it to
//! end. If a start command is gone, the door counts as open from that moment; if a stop command is gone, it
//! is run again, since its result is unknown.

use std::net::IpAddr;

use litemap::LiteMap;

use crate::door::Door;
use crate::door::lock::{Lock, OtpLock, Turn};
use crate::door::spa::replay::Used;
use crate::door::spent::Spent;
use crate::door::tries::Tries;
use crate::opening::admission_id::ByAdmission;
use crate::opening::record::Record;
pub use crate::opening::record::{Admitted, Cooldown, Moment};
use crate::opening::standing::{Key, Phase, Process, Stop};
use crate::opening::text::Text;
use crate::time::Now;

/// The state of a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The openings that are not closed; their times are uptimes of this boot.
    pub openings: LiteMap<Key, (Phase, Stop)>,
    /// Running cooldowns, the latest last.
    pub cooldowns: Vec<Cooldown>,
    /// The doors that are open in the kernel.
    pub admitted: ByAdmission<Admitted>,
    /// The used lists of each lock, by the lock's identity.
    pub spent: LiteMap<u64, Spent>,
    /// The tries at the lists of each lock, by the lock's identity.
    pub tried: LiteMap<u64, Tries>,
    /// Single packets that were used.
    pub used: Used,
}

impl State {
    /// The state in `PATH` and `PATH.new`; `None` for a file that does not exist.
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
                self.admitted.insert(it.id.clone(), Box::new(it));
            }
            Record::Dismissed(id) => {
                self.admitted.remove(&id);
            }
            Record::Spent(lock, period, owner) => {
                self.spent.entry(lock).or_default().insert(period, owner, 0);
            }
            Record::Tried(lock, period, source, count) => {
                self.tried.entry(lock).or_default().set(period, source, count, 0);
            }
            Record::Packet(time, id) => self.used.merge([(time, id)], None),
            Record::PacketFloor(time) => self.used.merge([], Some(time)),
            Record::Floor(lock, period) => self.spent.entry(lock).or_default().raise_floor(period),
            Record::End(_) => {}
        }
    }

    /// Adds the state of another daemon's files. If both have an opening, ours is the newer.
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
        for (id, it) in other.admitted {
            self.admitted.entry(id).or_insert(it);
        }
        self.used.merge(other.used.packets(), other.used.floor());
        for (lock, spent) in other.spent {
            self.spent.entry(lock).or_default().merge(&spent);
        }
        for (lock, tries) in other.tried {
            self.tried.entry(lock).or_default().merge(&tries);
        }
    }

    /// Whether the state is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.openings.is_empty()
            && self.cooldowns.is_empty()
            && self.admitted.is_empty()
            && self.spent.is_empty()
            && self.tried.is_empty()
            && self.used.is_empty()
    }

    /// Marks lists as used at all doors with the same lock, and takes over the tries at them.
    pub fn restore_spent(&self, doors: &mut [Door]) {
        for lock in doors.iter_mut().filter_map(otp_of) {
            if let Some(spent) = self.spent.get(&lock.otp.identity()) {
                lock.spent.merge(spent);
            }
            if let Some(tries) = self.tried.get(&lock.otp.identity()) {
                lock.tries.merge(tries);
            }
        }
    }
}

/// Copies the used lists of doors, and the tries at them, to the doors of a new configuration that have the
/// same lock.
pub fn inherit_spent(before: &[Door], after: &mut [Door]) {
    // Sections of one name may have the same lists.
    let mut known = LiteMap::<_, (Spent, Tries)>::new();
    for door in before {
        if let Lock::Otp(it) = &door.lock {
            let (spent, tries) = known.entry(it.otp.identity()).or_default();
            spent.merge(&it.spent);
            tries.merge(&it.tries);
        }
    }
    for lock in after.iter_mut().filter_map(otp_of) {
        if let Some((spent, tries)) = known.get(&lock.otp.identity()) {
            lock.spent.merge(spent);
            lock.tries.merge(tries);
        }
    }
}

/// The phase and the stop with which a daemon continues an opening that it takes over. `runs` says whether a
/// process still runs; `find` looks for a start command of this door and knocker whose process was not
/// recorded.
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
        // The daemon was killed after it started the command and before it recorded the process. The door
        // must not be closed before the command has opened it.
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

/// The record of the list that opened this door, if its lists are used only once.
#[must_use]
pub fn spent(door: &Door, turn: Turn, knocker: IpAddr) -> Option<Record> {
    let Lock::Otp(lock) = &door.lock else { return None };
    let owner = lock.owner(knocker);
    (!lock.is_reusable).then(|| Record::Spent(lock.otp.identity(), turn.0, owner))
}

fn otp_of(door: &mut Door) -> Option<&mut OtpLock> {
    match &mut door.lock {
        Lock::Otp(lock) => Some(lock),
        Lock::Fixed(_) | Lock::OneTime(_) | Lock::Spa(_) => None,
    }
}
