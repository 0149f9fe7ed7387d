//! The captures of all interfaces that are listened on, and what becomes of them when interfaces,
//! addresses and routes change.

pub mod netlink;
pub mod ring;
pub mod socket;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::daemon::capture::netlink::{Doorbell, Ring};
use crate::daemon::capture::socket::Capture;
use crate::daemon::clock::now;
use crate::daemon::error::{CaptureError, CaptureProblem};
use crate::filter::interest::Interest;
use crate::filter::interfaces::{AUTO, EVERY, Interface, Layout, Scene, State, Status, Wanted};
use crate::reason::reason;

/// When to look again after what did not work: nothing need ever ring for it.
const RETRY: Duration = Duration::from_secs(1);

/// What did not work the last time.
struct Trouble {
    /// What was said of it.
    lines: Vec<String>,
    /// It was not seen what there is: what rang for it is lost.
    is_blind: bool,
    /// When to try again, as uptime.
    next: Duration,
}

/// What is listened on.
pub struct Captures {
    wanted: Wanted,
    doorbell: Doorbell,
    layout: Layout,
    open: Vec<Capture>,
    only_v4: bool,
    trouble: Option<Trouble>,
}

impl Captures {
    /// Listens on what is wanted for what is of `interest`. With `waits` it need not be there yet.
    ///
    /// # Errors
    /// Why it cannot be listened on.
    pub fn open(
        wanted: Wanted,
        waits: bool,
        interest: &Interest,
        only_v4: bool,
    ) -> Result<Captures, CaptureError> {
        let fail = |interface: &str, problem| CaptureError { interface: interface.to_owned(), problem };
        let look = |error| fail(&wanted.to_string(), CaptureProblem::Failed("interfaces", error));
        // In this order: what changes after the first look rings.
        let doorbell = Doorbell::new(wanted.follows_routes()).map_err(look)?;
        let scene = netlink::scene(wanted.follows_routes()).map_err(look)?;
        let layout = wanted.layout(&scene);
        let stands_at = |state| layout.status.iter().find(|it| it.state == state && !waits);
        if let Some(Status { what, .. }) = stands_at(State::Missing) {
            let is_auto = what == AUTO;
            let problem = if is_auto { CaptureProblem::NoDefaultRoute } else { CaptureProblem::Missing };
            return Err(fail(what, problem(scene.names())));
        }
        let mut open = Vec::new();
        for &index in &layout.indexes {
            open.push(Capture::open(find(&scene, index), &layout, interest, only_v4)?);
        }
        if let Some(status) = stands_at(State::Down) {
            return Err(fail(&status.what, CaptureProblem::Down));
        }
        Ok(Captures { wanted, doorbell, layout, open, only_v4, trouble: None })
    }

    /// Listens on something else from now on, and says what that changed.
    pub fn want(&mut self, wanted: Wanted, interest: &Interest) -> Vec<String> {
        if wanted == self.wanted {
            return self.look(&Ring::default(), interest);
        }
        match Doorbell::new(wanted.follows_routes()) {
            Ok(doorbell) => self.doorbell = doorbell,
            Err(error) => return vec![cannot_look(&error)],
        }
        self.wanted = wanted;
        self.layout.status.clear();
        self.look(&Ring::default(), interest)
    }

    /// Looks what there is, listens accordingly, and says what that changed.
    pub fn look(&mut self, ring: &Ring, interest: &Interest) -> Vec<String> {
        let was_blind = self.trouble.as_ref().is_some_and(|trouble| trouble.is_blind);
        match netlink::scene(self.wanted.follows_routes()) {
            Ok(scene) if was_blind => self.settle(&Ring::of_anything(), &scene, interest),
            Ok(scene) => self.settle(ring, &scene, interest),
            Err(error) => self.try_again(vec![cannot_look(&error)], true),
        }
    }

    /// Looks again, if that did not work and its time has come.
    pub fn look_again(&mut self, uptime: Duration, interest: &Interest) -> Vec<String> {
        let is_due = self.next_look().is_some_and(|next| next <= uptime);
        if is_due { self.look(&Ring::default(), interest) } else { Vec::new() }
    }

