//! Doors that close when the last connection through them has ended: `Close_On_Disconnect`.
//!
//! The kernel tells of TCP sockets that end, as long as a door is open that wants to know. A connection that was
//! there before the knock is none of the door's: when it ends nothing happens.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};

use ipnet::IpNet;

use crate::config::Config;
use crate::daemon::doorkeeper::nftables::said::Said;
use crate::daemon::doorkeeper::nftables::sessions::{self, Ends, Farewells, ends};
use crate::firewall::sessions::Scope;
use crate::opening::admissions::Whose;

/// What the doors wait for.
#[derive(Debug, Default)]
pub(super) struct Partings {
    farewells: Option<Farewells>,
    /// The connections that were there before the knock.
    earlier: HashMap<Whose, HashSet<Ends>>,
}

impl Partings {
    /// A door opens that closes when its last connection has ended.
    pub(super) fn expect(&mut self, whose: &Whose, network: IpNet) {
        if self.earlier.contains_key(whose) {
            return;
        }
        if self.farewells.is_none() {
            // That it does not work was said at the start.
            self.farewells = Farewells::new().ok();
        }
        let scope = Scope { network, ports: &whose.ports };
        let there = sessions::connected(&scope).unwrap_or_default();
        self.earlier.insert(whose.clone(), there.iter().map(ends).collect());
    }

    /// A door is open since before this process began: whatever is connected came through it.
    pub(super) fn follow(&mut self, whose: &Whose) {
        if self.farewells.is_none() {
            self.farewells = Farewells::new().ok();
        }
        self.earlier.entry(whose.clone()).or_default();
    }

    /// A door is closed.
    pub(super) fn forget(&mut self, whose: &Whose) {
        if self.earlier.remove(whose).is_some() && self.earlier.is_empty() {
            self.farewells = None;
        }
    }

    /// The connections that ended since the last call; `None` if nobody listens, or if there were so many that
    /// some were lost.
    pub(super) fn ended(&self) -> Option<HashSet<Ends>> {
        self.farewells.as_ref()?.ended()
    }

    /// The connections that were there before this door opened, if it waits for the end of others.
    pub(super) fn earlier(&self, whose: &Whose) -> Option<&HashSet<Ends>> {
        self.earlier.get(whose)
    }

    /// Readable when a connection ended.
    pub(super) fn farewells(&self) -> Option<BorrowedFd<'_>> {
        self.farewells.as_ref().map(AsFd::as_fd)
    }
}

/// Says at the start what will not work.
pub(super) fn check(config: &Config, said: &mut Vec<Said>) {
    let doors = config.doors.iter().filter(|door| door.open.is_some());
    if !doors.into_iter().any(|door| door.rules.open.closes_on_disconnect) {
        return;
    }
    if let Err(errno) = Farewells::new().and_then(|_| sessions::all_connected()) {
        said.push(Said::Complaint(format!(
            "the kernel does not tell of connections that end ({}): close_on_disconnect has no effect, cmd_timeout closes these doors",
            errno.desc()
        )));
    }
}
