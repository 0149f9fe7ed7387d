//! The open doors: which command to run now, and which later.
//!
//! Pure: the caller reports what happened and what time it is, and gets [`Action`]s to carry out in order. An
//! opening is kept until its stop command has ended.

pub mod admissions;
pub mod entry;
pub mod event;
pub mod job;
pub mod journal;
pub mod log_limit;
pub mod rate;
pub mod record;
mod running;
pub mod standing;
pub mod starts;
pub mod state;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;

use crate::door::sequence::Stage;
use crate::door::spa::request::Request;
use crate::door::{Door, Reopen};
use crate::opening::event::Event;
use crate::opening::job::variables;
pub use crate::opening::job::{Action, Ending, Job, JobId};
use crate::opening::running::{Planned, Role, Running};
pub use crate::opening::standing::{Access, Change, Key, Phase, Process, Stop};
use crate::opening::starts::Starts;
use crate::sorted;
use crate::time::Now;

/// How long to wait before a stop command that could not be started, say for want of memory, is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// The same while the daemon ends.
const LAST_RETRY: Duration = Duration::from_millis(200);

/// SIGHUP, SIGINT and SIGTERM, which service managers and terminals send to a whole group of processes.
const SENT_TO_GROUPS: [i32; 3] = [1, 2, 15];
/// How long to wait before a command that such a signal ended is run again, so that the sender is done.
const AFTER_SIGNAL: Duration = Duration::from_millis(200);

/// When doors are closed while the daemon ends.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Stops that are due by then (uptime) keep their time; all others are due at once.
    soon: Duration,
    /// When doors are closed whose start command still runs, as uptime.
    late: Duration,
}

/// The openings, from the knock to the end of the stop command.
#[derive(Clone, Debug, Default)]
pub struct Openings {
    /// The `origin` of new keys.
    origin: u64,
    /// The number of the last job, and of the last key.
    names: u64,
    /// Commands that run, or are about to.
    running: LiteMap<JobId, Running>,
    /// Stops waiting for their time.
    waiting: LiteMap<JobId, Box<Stop>>,
    /// When each of `waiting` is due.
    deadlines: BinaryHeap<Reverse<(Duration, JobId)>>,
    /// How many start commands run, and which wait.
    starts: Starts<Planned>,
    /// Changes of [`Openings::standing`] that [`Openings::take_changes`] has not returned yet.
    changes: Vec<Change>,
    /// Set by `finish`.
    end: Option<End>,
    /// Openings whose stop command was run again because a signal to a group ended it.
    run_again: Vec<Key>,
    /// The last command if it is to be run again, and when, as uptime.
    last: Last,
}

/// What became of the last command.
#[derive(Clone, Debug, Default)]
enum Last {
    /// It was not ended by a signal to a group.
    #[default]
    Once,
    /// It was, and runs again at that time.
    Again(Duration, Vec<u8>, Option<Duration>),
    /// It was run again.
    Twice,
}

impl Openings {
    /// No door stands open. `origin` is a random number: no other process may give the same keys.
    #[must_use]
    pub fn new(origin: u64) -> Openings {
        Openings { origin, ..Openings::default() }
    }

    /// So many start commands of all doors may run at once from now on; 0 is no limit.
    pub fn limit_starts(&mut self, most: u16) {
        self.starts.limit(most);
    }

    /// Whether there is room for an opening of this door for this knocker: its start commands, as many as ports
    /// were asked for, can run at once or wait. Otherwise the door is not to be opened.
    #[must_use]
    pub fn have_room_for(&self, door: &Door, knocker: IpAddr, ports: &[Stage]) -> bool {
        if door.start_for(knocker).is_none() {
            return true;
        }
        let is_new = |port| door.reopen == Reopen::Run || !self.is_open(&door.name, knocker, port);
        let number = match ports {
            [] => usize::from(is_new(None)),
            ports => ports.iter().filter(|port| is_new(Some(**port))).count(),
        };
        self.starts.take(&door.name, door.max_commands(), number)
    }

    /// A door opened for somebody. Where it has too many start commands running, this one waits.
    pub fn admit(&mut self, door: &Door, knocker: IpAddr, now: Now) -> Vec<Action> {
        self.admit_to(door, knocker, None, now)
    }

    /// A door opened for what a single packet asked for: once for each port.
    pub fn grant(&mut self, door: &Door, request: &Request, now: Now) -> Vec<Action> {
        let seconds = request.seconds.unwrap_or_else(|| door.cmd_timeout_seconds());
        let mut actions = Vec::new();
        for &port in &request.ports {
            let access = Access { user: request.user.clone(), port, seconds };
            actions.extend(self.admit_to(door, request.address, Some(Box::new(access)), now));
        }
        actions
    }

