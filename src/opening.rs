//! Doors that stand open: what to run now, and what to run later.
//!
//! Pure: it is told what happened and what time it is, and answers with [`Action`]s in the order in
//! which they are to be taken. It never forgets an opening before its stop command was handed out.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::door::Door;
use crate::event::Event;
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
}

/// Something the doorkeeper is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write this to the log.
    Tell(Event),
    /// Run this command, and say when it ended.
    Run(Job),
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

#[derive(Debug)]
struct Stop {
    door: Arc<str>,
    knocker: IpAddr,
    command: Vec<u8>,
    after: Duration,
}

#[derive(Debug)]
struct Running {
    door: Arc<str>,
    role: Role,
}

#[derive(Debug)]
enum Role {
    /// A start command, with what follows it.
    Opens(Stop),
    /// A start command that nothing follows.
    JustRuns,
    /// A stop command, with what it takes to run it again if it cannot be started.
    Closes(Stop),
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
    pub fn admit(&mut self, door: &Door, knocker: IpAddr) -> Vec<Action> {
        let Some(start) = door.start_for(knocker) else { return Vec::new() };
        let stop = match door.stop_for(knocker).map(|stop| stop.fill(knocker)) {
            None => None,
            Some(Ok(command)) => {
                Some(Stop { door: door.name.clone(), knocker, command, after: door.cmd_timeout() })
            }
            Some(Err(_)) => return vec![Action::Tell(Event::StopTooLong)],
        };
        match start.fill(knocker) {
            Ok(command) => self.run(door.name.clone(), command, stop.map_or(Role::JustRuns, Role::Opens)),
            Err(_) => vec![Action::Tell(Event::StartTooLong)],
        }
    }

    /// A command ended. The time of a door that is to be closed begins now.
    pub fn ended(&mut self, job: JobId, ending: Ending, now: Now) -> Vec<Action> {
        let Some(mut running) = self.running.remove(&job) else { return Vec::new() };
        let next = match (running.take_stop(), running.role) {
            (Some(stop), _) => {
                let due = now.uptime.saturating_add(stop.after);
                Some((self.last_call.map_or(due, |last| due.min(last)), stop))
            }
            (None, Role::Closes(stop)) if ending == Ending::NotStarted => {
                Some((now.uptime.saturating_add(RETRY), stop))
            }
            _ => None,
        };
        if let Some((due, stop)) = next {
            self.deadlines.push(Reverse((due, job)));
            self.waiting.insert(job, stop);
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
                actions.extend(self.close(stop));
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
                actions.extend(self.close(stop));
            }
        }
        actions
    }

    /// When to call [`Openings::due`] next, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let stop = self.deadlines.peek().map(|Reverse((due, _))| *due);
        let late = self
            .last_call
            .filter(|_| self.running.values().any(|running| matches!(running.role, Role::Opens(_))));
        stop.into_iter().chain(late).min()
    }

    /// The daemon ends: every door is to be closed no later than `last_call` (uptime).
    pub fn finish(&mut self, last_call: Duration) {
        let last_call = self.last_call.map_or(last_call, |earlier| earlier.min(last_call));
        self.last_call = Some(last_call);
        self.deadlines =
            self.deadlines.drain().map(|Reverse((due, job))| Reverse((due.min(last_call), job))).collect();
    }

    /// Whether no door is open any more: every stop command was run, and has ended. Start commands
    /// that nothing follows may still run.
    #[must_use]
    pub fn are_closed(&self) -> bool {
        self.waiting.is_empty() && self.running.values().all(|running| matches!(running.role, Role::JustRuns))
    }

    fn close(&mut self, stop: Stop) -> Vec<Action> {
        let mut actions =
            vec![Action::Tell(Event::TimeIsUp { door: stop.door.clone(), knocker: stop.knocker })];
        actions.extend(self.run(stop.door.clone(), stop.command.clone(), Role::Closes(stop)));
        actions
    }

    fn run(&mut self, door: Arc<str>, command: Vec<u8>, role: Role) -> Vec<Action> {
        self.names += 1;
        let id = JobId(self.names);
        self.running.insert(id, Running { door: door.clone(), role });
        vec![
            Action::Tell(Event::Running { door: door.clone(), command: command.clone() }),
            Action::Run(Job { id, door, command }),
        ]
    }
}
