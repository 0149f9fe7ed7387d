//! Changes elements of sets in transactions, and deals with the kernel's refusals.

use std::time::Duration;

use litemap::LiteMap;

use crate::daemon::clock;
use crate::daemon::doorkeeper::nftables::firewall::Firewall;
use crate::daemon::doorkeeper::nftables::log_message::LogMessage;
use crate::firewall::element::{self, Operation, Time};
use crate::firewall::refusal::Refusal;
use crate::opening::admissions::{Change, SetElement, Want};
use crate::time::Now;

/// Maximum number of elements in one transaction: if it is refused as a whole, the answers to all must fit
/// the buffer.
const MAX_ELEMENTS: usize = 512;
/// Maximum number of attempts of a transaction, each without what was refused before.
const MAX_ATTEMPTS: usize = 2 * MAX_ELEMENTS;

/// The result of changes.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Changes that were refused, and why.
    pub(super) refused: LiteMap<SetElement, String>,
    /// Elements that were there already, for at least as long; another process added them.
    foreign: Vec<SetElement>,
}

impl Firewall {
    /// Makes all queued openings, with up to [`MAX_ELEMENTS`] elements a transaction; returns whether there
    /// were any.
    pub(in crate::daemon::doorkeeper) fn commit(&mut self, now: Now, messages: &mut Vec<LogMessage>) -> bool {
        if !self.admissions.has_wanted() {
            return false;
        }
        let changes = self.admissions.changes_wanted();
        let outcome = self.change(&changes, now);
        let is_foreign = |set_element: &SetElement| outcome.foreign.contains(set_element);
        let events = self.admissions.done(&outcome.refused, &is_foreign, now, clock::since(now));
        messages.extend(events.into_iter().map(LogMessage::Event));
        true
    }

    /// Puts back elements that a reload of the firewall removed, with the rest of their time.
    pub(super) fn put_back(&mut self, is_wanted: impl Fn(&SetElement) -> bool) -> usize {
        let now = clock::now();
        let set_elements =
            self.admissions.set_elements(now).into_iter().filter(|(set_element, _)| is_wanted(set_element));
        let set_elements: Vec<(SetElement, Option<Duration>)> =
            set_elements.map(|(set_element, until)| (set_element.clone(), until)).collect();
        for chunk in set_elements.chunks(MAX_ELEMENTS) {
            let changes = chunk.iter().map(|(set_element, until)| {
                (set_element, Operation::AddOrKeep, Some(self.timeout(set_element, *until, now)))
            });
            let changes: Vec<_> = changes.collect();
            let mut batch = self.nft.batch();
            for (set_element, operation, time) in changes {
                element::push(&mut batch, &set_element.set, &set_element.element, operation, time);
            }
            // A refusal was reported when the door opened, or the set is gone again.
            let _ = self.nft.commit(batch);
        }
        self.admissions.delay(set_elements.iter().map(|(set_element, _)| set_element), clock::since(now));
        set_elements.len()
    }

    /// Makes changes, up to [`MAX_ELEMENTS`] elements a transaction; one that is refused does not prevent the
    /// others.
    pub(super) fn change(&mut self, changes: &[Change], now: Now) -> Outcome {
        let mut outcome = Outcome::default();
        for chunk in changes.chunks(MAX_ELEMENTS) {
            let operations = chunk.iter().map(|(set_element, want)| match want {
                Want::In(_) => (set_element, Operation::Add, *want),
                Want::Renewed(_) => (set_element, Operation::Renew, *want),
                Want::Out => (set_element, Operation::Delete, *want),
            });
            self.change_chunk(operations.collect(), now, &mut outcome);
        }
        outcome
    }