    /// A door opened for somebody at another member of the fleet, for as long as is left of that: for the port that a
    /// single packet asked for, if one did. Where it is open here already, it closes no earlier than there, and no command
    /// is run again.
    pub fn follow(
        &mut self,
        door: &Door,
        knocker: IpAddr,
        asked: Option<(String, Stage)>,
        left: Duration,
        now: Now,
    ) -> Vec<Action> {
        let port = asked.as_ref().map(|(_, port)| *port);
        if self.is_open(&door.name, knocker, port) {
            let due = self.due_at(now.uptime.saturating_add(left), now);
            self.set_times(
                |stop| stop.is_of(&door.name, knocker, port) && stop.due < due,
                |stop| (stop.due, stop.after) = (due, left),
            );
            return Vec::new();
        }
        let seconds = u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        let access = asked.map(|(user, port)| Box::new(Access { user, port, seconds }));
        self.open_for((door, knocker), access, left, now)
    }

    fn admit_to(
        &mut self,
        door: &Door,
        knocker: IpAddr,
        access: Option<Box<Access>>,
        now: Now,
    ) -> Vec<Action> {
        let asked_for = access.as_ref().map(|access| Duration::from_secs(access.seconds.into()));
        let after = asked_for.unwrap_or_else(|| door.cmd_timeout());
        self.open_for((door, knocker), access, after, now)
    }

    fn open_for(
        &mut self,
        (door, knocker): (&Door, IpAddr),
        access: Option<Box<Access>>,
        after: Duration,
        now: Now,
    ) -> Vec<Action> {
        let Some(start) = door.start_for(knocker) else { return Vec::new() };
        let Ok(start) = start.fill(knocker) else { return vec![Action::Tell(Event::StartTooLong)] };
        let Ok(stop) = door.stop_for(knocker).map(|stop| stop.fill(knocker)).transpose() else {
            return vec![Action::Tell(Event::StopTooLong)];
        };
        let port = access.as_ref().map(|access| access.port);
        if door.reopen != Reopen::Run && self.is_open(&door.name, knocker, port) {
            return self.reopen(door, knocker, port, after, now);
        }
        let variables = variables(&door.name, knocker, access.as_deref());
        let id = self.name();
        let role = stop.map_or(Role::JustRuns, |command| {
            Role::Opens(Stop {
                key: Key { origin: self.origin, number: id.0 },
                door: door.name.clone(),
                knocker,
                access,
                command,
                after,
                limit: door.command_timeout,
                due: now.uptime.saturating_add(after),
            })
        });
        let (name, limit) = (door.name.clone(), door.command_timeout);
        let planned =
            Planned { id, door: name.clone(), variables, command: start, role, limit, is_start: true };
        match self.starts.offer(&name, door.max_commands(), planned) {
            Some(planned) => self.run(planned, now),
            None => vec![Action::Tell(Event::Waits { door: name, knocker })],
        }
    }

    /// Runs what waited and may run now.
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

    fn name(&mut self) -> JobId {
        self.names += 1;
        JobId(self.names)
    }

    /// Runs a command of the daemon itself. After the last one nothing is run any more.
    pub fn run_for_daemon(
        &mut self,
        command: Vec<u8>,
        is_last: bool,
        limit: Option<Duration>,
        now: Now,
    ) -> Vec<Action> {
        let role = if is_last { Role::IsLast(command.clone(), limit) } else { Role::JustRuns };
        let (id, door) = (self.name(), Arc::from("options"));
        let planned = Planned { id, door, variables: Vec::new(), command, role, limit, is_start: false };
        self.run(planned, now)
    }

