//! What the doorkeeper does to close every door even if it ends before its time: it keeps the state
//! file, takes over what another daemon left in it, and hands it on.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::Config;
use crate::daemon::clock::now;
use crate::daemon::doorkeeper::Doorkeeper;
use crate::daemon::doorkeeper::state_file::{self, Claimed, StateFile};
use crate::door::Door;
use crate::door::lock::Lock;
use crate::opening::Stop;
use crate::opening::state::{self, Cooldown, Moment};
use crate::reason::reason;
use crate::time::Now;

/// How long what is not urgent may wait for the disk.
const SYNC: Duration = Duration::from_secs(1);
/// When to try again to write a file that could not be written.
const RETRY: Duration = Duration::from_secs(5);

/// How many cooldowns are kept; each opening writes them all.
const MOST_COOLDOWNS: usize = 1024;

/// The state file, and how far it is behind.
#[derive(Debug, Default)]
pub(super) struct Memory {
    file: Option<StateFile>,
    /// Which changes of the openings it has.
    written: u64,
    /// Cooldowns, the latest last.
    cooldowns: Vec<Cooldown>,
    /// It lacks something else: a list was spent, or a cooldown began.
    pub(super) has_changed: bool,
    /// A door opens: the disk is not to wait.
    pub(super) is_urgent: bool,
    /// When to write or sync at the latest, as uptime.
    sync: Option<Duration>,
    /// It could not be written the last time.
    is_in_trouble: bool,
}

impl Memory {
    /// When to look after it, as uptime.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.sync.into_iter().chain(self.file.as_ref()?.next_look()).min()
    }
}

impl Memory {
    /// The cooldowns that are kept, the latest last.
    pub(super) fn cooldowns(&self) -> &[Cooldown] {
        &self.cooldowns
    }

    /// Whether the file lacks something, when the openings have changed so often.
    pub(super) fn is_behind(&self, changes: u64) -> bool {
        self.has_changed || self.written != changes
    }

    /// A cooldown began.
    pub(super) fn cool_down(&mut self, door: &Door, knocker: IpAddr, now: Now) {
        let after = door.rules.cooldown;
        if after.is_zero() {
            return;
        }
        self.cooldowns.retain(|it| it.until > now.uptime && (it.knocker, &it.door) != (knocker, &door.name));
        if self.cooldowns.len() >= MOST_COOLDOWNS {
            self.cooldowns.remove(0);
        }
        let until = now.uptime.saturating_add(after);
        self.cooldowns.push(Cooldown { door: door.name.clone(), knocker, after, until });
        self.has_changed = true;
    }
}

impl Doorkeeper {
    /// Claims the state file that the configuration names, and takes over what is in it.
    pub(super) fn open_memory(&mut self) {
        let path = self.config.options.state_file(&self.arguments.pid_file);
        if self.memory.file.as_ref().is_some_and(|file| file.path() == path) {
            return;
        }
        let earlier = self.memory.file.replace(StateFile::new(path));
        let claimed = self.memory.file.as_mut().map(StateFile::claim);
        match claimed {
            Some(Claimed::Another) => {
                let path = self.memory_path();
                self.log.complain(&format!(
                    "state file {path}: another daemon has it; going on without: doors that are open may stay open if this daemon is killed"
                ));
            }
            Some(claimed) => self.take_over(claimed),
            None => {}
        }
        if let Some(mut earlier) = earlier.filter(StateFile::is_ours) {
            // What is open is in the new file now, and must not be closed by this one as well.
            let now = now();
            self.memory.has_changed = true;
            self.remember(now);
            self.sync_memory(now);
            let moment = Moment { now, boot: earlier.boot() };
            let nothing = state::write(&[], &[], &[], moment);
            if let Err(error) = earlier.write(&nothing).and_then(|()| earlier.sync()) {
                self.log.complain(&format!(
                    "could not write the state file {}: {}",
                    earlier.path().display(),
                    reason(&error)
                ));
            }
        }
    }

    fn memory_path(&self) -> String {
        self.memory.file.as_ref().map_or_else(String::new, |file| file.path().display().to_string())
    }

