//! Doors that stand open: what is remembered of each, so that it is closed whatever happens to this process.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::door::sequence::Stage;

/// Names an opening for as long as it is remembered, also by the daemons that come after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// A random number that the process drew in which the door opened.
    pub origin: u64,
    /// Counts the openings of that process.
    pub number: u64,
}

/// A running process, told apart from all that had its number before or get it later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it was started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start: u64,
}

/// What a single packet asked for, one port of it: commands find it in their environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Who asked, as he says.
    pub user: String,
    /// For which port.
    pub port: Stage,
    /// For how many seconds.
    pub seconds: u32,
}

/// How a door is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Names the opening that it ends.
    pub key: Key,
    /// The door's name.
    pub door: Arc<str>,
    /// Whom it is open for.
    pub knocker: IpAddr,
    /// What was asked for, if a single packet opened it.
    pub access: Option<Box<Access>>,
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
    /// Its start command runs, or is about to; `None` while its process is not known.
    Opening(Option<Process>),
    /// Its time runs.
    Open,
    /// Its stop command runs; `None` if its process is not known.
    Closing(Option<Process>),
}

/// What changed in [`Openings::standing`](super::Openings::standing).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This opening is new, or has come further.
    Stands(Phase, Stop),
    /// This opening is closed.
    Closed(Key),
}

impl Stop {
    /// Whether it ends an opening of this door for this knocker, and of this port if it was asked for one.
    pub(super) fn is_of(&self, door: &Arc<str>, knocker: IpAddr, port: Option<Stage>) -> bool {
        let own_port = self.access.as_ref().map(|access| access.port);
        self.knocker == knocker && self.door == *door && own_port == port
    }
}