    fn change_chunk(
        &mut self,
        mut operations: Vec<(&SetElement, Operation, Want)>,
        now: Now,
        outcome: &mut Outcome,
    ) {
        for _ in 0..MAX_ATTEMPTS {
            let mut batch = self.nft.batch();
            let mut numbers = Vec::with_capacity(operations.len());
            for (set_element, operation, want) in &operations {
                let time = match want {
                    Want::In(until) | Want::Renewed(until) => Some(self.timeout(set_element, *until, now)),
                    Want::Out => None,
                };
                numbers.push(element::push(
                    &mut batch,
                    &set_element.set,
                    &set_element.element,
                    *operation,
                    time,
                ));
            }
            let refused = match self.nft.commit(batch) {
                Ok(refused) if refused.is_empty() => return,
                Ok(refused) => refused,
                Err(refusal) => {
                    let all = operations
                        .into_iter()
                        .map(|(set_element, ..)| (set_element.clone(), refusal.sentence(&set_element.set)));
                    outcome.refused.extend(all);
                    return;
                }
            };
            let mut refusals: LiteMap<usize, Refusal> = LiteMap::new();
            for refused in refused {
                let index = numbers.iter().position(|numbers| numbers.contains(&refused.sequence));
                if let Some(index) = index {
                    refusals.entry(index).or_insert(Refusal::of(refused, 0));
                }
            }
            let mut remaining = Vec::with_capacity(operations.len());
            for (index, (set_element, operation, want)) in operations.into_iter().enumerate() {
                let Some(why) = refusals.get(&index) else {
                    remaining.push((set_element, operation, want));
                    continue;
                };
                match self.resolve(set_element, operation, want, *why, now) {
                    Resolution::Retry(operation) => remaining.push((set_element, operation, want)),
                    Resolution::Done => {}
                    Resolution::Foreign => {
                        outcome.foreign.push(set_element.clone());
                    }
                    Resolution::Refuse => {
                        outcome.refused.insert(set_element.clone(), why.sentence(&set_element.set));
                    }
                }
            }
            operations = remaining;
        }
    }

    /// Decides what to do about an element whose change was refused.
    fn resolve(
        &mut self,
        set_element: &SetElement,
        operation: Operation,
        want: Want,
        why: Refusal,
        now: Now,
    ) -> Resolution {
        match (operation, why) {
            // It is gone already, as wanted.
            (Operation::Delete, Refusal::Missing) => Resolution::Done,
            (Operation::Add, Refusal::Exists) => {
                match self.nft.element(&set_element.set, &set_element.element) {
                    // A knock never shortens a time, not even one that an administrator set.
                    Ok(Some(found)) if lasts(found.left, want, now) => Resolution::Foreign,
                    // Something else overlaps it.
                    Ok(None) if set_element.element.end.is_some() => Resolution::Refuse,
                    // It may have expired just now.
                    _ => Resolution::Retry(Operation::Renew),
                }
            }
            // Linux 5.10 cannot do this in one transaction in a set with many intervals.
            (Operation::Renew, Refusal::Exists) => {
                let mut batch = self.nft.batch();
                element::push(&mut batch, &set_element.set, &set_element.element, Operation::Delete, None);
                let _ = self.nft.commit(batch);
                Resolution::Retry(Operation::AddOrKeep)
            }
            _ => Resolution::Refuse,
        }
    }

    /// The timeout of an element that expires at the uptime `until`, or never if `None`.
    fn timeout(&self, set_element: &SetElement, until: Option<Duration>, now: Now) -> Time {
        let has_default = || {
            let description = self.users_sets.get(&*set_element.set).and_then(|set| set.description);
            description.is_some_and(|description| description.default_timeout.is_some())
        };
        until.map_or_else(
            || Time::ForEver { has_default: has_default() },
            |until| Time::For(until.saturating_sub(now.uptime)),
        )
    }
}

enum Resolution {
    Retry(Operation),
    Done,
    Foreign,
    Refuse,
}

/// Whether an element with this time left (`None` is forever) lasts as long as wanted.
fn lasts(time_left: Option<Duration>, want: Want, now: Now) -> bool {
    match (time_left, want) {
        (None, _) | (_, Want::Out) => true,
        (Some(_), Want::In(None) | Want::Renewed(None)) => false,
        (Some(left), Want::In(Some(until)) | Want::Renewed(Some(until))) => {
            now.uptime.saturating_add(left) >= until
        }
    }
}
