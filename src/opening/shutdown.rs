//! How the daemon ends: doors close early, and commands that were ended by a signal to our process group run
//! once more.

use std::time::Duration;

use crate::opening::job::Ending;
use crate::opening::standing::Key;
use crate::sorted;
use crate::time::Now;

/// How long to wait before retrying a stop command that could not be started, for lack of memory, say.
const RETRY: Duration = Duration::from_secs(5);
/// The same while the daemon ends.
const LAST_RETRY: Duration = Duration::from_millis(200);

/// SIGHUP, SIGINT and SIGTERM, which service managers and terminals send to a whole group of processes.
const SENT_TO_GROUPS: [i32; 3] = [1, 2, 15];
/// How long to wait before rerunning a command that such a signal ended, so that the sender is done.
const AFTER_SIGNAL: Duration = Duration::from_millis(200);

/// Whether the daemon is ending, and which commands were rerun because of that.
#[derive(Clone, Debug, Default)]
pub(super) struct Shutdown {
    times: Option<Times>,
    /// Openings whose stop command was run again because a signal to a group ended it.
    run_again: Vec<Key>,
    rerun_of_last: Rerun,
}

/// When doors are closed while the daemon ends, as uptime.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// Stops that are due by then keep their time; all others are due at once.
    soon: Duration,
    /// When doors are closed even if their start command still runs.
    late: Duration,
}

/// Whether the last command has to run again.
#[derive(Clone, Debug, Default)]
enum Rerun {
    /// It was not ended by a signal to a group.
    #[default]
    NotNeeded,
    /// It was, and runs again at this uptime.
    Due(Duration, LastCommand),
    /// It was run again.
    Done,
}

/// The command after which the daemon runs no other, and how long it may take.
pub(super) type LastCommand = (Vec<u8>, Option<Duration>);

impl Shutdown {
    /// Begins the shutdown. A second call can only shorten it.
    pub(super) fn begin(&mut self, grace: Duration, patience: Duration, now: Now) {
        let (soon, late) = (now.uptime.saturating_add(grace), now.uptime.saturating_add(patience));
        self.times = Some(self.times.map_or(Times { soon, late }, |earlier| Times {
            soon: earlier.soon.min(soon),
            late: earlier.late.min(late),
        }));
    }

    /// When to close a door whose time ends at `due`, as uptime.
    pub(super) fn due_at(&self, due: Duration, now: Now) -> Duration {
        if self.times.is_some_and(|times| due > times.soon) { now.uptime } else { due }
    }

    /// When to close doors even if their start command still runs, as uptime; `None` unless the daemon is
    /// ending.
    pub(super) fn late(&self) -> Option<Duration> {
        self.times.map(|times| times.late)
    }

    /// How long to wait before retrying a stop command that could not be started.
    pub(super) fn retry_after(&self) -> Duration {
        if self.times.is_some() { LAST_RETRY } else { RETRY }
    }

    /// Whether a signal meant for the daemon ended a command, as opposed to its being killed for running too
    /// long.
    ///
    /// A service manager that ends us signals each process of our group until it sees no new one, so that it
    /// also hits commands that we start at the first signal.
    pub(super) fn was_hit_by_group_signal(
        &self,
        ending: Ending,
        killed_at: Option<Duration>,
        now: Now,
    ) -> bool {
        self.times.is_some()
            && matches!(ending, Ending::Killed(signal) if SENT_TO_GROUPS.contains(&signal))
            && killed_at.is_none_or(|at| at > now.uptime)
    }

    /// When to rerun the stop command of this opening, which such a signal ended, as uptime; `None` if it was
    /// rerun before.
    pub(super) fn run_again(&mut self, opening: Key, now: Now) -> Option<Duration> {
        sorted::insert(&mut self.run_again, opening).then(|| now.uptime.saturating_add(AFTER_SIGNAL))
    }

    /// Schedules one rerun of the last command, which such a signal ended.
    pub(super) fn run_last_again(&mut self, last: LastCommand, now: Now) {
        if matches!(self.rerun_of_last, Rerun::NotNeeded) {
            self.rerun_of_last = Rerun::Due(now.uptime.saturating_add(AFTER_SIGNAL), last);
        }
    }

    /// When to rerun the last command, as uptime; `None` if it is not rerun.
    pub(super) fn rerun_due(&self) -> Option<Duration> {
        if let Rerun::Due(due, _) = &self.rerun_of_last { Some(*due) } else { None }
    }

    /// The last command, if it must be rerun now.
    pub(super) fn take_rerun(&mut self, now: Now) -> Option<LastCommand> {
        self.rerun_due().filter(|due| *due <= now.uptime)?;
        match std::mem::replace(&mut self.rerun_of_last, Rerun::Done) {
            Rerun::Due(_, last) => Some(last),
            Rerun::NotNeeded | Rerun::Done => None,
        }
    }
}
