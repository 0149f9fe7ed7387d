//! The open doors: which command to run now, and which later.
//!
//! Pure: the caller reports what happened and what time it is, and gets [`Action`]s to carry out in order. An
//! opening is kept until its stop command has ended.

pub mod admission_id;
pub mod admissions;
pub mod admit;
pub mod entry;
pub mod event;
pub mod job;
pub mod journal;
pub mod line;
pub mod log_limit;
pub mod rate;
pub mod record;
mod running;
mod shutdown;
pub mod standing;
pub mod starts;
pub mod state;
pub mod text;
mod timetable;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;

use crate::door::Door;
use crate::door::sequence::Stage;
use crate::opening::event::Event;
use crate::opening::job::variables;
pub use crate::opening::job::{Action, Ending, Job, JobId};
use crate::opening::running::{Planned, Role, Running};
use crate::opening::shutdown::Shutdown;
pub use crate::opening::standing::{Access, Change, Key, Phase, Process, Stop};
use crate::opening::starts::Starts;
use crate::opening::timetable::Timetable;
use crate::time::Now;

/// The openings, from the knock to the end of the stop command.
#[derive(Clone, Debug, Default)]
pub struct Openings {
    /// The `origin` of new keys.
    origin: u64,
    /// The number of the latest job or key.
    last_number: u64,
    /// Commands that run, or are about to.
    running: LiteMap<JobId, Running>,
    /// Stops waiting for their time.
    waiting: Timetable,
    /// Counts the start commands that run, and queues those that wait.
    starts: Starts<Planned>,
    /// Changes of [`Openings::standing`] that [`Openings::take_changes`] has not returned yet.
    changes: Vec<Change>,
    /// Begun by `finish`.
    shutdown: Shutdown,
}

impl Openings {
    /// No open doors. `origin` is a random number: no other process may give the same keys.
    #[must_use]
    pub fn new(origin: u64) -> Openings {
        Openings { origin, ..Openings::default() }
    }

    /// Adopts the doors of a configuration, and `most`, how many of their start commands may run at once (0
    /// is no limit). Drops waiting openings that none of these doors allows, and runs others if the limits
    /// were raised. Returns the doors with the number of openings dropped at each, and the actions.
    pub fn adopt(&mut self, doors: &[Door], most: u16, now: Now) -> (Vec<(Arc<str>, u64)>, Vec<Action>) {
        let with_command = doors.iter().filter(|door| door.can_start_command());
        self.starts.limit(most, with_command.map(|door| door.name.clone()));
        let dropped = self.starts.retain(|name, planned| {
            // Of sections with the same name, any may be the one that was knocked at.
            let mut named = doors.iter().filter(|door| *door.name == *name);
            let allows = |door: &&Door| {
                planned.knocker.is_none_or(|it| door.rules.admit(it) && door.start_for(it).is_some())
            };
            named.find(allows).map(Door::max_commands)
        });
        (dropped, self.run_waiting(now))
    }

    /// Runs the waiting start commands that may run now.
    fn run_waiting(&mut self, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(mut planned) = self.starts.start_next() {
            if let Role::Opens(stop) = &mut planned.role {
                stop.due = now.uptime.saturating_add(stop.after);
            }
            actions.extend(self.run(planned, now));
        }
        actions
    }

    fn next_id(&mut self) -> JobId {
        self.last_number += 1;
        JobId(self.last_number)
    }

    /// Runs a command of the daemon itself (`On_Start`, `On_Stop`). After the last one, no command is run.
    pub fn run_for_daemon(
        &mut self,
        command: Vec<u8>,
        is_last: bool,
        limit: Option<Duration>,
        now: Now,
    ) -> Vec<Action> {
        let role = if is_last { Role::IsLast(command.clone(), limit) } else { Role::WithoutStop };
        let (id, door) = (self.next_id(), Arc::from("options"));
        let planned = Planned { id, door, variables: Vec::new(), command, role, limit, knocker: None };
        self.run(planned, now)
    }

    /// Resumes an opening from before this process began. If its command still runs, returns a job for it:
    /// the caller must watch that process, and report its end.
    pub fn resume(&mut self, phase: Phase, mut stop: Stop, now: Now) -> Option<(JobId, Process)> {
        if stop.key.origin == self.origin {
            // The process that gave this key drew the same number as we did: do not give its keys again.
            self.last_number = self.last_number.max(stop.key.number);
        }
        let job = self.next_id();
        let (role, process) = match phase {
            Phase::Opening(Some(process)) => (Role::Opens(stop), process),
            Phase::Closing(Some(process)) => (Role::Closes(stop), process),
            Phase::Opening(None) | Phase::Open | Phase::Closing(None) => {
                stop.due = self.shutdown.due_at(stop.due, now);
                self.wait(job, stop);
                return None;
            }
        };
        let is_start = matches!(role, Role::Opens(_));
        let (Role::Opens(stop) | Role::Closes(stop)) = &role else { return None };
        if is_start {
            self.starts.count(&stop.door);
        }
        let running = Running {
            is_start,
            door: stop.door.clone(),
            killed_at: stop.limit.map(|limit| now.uptime.saturating_add(limit)),
            role,
            is_started: true,
            process: Some(process),
        };
        self.changes.extend(running.standing().map(|(phase, stop)| Change::Stands(phase, stop.clone())));
        self.running.insert(job, running);
        Some((job, process))
    }

