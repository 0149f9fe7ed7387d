//! The doors with `Open`: whom the kernel's firewall lets in, to which ports, and until when.
//!
//! Pure: the caller requests an [`Admission`], applies the resulting [`Change`]s to the firewall, and reports
//! how that went. The kernel closes these doors by itself; the data here serves the log, renewals, the
//! restoration of elements after a reload of the firewall, and the next process.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use litemap::LiteMap;

use crate::door::open::SetName;
use crate::door::ports::Ports;
use crate::firewall::element::Element;
use crate::opening::admission_id::{AdmissionId, ByAdmission, in_order};
use crate::opening::event::Event;
use crate::time::Now;

/// How long after its end an element is gone for certain: the kernel counts in ticks of up to ten
/// milliseconds.
const TICKS: Duration = Duration::from_millis(20);

/// An element of a set of the firewall.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetElement {
    /// The set.
    pub set: Arc<SetName>,
    /// The element.
    pub element: Element,
}

/// A door that is open in the kernel for a knocker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The door, the knocker and the ports.
    pub id: AdmissionId,
    /// The network that is let in: that of the knocker, or the knocker alone.
    pub network: IpNet,
    /// The elements that let the knocker in.
    pub set_elements: Vec<SetElement>,
    /// How long a knock opens the door; `None` is for ever.
    pub after: Option<Duration>,
    /// The end, as uptime; `None` is never.
    pub until: Option<Duration>,
    /// How much later than that the kernel may close it: the kernel counts the time of an element from some
    /// moment within a transaction, so this is how long the transaction took.
    pub lag: Duration,
    /// The kernel's handles of the user's table and set that hold it.
    pub set_handles: Option<(u64, u64)>,
    /// How it ends, and what is logged.
    pub settings: DoorSettings,
}

impl Admission {
    /// When it is certainly closed, as uptime.
    fn gone(&self) -> Option<Duration> {
        Some(self.until?.saturating_add(self.lag).saturating_add(TICKS))
    }
}

/// The settings of a door besides whom it lets in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a directive of its own")]
pub struct DoorSettings {
    /// `Close_On_Stop`.
    pub closes_on_stop: bool,
    /// `Close_Established`.
    pub closes_established: bool,
    /// `Close_On_Disconnect`.
    pub closes_on_disconnect: bool,
    /// The log does not name the ports: a rule that we do not know decides about them.
    pub hides_ports: bool,
}

/// An operation on an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Add it, with this end (uptime).
    In(Option<Duration>),
    /// Change its end; it is present already.
    Renewed(Option<Duration>),
    /// Remove it.
    Out,
}

/// An element, and the operation on it.
pub type Change = (SetElement, Want);

/// All admissions. Strangers who can open a door can fill the maps, so neither is a sorted list, whose
/// insertions take linear time.
#[derive(Debug, Default)]
pub struct Admissions {
    admitted: ByAdmission<Admission>,
    /// The admissions that need an element.
    holders: HashMap<SetElement, Vec<AdmissionId>>,
    deadlines: BinaryHeap<Reverse<(Duration, AdmissionId)>>,
    wanted: Vec<Admission>,
    /// The changes of [`Admissions::all`] that [`Admissions::take_steps`] has not returned yet.
    steps: Vec<Step>,
}

/// A change of [`Admissions::all`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A knocker is let in, or gets another end.
    Admitted(Admission),
    /// A knocker is no longer let in.
    Dismissed(AdmissionId),
}

/// When an element ends, as uptime; `None` is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End(Option<Duration>);

/// The later of two ends; `None` is never.
fn later(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.zip(other).map(|(one, other)| one.max(other))
}

impl Admissions {
    /// No admissions.
    #[must_use]
    pub fn new() -> Admissions {
        Admissions::default()
    }

    /// Requests that a knocker is let in, or for longer.
    pub fn want(&mut self, admission: Admission) {
        self.wanted.push(admission);
    }

    /// Whether there are pending requests.
    #[must_use]
    pub fn has_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// The changes of the firewall that fulfil all pending requests. Each element occurs once.
    #[must_use]
    pub fn changes_wanted(&self) -> Vec<Change> {
        let mut changes: LiteMap<&SetElement, Option<Duration>> = LiteMap::new();
        for (set_element, until) in self
            .wanted
            .iter()
            .flat_map(|it| it.set_elements.iter().map(|set_element| (set_element, it.until)))
        {
            changes.entry(set_element).and_modify(|end| *end = later(*end, until)).or_insert(until);
        }
        let changes = changes.into_iter().filter_map(|(set_element, until)| match self.end_of(set_element) {
            None => Some((set_element.clone(), Want::In(until))),
            Some(End(end)) if later(end, until) == end => None,
            Some(_) => Some((set_element.clone(), Want::Renewed(until))),
        });
        changes.collect()
    }

