//! Closes doors: when their time is over, by hand, when the last connection has ended, and when the daemon
//! ends.

use std::time::Duration;

use crate::daemon::clock;
use crate::daemon::doorkeeper::nftables::firewall::Firewall;
use crate::daemon::doorkeeper::nftables::log_message::LogMessage;
use crate::daemon::doorkeeper::nftables::sessions::{self, Endpoints};
use crate::door::knock::Protocol;
use crate::firewall::sessions::Scope;
use crate::opening::admission_id::AdmissionId;
use crate::opening::admissions::Admission;
use crate::opening::event::Event;
use crate::time::Now;

impl Firewall {
    /// When to call [`Firewall::close_due`] next, as uptime.
    pub(in crate::daemon::doorkeeper) fn next_deadline(&self) -> Option<Duration> {
        self.admissions.next_deadline()
    }

    /// Reports the doors whose time is over: the kernel has closed them.
    pub(in crate::daemon::doorkeeper) fn close_due(&mut self, now: Now, messages: &mut Vec<LogMessage>) {
        for admission in self.admissions.due(now) {
            self.report_closed(&admission, messages);
        }
    }

    /// Reports a closed door and, with `Close_Established`, ends its connections unless another opening still
    /// allows them.
    fn report_closed(&mut self, admission: &Admission, messages: &mut Vec<LogMessage>) {
        messages.push(LogMessage::Event(dismissed(admission)));
        self.disconnects.forget(&admission.id);
        if admission.settings.closes_established && !self.admissions.is_let_in_elsewhere(admission) {
            let scope = Scope { network: admission.network, ports: &admission.id.ports };
            if let Err(why) = sessions::end(&scope) {
                let AdmissionId { door, knocker, .. } = &admission.id;
                messages.push(LogMessage::Complaint(format!("{knocker}: {door}: could not end {why}")));
            }
        }
    }

    /// Closes a door before its time.
    pub(in crate::daemon::doorkeeper) fn close(
        &mut self,
        id: &AdmissionId,
        now: Now,
        messages: &mut Vec<LogMessage>,
    ) {
        let Some((admission, changes)) = self.admissions.close(id) else { return };
        let outcome = self.change(&changes, now);
        self.admissions.delay(changes.iter().map(|(set_element, _)| set_element), clock::since(now));
        for (set_element, why) in outcome.refused {
            messages.push(LogMessage::Complaint(format!(
                "could not close {} in {}: {why}",
                id.door, set_element.set
            )));
        }
        self.report_closed(&admission, messages);
    }

    /// Closes the doors whose last connection has ended.
    pub(in crate::daemon::doorkeeper) fn close_disconnected(
        &mut self,
        now: Now,
        messages: &mut Vec<LogMessage>,
    ) {
        let ended = self.disconnects.ended();
        if ended.is_empty() {
            return;
        }
        let mut disconnected = Vec::new();
        for admission in self.admissions.all() {
            let Some(earlier) = self.disconnects.earlier(&admission.id) else { continue };
            let scope = Scope { network: admission.network, ports: &admission.id.ports };
            let is_through = |(peer, _, port): &Endpoints| {
                scope.network.contains(peer) && scope.ports.iter().any(|it| it.contains(Protocol::Tcp, *port))
            };
            let has_ended = ended.iter().any(|it| is_through(it) && !earlier.contains(it));
            let goes_on = || {
                let is_later = |endpoints: &[Endpoints; 2]| !endpoints.iter().any(|it| earlier.contains(it));
                sessions::connections_through(&scope).is_ok_and(|all| all.iter().any(is_later))
            };
            if has_ended && !goes_on() {
                disconnected.push(admission.id.clone());
            }
        }
        for id in disconnected {
            self.close(&id, now, messages);
        }
    }

    /// Handles the end of the daemon: leaves open doors to the kernel, except those with `Close_On_Stop`,
    /// which it closes.
    pub(in crate::daemon::doorkeeper) fn finish(&mut self, now: Now, messages: &mut Vec<LogMessage>) {
        self.commit(now, messages);
        let all: Vec<(AdmissionId, bool, Option<Duration>)> = self
            .admissions
            .all()
            .into_iter()
            .map(|it| (it.id.clone(), it.settings.closes_on_stop, it.until))
            .collect();
        for (id, closes, until) in all {
            if closes {
                self.close(&id, now, messages);
            } else {
                let time = until.map(|until| until.saturating_sub(now.uptime));
                let AdmissionId { door, knocker, .. } = id;
                messages.push(LogMessage::Event(Event::LeftToTheKernel { door, knocker, time }));
            }
        }
    }
}

/// The event of a closed door.
pub(super) fn dismissed(admission: &Admission) -> Event {
    let AdmissionId { door, knocker, .. } = &admission.id;
    Event::Dismissed { door: door.clone(), knocker: *knocker }
}
