//! The actions of the doorkeeper, above all commands to run, and how commands end.

use std::net::IpAddr;
use std::sync::Arc;

use crate::opening::event::Event;
use crate::opening::standing::Access;

/// Identifies a command while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// One command to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Identifies the job when its end is reported.
    pub id: JobId,
    /// The door's name, for the log.
    pub door: Arc<str>,
    /// The command line for `sh -c`.
    pub command: Vec<u8>,
    /// Environment variables of its own; none for `On_Start` and `On_Stop`.
    pub variables: Vec<(&'static str, String)>,
}

/// Something that the doorkeeper must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write this to the log.
    Tell(Event),
    /// Run this command, and report its end.
    Run(Job),
    /// Kill this command, which has run too long, and everything that it started.
    Kill(JobId),
}

/// The end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this code.
    Exited(i32),
    /// A signal with this number killed it.
    Killed(i32),
    /// It could not be started.
    NotStarted,
    /// It has ended, but it was not our child, so that its exit code is unknown.
    Unseen,
}

/// The environment variables of a command of a door.
pub(super) fn variables(door: &str, knocker: IpAddr, access: Option<&Access>) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("KNOCKD_IP", knocker.to_string()),
        ("KNOCKD_DOOR", door.to_owned()),
        ("KNOCKD_FAMILY", if knocker.is_ipv4() { "4" } else { "6" }.to_owned()),
    ];
    if let Some(Access { user, port, seconds }) = access {
        variables.extend([
            ("KNOCKD_USER", user.clone()),
            ("KNOCKD_PROTO", port.protocol.to_string()),
            ("KNOCKD_PORT", port.port.to_string()),
            ("KNOCKD_TIMEOUT", seconds.to_string()),
        ]);
    }
    variables
}
