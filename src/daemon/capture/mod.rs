//! The captures of all interfaces that the daemon listens on, and how they follow changes of interfaces,
//! addresses and routes.

pub mod netlink;
pub mod ring;
pub mod socket;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::daemon::capture::netlink::{ChangeListener, InterfaceChanges, Survey};
use crate::daemon::capture::socket::{Capture, Sockets};
use crate::daemon::clock::now;
use crate::filter::interest::Interest;
use crate::filter::interfaces::{AUTO, EVERY, Interface, Layout, Scene, State, Status, Wanted};
use crate::filter::trouble::{CaptureError, CaptureProblem, Code, Operation, Trouble};
use crate::protocol::messages::Report;
use crate::status::watcher::InterfaceStatus;

/// Delay before the next try after a failure: no netlink notification may ever come for it.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The last survey or capture that failed.
struct PendingRetry {
    /// The troubles that were reported.
    reported: Vec<Trouble>,
    /// The survey itself failed, so the notifications that caused it are lost.
    survey_failed: bool,
    /// When to try again, as uptime.
    next: Duration,
}

/// The two rtnetlink sockets: one to ask for interfaces, addresses and routes, one for notifications.
pub struct Netlink {
    survey: Survey,
    change_listener: ChangeListener,
}

impl Netlink {
    /// Opens both sockets.
    ///
    /// # Errors
    /// Errors of `socket(2)` and `setsockopt(2)`.
    pub fn open() -> io::Result<Netlink> {
        Ok(Netlink { survey: Survey::new()?, change_listener: ChangeListener::new()? })
    }

    /// The socket for requests.
    #[must_use]
    pub fn survey(&self) -> BorrowedFd<'_> {
        self.survey.as_fd()
    }

    /// The socket for notifications.
    #[must_use]
    pub fn change_listener(&self) -> BorrowedFd<'_> {
        self.change_listener.as_fd()
    }
}

/// The open captures.
pub struct Captures {
    wanted: Wanted,
    netlink: Netlink,
    layout: Layout,
    open: Vec<Capture>,
    only_v4: bool,
    failed: Option<PendingRetry>,
}

impl Captures {
    /// Opens a capture on each wanted interface, with a filter for `interest`. With `waits`, an interface may
    /// be missing or down for now.
    ///
    /// # Errors
    /// The interface is missing or down, or a socket operation failed.
    pub fn open(
        netlink: io::Result<Netlink>,
        wanted: Wanted,
        waits: bool,
        interest: &Interest,
        only_v4: bool,
        sockets: &mut Sockets<'_>,
    ) -> Result<Captures, CaptureError> {
        let fail = |interface: &str, problem| CaptureError { interface: interface.to_owned(), problem };
        let survey_error = |error| {
            fail(&wanted.to_string(), CaptureProblem::Failed(Operation::Interfaces, Code::of(&error)))
        };
        // In this order: a change after the survey causes a notification.
        let mut netlink = netlink.map_err(survey_error)?;
        netlink.change_listener.listen(wanted.follows_routes()).map_err(survey_error)?;
        let scene = netlink.survey.scene(wanted.follows_routes()).map_err(survey_error)?;
        let layout = wanted.layout(&scene);
        let first_in_state = |state| layout.status.iter().find(|it| it.state == state && !waits);
        if let Some(Status { what, .. }) = first_in_state(State::Missing) {
            let is_auto = what == AUTO;
            let problem = if is_auto { CaptureProblem::NoDefaultRoute } else { CaptureProblem::Missing };
            return Err(fail(what, problem(scene.names().join(", "))));
        }
        let mut open = Vec::new();
        for &index in &layout.indexes {
            open.push(Capture::open(find(&scene, index), &layout, interest, only_v4, sockets)?);
        }
        if let Some(status) = first_in_state(State::Down) {
            return Err(fail(&status.what, CaptureProblem::Down));
        }
        Ok(Captures { wanted, netlink, layout, open, only_v4, failed: None })
    }