    /// The open doors, each with its phase and its stop, in the order in which they opened.
    #[must_use]
    pub fn standing(&self) -> Vec<(Phase, &Stop)> {
        let running = self.running.iter().filter_map(|(id, running)| Some((*id, running.standing()?)));
        let waiting = self.waiting.iter().map(|(id, stop)| (id, (Phase::Open, stop)));
        let mut standing: Vec<_> = running.chain(waiting).collect();
        standing.sort_unstable_by_key(|(id, _)| *id);
        standing.into_iter().map(|(_, standing)| standing).collect()
    }

    /// The changes of [`Openings::standing`] since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Whether [`Openings::take_changes`] would return any.
    #[must_use]
    pub fn have_changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Whether a start command runs whose door must be closed later.
    #[must_use]
    pub fn are_opening(&self) -> bool {
        self.running.values().any(|running| matches!(running.role, Role::Opens(_)))
    }

    /// Records that a command was started; `process` is `None` if it is not known.
    pub fn started(&mut self, job: JobId, process: Option<Process>) {
        let Some(running) = self.running.get_mut(&job) else { return };
        (running.is_started, running.process) = (true, process);
        self.changes.extend(running.standing().map(|(phase, stop)| Change::Stands(phase, stop.clone())));
    }

    /// Records the end of a command. The time of a door with a stop command begins when its start command
    /// ends.
    pub fn ended(&mut self, job: JobId, ending: Ending, now: Now) -> Vec<Action> {
        let Some(Running { door, role, killed_at, is_start, .. }) = self.running.remove(&job) else {
            return Vec::new();
        };
        if is_start {
            self.starts.ended(&door);
        }
        let was_hit_by_group_signal = self.shutdown.was_hit_by_group_signal(ending, killed_at, now);
        match (role, ending) {
            // Nothing was opened.
            (Role::Opens(stop), Ending::NotStarted) => self.changes.push(Change::Closed(stop.key)),
            (Role::Opens(mut stop), _) => {
                let due = now.uptime.saturating_add(stop.after);
                stop.due = self.shutdown.due_at(due, now);
                self.wait(job, stop);
            }
            (Role::Closes(mut stop), Ending::NotStarted) => {
                stop.due = now.uptime.saturating_add(self.shutdown.retry_after());
                self.wait(job, stop);
            }
            (Role::Closes(mut stop), _) => {
                let again =
                    if was_hit_by_group_signal { self.shutdown.run_again(stop.key, now) } else { None };
                match again {
                    Some(due) => {
                        stop.due = due;
                        self.wait(job, stop);
                    }
                    None => self.changes.push(Change::Closed(stop.key)),
                }
            }
            (Role::IsLast(command, limit), _) if was_hit_by_group_signal => {
                self.shutdown.run_last_again((command, limit), now);
            }
            (Role::WithoutStop | Role::IsLast(..), _) => {}
        }
        let mut actions = match ending {
            Ending::Exited(0) | Ending::NotStarted | Ending::Unseen => Vec::new(),
            Ending::Exited(code) => vec![Action::Tell(Event::Unsuccessful { door, code })],
            Ending::Killed(_) => vec![Action::Tell(Event::Unsuccessful { door, code: 0 })],
        };
        actions.extend(self.run_waiting(now));
        actions
    }

