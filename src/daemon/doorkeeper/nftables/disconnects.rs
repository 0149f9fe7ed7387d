//! Doors that close when the last connection through them has ended: `Close_On_Disconnect`.
//!
//! While such a door is open, the kernel reports TCP sockets that end, and conntrack reports connections,
//! including forwarded ones. A connection from before the knock does not count as the door's: when it ends,
//! nothing happens.

use std::os::fd::BorrowedFd;

use ipnet::IpNet;
use litemap::LiteMap;

use crate::config::Config;
use crate::daemon::doorkeeper::nftables::log_message::LogMessage;
use crate::daemon::doorkeeper::nftables::sessions::{self, DisconnectListener, Endpoints};
use crate::firewall::sessions::Scope;
use crate::opening::admission_id::AdmissionId;
use crate::sorted;

/// The connections that doors wait for.
#[derive(Debug, Default)]
pub(super) struct Disconnects {
    listener: Option<DisconnectListener>,
    /// The connections from before the knock, sorted.
    earlier: LiteMap<AdmissionId, Vec<Endpoints>>,
}

impl Disconnects {
    /// Starts to follow a door that opens now and closes when its last connection has ended.
    pub(super) fn follow_opened(&mut self, id: &AdmissionId, network: IpNet) {
        if self.earlier.contains_key(id) {
            return;
        }
        // Missing kernel support was reported at the start.
        self.listener.get_or_insert_with(DisconnectListener::new);
        let scope = Scope { network, ports: &id.ports };
        let connections = sessions::connections_through(&scope).unwrap_or_default();
        let mut earlier: Vec<Endpoints> = connections.into_iter().flatten().collect();
        sorted::sort(&mut earlier);
        self.earlier.insert(id.clone(), earlier);
    }

    /// Follows a door that was opened before this process started: every connection counts as its own.
    pub(super) fn follow_resumed(&mut self, id: &AdmissionId) {
        self.listener.get_or_insert_with(DisconnectListener::new);
        self.earlier.entry(id.clone()).or_default();
    }

    /// Stops following a door that has closed.
    pub(super) fn forget(&mut self, id: &AdmissionId) {
        if self.earlier.remove(id).is_some() && self.earlier.is_empty() {
            self.listener = None;
        }
    }

    /// The connections that ended since the last call, sorted.
    pub(super) fn ended(&self) -> Vec<Endpoints> {
        self.listener.as_ref().map(DisconnectListener::ended).unwrap_or_default()
    }

    /// The connections from before this door opened, sorted; `None` if the door does not wait for connections
    /// to end.
    pub(super) fn earlier(&self, id: &AdmissionId) -> Option<&[Endpoints]> {
        self.earlier.get(id).map(Vec::as_slice)
    }

    /// Readable when a connection has ended.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.listener.as_ref().into_iter().flat_map(DisconnectListener::descriptors)
    }
}

/// Reports at the start what the kernel does not support.
pub(super) fn check(config: &Config, messages: &mut Vec<LogMessage>) {
    let doors = config.doors.iter().filter(|door| door.open.is_some());
    if !doors.into_iter().any(|door| door.rules.open.closes_on_disconnect) {
        return;
    }
    let sockets =
        sessions::all_local_connections().err().map(|errno| format!("to this machine ({})", errno.desc()));
    let flows = sessions::check_conntrack().err().map(|errno| format!("that it forwards ({})", errno.desc()));
    let what = match (sockets, flows) {
        (None, None) => return,
        (Some(one), Some(other)) => format!("{one} nor of those {other}"),
        (one, other) => one.or(other).unwrap_or_default(),
    };
    messages.push(LogMessage::Complaint(format!(
        "the kernel does not tell of the end of connections {what}: close_on_disconnect has no effect on their doors, cmd_timeout closes them"
    )));
}
