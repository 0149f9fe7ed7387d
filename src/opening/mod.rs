//! Doors that stand open: what to run now, and what to run later.
//!
//! Pure: it is told what happened and what time it is, and answers with [`Action`]s in the order in
//! which they are to be taken. It never forgets an opening before its stop command was handed out.

pub mod event;
pub mod log_limit;
pub mod state;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::door::{Door, Reopen};
use crate::opening::event::Event;
use crate::time::Now;

/// When to try again to run a stop command that could not be started, say for want of memory.
const RETRY: Duration = Duration::from_secs(5);

/// Names a job while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// One command to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What to call it when it ended.
    pub id: JobId,
    /// The door's name, for the log.
    pub door: Arc<str>,
    /// For the shell, after `-c`.
    pub command: Vec<u8>,
    /// What the command finds in its environment, so that a script needs no quoting; nothing for a
    /// command of the daemon itself.
    pub variables: Vec<(&'static str, String)>,
}

/// Something the doorkeeper is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write this to the log.
    Tell(Event),
    /// Run this command, and say when it ended.
    Run(Job),
    /// This command takes too long: kill it, with all that it started.
    Kill(JobId),
}

/// The end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It ended by itself, with this exit code.
    Exited(i32),
    /// A signal with this number killed it.
    Killed(i32),
    /// It could not even be started.
    NotStarted,
}

/// How a door is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The door's name.
    pub door: Arc<str>,
    /// Whom it is open for.
    pub knocker: IpAddr,
    /// The stop command.
    pub command: Vec<u8>,
    /// How long the door stays open.
    pub after: Duration,
    /// How long the command may take.
    pub limit: Option<Duration>,
    /// When it is to be run, as uptime; while the start command runs, as if that had ended at once.
    pub due: Duration,
}

/// How far an opening has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its start command runs.
    Opening,
    /// Its time runs.
    Open,
    /// Its stop command runs.
    Closing,
}

#[derive(Debug)]
struct Running {
    door: Arc<str>,
    role: Role,
    /// When it is killed, as uptime.
    killed_at: Option<Duration>,
}

#[derive(Debug)]
enum Role {
    /// A start command, with what follows it.
    Opens(Stop),
    /// A command that nothing follows.
    JustRuns,
    /// The last command of all.
    IsLast,
    /// A stop command, with what it takes to run it again if it cannot be started, and whether it
    /// was.
    Closes(Stop, bool),
}

impl Running {
    fn take_stop(&mut self) -> Option<Stop> {
        match std::mem::replace(&mut self.role, Role::JustRuns) {
            Role::Opens(stop) => Some(stop),
            other => {
                self.role = other;
                None
            }
        }
    }
}

/// All openings that still have something to run.
#[derive(Debug, Default)]
pub struct Openings {
    /// Names given so far.
    names: u64,
    /// Commands that run.
    running: HashMap<JobId, Running>,
    /// Stops waiting for their time.
    waiting: HashMap<JobId, Stop>,
    /// When each of `waiting` is due.
    deadlines: BinaryHeap<Reverse<(Duration, JobId)>>,
    /// Counts what changed in [`Openings::standing`].
    changes: u64,
    /// Set by `finish`: no stop may come due later than this.
    last_call: Option<Duration>,
}

impl Openings {
    /// No door stands open.
    #[must_use]
    pub fn new() -> Openings {
        Openings::default()
    }

    /// A door opened for somebody.
    pub fn admit(&mut self, door: &Door, knocker: IpAddr, now: Now) -> Vec<Action> {
        let Some(start) = door.start_for(knocker) else { return Vec::new() };
        let Ok(start) = start.fill(knocker) else { return vec![Action::Tell(Event::StartTooLong)] };
        let Ok(stop) = door.stop_for(knocker).map(|stop| stop.fill(knocker)).transpose() else {
            return vec![Action::Tell(Event::StopTooLong)];
        };
        if door.reopen != Reopen::Run && self.is_open(&door.name, knocker) {
            return self.reopen(door, knocker, now);
        }
        let role = stop.map_or(Role::JustRuns, |command| {
            Role::Opens(Stop {
                door: door.name.clone(),
                knocker,
                command,
                after: door.cmd_timeout(),
                limit: door.command_timeout,
                due: now.uptime.saturating_add(door.cmd_timeout()),
            })
        });
        self.run((door.name.clone(), Some(knocker)), start, role, door.command_timeout, now)
    }

