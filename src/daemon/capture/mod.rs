//! The captures of all interfaces that are listened on, and what becomes of them when interfaces,
//! addresses and routes change.

pub mod netlink;
pub mod ring;
pub mod socket;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::daemon::capture::netlink::{Doorbell, Ring, Survey};
use crate::daemon::capture::socket::{Capture, Sockets};
use crate::daemon::clock::now;
use crate::filter::interest::Interest;
use crate::filter::interfaces::{AUTO, EVERY, Interface, Layout, Scene, State, Status, Wanted};
use crate::filter::trouble::{CaptureError, CaptureProblem, Code, Operation, Trouble};
use crate::protocol::messages::Report;
use crate::status::watcher::Standing;

/// When to look again after what did not work: nothing need ever ring for it.
const RETRY: Duration = Duration::from_secs(1);

/// What did not work the last time.
struct Failed {
    /// What was said of it.
    said: Vec<Report>,
    /// It was not seen what there is: what rang for it is lost.
    is_blind: bool,
    /// When to try again, as uptime.
    next: Duration,
}

/// The sockets that tell of interfaces, addresses and routes.
pub struct Netlink {
    survey: Survey,
    doorbell: Doorbell,
}

impl Netlink {
    /// Opens them.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open() -> io::Result<Netlink> {
        Ok(Netlink { survey: Survey::new()?, doorbell: Doorbell::new()? })
    }

    /// The socket that questions are sent on.
    #[must_use]
    pub fn survey(&self) -> BorrowedFd<'_> {
        self.survey.as_fd()
    }

    /// The socket that rings.
    #[must_use]
    pub fn doorbell(&self) -> BorrowedFd<'_> {
        self.doorbell.as_fd()
    }
}

/// What is listened on.
pub struct Captures {
    wanted: Wanted,
    netlink: Netlink,
    layout: Layout,
    open: Vec<Capture>,
    only_v4: bool,
    failed: Option<Failed>,
}

impl Captures {
    /// Listens on what is wanted for what is of `interest`. With `waits` it need not be there yet.
    ///
    /// # Errors
    /// Why it cannot be listened on.
    pub fn open(
        netlink: io::Result<Netlink>,
        wanted: Wanted,
        waits: bool,
        interest: &Interest,
        only_v4: bool,
        sockets: &mut Sockets<'_>,
    ) -> Result<Captures, CaptureError> {
        let fail = |interface: &str, problem| CaptureError { interface: interface.to_owned(), problem };
        let look = |error| {
            fail(&wanted.to_string(), CaptureProblem::Failed(Operation::Interfaces, Code::of(&error)))
        };
        // In this order: what changes after the first look rings.
        let mut netlink = netlink.map_err(look)?;
        netlink.doorbell.listen(wanted.follows_routes()).map_err(look)?;
        let scene = netlink.survey.scene(wanted.follows_routes()).map_err(look)?;
        let layout = wanted.layout(&scene);
        let stands_at = |state| layout.status.iter().find(|it| it.state == state && !waits);
        if let Some(Status { what, .. }) = stands_at(State::Missing) {
            let is_auto = what == AUTO;
            let problem = if is_auto { CaptureProblem::NoDefaultRoute } else { CaptureProblem::Missing };
            return Err(fail(what, problem(scene.names().join(", "))));
        }
        let mut open = Vec::new();
        for &index in &layout.indexes {
            open.push(Capture::open(find(&scene, index), &layout, interest, only_v4, sockets)?);
        }
        if let Some(status) = stands_at(State::Down) {
            return Err(fail(&status.what, CaptureProblem::Down));
        }
        Ok(Captures { wanted, netlink, layout, open, only_v4, failed: None })
    }

    /// Listens on something else from now on, and says what that changed.
    pub fn want(&mut self, wanted: Wanted, interest: &Interest, sockets: &mut Sockets<'_>) -> Vec<Report> {
        if wanted == self.wanted {
            return self.look(&Ring::default(), interest, sockets);
        }
        if let Err(error) = self.netlink.doorbell.listen(wanted.follows_routes()) {
            return vec![Report::Trouble(Trouble::Look(Code::of(&error)))];
        }
        self.wanted = wanted;
        self.layout.status.clear();
        self.look(&Ring::default(), interest, sockets)
    }

    /// Looks what there is, listens accordingly, and says what that changed.
    pub fn look(&mut self, ring: &Ring, interest: &Interest, sockets: &mut Sockets<'_>) -> Vec<Report> {
        let was_blind = self.failed.as_ref().is_some_and(|failed| failed.is_blind);
        match self.netlink.survey.scene(self.wanted.follows_routes()) {
            Ok(scene) if was_blind => self.settle(&Ring::of_anything(), &scene, interest, sockets),
            Ok(scene) => self.settle(ring, &scene, interest, sockets),
            Err(error) => self.try_again(vec![Report::Trouble(Trouble::Look(Code::of(&error)))], true),
        }
    }

