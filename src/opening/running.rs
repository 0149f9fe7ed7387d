//! Running commands, and what their end means for the door.

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
    /// When it is killed for running too long, as uptime.
    pub(super) killed_at: Option<Duration>,
    /// It is the start command of a door: it counts against the limits, and others wait for its end.
    pub(super) is_start: bool,
}

/// A command to be run.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// Identifies it when it runs.
    pub(super) id: JobId,
    /// The door's name.
    pub(super) door: Arc<str>,
    /// Its environment variables, except `KNOCKD_EVENT`.
    pub(super) variables: Vec<(&'static str, String)>,
    /// The command line for `sh -c`.
    pub(super) command: Vec<u8>,
    /// Its purpose.
    pub(super) role: Role,
    /// How long it may take.
    pub(super) limit: Option<Duration>,
    /// The knocker that it opens the door for, if it is the start command of a door.
    pub(super) knocker: Option<IpAddr>,
}

/// The purpose of a command.
#[derive(Clone, Debug)]
pub(super) enum Role {
    /// A start command, and the stop that follows it.
    Opens(Stop),
    /// A command without a stop.
    WithoutStop,
    /// `On_Stop`, and its command and time limit, to run it again.
    IsLast(Vec<u8>, Option<Duration>),
    /// A stop command, and its stop, to run it again if it cannot be started.
    Closes(Stop),
}

impl Running {
    /// Removes the stop from a start command, so that its door is not closed when it ends.
    pub(super) fn take_stop(&mut self) -> Option<Stop> {
        match std::mem::replace(&mut self.role, Role::WithoutStop) {
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
            Role::WithoutStop | Role::IsLast(..) => None,
        }
    }
}
