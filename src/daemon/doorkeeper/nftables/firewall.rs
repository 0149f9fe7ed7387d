//! The doors opened in the kernel: checks at the start, and the elements for each knocker.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;

use crate::config::Config;
use crate::daemon::doorkeeper::nftables::changes::ChangeListener;
use crate::daemon::doorkeeper::nftables::disconnects::{self, Disconnects};
use crate::daemon::doorkeeper::nftables::log_message::LogMessage;
use crate::daemon::doorkeeper::nftables::socket::Nftables;
use crate::door::Door;
use crate::door::open::{Open, SINGLE_ADDRESS, SetName};
use crate::door::ports::Ports;
use crate::firewall::element::Element;
use crate::firewall::guard::{self, Abilities, Guard};
use crate::firewall::refusal::Refusal;
use crate::firewall::set::{Description, Form, lines_to_add};
use crate::opening::admission_id::AdmissionId;
use crate::opening::admissions::{Admission, Admissions, DoorSettings, SetElement};
use crate::opening::event::Event;
use crate::opening::state::Admitted;
use crate::time::Now;

/// Maximum number of elements of one door in a set without intervals.
const MOST_ELEMENTS: usize = 1024;

/// A set in the user's own firewall.
#[derive(Debug)]
pub(super) struct UsersSet {
    pub(super) is_v6: bool,
    /// The kernel's latest description; `None` if the set cannot be used.
    pub(super) description: Option<Description>,
    /// The handles of its table and of the set; they change when it is recreated.
    pub(super) handles: Option<(u64, u64)>,
}

/// The doors opened in the kernel.
#[derive(Debug)]
pub(in crate::daemon::doorkeeper) struct Firewall {
    pub(super) nft: Nftables,
    /// Notifications of changes by others; `None` if it cannot listen.
    pub(super) change_listener: Option<ChangeListener>,
    pub(super) abilities: Abilities,
    pub(super) guard: Option<Guard>,
    /// The lock file that marks the guard as ours, where the kernel has no persistent table owners.
    pub(super) guard_lock: Option<File>,
    /// The guard's sets for IPv4 and IPv6, by door.
    pub(super) guard_sets: Vec<[Arc<SetName>; 2]>,
    pub(super) users_sets: LiteMap<Arc<SetName>, UsersSet>,
    pub(in crate::daemon::doorkeeper) admissions: Admissions,
    pub(super) disconnects: Disconnects,
    /// The openings that an earlier process recorded, until they are taken over.
    pub(super) known: Vec<Admitted>,
}

impl Firewall {
    /// Whether a configuration has doors in the firewall.
    #[must_use]
    pub(in crate::daemon::doorkeeper) fn is_needed(config: &Config) -> bool {
        config.doors.iter().any(|door| door.open.is_some())
    }

    /// Checks the sets that the configuration names, and sets up the guard if the configuration has one.
    /// Doors that an earlier process opened in the guard stay open.
    ///
    /// # Errors
    /// A sentence that names what is missing, with the nft lines that add it.
    pub(in crate::daemon::doorkeeper) fn start(
        config: &Config,
        known: &[Admitted],
        now: Now,
        messages: &mut Vec<LogMessage>,
    ) -> Result<Firewall, String> {
        let mut firewall = Firewall::open()?;
        firewall.check_sets(config, messages)?;
        known.clone_into(&mut firewall.known);
        firewall.install_guard(config, messages)?;
        firewall.known.clear();
        firewall.take_over_doors(config, known, now, messages);
        disconnects::check(config, messages);
        Ok(firewall)
    }

    /// A firewall in which no door is open yet.
    ///
    /// # Errors
    /// The kernel has no nftables, or we may not use it.
    pub(in crate::daemon::doorkeeper) fn open() -> Result<Firewall, String> {
        let could_not = |refusal: Refusal| format!("could not use the firewall: {refusal}");
        let mut nft = Nftables::open().map_err(could_not)?;
        nft.try_out().map_err(could_not)?;
        let change_listener = ChangeListener::new(nft.port_id).ok();
        Ok(Firewall {
            nft,
            change_listener,
            abilities: Abilities::ALL,
            guard: None,
            guard_lock: None,
            guard_sets: Vec::new(),
            users_sets: LiteMap::new(),
            admissions: Admissions::new(),
            disconnects: Disconnects::default(),
            known: Vec::new(),
        })
    }

    /// Adapts to another configuration (SIGHUP). Open doors stay open; missing parts are reported as
    /// complaints.
    pub(in crate::daemon::doorkeeper) fn reload(
        &mut self,
        config: &Config,
        now: Now,
        messages: &mut Vec<LogMessage>,
    ) {
        self.commit(now, messages);
        for result in [self.check_sets(config, messages), self.install_guard(config, messages)] {
            if let Err(sentence) = result {
                messages.push(LogMessage::Complaint(sentence));
            }
        }
    }