    /// When an element that we added ends; `None` if we did not add it.
    fn end_of(&self, set_element: &SetElement) -> Option<End> {
        let ends = self.holders.get(set_element)?.iter().filter_map(|id| Some(self.admitted.get(id)?.until));
        ends.reduce(later).map(End)
    }

    /// Records that the firewall made the requested changes, except for the elements in `refused`, which has
    /// the reasons. Elements that stand in the firewall without us (`foreign`) are not ours to remove. `took`
    /// is the time from `now` until the firewall had answered, see [`Admission::lag`].
    pub fn done(
        &mut self,
        refused: &LiteMap<SetElement, String>,
        foreign: &dyn Fn(&SetElement) -> bool,
        now: Now,
        took: Duration,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for mut wanted in std::mem::take(&mut self.wanted) {
            let AdmissionId { door, knocker, .. } = &wanted.id;
            let whys = wanted.set_elements.iter().filter_map(|set_element| refused.get(set_element));
            let mut whys: Vec<String> = whys.cloned().collect();
            whys.dedup();
            for why in whys {
                events.push(Event::NotAdmitted { door: door.clone(), knocker: *knocker, why });
            }
            wanted.set_elements.retain(|set_element| !refused.contains_key(set_element));
            if wanted.set_elements.is_empty() {
                continue;
            }
            let earlier = self.admitted.get(&wanted.id);
            let until = earlier.map_or(wanted.until, |earlier| later(earlier.until, wanted.until));
            let left = until.map(|until| until.saturating_sub(now.uptime));
            let time = if until == wanted.until { wanted.after } else { left };
            events.push(if earlier.is_some() {
                Event::StillAdmitted { door: door.clone(), knocker: *knocker, time }
            } else {
                let ports = if wanted.settings.hides_ports { Arc::from([]) } else { wanted.id.ports.clone() };
                Event::Admitted { door: door.clone(), knocker: *knocker, ports, time }
            });
            (wanted.until, wanted.lag) = (until, took);
            wanted
                .set_elements
                .retain(|set_element| self.holders.contains_key(set_element) || !foreign(set_element));
            self.store(wanted);
        }
        events
    }

    /// Resumes an admission from before this process began. Returns whether it was unknown.
    pub fn resume(&mut self, mut admission: Admission) -> bool {
        let is_new = !self.admitted.contains_key(&admission.id);
        if let Some(earlier) = self.admitted.get(&admission.id) {
            admission.until = later(earlier.until, admission.until);
        }
        self.store(admission);
        is_new
    }

    fn store(&mut self, mut admission: Admission) {
        let id = &admission.id;
        for set_element in &admission.set_elements {
            let holders = self.holders.entry(set_element.clone()).or_default();
            if !holders.contains(id) {
                holders.push(id.clone());
            }
        }
        if let Some(earlier) = self.admitted.remove(id) {
            admission.lag = admission.lag.max(earlier.lag);
            // A new configuration may use other elements; the earlier ones still count.
            admission.set_elements.extend(earlier.set_elements);
            admission.set_elements.sort_unstable();
            admission.set_elements.dedup();
        }
        if let Some(gone) = admission.gone() {
            self.deadlines.push(Reverse((gone, admission.id.clone())));
        }
        self.steps.push(Step::Admitted(admission.clone()));
        self.admitted.insert(admission.id.clone(), Box::new(admission));
    }

    /// Removes the admissions whose time is over, and returns them. The kernel has closed them.
    pub fn due(&mut self, now: Now) -> Vec<Admission> {
        let mut over = Vec::new();
        while let Some(Reverse((due, _))) = self.deadlines.peek() {
            if *due > now.uptime {
                break;
            }
            let Some(Reverse((due, id))) = self.deadlines.pop() else { break };
            // A renewed admission has another, later deadline.
            let gone = self.admitted.get(&id).and_then(|it| it.gone());
            if gone.is_some_and(|gone| gone <= due)
                && let Some(admission) = self.forget(&id)
            {
                over.push(admission);
            }
        }
        over
    }