    /// Runs a command of the daemon itself. After the last one nothing is run any more.
    pub fn run_for_daemon(
        &mut self,
        command: Vec<u8>,
        is_last: bool,
        limit: Option<Duration>,
        now: Now,
    ) -> Vec<Action> {
        let role = if is_last { Role::IsLast } else { Role::JustRuns };
        self.run((Arc::from("options"), None), command, role, limit, now)
    }

    /// A door stands open since before this process began.
    pub fn resume(&mut self, mut stop: Stop) {
        stop.due = self.last_call.map_or(stop.due, |last| stop.due.min(last));
        self.names += 1;
        self.wait(JobId(self.names), stop);
    }

    /// The doors that stand open, each with what is to be remembered of it, in the order they opened.
    #[must_use]
    pub fn standing(&self) -> Vec<(Phase, &Stop)> {
        let running = self.running.iter().filter_map(|(id, running)| match &running.role {
            Role::Opens(stop) => Some((*id, Phase::Opening, stop)),
            // Not started is not closed.
            Role::Closes(stop, is_started) => {
                Some((*id, if *is_started { Phase::Closing } else { Phase::Open }, stop))
            }
            Role::JustRuns | Role::IsLast => None,
        });
        let waiting = self.waiting.iter().map(|(id, stop)| (*id, Phase::Open, stop));
        let mut standing: Vec<_> = running.chain(waiting).collect();
        standing.sort_unstable_by_key(|(id, ..)| *id);
        standing.into_iter().map(|(_, phase, stop)| (phase, stop)).collect()
    }

    /// A number that is another one whenever [`Openings::standing`] is.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether some start command runs whose door is to be closed.
    #[must_use]
    pub fn are_opening(&self) -> bool {
        self.running.values().any(|running| matches!(running.role, Role::Opens(_)))
    }

    /// Somebody else closes the doors whose time runs.
    pub fn hand_over(&mut self) {
        self.waiting.clear();
        self.deadlines.clear();
        self.changes += 1;
    }

    /// A command was started.
    pub fn started(&mut self, job: JobId) {
        if let Some(Running { role: Role::Closes(_, is_started), .. }) = self.running.get_mut(&job) {
            *is_started = true;
            self.changes += 1;
        }
    }

    /// A command ended. The time of a door that is to be closed begins now.
    pub fn ended(&mut self, job: JobId, ending: Ending, now: Now) -> Vec<Action> {
        let Some(mut running) = self.running.remove(&job) else { return Vec::new() };
        if matches!(running.role, Role::Opens(_) | Role::Closes(..)) {
            self.changes += 1;
        }
        match (running.take_stop(), running.role) {
            (Some(mut stop), _) => {
                let due = now.uptime.saturating_add(stop.after);
                stop.due = self.last_call.map_or(due, |last| due.min(last));
                self.wait(job, stop);
            }
            (None, Role::Closes(mut stop, _)) if ending == Ending::NotStarted => {
                stop.due = now.uptime.saturating_add(RETRY);
                self.wait(job, stop);
            }
            _ => {}
        }
        let door = running.door;
        match ending {
            Ending::Exited(0) | Ending::NotStarted => Vec::new(),
            Ending::Exited(code) => vec![Action::Tell(Event::Unsuccessful { door, code })],
            Ending::Killed(_) => vec![Action::Tell(Event::Unsuccessful { door, code: 0 })],
        }
    }

    /// What has come due.
    pub fn due(&mut self, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(&Reverse((due, job))) = self.deadlines.peek() {
            if due > now.uptime {
                break;
            }
            self.deadlines.pop();
            if let Some(stop) = self.waiting.remove(&job) {
                actions.extend(self.close(stop, now));
            }
        }
        if self.last_call.is_some_and(|last| last <= now.uptime) {
            // Start commands that still run get no more time: their doors may be open already.
            let mut late: Vec<(JobId, Stop)> = self
                .running
                .iter_mut()
                .filter_map(|(job, running)| Some((*job, running.take_stop()?)))
                .collect();
            late.sort_unstable_by_key(|(job, _)| *job);
            for (_, stop) in late {
                actions.extend(self.close(stop, now));
            }
        }
        for (job, running) in &mut self.running {
            if running.killed_at.is_some_and(|at| at <= now.uptime) {
                running.killed_at = None;
                actions.push(Action::Tell(Event::TooSlow { door: running.door.clone() }));
                actions.push(Action::Kill(*job));
            }
        }
        actions
    }