    /// Readable when another process has changed the ruleset.
    pub(in crate::daemon::doorkeeper) fn changes_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.change_listener.as_ref().map(AsFd::as_fd)
    }

    /// Readable when a connection that a door may wait for has ended.
    pub(in crate::daemon::doorkeeper) fn disconnect_descriptors(
        &self,
    ) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.disconnects.descriptors()
    }

    /// Queues an opening of the door with this number for the next commit. `asked` are the ports that the
    /// packet asked for, used if the door has no ports of its own; `time` replaces the door's own time if
    /// given.
    pub(in crate::daemon::doorkeeper) fn admit(
        &mut self,
        (number, door): (usize, &Door),
        knocker: IpAddr,
        (asked, time): (&[Ports], Option<Duration>),
        now: Now,
        messages: &mut Vec<LogMessage>,
    ) {
        let Some(open) = &door.open else { return };
        let ports: &[Ports] = if open.ports().is_empty() { asked } else { open.ports() };
        let (set_elements, hides_ports) = match self.set_elements((number, door), open, knocker, ports) {
            Ok(set_elements) => set_elements,
            Err(why) => {
                messages.push(LogMessage::Event(Event::NotAdmitted {
                    door: door.name.clone(),
                    knocker,
                    why,
                }));
                return;
            }
        };
        let mut admission = admission_of(door, open, knocker, ports, set_elements);
        admission.after = admission.after.map(|after| time.unwrap_or(after));
        admission.until = admission.after.map(|after| now.uptime.saturating_add(after));
        admission.settings.hides_ports = hides_ports;
        admission.set_handles = self.handles(door, knocker);
        if admission.settings.closes_on_disconnect {
            self.disconnects.follow_opened(&admission.id, admission.network);
        }
        self.admissions.want(admission);
    }

    /// Takes over a door that was opened for a knocker before this process started.
    pub(super) fn resume(
        &mut self,
        (door, knocker): (&Door, IpAddr),
        ports: &[Ports],
        set_elements: Vec<SetElement>,
        until: Option<Duration>,
        now: Now,
        messages: &mut Vec<LogMessage>,
    ) {
        let Some(open) = &door.open else { return };
        let mut admission = admission_of(door, open, knocker, ports, set_elements);
        admission.until = until;
        admission.set_handles = self.handles(door, knocker);
        if admission.settings.closes_on_disconnect {
            self.disconnects.follow_resumed(&admission.id);
        }
        let AdmissionId { door, knocker, .. } = admission.id.clone();
        if self.admissions.resume(admission) {
            let time = until.map(|until| until.saturating_sub(now.uptime));
            messages.push(LogMessage::Event(Event::StillAdmitted { door, knocker, time }));
        }
    }

    /// The handles of the user's set in which a door opens for a knocker.
    fn handles(&self, door: &Door, knocker: IpAddr) -> Option<(u64, u64)> {
        self.users_sets.get(door.rules.open.sets.of(knocker.is_ipv6())?)?.handles
    }

    /// Takes over doors that an earlier process opened in the user's sets. Their elements are there or, if
    /// the set has been recreated since, are put back. An element that is missing in the same set was removed
    /// by hand, so its door is closed.
    pub(in crate::daemon::doorkeeper) fn take_over_doors(
        &mut self,
        config: &Config,
        known: &[Admitted],
        now: Now,
        messages: &mut Vec<LogMessage>,
    ) {
        for it in known.iter().filter(|it| it.until.is_none_or(|until| until > now.uptime)) {
            let AdmissionId { door, knocker, ports } = &it.id;
            let Some((number, door)) = config.doors.iter().enumerate().find(|(_, its)| its.name == *door)
            else {
                continue;
            };
            let Some(open) = &door.open else { continue };
            let Ok((set_elements, _)) = self.set_elements((number, door), open, *knocker, ports) else {
                continue;
            };
            let is_made_anew = it.set != self.handles(door, *knocker);
            let set_elements: Vec<SetElement> = set_elements
                .into_iter()
                .filter(|set_element| set_element.set.table != guard::TABLE)
                .filter(|set_element| {
                    is_made_anew
                        || matches!(self.nft.element(&set_element.set, &set_element.element), Ok(Some(_)))
                })
                .collect();
            if set_elements.is_empty() {
                continue;
            }
            self.resume((door, *knocker), ports, set_elements.clone(), it.until, now, messages);
            if is_made_anew {
                self.put_back(|set_element| set_elements.contains(set_element));
            }
        }
    }

    /// The elements that open a door for a knocker, and whether they do not contain the ports.
    fn set_elements(
        &self,
        (number, door): (usize, &Door),
        open: &Open,
        knocker: IpAddr,
        ports: &[Ports],
    ) -> Result<(Vec<SetElement>, bool), String> {
        let is_v6 = knocker.is_ipv6();
        let network = door.rules.open.network(knocker);
        let mut set_elements = Vec::new();
        let mut tells_ports = false;
        let has_guard = open.is_guarded && self.guard.is_some();
        if let Some([v4, v6]) = self.guard_sets.get(number).filter(|_| has_guard) {
            let set = if is_v6 { v6 } else { v4 }.clone();
            set_elements.push(SetElement { set, element: Element::of_network(network) });
            tells_ports = true;
        }
        let sets = &door.rules.open.sets;
        let users = match sets.of(is_v6) {
            None if sets.is_empty() || tells_ports => return Ok((set_elements, false)),
            None => return Err(format!("nft_set names no set for IPv{}", if is_v6 { 6 } else { 4 })),
            Some(name) => name,
        };
        let index = self.users_sets.find_index(users).ok();
        let known = index.and_then(|index| self.users_sets.get_indexed(index));
        match known.and_then(|(set, it)| Some((set, it.description?))) {
            Some((set, description)) => {
                let elements = Element::all(network, ports, &description).into_iter();
                set_elements.extend(elements.map(|element| SetElement { set: set.clone(), element }));
                Ok((set_elements, !tells_ports && description.form == Form::Address))
            }
            None => Err(Refusal::Missing.sentence(users)),
        }
    }

    /// Checks the sets that the configuration names.
    fn check_sets(&mut self, config: &Config, messages: &mut Vec<LogMessage>) -> Result<(), String> {
        let mut sets: LiteMap<Arc<SetName>, UsersSet> = LiteMap::new();
        let mut wrong = Vec::new();
        let doors = config.doors.iter().filter(|door| door.open.is_some());
        for (door, (name, is_v6)) in
            doors.flat_map(|door| door.rules.open.sets.iter().map(move |set| (door, set)))
        {
            if !sets.contains_key(name) {
                match self.check_set(name, is_v6) {
                    Ok((description, handles)) => {
                        if description.has_intervals {
                            messages.push(LogMessage::Line(interval_warning(name)));
                        }
                        let set = UsersSet { is_v6, description: Some(description), handles: Some(handles) };
                        sets.insert(Arc::new(name.clone()), set);
                    }
                    Err(why) => {
                        wrong.push(why);
                        let set = UsersSet { is_v6, description: None, handles: None };
                        sets.insert(Arc::new(name.clone()), set);
                    }
                }
            }
            let description = sets.get(name).and_then(|set| set.description);
            if let Some(why) = description.and_then(|it| unfit_for(door, name, is_v6, &it)) {
                wrong.push(why);
            }
        }
        self.users_sets = sets;
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    /// The kernel's description of a set and its handles; otherwise what is wrong with it, with the nft lines
    /// that create one.
    pub(super) fn check_set(
        &mut self,
        name: &SetName,
        is_v6: bool,
    ) -> Result<(Description, (u64, u64)), String> {
        let lines = || lines_to_add(name, is_v6);
        let table = self.nft.table(name.family, &name.table).ok().flatten().unwrap_or_default();
        match self.nft.set(name, |attributes| Description::read(attributes, is_v6)) {
            Ok(Some(Ok(description))) => Ok((description, (table.handle, description.handle))),
            Ok(Some(Err(unfit))) => Err(format!(
                "the set {name} cannot open doors: {unfit}; this is how one is made:\n{}",
                lines()
            )),
            Ok(None) => Err(format!("there is no set {name}; this makes it:\n{}", lines())),
            Err(refusal) => Err(format!("could not look at the set {name}: {refusal}")),
        }
    }
}