    /// Changes the wanted interfaces, and returns reports of what changed.
    pub fn want(&mut self, wanted: Wanted, interest: &Interest, sockets: &mut Sockets<'_>) -> Vec<Report> {
        if wanted == self.wanted {
            return self.look(&InterfaceChanges::default(), interest, sockets);
        }
        if let Err(error) = self.netlink.change_listener.listen(wanted.follows_routes()) {
            return vec![Report::Trouble(Trouble::ListInterfaces(Code::of(&error)))];
        }
        self.wanted = wanted;
        self.layout.status.clear();
        self.look(&InterfaceChanges::default(), interest, sockets)
    }

    /// Surveys the interfaces, opens and closes captures to match, and returns reports of what changed.
    pub fn look(
        &mut self,
        changes: &InterfaceChanges,
        interest: &Interest,
        sockets: &mut Sockets<'_>,
    ) -> Vec<Report> {
        let survey_had_failed = self.failed.as_ref().is_some_and(|failed| failed.survey_failed);
        match self.netlink.survey.scene(self.wanted.follows_routes()) {
            Ok(scene) if survey_had_failed => {
                self.apply_scene(&InterfaceChanges::unknown(), &scene, interest, sockets)
            }
            Ok(scene) => self.apply_scene(changes, &scene, interest, sockets),
            Err(error) => self.retry_later(vec![Trouble::ListInterfaces(Code::of(&error))], true),
        }
    }

    /// Repeats a failed survey or capture when its time has come.
    pub fn look_again(
        &mut self,
        uptime: Duration,
        interest: &Interest,
        sockets: &mut Sockets<'_>,
    ) -> Vec<Report> {
        let is_due = self.next_look().is_some_and(|next| next <= uptime);
        if is_due { self.look(&InterfaceChanges::default(), interest, sockets) } else { Vec::new() }
    }

    /// When to call [`Captures::look_again`], as uptime.
    #[must_use]
    pub fn next_look(&self) -> Option<Duration> {
        self.failed.as_ref().map(|failed| failed.next)
    }

    /// Stores the failure for the next try, and returns the reports that are new since the last one.
    fn retry_later(&mut self, troubles: Vec<Trouble>, survey_failed: bool) -> Vec<Report> {
        let reported = self.failed.take().map(|before| before.reported).unwrap_or_default();
        let new = troubles.iter().filter(|it| !reported.contains(it)).cloned().map(Report::Trouble).collect();
        self.failed = Some(PendingRetry {
            reported: troubles,
            survey_failed,
            next: now().uptime.saturating_add(RETRY_DELAY),
        });
        new
    }

    fn apply_scene(
        &mut self,
        changes: &InterfaceChanges,
        scene: &Scene,
        interest: &Interest,
        sockets: &mut Sockets<'_>,
    ) -> Vec<Report> {
        let layout = self.wanted.layout(scene);
        let mut reports = Vec::new();
        self.open.retain(|Capture { interface, .. }| {
            layout.indexes.contains(&interface.index)
                && (interface.index == EVERY || !changes.removed(interface.index))
        });
        let has_changed = layout.here != self.layout.here || layout.count_once != self.layout.count_once;
        for capture in &mut self.open {
            capture.interface = find(scene, capture.interface.index);
            if has_changed && let Err(error) = capture.set_interest(&layout, interest) {
                reports.push(Report::Trouble(Trouble::Filter(Code::of(&error))));
            }
        }
        let mut complaints = Vec::new();
        let mut failed = Vec::new();
        let mut renewed = Vec::new();
        for &index in &layout.indexes {
            if self.open.iter().all(|capture| capture.interface.index != index) {
                match Capture::open(find(scene, index), &layout, interest, self.only_v4, sockets) {
                    Ok(capture) => {
                        self.open.push(capture);
                        renewed.push(index);
                    }
                    Err(error) => {
                        complaints.push(Trouble::Capture(error));
                        failed.push(index);
                    }
                }
            }
        }
        for (at, status) in layout.status.iter().enumerate() {
            let before = self.layout.status.get(at);
            let is_new = status.indexes.iter().any(|index| renewed.contains(index));
            let is_deaf = status.indexes.iter().any(|index| failed.contains(index));
            if (before != Some(status) || is_new) && !is_deaf {
                reports.push(report(status, before.is_some()));
            }
        }
        self.layout = layout;
        if complaints.is_empty() {
            self.failed = None;
        } else {
            reports.extend(self.retry_later(complaints, false));
        }
        reports
    }

