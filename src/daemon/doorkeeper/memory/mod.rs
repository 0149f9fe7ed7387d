//! Decides when changes are written to the state file, and when they are flushed to disk.
//!
//! The doorkeeper reports changes, and gets back the state of earlier daemons and messages for the log.

mod records;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::config::StateFiles;
use crate::daemon::doorkeeper::claims;
use crate::daemon::doorkeeper::lock_file;
use crate::daemon::doorkeeper::places::{self, Claim, Place};
use crate::daemon::doorkeeper::state_file::{Landed, StateFile};
use crate::door::Door;
use crate::door::spa::replay::Used;
use crate::octets;
use crate::opening::Openings;
use crate::opening::admissions::AdmissionId;
use crate::opening::record::Record;
use crate::opening::state::{self, Admitted, Cooldown, Moment, State};
use crate::reason::reason;
use crate::time::Now;

/// How long a change that is not urgent may wait for the flush to disk.
const FLUSH_DELAY: Duration = Duration::from_secs(1);
/// Delay before retrying after a failed write.
const WRITE_RETRY_DELAY: Duration = Duration::from_secs(5);
/// How often, and at which interval, to try the lock of a daemon that has closed its lock file: the kernel
/// reports the close shortly before it releases the lock.
const LOCK_RETRIES: u32 = 20;
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The consequence of running without a state file, for messages.
const CONSEQUENCE: &str = "doors that are open may stay open if this daemon is killed";

/// The result of claiming the path of the state file.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The state that earlier daemons left.
    pub(super) state: State,
    /// Messages for the log.
    pub(super) says: Vec<String>,
}

/// The state file, and the changes that are not in it yet.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags")]
pub(super) struct Memory {
    /// The word to write to the lock file; `None` means [`lock_file::STAYING`].
    word: Option<&'static str>,
    /// The paths that the configuration allows.
    wanted: StateFiles,
    /// The one in use.
    path: PathBuf,
    /// There was a state file when this daemon started.
    had_state: bool,
    file: Option<StateFile>,
    /// The file at the previous path, until its state is in the present one.
    former: Option<(PathBuf, StateFile)>,
    /// Places of daemons that have ended, until their state is in the present file.
    left: Vec<Place>,
    /// Reports when a daemon that shares the path closes its lock.
    watch: Option<Inotify>,
    /// When to try these locks next, as uptime, and how many more times.
    look: Option<(Duration, u32)>,
    /// Cooldowns, latest last.
    cooldowns: Vec<Cooldown>,
    /// The doors open in the kernel.
    admitted: BTreeMap<AdmissionId, Box<Admitted>>,
    /// The used single packets.
    used: Used,
    /// Changes not written yet.
    pending: Vec<Record>,
    /// The complete state must be written, even if nothing changed.
    is_behind: bool,
    /// A door is opening: flush to disk as soon as its commands have been started.
    is_urgent: bool,
    /// When to write and sync at the latest, as uptime.
    sync: Option<Duration>,
    /// The last write or flush failed.
    is_in_trouble: bool,
}