fn admission_of(
    door: &Door,
    open: &Open,
    knocker: IpAddr,
    ports: &[Ports],
    set_elements: Vec<SetElement>,
) -> Admission {
    let rules = &door.rules.open;
    Admission {
        id: AdmissionId { door: door.name.clone(), knocker, ports: Arc::from(ports) },
        network: rules.network(knocker),
        set_elements,
        set_handles: None,
        after: (!open.is_for_ever).then(|| door.cmd_timeout()),
        until: None,
        lag: Duration::ZERO,
        settings: DoorSettings {
            closes_on_stop: rules.closes_on_stop,
            closes_established: rules.closes_established,
            closes_on_disconnect: rules.closes_on_disconnect,
            hides_ports: false,
        },
    }
}

fn interval_warning(name: &SetName) -> String {
    format!(
        "the set {name} has intervals: opening gets slow when it is large, and an address in a range that is in already is refused; a set without 'flags interval' has neither fault"
    )
}

/// Why a door cannot use a set; `None` if it can.
fn unfit_for(door: &Door, name: &SetName, is_v6: bool, set: &Description) -> Option<String> {
    let (bits, whole) = if is_v6 {
        (door.rules.open.prefixes.1, SINGLE_ADDRESS.1)
    } else {
        (door.rules.open.prefixes.0, SINGLE_ADDRESS.0)
    };
    if bits != whole && !set.has_intervals {
        return Some(format!(
            "door {}: open_prefix{} needs a set that holds ranges; add 'interval' to the flags of {name}",
            door.name,
            if is_v6 { 6 } else { 4 }
        ));
    }
    let ports = door.open.as_ref().map_or(&[][..], |open| open.ports());
    let elements: usize = ports.iter().map(Ports::count).sum();
    (set.form == Form::Service && !set.has_intervals && elements > MOST_ELEMENTS).then(|| {
        format!(
            "door {}: open has {elements} ports, each an element of its own in {name}, and {MOST_ELEMENTS} is the most; add 'interval' to the flags of that set",
            door.name
        )
    })
}