    /// Changes the filters of all captures. Returns a report if one of them could not be changed.
    pub fn set_interest(&mut self, interest: &Interest) -> Option<Report> {
        let mut results = self.open.iter_mut().map(|capture| capture.set_interest(&self.layout, interest));
        let error = results.find_map(Result::err)?;
        Some(Report::Trouble(Trouble::Filter(Code::of(&error))))
    }

    /// Switches this capture between socket and ring when its packet rate asks for it. Returns a report of
    /// the first failure since a success.
    pub fn adapt(
        &mut self,
        place: usize,
        uptime: Duration,
        interest: impl FnOnce() -> Interest,
        sockets: &mut Sockets<'_>,
    ) -> Option<Report> {
        let capture = self.open.get_mut(place).filter(|capture| capture.is_to_change(uptime))?;
        capture.change(&self.layout, &interest(), uptime, sockets).map(Report::Trouble)
    }

    /// When to [`adapt`](Self::adapt) a capture even if no packet comes, as uptime.
    #[must_use]
    pub fn next_change(&self) -> Option<Duration> {
        self.open.iter().filter_map(Capture::next_change).min()
    }

    /// The socket with notifications of changes.
    #[must_use]
    pub fn change_listener(&self) -> &ChangeListener {
        &self.netlink.change_listener
    }

    /// This host's addresses: the destinations of knocks.
    #[must_use]
    pub fn here(&self) -> &[IpAddr] {
        &self.layout.here
    }

    /// For each requested interface: its state, and how many packets it has received and dropped.
    pub fn interface_statuses(&mut self) -> Vec<InterfaceStatus> {
        let open = &mut self.open;
        let of = |status: &Status| {
            let mut total = InterfaceStatus {
                name: status.what.clone(),
                state: status.state,
                has_ring: false,
                packets: 0,
                dropped: 0,
            };
            let is_its = |index: u32| index == EVERY || status.indexes.contains(&index);
            for capture in open.iter_mut().filter(|capture| is_its(capture.interface.index)) {
                let (packets, dropped) = capture.count();
                total.has_ring |= capture.has_ring();
                total.packets += packets;
                total.dropped += dropped;
            }
            total
        };
        self.layout.status.iter().map(of).collect()
    }

    /// The interfaces with an open capture.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.open.iter().map(|capture| &capture.interface)
    }

    /// For each capture, in order: its descriptor, and the uptime until which its packets are left to
    /// accumulate.
    pub fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Option<Duration>)> {
        self.open.iter().map(|capture| (capture.as_fd(), capture.rest()))
    }

    /// The capture at this place in [`descriptors`](Self::descriptors).
    pub fn at(&mut self, place: usize) -> Option<&mut Capture> {
        self.open.get_mut(place)
    }

    /// A report of each requested interface's state, as if none had been reported yet.
    pub fn status(&self) -> impl Iterator<Item = Report> {
        self.layout.status.iter().map(|status| report(status, false))
    }
}

fn report(status: &Status, was_known: bool) -> Report {
    Report::Interface(status.what.clone(), status.state, was_known)
}

fn find(scene: &Scene, index: u32) -> Interface {
    let known = scene.interfaces.iter().find(|interface| interface.index == index);
    known.cloned().unwrap_or_else(Interface::every)
}
