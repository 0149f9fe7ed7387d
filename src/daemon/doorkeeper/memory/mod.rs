//! Decides when changes are written to the state file, and when they are flushed to disk.
//!
//! The doorkeeper reports changes, and gets back the state of earlier daemons and messages for the log.

mod records;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::config::StateFiles;
use crate::daemon::doorkeeper::claims;
use crate::daemon::doorkeeper::lock_file;
use crate::daemon::doorkeeper::places::{self, Claim, Place};
use crate::daemon::doorkeeper::state_file::{FlushProgress, StateFile};
use crate::door::Door;
use crate::door::spa::replay::Used;
use crate::octets;
use crate::opening::Openings;
use crate::opening::admission_id::ByAdmission;
use crate::opening::record::Record;
use crate::opening::state::{Admitted, Cooldown, Moment, State};
use crate::opening::text;
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
    pub(super) messages: Vec<String>,
}

/// The state file, and the changes that are not in it yet.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags")]
pub(super) struct Memory {
    /// The word to write to the lock file; `None` means [`lock_file::STAYING`].
    lock_word: Option<&'static str>,
    /// The paths that the configuration allows.
    allowed_paths: StateFiles,
    /// The one in use.
    path: PathBuf,
    /// There was a state file when this daemon started.
    had_state: bool,
    file: Option<StateFile>,
    /// The file at the previous path, until its state is in the present one.
    former: Option<(PathBuf, StateFile)>,
    /// Places of daemons that have ended, until their state is in the present file.
    leftover: Vec<Place>,
    /// Reports when a daemon that shares the path closes its lock.
    lock_watch: Option<Inotify>,
    /// When to try these locks next, as uptime, and how many more times.
    lock_retry: Option<(Duration, u32)>,
    /// Cooldowns, latest last.
    cooldowns: Vec<Cooldown>,
    /// The doors open in the kernel.
    admitted: ByAdmission<Admitted>,
    /// The used single packets.
    used: Used,
    /// Changes not written yet.
    pending: Vec<Record>,
    /// The complete state must be written, even if nothing changed.
    needs_full_write: bool,
    /// A door is opening: flush to disk as soon as its commands have been started.
    is_urgent: bool,
    /// When to write and flush at the latest, as uptime.
    flush_deadline: Option<Duration>,
    /// The last write or flush failed.
    has_write_failed: bool,
}