    /// The actions that have come due.
    pub fn due(&mut self, now: Now) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(stop) = self.waiting.take_due(now.uptime) {
            actions.extend(self.close(stop, now));
        }
        if let Some((command, limit)) = self.shutdown.take_rerun(now) {
            actions.extend(self.run_for_daemon(command, true, limit, now));
        }
        if self.shutdown.late().is_some_and(|late| late <= now.uptime) {
            // Start commands that still run get no more time: their doors may be open already.
            let late: Vec<Stop> =
                self.running.iter_mut().filter_map(|(_, running)| running.take_stop()).collect();
            for stop in late {
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
        let stop = self.waiting.next_deadline();
        let late = self.shutdown.late().filter(|_| self.are_opening());
        let killed = self.running.values().filter_map(|running| running.killed_at).min();
        stop.into_iter().chain(late).chain(killed).chain(self.shutdown.rerun_due()).min()
    }

    /// Begins the shutdown. Doors whose time is over within `grace` keep that time; all others are closed at
    /// once or, if their start command still runs, when it has ended, but after `patience` at the latest.
    /// Drops the waiting openings; returns their doors, with the number dropped at each.
    pub fn finish(&mut self, grace: Duration, patience: Duration, now: Now) -> Vec<(Arc<str>, u64)> {
        self.shutdown.begin(grace, patience, now);
        let shutdown = self.shutdown.clone();
        self.set_times(|_| true, |stop| stop.due = shutdown.due_at(stop.due, now));
        self.starts.close()
    }

    /// How many commands run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether a stop command, a start command whose door must be closed, or the last command runs or is
    /// about to run again.
    #[must_use]
    pub fn are_busy(&self) -> bool {
        self.shutdown.rerun_due().is_some()
            || self.running.values().any(|running| !matches!(running.role, Role::WithoutStop))
    }

    /// Whether no door is open: every stop command, and the last command, was run and has ended. Start
    /// commands without a stop may still run.
    #[must_use]
    pub fn are_closed(&self) -> bool {
        let is_done = |running: &Running| matches!(running.role, Role::WithoutStop);
        self.waiting.is_empty() && self.shutdown.rerun_due().is_none() && self.running.values().all(is_done)
    }

    /// Whether no door is open and no command runs.
    #[must_use]
    pub fn are_idle(&self) -> bool {
        self.are_closed() && self.running.is_empty()
    }

    /// The doors whose stop command was not started, as `DOOR for KNOCKER`.
    #[must_use]
    pub fn open_doors(&self) -> Vec<String> {
        let standing = self.standing().into_iter().filter(|(phase, _)| !matches!(phase, Phase::Closing(_)));
        standing.map(|(_, stop)| format!("{} for {}", stop.door, stop.knocker)).collect()
    }

    /// When a door that is open for this knocker closes, as uptime. `port` is the port that a single packet
    /// asked for, if one did.
    #[must_use]
    pub fn end_of(&self, door: &Arc<str>, knocker: IpAddr, port: Option<Stage>) -> Option<Duration> {
        let mut end = None;
        let mut look = |stop: &Stop| {
            if stop.is_of(door, knocker, port) {
                end = end.max(Some(stop.due));
            }
        };
        let running = self.running.values().map(|it| &it.role);
        let queued = self.starts.waiting().map(|it| &it.role);
        for role in running.chain(queued) {
            if let Role::Opens(stop) = role {
                look(stop);
            }
        }
        self.waiting.iter().for_each(|(_, stop)| look(stop));
        end
    }

    fn set_times(&mut self, applies: impl Fn(&Stop) -> bool, set: impl Fn(&mut Stop)) {
        let changed = self.waiting.set_times(applies, set);
        self.changes.extend(changed.into_iter().map(|stop| Change::Stands(Phase::Open, stop)));
    }

    fn wait(&mut self, job: JobId, stop: Stop) {
        self.changes.push(Change::Stands(Phase::Open, stop.clone()));
        self.waiting.insert(job, stop);
    }

    fn close(&mut self, stop: Stop, now: Now) -> Vec<Action> {
        let mut actions =
            vec![Action::Tell(Event::TimeIsUp { door: stop.door.clone(), knocker: stop.knocker })];
        let planned = Planned {
            id: self.next_id(),
            door: stop.door.clone(),
            variables: variables(&stop.door, stop.knocker, stop.access.as_deref()),
            command: stop.command.clone(),
            limit: stop.limit,
            role: Role::Closes(stop),
            knocker: None,
        };
        actions.extend(self.run(planned, now));
        actions
    }

    fn run(&mut self, planned: Planned, now: Now) -> Vec<Action> {
        let Planned { id, door, mut variables, command, role, limit, knocker } = planned;
        let is_start = knocker.is_some();
        let event = if matches!(role, Role::Closes(_)) { "stop" } else { "start" };
        if !variables.is_empty() {
            variables.push(("KNOCKD_EVENT", event.to_owned()));
        }
        if let Role::Opens(stop) = &role {
            self.changes.push(Change::Stands(Phase::Opening(None), stop.clone()));
        }
        let killed_at = limit.map(|limit| now.uptime.saturating_add(limit));
        let running =
            Running { door: door.clone(), role, is_started: false, process: None, killed_at, is_start };
        self.running.insert(id, running);
        vec![
            Action::Tell(Event::Running { door: door.clone(), command: command.clone() }),
            Action::Run(Job { id, door, command, variables }),
        ]
    }
}