    /// When to call [`Openings::due`] next, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let stop = self.deadlines.peek().map(|Reverse((due, _))| *due);
        let late = self.last_call.filter(|_| self.are_opening());
        let killed = self.running.values().filter_map(|running| running.killed_at).min();
        stop.into_iter().chain(late).chain(killed).min()
    }

    /// The daemon ends: every door is to be closed no later than `last_call` (uptime).
    pub fn finish(&mut self, last_call: Duration) {
        let last_call = self.last_call.map_or(last_call, |earlier| earlier.min(last_call));
        self.last_call = Some(last_call);
        self.set_times(|stop| stop.due = stop.due.min(last_call));
    }

    /// Whether no door is open any more: every stop command was run, and has ended, and so has the
    /// last command. Start commands that nothing follows may still run.
    #[must_use]
    pub fn are_closed(&self) -> bool {
        self.waiting.is_empty() && self.running.values().all(|running| matches!(running.role, Role::JustRuns))
    }

    /// Whether no command runs either.
    #[must_use]
    pub fn are_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// The doors whose stop command was not started, each with whom it is open for, in words.
    #[must_use]
    pub fn open_doors(&self) -> Vec<String> {
        let standing = self.standing().into_iter().filter(|(phase, _)| !matches!(phase, Phase::Closing));
        standing.map(|(_, stop)| format!("{} for {}", stop.door, stop.knocker)).collect()
    }

    /// Whether this knocker has this door open, or is about to.
    fn is_open(&self, door: &Arc<str>, knocker: IpAddr) -> bool {
        let is_it = |stop: &Stop| stop.knocker == knocker && stop.door == *door;
        self.waiting.values().any(is_it)
            || self.running.values().any(|it| matches!(&it.role, Role::Opens(stop) if is_it(stop)))
    }

    /// A knock on a door that is open already, and that is not opened again.
    fn reopen(&mut self, door: &Door, knocker: IpAddr, now: Now) -> Vec<Action> {
        let is_extended = door.reopen == Reopen::Extend;
        if is_extended {
            let due = now.uptime.saturating_add(door.cmd_timeout());
            let due = self.last_call.map_or(due, |last| due.min(last));
            self.set_times(|stop| {
                if stop.knocker == knocker && stop.door == door.name {
                    (stop.due, stop.after) = (due, door.cmd_timeout());
                }
            });
        }
        vec![Action::Tell(Event::AlreadyOpen { door: door.name.clone(), knocker, is_extended })]
    }

    fn set_times(&mut self, mut set: impl FnMut(&mut Stop)) {
        self.waiting.values_mut().for_each(&mut set);
        self.deadlines = self.waiting.iter().map(|(job, stop)| Reverse((stop.due, *job))).collect();
        self.changes += 1;
    }

    fn wait(&mut self, job: JobId, stop: Stop) {
        self.deadlines.push(Reverse((stop.due, job)));
        self.waiting.insert(job, stop);
        self.changes += 1;
    }

    fn close(&mut self, stop: Stop, now: Now) -> Vec<Action> {
        let mut actions =
            vec![Action::Tell(Event::TimeIsUp { door: stop.door.clone(), knocker: stop.knocker })];
        let whose = (stop.door.clone(), Some(stop.knocker));
        let (command, limit) = (stop.command.clone(), stop.limit);
        actions.extend(self.run(whose, command, Role::Closes(stop, false), limit, now));
        actions
    }

    fn run(
        &mut self,
        (door, knocker): (Arc<str>, Option<IpAddr>),
        command: Vec<u8>,
        role: Role,
        limit: Option<Duration>,
        now: Now,
    ) -> Vec<Action> {
        let event = if matches!(role, Role::Closes(..)) { "stop" } else { "start" };
        let variables = knocker.map_or_else(Vec::new, |knocker| {
            vec![
                ("KNOCKD_IP", knocker.to_string()),
                ("KNOCKD_DOOR", door.to_string()),
                ("KNOCKD_FAMILY", if knocker.is_ipv4() { "4" } else { "6" }.to_owned()),
                ("KNOCKD_EVENT", event.to_owned()),
            ]
        });
        self.names += 1;
        let id = JobId(self.names);
        if matches!(role, Role::Opens(_)) {
            self.changes += 1;
        }
        let killed_at = limit.map(|limit| now.uptime.saturating_add(limit));
        self.running.insert(id, Running { door: door.clone(), role, killed_at });
        vec![
            Action::Tell(Event::Running { door: door.clone(), command: command.clone() }),
            Action::Run(Job { id, door, command, variables }),
        ]
    }
}
