//! Commands to run: what the doorkeeper is told to do, and what it tells of their ends.

use std::net::IpAddr;
use std::sync::Arc;

use crate::opening::event::Event;
use crate::opening::standing::Access;

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
    /// It is gone; it was no child of ours, so nobody tells how it ended.
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
