//! Commands that run, and what their end means for the door.

use std::sync::Arc;
use std::time::Duration;

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