    /// When to call [`Admissions::due`] next, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.peek().map(|Reverse((due, _))| *due)
    }

    /// Records that the time of these elements began again, in a transaction that took this long, see
    /// [`Admission::lag`].
    pub fn delay<'a>(&mut self, set_elements: impl Iterator<Item = &'a SetElement>, took: Duration) {
        for id in set_elements.filter_map(|set_element| self.holders.get(set_element)).flatten() {
            let Some(admission) = self.admitted.get_mut(id) else { continue };
            if admission.lag < took {
                admission.lag = took;
                let gone = admission.gone();
                self.deadlines.extend(gone.map(|gone| Reverse((gone, id.clone()))));
            }
        }
    }

    /// Ends an admission before its time. Returns it with the changes of the firewall. An element that
    /// another admission needs stays for as long as that one lasts.
    pub fn close(&mut self, id: &AdmissionId) -> Option<(Admission, Vec<Change>)> {
        let ends: Vec<End> = self
            .admitted
            .get(id)?
            .set_elements
            .iter()
            .filter_map(|set_element| self.end_of(set_element))
            .collect();
        let admission = self.forget(id)?;
        let changes = admission.set_elements.iter().zip(ends).filter_map(|(set_element, before)| match self
            .end_of(set_element)
        {
            None => Some((set_element.clone(), Want::Out)),
            Some(end) if end == before => None,
            Some(End(end)) => Some((set_element.clone(), Want::Renewed(end))),
        });
        let changes = changes.collect();
        Some((admission, changes))
    }

    /// Records that somebody else removed elements. Returns the admissions that have none left.
    pub fn record_removed(&mut self, is_removed: &dyn Fn(&SetElement) -> bool) -> Vec<Admission> {
        let mut set_elements: Vec<SetElement> =
            self.holders.keys().filter(|set_element| is_removed(set_element)).cloned().collect();
        set_elements.sort_unstable();
        let mut closed = Vec::new();
        for set_element in set_elements {
            for id in self.holders.remove(&set_element).unwrap_or_default() {
                let Some(admission) = self.admitted.get_mut(&id) else { continue };
                admission.set_elements.retain(|it| *it != set_element);
                if admission.set_elements.is_empty() {
                    closed.extend(self.forget(&id));
                }
            }
        }
        closed
    }

    fn forget(&mut self, id: &AdmissionId) -> Option<Admission> {
        let admission = *self.admitted.remove(id)?;
        for set_element in &admission.set_elements {
            if let Some(holders) = self.holders.get_mut(set_element) {
                holders.retain(|it| it != id);
                if holders.is_empty() {
                    self.holders.remove(set_element);
                }
            }
        }
        self.steps.push(Step::Dismissed(id.clone()));
        Some(admission)
    }

    /// All elements that let somebody in, in order, with their ends, except those whose end has come.
    #[must_use]
    pub fn set_elements(&self, now: Now) -> Vec<(&SetElement, Option<Duration>)> {
        let ends =
            self.holders.keys().filter_map(|set_element| Some((set_element, self.end_of(set_element)?.0)));
        let mut ends: Vec<_> = ends.filter(|(_, end)| end.is_none_or(|end| end > now.uptime)).collect();
        ends.sort_unstable();
        ends
    }

    /// All admissions, in order of door and knocker.
    #[must_use]
    pub fn all(&self) -> Vec<&Admission> {
        in_order(&self.admitted)
    }

    /// Whether another door lets the same knocker in to some of the same ports.
    #[must_use]
    pub fn is_let_in_elsewhere(&self, admission: &Admission) -> bool {
        let overlap = |one: &Ports, other: &Ports| {
            one.protocol == other.protocol && one.first <= other.last && other.first <= one.last
        };
        self.admitted.values().any(|other| {
            other.id != admission.id
                && other.network.contains(&admission.id.knocker)
                && other.id.ports.iter().any(|one| admission.id.ports.iter().any(|it| overlap(one, it)))
        })
    }

    /// Whether this admission exists.
    #[must_use]
    pub fn has(&self, id: &AdmissionId) -> bool {
        self.admitted.contains_key(id)
    }

    /// Whether there are no admissions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.admitted.is_empty()
    }

    /// The changes of [`Admissions::all`] since the last call, in order.
    pub fn take_steps(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.steps)
    }

    /// Records that a set was made again and its elements were restored. `handles` are the kernel's new
    /// handles of its table and of the set.
    pub fn record_recreated(&mut self, set: &SetName, handles: (u64, u64)) {
        for admission in self.admitted.values_mut() {
            if admission.set_elements.iter().any(|set_element| *set_element.set == *set) {
                admission.set_handles = Some(handles);
                self.steps.push(Step::Admitted((**admission).clone()));
            }
        }
    }
}