    /// A door stands open since before this process began. If its command still runs, it is a job from now
    /// on: the caller has to watch that process, and to say when it is gone.
    pub fn resume(&mut self, phase: Phase, mut stop: Stop, now: Now) -> Option<(JobId, Process)> {
        if stop.key.origin == self.origin {
            // The process that gave this key drew the same number as we did: its keys must not be given again.
            self.names = self.names.max(stop.key.number);
        }
        let job = self.name();
        let (role, process) = match phase {
            Phase::Opening(Some(process)) => (Role::Opens(stop), process),
            Phase::Closing(Some(process)) => (Role::Closes(stop), process),
            Phase::Opening(None) | Phase::Open | Phase::Closing(None) => {
                stop.due = self.due_at(stop.due, now);
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

    /// The doors that stand open, each with what is to be remembered of it, in the order they opened.
    #[must_use]
    pub fn standing(&self) -> Vec<(Phase, &Stop)> {
        let running = self.running.iter().filter_map(|(id, running)| Some((*id, running.standing()?)));
        let waiting = self.waiting.iter().map(|(id, stop)| (*id, (Phase::Open, &**stop)));
        let mut standing: Vec<_> = running.chain(waiting).collect();
        standing.sort_unstable_by_key(|(id, _)| *id);
        standing.into_iter().map(|(_, standing)| standing).collect()
    }

    /// What changed in [`Openings::standing`] since this was asked last, in that order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Whether [`Openings::take_changes`] would tell something.
    #[must_use]
    pub fn have_changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Whether some start command runs whose door is to be closed.
    #[must_use]
    pub fn are_opening(&self) -> bool {
        self.running.values().any(|running| matches!(running.role, Role::Opens(_)))
    }

    /// A command was started, as this process if that is known.
    pub fn started(&mut self, job: JobId, process: Option<Process>) {
        let Some(running) = self.running.get_mut(&job) else { return };
        (running.is_started, running.process) = (true, process);
        self.changes.extend(running.standing().map(|(phase, stop)| Change::Stands(phase, stop.clone())));
    }

    /// A command ended. The time of a door that is to be closed begins now.
    pub fn ended(&mut self, job: JobId, ending: Ending, now: Now) -> Vec<Action> {
        let Some(Running { door, role, killed_at, is_start, .. }) = self.running.remove(&job) else {
            return Vec::new();
        };
        if is_start {
            self.starts.ended(&door);
        }
        // A service manager that ends us signals each process of our group until it sees no new one, so that it
        // also hits commands that we start at the first signal.
        let is_bystander = self.end.is_some()
            && matches!(ending, Ending::Killed(signal) if SENT_TO_GROUPS.contains(&signal))
            && killed_at.is_none_or(|at| at > now.uptime);
        match (role, ending) {
            // Nothing was opened.
            (Role::Opens(stop), Ending::NotStarted) => self.changes.push(Change::Closed(stop.key)),
            (Role::Opens(mut stop), _) => {
                let due = now.uptime.saturating_add(stop.after);
                stop.due = self.due_at(due, now);
                self.wait(job, stop);
            }
            (Role::Closes(mut stop), Ending::NotStarted) => {
                let retry = if self.end.is_some() { LAST_RETRY } else { RETRY };
                stop.due = now.uptime.saturating_add(retry);
                self.wait(job, stop);
            }
            (Role::Closes(mut stop), _) if is_bystander && sorted::insert(&mut self.run_again, stop.key) => {
                stop.due = now.uptime.saturating_add(AFTER_SIGNAL);
                self.wait(job, stop);
            }
            (Role::Closes(stop), _) => self.changes.push(Change::Closed(stop.key)),
            (Role::IsLast(command, limit), _) if is_bystander && matches!(self.last, Last::Once) => {
                self.last = Last::Again(now.uptime.saturating_add(AFTER_SIGNAL), command, limit);
            }
            (Role::JustRuns | Role::IsLast(..), _) => {}
        }
        let mut actions = match ending {
            Ending::Exited(0) | Ending::NotStarted | Ending::Unseen => Vec::new(),
            Ending::Exited(code) => vec![Action::Tell(Event::Unsuccessful { door, code })],
            Ending::Killed(_) => vec![Action::Tell(Event::Unsuccessful { door, code: 0 })],
        };
        actions.extend(self.run_waiting(now));
        actions
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
                actions.extend(self.close(*stop, now));
            }
        }
        if matches!(self.last, Last::Again(due, ..) if due <= now.uptime)
            && let Last::Again(_, command, limit) = std::mem::replace(&mut self.last, Last::Twice)
        {
            actions.extend(self.run_for_daemon(command, true, limit, now));
        }
        if self.end.is_some_and(|end| end.late <= now.uptime) {
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
        let stop = self.deadlines.peek().map(|Reverse((due, _))| *due);
        let late = self.end.filter(|_| self.are_opening()).map(|end| end.late);
        let killed = self.running.values().filter_map(|running| running.killed_at).min();
        let last = if let Last::Again(due, ..) = &self.last { Some(*due) } else { None };
        stop.into_iter().chain(late).chain(killed).chain(last).min()
    }

    /// The daemon ends. Doors whose time is over within `grace` keep that time, all others are closed at once; those
    /// whose start command still runs, when it has ended, but after `patience` at the latest. Openings that wait are
    /// dropped: how many of which doors.
    pub fn finish(&mut self, grace: Duration, patience: Duration, now: Now) -> Vec<(Arc<str>, u64)> {
        let (soon, late) = (now.uptime.saturating_add(grace), now.uptime.saturating_add(patience));
        let end = self.end.map_or(End { soon, late }, |earlier| End {
            soon: earlier.soon.min(soon),
            late: earlier.late.min(late),
        });
        self.end = Some(end);
        self.set_times(|stop| stop.due > end.soon, |stop| stop.due = now.uptime);
        self.starts.close()
    }

    /// When a door is to be closed whose time ends at `due`.
    fn due_at(&self, due: Duration, now: Now) -> Duration {
        if self.end.is_some_and(|end| due > end.soon) { now.uptime } else { due }
    }

    /// How many commands run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether some command runs that closes a door, or that a door is closed after, or the last one.
    #[must_use]
    pub fn are_busy(&self) -> bool {
        matches!(self.last, Last::Again(..))
            || self.running.values().any(|running| !matches!(running.role, Role::JustRuns))
    }

    /// Whether no door is open any more: every stop command was run, and has ended, and so has the
    /// last command. Start commands that nothing follows may still run.
    #[must_use]
    pub fn are_closed(&self) -> bool {
        let is_done = |running: &Running| matches!(running.role, Role::JustRuns);
        self.waiting.is_empty() && !matches!(self.last, Last::Again(..)) && self.running.values().all(is_done)
    }

    /// Whether no command runs either.
    #[must_use]
    pub fn are_idle(&self) -> bool {
        self.are_closed() && self.running.is_empty()
    }

    /// The doors whose stop command was not started, each with whom it is open for, in words.
    #[must_use]
    pub fn open_doors(&self) -> Vec<String> {
        let standing = self.standing().into_iter().filter(|(phase, _)| !matches!(phase, Phase::Closing(_)));
        standing.map(|(_, stop)| format!("{} for {}", stop.door, stop.knocker)).collect()
    }

    /// Whether this knocker has this door open, or is about to, for this port if it was asked for one.
    fn is_open(&self, door: &Arc<str>, knocker: IpAddr, port: Option<Stage>) -> bool {
        self.end_of(door, knocker, port).is_some()
    }

    /// When a door that is open for this knocker closes, as uptime: for this port if it was asked for one.
    #[must_use]
    pub fn end_of(&self, door: &Arc<str>, knocker: IpAddr, port: Option<Stage>) -> Option<Duration> {
        let running = self.running.values().filter_map(|it| match &it.role {
            Role::Opens(stop) => Some(stop),
            _ => None,
        });
        let queued = self.starts.waiting().filter_map(|it| match &it.role {
            Role::Opens(stop) => Some(stop),
            _ => None,
        });
        let waiting = self.waiting.values().map(|stop| &**stop);
        let its = waiting.chain(running).chain(queued).filter(|stop| stop.is_of(door, knocker, port));
        its.map(|stop| stop.due).max()
    }

    /// A knock on a door that is open already, and that is not opened again.
    fn reopen(
        &mut self,
        door: &Door,
        knocker: IpAddr,
        port: Option<Stage>,
        after: Duration,
        now: Now,
    ) -> Vec<Action> {
        let is_extended = door.reopen == Reopen::Extend;
        if is_extended {
            let due = self.due_at(now.uptime.saturating_add(after), now);
            self.set_times(
                |stop| stop.is_of(&door.name, knocker, port),
                |stop| (stop.due, stop.after) = (due, after),
            );
        }
        vec![Action::Tell(Event::AlreadyOpen { door: door.name.clone(), knocker, is_extended })]
    }

    fn set_times(&mut self, applies: impl Fn(&Stop) -> bool, set: impl Fn(&mut Stop)) {
        for (_, stop) in self.waiting.iter_mut().filter(|(_, stop)| applies(stop)) {
            let before = (stop.due, stop.after);
            set(stop);
            if before != (stop.due, stop.after) {
                self.changes.push(Change::Stands(Phase::Open, (**stop).clone()));
            }
        }
        self.deadlines = self.waiting.iter().map(|(job, stop)| Reverse((stop.due, *job))).collect();
    }

    fn wait(&mut self, job: JobId, stop: Stop) {
        self.deadlines.push(Reverse((stop.due, job)));
        self.changes.push(Change::Stands(Phase::Open, stop.clone()));
        self.waiting.insert(job, Box::new(stop));
    }

    fn close(&mut self, stop: Stop, now: Now) -> Vec<Action> {
        let mut actions =
            vec![Action::Tell(Event::TimeIsUp { door: stop.door.clone(), knocker: stop.knocker })];
        let planned = Planned {
            id: self.name(),
            door: stop.door.clone(),
            variables: variables(&stop.door, stop.knocker, stop.access.as_deref()),
            command: stop.command.clone(),
            limit: stop.limit,
            role: Role::Closes(stop),
            is_start: false,
        };
        actions.extend(self.run(planned, now));
        actions
    }

    fn run(&mut self, planned: Planned, now: Now) -> Vec<Action> {
        let Planned { id, door, mut variables, command, role, limit, is_start } = planned;
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
