//! Commands that run, and what each of them means for the door.

use std::sync::Arc;
use std::time::Duration;

use crate::opening::standing::{Phase, Process, Stop};

/// A command that runs, or is about to.
#[derive(Clone, Debug)]
pub(super) struct Running {
    /// The door's name.
    pub(super) door: Arc<str>,
    /// What it is run for.
    pub(super) role: Role,
    /// Its process was started.
    pub(super) is_started: bool,
    /// Its process, where that could be found out.
    pub(super) process: Option<Process>,
    /// When it is killed, as uptime.
    pub(super) killed_at: Option<Duration>,
}

/// What a command is run for.
#[derive(Clone, Debug)]
pub(super) enum Role {
    /// A start command, with what follows it.
    Opens(Stop),
    /// A command that nothing follows.
    JustRuns,
    /// The last command of all, with what it takes to run it again.
    IsLast(Vec<u8>, Option<Duration>),
    /// A stop command, with what it takes to run it again if it cannot be started.
    Closes(Stop),
}

impl Running {
    /// Makes a start command one that nothing follows; returns what would have followed.
    pub(super) fn take_stop(&mut self) -> Option<Stop> {
        match std::mem::replace(&mut self.role, Role::JustRuns) {
            Role::Opens(stop) => Some(stop),
            other => {
                self.role = other;
                None
            }
        }
    }

    /// How far the opening has come that this command belongs to.
    pub(super) fn standing(&self) -> Option<(Phase, &Stop)> {
        match &self.role {
            Role::Opens(stop) => Some((Phase::Opening(self.process), stop)),
            Role::Closes(stop) if self.is_started => Some((Phase::Closing(self.process), stop)),
            Role::Closes(stop) => Some((Phase::Open, stop)),
            Role::JustRuns | Role::IsLast(..) => None,
        }
    }
}