impl Memory {
    /// When to call [`Memory::flush_due`] or [`Memory::claim_leftover`] next, as uptime.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        // The next flush waits for the one under way.
        let deadline =
            self.flush_deadline.filter(|_| !self.file.as_ref().is_some_and(StateFile::is_flushing));
        deadline.into_iter().chain(self.lock_retry.map(|(at, _)| at)).min()
    }

    /// Readable when a flush may have finished.
    pub(super) fn flush_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().and_then(StateFile::flush_descriptor)
    }

    /// Readable when a daemon that shares the path may have ended.
    pub(super) fn lock_watch(&self) -> Option<BorrowedFd<'_>> {
        self.lock_watch.as_ref().map(AsFd::as_fd)
    }

    /// The memory of an heir, which leaves its state file to the next daemon.
    pub(super) fn of_heir() -> Memory {
        Memory { lock_word: Some(lock_file::LEAVING), ..Memory::default() }
    }

    /// Writes to the lock file that this process is about to end, so that the next daemon waits for it.
    pub(super) fn announce_leaving(&self) {
        if let Some(file) = &self.file {
            file.place().announce(lock_file::LEAVING);
        }
    }

    /// An inotify descriptor, readable when a daemon that wants our state file starts: see
    /// [`places::wait_for_leaving`].
    pub(super) fn watch_for_daemon(&self) -> Option<Inotify> {
        let lock = lock_file::lock_of(self.file.as_ref()?.place().path());
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
        watch.add_watch(&lock, AddWatchFlags::IN_ATTRIB).ok()?;
        Some(watch)
    }

    /// The path of the state file, if there is one, and whether the last write succeeded.
    pub(super) fn file_status(&self) -> (Option<&Path>, bool) {
        (
            self.file.as_ref().map(|file| file.place().path()),
            self.file.is_some() && !self.has_write_failed && !self.needs_full_write,
        )
    }

    /// Whether another daemon holds the first place at this path, so that ours is beside it.
    pub(super) fn shares_its_path(&self) -> bool {
        self.file.as_ref().is_some_and(|file| !places::is_first(file.place().path(), &self.path))
    }

    /// Has the changes flushed to disk right after the start command of a door.
    pub(super) fn flush_soon(&mut self, openings: &Openings) {
        // A door without a stop command is not in the state file.
        self.is_urgent |= openings.have_changed() || !self.pending.is_empty();
    }

    /// The path where the state file is or would be.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves to one of these paths; `None` if it is in use already. Before anything else the caller must take
    /// over the returned state, and call [`Memory::remember`].
    pub(super) fn open(&mut self, paths: &StateFiles) -> Option<Found> {
        if self.file.is_some() && self.allowed_paths == *paths {
            return None;
        }
        self.allowed_paths = paths.clone();
        self.had_state |= claims::has_state(paths);
        let (path, claim) = claims::claim(paths, self.lock_word.unwrap_or(lock_file::STAYING));
        let path = path.as_path();
        let Claim { own, leftover, others, state, mut messages, refusal } = claim;
        let Some(own) = own else {
            let refusal = format!("could not claim the state file {}", refusal.unwrap_or_default());
            if let Some(file) = &self.file {
                messages.push(format!("{refusal}; going on with {}", octets::path(file.place().path())));
                // The state at the refused path is left to a daemon that can claim it.
                return Some(Found { state: State::default(), messages });
            }
            messages.push(format!("{refusal}; going on without: {CONSEQUENCE}"));
            path.clone_into(&mut self.path);
            return Some(Found { state, messages });
        };
        self.former =
            self.file.replace(StateFile::new(own)).map(|file| (std::mem::take(&mut self.path), file));
        path.clone_into(&mut self.path);
        self.leftover.extend(leftover);
        self.watch_locks(&others);
        self.needs_full_write = self.former.is_some() || !state.is_empty() || !self.leftover.is_empty();
        Some(self.merge(state, messages))
    }

    /// Whether this daemon found no state at its start: which lists were used before is not known.
    pub(super) fn started_without_state(&self) -> bool {
        !self.had_state
    }

    /// Makes the next [`Memory::remember`] write the state even if nothing has changed, so that the next
    /// start finds it.
    pub(super) fn write_soon(&mut self) {
        self.needs_full_write = true;
    }

    /// Claims the places of daemons that have ended since; the caller treats the result like that of
    /// [`Memory::open`].
    pub(super) fn claim_leftover(&mut self, now: Now) -> Option<Found> {
        let has_closed =
            self.lock_watch.as_ref().is_some_and(|it| it.read_events().is_ok_and(|it| !it.is_empty()));
        if has_closed {
            self.lock_retry = Some((now.uptime, LOCK_RETRIES));
        }
        let (_, retries) = self.lock_retry.filter(|(at, _)| *at <= now.uptime)?;
        let Claim { leftover, others, state, messages, .. } =
            claims::claim_leftover(&self.allowed_paths, &self.path, self.file.as_ref()?.place().path());
        let is_over = retries == 0 || others.is_empty();
        self.lock_retry =
            (!is_over).then(|| (now.uptime.saturating_add(LOCK_RETRY_INTERVAL), retries.saturating_sub(1)));
        if leftover.is_empty() {
            return None;
        }
        self.watch_locks(&others);
        self.leftover.extend(leftover);
        self.needs_full_write = true;
        Some(self.merge(state, messages))
    }

    fn merge(&mut self, state: State, messages: Vec<String>) -> Found {
        if let Some(file) = &mut self.file {
            file.begin_anew();
        }
        self.cooldowns.extend(state.cooldowns.iter().cloned());
        for (id, it) in &state.admitted {
            self.admitted.entry(id.clone()).or_insert_with(|| it.clone());
        }
        self.used.merge(state.used.packets(), state.used.floor());
        Found { state, messages }
    }

    fn watch_locks(&mut self, places: &[PathBuf]) {
        self.lock_watch = None;
        if places.is_empty() {
            return;
        }
        let Ok(watch) = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC) else { return };
        for place in places {
            let _ = watch.add_watch(&lock_file::lock_of(place), AddWatchFlags::IN_CLOSE_WRITE);
        }
        self.lock_watch = Some(watch);
        // The watch missed a daemon that ended between the attempt on its lock and now.
        self.lock_retry = Some((Duration::ZERO, LOCK_RETRIES));
    }

    /// Writes the changes to the state file, so that they survive this process. Returns messages for the log.
    pub(super) fn remember(&mut self, openings: &mut Openings, doors: &[Door], now: Now) -> Vec<String> {
        self.pending.extend(openings.take_changes().into_iter().map(Record::from));
        if self.pending.is_empty() && !self.needs_full_write {
            return Vec::new();
        }
        let pending = std::mem::take(&mut self.pending);
        let Some(file) = &mut self.file else { return Vec::new() };
        let result = file.change(
            || pending.iter().map(|record| record.line(now)).collect::<String>().into_bytes(),
            |boot| {
                let moment = Moment { now, boot };
                text::write(&openings.standing(), &self.cooldowns, &self.admitted, doors, &self.used, moment)
            },
        );
        match result {
            Ok(()) => {
                self.needs_full_write = false;
                self.flush_deadline.get_or_insert(now.uptime.saturating_add(FLUSH_DELAY));
                self.remove_leftover(now)
            }
            Err(error) => {
                self.needs_full_write = true;
                let message = format!(
                    "could not write the state file {}: {}",
                    octets::path(file.place().path()),
                    reason(&error)
                );
                let Some((path, former)) = self.former.take() else {
                    return self.report_failure(&error, now);
                };
                // The former file is still valid.
                let new = self.file.replace(former);
                self.file.iter_mut().for_each(StateFile::begin_anew);
                self.path = path;
                self.leftover.extend(new.map(StateFile::into_place));
                let mut messages =
                    vec![format!("{message}; going on with the state file {}", octets::path(&self.path))];
                messages.extend(self.remember(openings, doors, now));
                messages
            }
        }
    }

    /// Removes the other places once their state is in the present file and on the disk.
    fn remove_leftover(&mut self, now: Now) -> Vec<String> {
        if self.leftover.is_empty() && self.former.is_none() {
            return Vec::new();
        }
        if let Some(Err(error)) = self.file.as_mut().map(|file| file.flush_now(false)) {
            return self.handle_failed_flush(&error, now);
        }
        let former = self.former.take().map(|(_, file)| file.into_place());
        let places: Vec<Place> = self.leftover.drain(..).chain(former).collect();
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
    pub(super) fn flush_due(&mut self, now: Now) -> Vec<String> {
        let mut messages = Vec::new();
        while let Some(file) = &mut self.file {
            let result = file.flush_result();
            let may_flush = !file.is_flushing() && !self.needs_full_write;
            let settles = self.flush_deadline.is_some_and(|at| at <= now.uptime);
            match result {
                Ok(Some(FlushProgress::Flushed)) => messages.extend(self.report_recovery()),
                Ok(Some(FlushProgress::Settling)) => {}
                Ok(None) if may_flush && (settles || self.is_urgent && !self.has_write_failed) => {
                    self.is_urgent = false;
                    if settles {
                        // Later changes belong to the next flush.
                        self.flush_deadline = None;
                    }
                    if !file.flush(settles) {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    messages.extend(self.handle_failed_flush(&error, now));
                    break;
                }
            }
        }
        messages
    }

    /// Handles a failed flush: the next write is the complete state.
    fn handle_failed_flush(&mut self, error: &std::io::Error, now: Now) -> Vec<String> {
        self.needs_full_write = true;
        self.report_failure(error, now)
    }

    /// Returns a message if writing works again after a failure.
    fn report_recovery(&mut self) -> Option<String> {
        let path = octets::path(self.file.as_ref()?.place().path()).into_owned();
        std::mem::take(&mut self.has_write_failed)
            .then(|| format!("the state file {path} can be written again"))
    }

    /// Handles a failed write or flush: returns a message for the first failure since a success.
    fn report_failure(&mut self, error: &std::io::Error, now: Now) -> Vec<String> {
        self.flush_deadline = Some(now.uptime.saturating_add(WRITE_RETRY_DELAY));
        if std::mem::replace(&mut self.has_write_failed, true) {
            return Vec::new();
        }
        let path =
            self.file.as_ref().map_or(octets::path(&self.path), |file| octets::path(file.place().path()));
        vec![format!("could not write the state file {path}: {}; {CONSEQUENCE}", reason(error))]
    }

    /// Writes and flushes everything, and waits for the disk.
    pub(super) fn end(&mut self, openings: &mut Openings, doors: &[Door], now: Now) -> Vec<String> {
        let mut messages = self.remember(openings, doors, now);
        let file = self.file.as_mut().filter(|_| !self.needs_full_write);
        match file.map(|file| file.flush_now(true)) {
            Some(Ok(())) => messages.extend(self.report_recovery()),
            Some(Err(error)) => messages.extend(self.handle_failed_flush(&error, now)),
            None => {}
        }
        messages
    }
}