    /// When to call [`Captures::look_again`], as uptime.
    #[must_use]
    pub fn next_look(&self) -> Option<Duration> {
        self.trouble.as_ref().map(|trouble| trouble.next)
    }

    /// Remembers what did not work, and says what was not said before.
    fn try_again(&mut self, lines: Vec<String>, is_blind: bool) -> Vec<String> {
        let said = self.trouble.take().map(|before| before.lines).unwrap_or_default();
        let new = lines.iter().filter(|line| !said.contains(line)).cloned().collect();
        self.trouble = Some(Trouble { lines, is_blind, next: now().uptime.saturating_add(RETRY) });
        new
    }

    fn settle(&mut self, ring: &Ring, scene: &Scene, interest: &Interest) -> Vec<String> {
        let layout = self.wanted.layout(scene);
        let mut lines = Vec::new();
        self.open.retain(|Capture { interface, .. }| {
            layout.indexes.contains(&interface.index)
                && (interface.index == EVERY || !ring.removed(interface.index))
        });
        let has_changed = layout.here != self.layout.here || layout.several != self.layout.several;
        for capture in &mut self.open {
            capture.interface = find(scene, capture.interface.index);
            if has_changed && let Err(error) = capture.set_interest(&layout, interest) {
                lines.push(cannot_renew(&error));
            }
        }
        let mut complaints = Vec::new();
        let mut failed = Vec::new();
        let mut renewed = Vec::new();
        for &index in &layout.indexes {
            if self.open.iter().all(|capture| capture.interface.index != index) {
                match Capture::open(find(scene, index), &layout, interest, self.only_v4) {
                    Ok(capture) => {
                        self.open.push(capture);
                        renewed.push(index);
                    }
                    Err(error) => {
                        complaints.push(error.to_string());
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
                lines.push(status.line(before));
            }
        }
        self.layout = layout;
        if complaints.is_empty() {
            self.trouble = None;
        } else {
            lines.extend(self.try_again(complaints, false));
        }
        lines
    }

    /// Listens for something else from now on, and says what did not work.
    pub fn set_interest(&self, interest: &Interest) -> Option<String> {
        let results = self.open.iter().map(|capture| capture.set_interest(&self.layout, interest));
        results.filter_map(Result::err).map(|error| cannot_renew(&error)).next()
    }

    /// Lets the packets of this capture come in another way, if it is time to.
    pub fn adapt(&mut self, place: usize, uptime: Duration, interest: impl FnOnce() -> Interest) {
        let capture = self.open.get_mut(place).filter(|capture| capture.is_to_change(uptime));
        if let Some(capture) = capture {
            capture.change(&self.layout, &interest(), uptime);
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
        &self.doorbell
    }

    /// The addresses that knocks may be for.
    #[must_use]
    pub fn here(&self) -> &[IpAddr] {
        &self.layout.here
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

    /// What is listened on, or what is waited for if that is nothing yet.
    #[must_use]
    pub fn words(&self) -> String {
        let here = |status: &&Status| matches!(status.state, State::Ready | State::NoCarrier);
        let names = |status: Vec<&Status>| {
            status.iter().map(|status| status.what.clone()).collect::<Vec<_>>().join(", ")
        };
        let listening: Vec<&Status> = self.layout.status.iter().filter(here).collect();
        if listening.is_empty() {
            format!("waiting for {}", self.wanted)
        } else {
            format!("listening on {}", names(listening))
        }
    }

    /// A line for each that is waited for.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let missing = self.layout.status.iter().filter(|status| status.state != State::Ready);
        missing.map(|status| status.line(None)).collect()
    }
}

fn find(scene: &Scene, index: u32) -> Interface {
    let known = scene.interfaces.iter().find(|interface| interface.index == index);
    known.cloned().unwrap_or_else(Interface::every)
}

fn cannot_look(error: &io::Error) -> String {
    format!("could not look at the interfaces: {}", reason(error))
}

fn cannot_renew(error: &io::Error) -> String {
    format!("could not renew the packet filter: {}", reason(error))
}
