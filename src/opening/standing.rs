//! What the state file records about an open door, so that the door is closed whatever happens to this
//! process.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::door::sequence::Stage;

/// Identifies an opening, also after a restart of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The random number of the process in which the door opened.
    pub origin: u64,
    /// Different for each opening of that process.
    pub number: u64,
}

/// A process. Its start time distinguishes it from others that have had, or will have, the same PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    /// Its PID.
    pub pid: i32,
    /// When it was started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start: u64,
}

/// Access to one port that a single packet asked for. Commands get it in environment variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The user name in the packet.
    pub user: String,
    /// The port.
    pub port: Stage,
    /// The duration in seconds.
    pub seconds: u32,
}

/// How and when an open door is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The opening that it ends.
    pub key: Key,
    /// The door's name.
    pub door: Arc<str>,
    /// The address that it is open for.
    pub knocker: IpAddr,
    /// The access that was asked for, if a single packet opened it.
    pub access: Option<Box<Access>>,
    /// The stop command.
    pub command: Vec<u8>,
    /// How long the door stays open.
    pub after: Duration,
    /// How long the command may take.
    pub limit: Option<Duration>,
    /// When to run it, as uptime. While the start command runs, this assumes that it takes no time.
    pub due: Duration,
}

/// The progress of an opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its start command runs, or is about to; `None` if the process is not known (yet).
    Opening(Option<Process>),
    /// It waits for the time of its stop command.
    Open,
    /// Its stop command runs; `None` if the process is not known.
    Closing(Option<Process>),
}

/// A change of [`Openings::standing`](super::Openings::standing).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This opening is new, or has a new phase or time.
    Stands(Phase, Stop),
    /// This opening is closed.
    Closed(Key),
}

impl Stop {
    /// Whether it ends an opening of this door for this knocker. `port` is the port that a single packet
    /// asked for, if one did.
    pub(super) fn is_of(&self, door: &Arc<str>, knocker: IpAddr, port: Option<Stage>) -> bool {
        let own_port = self.access.as_ref().map(|access| access.port);
        self.knocker == knocker && self.door == *door && own_port == port
    }
}