    /// The state file became ours, or it did not.
    fn take_over(&mut self, claimed: Claimed) {
        let path = self.memory_path();
        match claimed {
            Claimed::Another | Claimed::Unchanged => return,
            Claimed::No(error) => {
                return self.log.complain(&format!(
                    "could not claim the state file {path}: {}; going on without: doors that are open may stay open if this daemon is killed",
                    reason(&error)
                ));
            }
            Claimed::Ours => {}
        }
        let Some(file) = &self.memory.file else { return };
        let state = match state_file::read(file.path()) {
            Ok(state) => state,
            Err(error) => return self.log.complain(&format!("state file {path}: {}", reason(&error))),
        };
        for line in &state.left_out {
            self.log.complain(&format!("state file {path}: line {line} is not in order and is left out"));
        }
        state.restore_spent(&mut self.config.doors);
        for stop in state.stops {
            let Stop { door, knocker, .. } = &stop;
            self.log.line(&format!("{knocker}: {door}: still open, closing it in its time"));
            self.openings.resume(stop);
        }
        self.memory.has_changed |= !state.spent.is_empty() || !state.cooldowns.is_empty();
        self.memory.cooldowns.extend(state.cooldowns);
    }

    /// Lists that were spent stay spent over a new configuration.
    pub(super) fn inherit_spent(&self, config: &mut Config) {
        let mut spent = HashMap::new();
        for door in &self.config.doors {
            if let Lock::Otp(it) = &door.lock {
                spent.entry(it.otp.identity()).or_insert(&it.spent);
            }
        }
        for door in &mut config.doors {
            let Lock::Otp(lock) = &mut door.lock else { continue };
            if let Some(&before) = spent.get(&lock.otp.identity()) {
                lock.spent = before.clone();
            }
        }
    }

    /// Looks after the state file: claims it, syncs it, hands it over.
    pub(super) fn attend_to_memory(&mut self, now: Now) {
        if let Some(file) = &mut self.memory.file {
            let claimed = file.look();
            if matches!(claimed, Claimed::Ours) {
                self.memory.has_changed = true;
                let path = self.memory_path();
                self.log.complain(&format!("state file {path}: the other daemon let go, it is ours now"));
                self.take_over(claimed);
            }
        }
        if self.memory.sync.is_some_and(|at| at <= now.uptime) {
            // Whatever comes of it, this deadline is over; trouble sets the next one.
            self.memory.sync = None;
            self.remember(now);
            self.sync_memory(now);
        }
    }

    /// Writes down what changed, so that it outlives this process.
    pub(super) fn remember(&mut self, now: Now) {
        let changes = self.openings.changes();
        if !self.memory.is_behind(changes) {
            return;
        }
        let Some(file) = self.memory.file.as_mut().filter(|file| file.is_ours()) else { return };
        let moment = Moment { now, boot: file.boot() };
        let text =
            state::write(&self.openings.standing(), &self.memory.cooldowns, &self.config.doors, moment);
        let result = file.write(&text);
        if result.is_ok() {
            (self.memory.written, self.memory.has_changed) = (changes, false);
            self.memory.sync.get_or_insert(now.uptime.saturating_add(SYNC));
        }
        self.judge(result, now);
    }

    /// Waits until what was written is on the disk, so that it outlives the power.
    pub(super) fn sync_memory(&mut self, now: Now) {
        self.memory.is_urgent = false;
        if self.memory.is_in_trouble {
            return;
        }
        self.memory.sync = None;
        let Some(file) = &mut self.memory.file else { return };
        let result = file.sync();
        self.judge(result, now);
    }

    /// Leaves nothing unwritten.
    pub(super) fn remember_at_last(&mut self) {
        let now = now();
        self.remember(now);
        self.sync_memory(now);
    }

    /// Says when the file cannot be written, and when it can again.
    fn judge(&mut self, result: std::io::Result<()>, now: Now) {
        let path = self.memory_path();
        match result {
            Ok(()) if self.memory.is_in_trouble => {
                self.memory.is_in_trouble = false;
                self.log.complain(&format!("the state file {path} can be written again"));
            }
            Ok(()) => {}
            Err(error) => {
                self.memory.has_changed = true;
                self.memory.sync = Some(now.uptime.saturating_add(RETRY));
                if !std::mem::replace(&mut self.memory.is_in_trouble, true) {
                    self.log.complain(&format!(
                        "could not write the state file {path}: {}; doors that are open may stay open if this daemon is killed",
                        reason(&error)
                    ));
                }
            }
        }
    }
}
