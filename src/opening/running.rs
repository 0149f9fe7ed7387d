//! Commands that run, and what their end means for the door.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::opening::job::JobId;
use crate::opening::standing::{Phase, Process, Stop};

/// A command that runs, or is about to.
#[derive(Clone, Debug)]
pub(super) struct Running {
    /// The door's name.
    pub(super) door: Arc<str>,
    /// Its purpose.
    pub(super) role: Role,
    /// Its process was started.
    pub(super) is_started: bool,
    /// Its process, if known.
    pub(super) process: Option<Process>,
    /// When it has run too long and is killed, as uptime.
    pub(super) killed_at: Option<Duration>,
    /// It is a start command of a door: it counts, and others wait for its end.
    pub(super) is_start: bool,
}

/// A command that is to be run.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// What it is called when it runs.
    pub(super) id: JobId,
    /// The door's name.
    pub(super) door: Arc<str>,
    /// Its environment, but for the event.
    pub(super) variables: Vec<(&'static str, String)>,
    /// For the shell.
    pub(super) command: Vec<u8>,
    /// What it is run for.
    pub(super) role: Role,
    /// How long it may take.
    pub(super) limit: Option<Duration>,
    /// Whom it opens the door for, if it is a start command of a door.
    pub(super) knocker: Option<IpAddr>,
}

/// The purpose of a command.
#[derive(Clone, Debug)]
pub(super) enum Role {
    /// A start command, and the stop that follows it.
    Opens(Stop),
    /// A command without a stop.
    JustRuns,
    /// `On_Stop`, and its command and time limit, to run it again.
    IsLast(Vec<u8>, Option<Duration>),
    /// A stop command, and its stop, to run it again if it cannot be started.
    Closes(Stop),
}

impl Running {
    /// Takes the stop away from a start command.
    pub(super) fn take_stop(&mut self) -> Option<Stop> {
        match std::mem::replace(&mut self.role, Role::JustRuns) {
            Role::Opens(stop) => Some(stop),
            other => {
                self.role = other;
                None
            }
        }
    }

    /// The opening that this command belongs to.
    pub(super) fn standing(&self) -> Option<(Phase, &Stop)> {
        match &self.role {
            Role::Opens(stop) => Some((Phase::Opening(self.process), stop)),
            Role::Closes(stop) if self.is_started => Some((Phase::Closing(self.process), stop)),
            Role::Closes(stop) => Some((Phase::Open, stop)),
            Role::JustRuns | Role::IsLast(..) => None,
        }
    }
}
