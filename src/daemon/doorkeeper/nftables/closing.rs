//! Closes doors: when their time is over, by hand, when the last connection has ended, and when the daemon
//! ends.

use std::time::Duration;

use crate::daemon::clock;
use crate::daemon::doorkeeper::nftables::firewall::Firewall;
use crate::daemon::doorkeeper::nftables::said::Said;
use crate::daemon::doorkeeper::nftables::sessions::{self, Ends};
use crate::door::knock::Protocol;
use crate::firewall::sessions::Scope;
use crate::opening::admissions::{Admission, Whose};
use crate::opening::event::Event;
use crate::time::Now;

impl Firewall {
    /// When to call [`Firewall::close_due`] next, as uptime.
    pub(in crate::daemon::doorkeeper) fn next_deadline(&self) -> Option<Duration> {
        self.admissions.next_deadline()
    }

    /// Reports the doors whose time is over: the kernel has closed them.
    pub(in crate::daemon::doorkeeper) fn close_due(&mut self, now: Now, said: &mut Vec<Said>) {
        for admission in self.admissions.due(now) {
            self.part(&admission, said);
        }
    }

    /// Reports a closed door and, with `Close_Established`, ends its connections unless another opening still
    /// allows them.
    fn part(&mut self, admission: &Admission, said: &mut Vec<Said>) {
        said.push(Said::Event(dismissed(admission)));
        self.partings.forget(&admission.whose);
        if admission.manners.closes_established && !self.admissions.is_let_in_elsewhere(admission) {
            let scope = Scope { network: admission.network, ports: &admission.whose.ports };
            if let Err(why) = sessions::end(&scope) {
                let Whose { door, knocker, .. } = &admission.whose;
                said.push(Said::Complaint(format!("{knocker}: {door}: could not end {why}")));
            }
        }
    }

    /// Closes a door before its time.
    pub(in crate::daemon::doorkeeper) fn close(&mut self, whose: &Whose, now: Now, said: &mut Vec<Said>) {
        let Some((admission, changes)) = self.admissions.close(whose) else { return };
        let outcome = self.change(&changes, now);
        self.admissions.delay(changes.iter().map(|(spot, _)| spot), clock::since(now));
        for (spot, why) in outcome.refused {
            said.push(Said::Complaint(format!("could not close {} in {}: {why}", whose.door, spot.set)));
        }
        self.part(&admission, said);
    }

    /// Closes the doors whose last connection has ended.
    pub(in crate::daemon::doorkeeper) fn close_left(&mut self, now: Now, said: &mut Vec<Said>) {
        let ended = self.partings.ended();
        if ended.is_empty() {
            return;
        }
        let mut left = Vec::new();
        for admission in self.admissions.all() {
            let Some(earlier) = self.partings.earlier(&admission.whose) else { continue };
            let scope = Scope { network: admission.network, ports: &admission.whose.ports };
            let is_through = |(peer, _, port): &Ends| {
                scope.network.contains(peer) && scope.ports.iter().any(|it| it.contains(Protocol::Tcp, *port))
            };
            let has_ended = ended.iter().any(|it| is_through(it) && !earlier.contains(it));
            let goes_on = || {
                let is_later = |ends: &[Ends; 2]| !ends.iter().any(|ends| earlier.contains(ends));
                sessions::through(&scope).is_ok_and(|all| all.iter().any(is_later))
            };
            if has_ended && !goes_on() {
                left.push(admission.whose.clone());
            }
        }
        for whose in left {
            self.close(&whose, now, said);
        }
    }

    /// Handles the end of the daemon: leaves open doors to the kernel, except those with `Close_On_Stop`,
    /// which it closes.
    pub(in crate::daemon::doorkeeper) fn finish(&mut self, now: Now, said: &mut Vec<Said>) {
        self.commit(now, said);
        let all: Vec<(Whose, bool, Option<Duration>)> = self
            .admissions
            .all()
            .into_iter()
            .map(|it| (it.whose.clone(), it.manners.closes_on_stop, it.until))
            .collect();
        for (whose, closes, until) in all {
            if closes {
                self.close(&whose, now, said);
            } else {
                let time = until.map(|until| until.saturating_sub(now.uptime));
                let Whose { door, knocker, .. } = whose;
                said.push(Said::Event(Event::LeftToTheKernel { door, knocker, time }));
            }
        }
    }
}

/// The event of a closed door.
pub(super) fn dismissed(admission: &Admission) -> Event {
    let Whose { door, knocker, .. } = &admission.whose;
    Event::Dismissed { door: door.clone(), knocker: *knocker }
}