impl Memory {
    /// When to call [`Memory::settle`] or [`Memory::look`] next, as uptime.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        // The next flush waits for the one under way.
        let sync = self.sync.filter(|_| !self.file.as_ref().is_some_and(StateFile::is_flushing));
        sync.into_iter().chain(self.look.map(|(at, _)| at)).min()
    }

    /// Readable when a flush may have finished.
    pub(super) fn flushed(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().and_then(StateFile::bell)
    }

    /// Readable when a daemon that shares the path may have ended.
    pub(super) fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// The memory of an heir, which leaves its state file to the next daemon.
    pub(super) fn of_heir() -> Memory {
        Memory { word: Some(lock_file::LEAVING), ..Memory::default() }
    }

    /// Writes to the lock file that this process is about to end, so that the next daemon waits for it.
    pub(super) fn announce_leaving(&self) {
        if let Some(file) = &self.file {
            file.place().announce(lock_file::LEAVING);
        }
    }

    /// An inotify descriptor, readable when a daemon that wants our state file starts: see
    /// [`places::wait_for_leaving`].
    pub(super) fn summons(&self) -> Option<Inotify> {
        let lock = lock_file::lock_of(self.file.as_ref()?.place().path());
        let bell = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
        bell.add_watch(&lock, AddWatchFlags::IN_ATTRIB).ok()?;
        Some(bell)
    }

    /// The path of the state file, if there is one, and whether the last write succeeded.
    pub(super) fn standing(&self) -> (Option<&Path>, bool) {
        (
            self.file.as_ref().map(|file| file.place().path()),
            self.file.is_some() && !self.is_in_trouble && !self.is_behind,
        )
    }

    /// Whether another daemon holds the first place at this path, so that ours is beside it.
    pub(super) fn shares_its_path(&self) -> bool {
        self.file.as_ref().is_some_and(|file| !places::is_first(file.place().path(), &self.path))
    }

    /// Has the changes flushed to disk right after the start command of a door.
    pub(super) fn hurry(&mut self, openings: &Openings) {
        // A door without a stop command is not in the state file.
        self.is_urgent |= openings.have_changed() || !self.pending.is_empty();
    }

    /// The path where the state file is or would be.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves to one of these paths; `None` if it is in use already. Before anything else the caller must take
    /// over the returned state, and call [`Memory::remember`].
    pub(super) fn open(&mut self, wanted: &StateFiles) -> Option<Found> {
        if self.file.is_some() && self.wanted == *wanted {
            return None;
        }
        self.wanted = wanted.clone();
        self.had_state |= claims::has_state(wanted);
        let (path, claim) = claims::claim(wanted, self.word.unwrap_or(lock_file::STAYING));
        let path = path.as_path();
        let Claim { own, left, others, state, mut says, refusal } = claim;
        let Some(own) = own else {
            let refusal = format!("could not claim the state file {}", refusal.unwrap_or_default());
            if let Some(file) = &self.file {
                says.push(format!("{refusal}; going on with {}", octets::path(file.place().path())));
                // The state at the refused path is left to a daemon that can claim it.
                return Some(Found { state: State::default(), says });
            }
            says.push(format!("{refusal}; going on without: {CONSEQUENCE}"));
            path.clone_into(&mut self.path);
            return Some(Found { state, says });
        };
        self.former =
            self.file.replace(StateFile::new(own)).map(|file| (std::mem::take(&mut self.path), file));
        path.clone_into(&mut self.path);
        self.left.extend(left);
        self.watch(&others);
        self.is_behind = self.former.is_some() || !state.is_empty() || !self.left.is_empty();
        Some(self.found(state, says))
    }

    /// Whether this daemon found no state at its start: which lists were used before is not known.
    pub(super) fn is_without_past(&self) -> bool {
        !self.had_state
    }

    /// Makes the next [`Memory::remember`] write the state even if nothing has changed, so that the next
    /// start finds it.
    pub(super) fn write_soon(&mut self) {
        self.is_behind = true;
    }

    /// Claims the places of daemons that have ended since; the caller treats the result like that of
    /// [`Memory::open`].
    pub(super) fn look(&mut self, now: Now) -> Option<Found> {
        let is_rung = self.watch.as_ref().is_some_and(|it| it.read_events().is_ok_and(|it| !it.is_empty()));
        if is_rung {
            self.look = Some((now.uptime, LOCK_RETRIES));
        }
        let (_, looks) = self.look.filter(|(at, _)| *at <= now.uptime)?;
        let Claim { left, others, state, says, .. } =
            claims::claim_left(&self.wanted, &self.path, self.file.as_ref()?.place().path());
        let is_over = looks == 0 || others.is_empty();
        self.look =
            (!is_over).then(|| (now.uptime.saturating_add(LOCK_RETRY_INTERVAL), looks.saturating_sub(1)));
        if left.is_empty() {
            return None;
        }
        self.watch(&others);
        self.left.extend(left);
        self.is_behind = true;
        Some(self.found(state, says))
    }

    fn found(&mut self, state: State, says: Vec<String>) -> Found {
        if let Some(file) = &mut self.file {
            file.begin_anew();
        }
        self.cooldowns.extend(state.cooldowns.iter().cloned());
        for (id, it) in &state.admitted {
            self.admitted.entry(id.clone()).or_insert_with(|| it.clone());
        }
        self.used.merge(state.used.packets(), state.used.floor());
        Found { state, says }
    }

    fn watch(&mut self, places: &[PathBuf]) {
        self.watch = None;
        if places.is_empty() {
            return;
        }
        let Ok(watch) = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC) else { return };
        for place in places {
            let _ = watch.add_watch(&lock_file::lock_of(place), AddWatchFlags::IN_CLOSE_WRITE);
        }
        self.watch = Some(watch);
        // The watch missed a daemon that ended between the attempt on its lock and now.
        self.look = Some((Duration::ZERO, LOCK_RETRIES));
    }

    /// Writes the changes to the state file, so that they survive this process. Returns messages for the log.
    pub(super) fn remember(&mut self, openings: &mut Openings, doors: &[Door], now: Now) -> Vec<String> {
        self.pending.extend(openings.take_changes().into_iter().map(Record::from));
        if self.pending.is_empty() && !self.is_behind {
            return Vec::new();
        }
        let pending = std::mem::take(&mut self.pending);
        let Some(file) = &mut self.file else { return Vec::new() };
        let result = file.change(
            || pending.iter().map(|record| record.line(now)).collect::<String>().into_bytes(),
            |boot| {
                let moment = Moment { now, boot };
                state::write(&openings.standing(), &self.cooldowns, &self.admitted, doors, &self.used, moment)
            },
        );
        match result {
            Ok(()) => {
                self.is_behind = false;
                self.sync.get_or_insert(now.uptime.saturating_add(FLUSH_DELAY));
                self.let_go(now)
            }
            Err(error) => {
                self.is_behind = true;
                let says = format!(
                    "could not write the state file {}: {}",
                    octets::path(file.place().path()),
                    reason(&error)
                );
                let Some((path, former)) = self.former.take() else { return self.fail(&error, now) };
                // The former file is still valid.
                let new = self.file.replace(former);
                self.file.iter_mut().for_each(StateFile::begin_anew);
                self.path = path;
                self.left.extend(new.map(StateFile::into_place));
                let mut says =
                    vec![format!("{says}; going on with the state file {}", octets::path(&self.path))];
                says.extend(self.remember(openings, doors, now));
                says
            }
        }
    }

    /// Removes the other places once their state is in the present file and on the disk.
    fn let_go(&mut self, now: Now) -> Vec<String> {
        if self.left.is_empty() && self.former.is_none() {
            return Vec::new();
        }
        if let Some(Err(error)) = self.file.as_mut().map(|file| file.flush_now(false)) {
            return self.lose(&error, now);
        }
        let former = self.former.take().map(|(_, file)| file.into_place());
        let places: Vec<Place> = self.left.drain(..).chain(former).collect();
        let remove = |place: Place| {
            let path = octets::path(place.path()).into_owned();
            place
                .remove()
                .err()
                .map(|error| format!("could not remove the state file {path}: {}", reason(&error)))
        };
        places.into_iter().filter_map(remove).collect()
    }

    /// Flushes the state file to disk, so that it survives a power failure: at once if a door is opening,
    /// otherwise within a second. Does not wait for the disk. Returns messages for the log.
    pub(super) fn settle(&mut self, now: Now) -> Vec<String> {
        let mut says = Vec::new();
        while let Some(file) = &mut self.file {
            let landed = file.landed();
            let may_flush = !file.is_flushing() && !self.is_behind;
            let settles = self.sync.is_some_and(|at| at <= now.uptime);
            match landed {
                Ok(Some(Landed::Flushed)) => says.extend(self.recovered()),
                Ok(Some(Landed::Proceeds)) => {}
                Ok(None) if may_flush && (settles || self.is_urgent && !self.is_in_trouble) => {
                    self.is_urgent = false;
                    if settles {
                        // Later changes belong to the next flush.
                        self.sync = None;
                    }
                    if !file.flush(settles) {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    says.extend(self.lose(&error, now));
                    break;
                }
            }
        }
        says
    }

    /// Handles a failed flush: the next write is the complete state.
    fn lose(&mut self, error: &std::io::Error, now: Now) -> Vec<String> {
        self.is_behind = true;
        self.fail(error, now)
    }

    /// Returns a message if writing works again after a failure.
    fn recovered(&mut self) -> Option<String> {
        let path = octets::path(self.file.as_ref()?.place().path()).into_owned();
        std::mem::take(&mut self.is_in_trouble).then(|| format!("the state file {path} can be written again"))
    }

    /// Handles a failed write or flush: returns a message for the first failure since a success.
    fn fail(&mut self, error: &std::io::Error, now: Now) -> Vec<String> {
        self.sync = Some(now.uptime.saturating_add(WRITE_RETRY_DELAY));
        if std::mem::replace(&mut self.is_in_trouble, true) {
            return Vec::new();
        }
        let path =
            self.file.as_ref().map_or(octets::path(&self.path), |file| octets::path(file.place().path()));
        vec![format!("could not write the state file {path}: {}; {CONSEQUENCE}", reason(error))]
    }

    /// Writes and flushes everything, and waits for the disk.
    pub(super) fn end(&mut self, openings: &mut Openings, doors: &[Door], now: Now) -> Vec<String> {
        let mut says = self.remember(openings, doors, now);
        let file = self.file.as_mut().filter(|_| !self.is_behind);
        match file.map(|file| file.flush_now(true)) {
            Some(Ok(())) => says.extend(self.recovered()),
            Some(Err(error)) => says.extend(self.lose(&error, now)),
            None => {}
        }
        says
    }
}