    /// Looks again, if that did not work and its time has come.
    pub fn look_again(
        &mut self,
        uptime: Duration,
        interest: &Interest,
        sockets: &mut Sockets<'_>,
    ) -> Vec<Report> {
        let is_due = self.next_look().is_some_and(|next| next <= uptime);
        if is_due { self.look(&Ring::default(), interest, sockets) } else { Vec::new() }
    }

    /// When to call [`Captures::look_again`], as uptime.
    #[must_use]
    pub fn next_look(&self) -> Option<Duration> {
        self.failed.as_ref().map(|failed| failed.next)
    }

    /// Remembers what did not work, and says what was not said before.
    fn try_again(&mut self, troubles: Vec<Report>, is_blind: bool) -> Vec<Report> {
        let said = self.failed.take().map(|before| before.said).unwrap_or_default();
        let new = troubles.iter().filter(|it| !said.contains(it)).cloned().collect();
        self.failed = Some(Failed { said: troubles, is_blind, next: now().uptime.saturating_add(RETRY) });
        new
    }

    fn settle(
        &mut self,
        ring: &Ring,
        scene: &Scene,
        interest: &Interest,
        sockets: &mut Sockets<'_>,
    ) -> Vec<Report> {
        let layout = self.wanted.layout(scene);
        let mut reports = Vec::new();
        self.open.retain(|Capture { interface, .. }| {
            layout.indexes.contains(&interface.index)
                && (interface.index == EVERY || !ring.removed(interface.index))
        });
        let has_changed = layout.here != self.layout.here || layout.several != self.layout.several;
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
                        complaints.push(Report::Trouble(Trouble::Capture(error)));
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
            reports.extend(self.try_again(complaints, false));
        }
        reports
    }

    /// Listens for something else from now on, and says what did not work.
    pub fn set_interest(&mut self, interest: &Interest) -> Option<Report> {
        let mut results = self.open.iter_mut().map(|capture| capture.set_interest(&self.layout, interest));
        let error = results.find_map(Result::err)?;
        Some(Report::Trouble(Trouble::Filter(Code::of(&error))))
    }

    /// Lets the packets of this capture come in another way, if it is time to.
    pub fn adapt(
        &mut self,
        place: usize,
        uptime: Duration,
        interest: impl FnOnce() -> Interest,
        sockets: &mut Sockets<'_>,
    ) {
        let capture = self.open.get_mut(place).filter(|capture| capture.is_to_change(uptime));
        if let Some(capture) = capture {
            capture.change(&self.layout, &interest(), uptime, sockets);
        }
    }

    /// When to [`adapt`](Self::adapt) a capture though nothing comes, as uptime.
    #[must_use]
    pub fn next_change(&self) -> Option<Duration> {
        self.open.iter().filter_map(Capture::next_change).min()
    }

    /// Rings when it is time to look again.
    #[must_use]
    pub fn doorbell(&self) -> &Doorbell {
        &self.netlink.doorbell
    }

    /// The addresses that knocks may be for.
    #[must_use]
    pub fn here(&self) -> &[IpAddr] {
        &self.layout.here
    }

    /// What is listened on or waited for, and what came there so far.
    pub fn standing(&mut self) -> Vec<Standing> {
        let open = &mut self.open;
        let of = |status: &Status| {
            let mut standing = Standing {
                name: status.what.clone(),
                state: status.state,
                has_ring: false,
                packets: 0,
                dropped: 0,
            };
            let is_its = |index: u32| index == EVERY || status.indexes.contains(&index);
            for capture in open.iter_mut().filter(|capture| is_its(capture.interface.index)) {
                let (packets, dropped) = capture.count();
                standing.has_ring |= capture.has_ring();
                standing.packets += packets;
                standing.dropped += dropped;
            }
            standing
        };
        self.layout.status.iter().map(of).collect()
    }

    /// The interfaces that are listened on.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.open.iter().map(|capture| &capture.interface)
    }

    /// One for each capture, in their order, and until when (uptime) its packets are to gather.
    pub fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Option<Duration>)> {
        self.open.iter().map(|capture| (capture.as_fd(), capture.rest()))
    }

    /// The capture that this descriptor was of.
    pub fn at(&mut self, place: usize) -> Option<&mut Capture> {
        self.open.get_mut(place)
    }

    /// How things stand with each interface that was asked for, none of which was spoken of before.
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
