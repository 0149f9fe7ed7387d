//! Matches knocks: how a packet changes the attempts of its knocker.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::door::knock::{Knock, Protocol};
use crate::door::lock::{Lock, Turn};
use crate::door::rules::Repeat;
use crate::door::sequence::Stage;
use crate::door::{Door, spend_at_namesakes};
use crate::engine::Engine;
use crate::engine::attempts::{AttemptId, Attempts, Candidate};
use crate::engine::steps::Steps;
use crate::engine::tally::Tally;
use crate::opening::event::{Event, Opening};
use crate::time::Now;

/// A knock that is being processed, and its results so far.
#[expect(clippy::struct_excessive_bools, reason = "two say what the packet is, two what became of it")]
struct Arrival<'a> {
    knock: &'a Knock,
    /// Its destination is one of this host's addresses.
    own: bool,
    /// It may be a stage of some door, rather than only a hit that fails attempts at strict doors.
    may_be_stage: bool,
    now: Now,
    events: &'a mut Vec<Event>,
    /// The door that it opened last.
    opened: Option<u32>,
    /// The turns that it used up. One knock opens all sections of a name that share a list; then that list
    /// opens none of them again.
    used: Vec<(u32, Turn)>,
    /// The door that events are reported for, whether the knock advanced one of its lists, and the
    /// failure to report if it advances none.
    current_door: Option<u32>,
    has_advanced: bool,
    /// An attempt waited for it, or it repeats the last stage of one.
    is_awaited: bool,
    failure: Option<(u32, Event)>,
    /// [`Event::Tried`] events, reported after the failures.
    tried: Vec<Event>,
    /// Taken from the engine while the knock is being processed, then put back.
    tallies: Vec<Tally>,
    steps: Steps,
}

impl Engine {
    /// Processes a packet and appends the resulting events to `events`, in order. The caller owns the vector,
    /// so that a flood does not allocate memory for each packet. Returns whether it is left over: some door
    /// can use it, to advance or to fail an attempt, but no attempt waited for it.
    pub fn observe(&mut self, knock: &Knock, now: Now, events: &mut Vec<Event>) -> bool {
        self.observe_from(true, knock, now, events)
    }

    /// Does the same. A packet that did not arrive `here` begins no attempt.
    #[cfg_attr(has_optimize_attribute, optimize(speed))]
    pub(super) fn observe_from(
        &mut self,
        here: bool,
        knock: &Knock,
        now: Now,
        events: &mut Vec<Event>,
    ) -> bool {
        let own = self.is_here(knock.destination);
        let may_be_stage = self.interest.includes(knock, own);
        // Most packets of a flood of single packets end here.
        (may_be_stage || self.interest.includes_hit(knock, own))
            && self.apply(knock, (own, may_be_stage, may_be_stage && here), now, events)
    }

    /// Processes a packet that may be a stage of some door, or fail an attempt at a strict one.
    #[inline(never)]
    fn apply(
        &mut self,
        knock: &Knock,
        (own, may_be_stage, may_begin): (bool, bool, bool),
        now: Now,
        events: &mut Vec<Event>,
    ) -> bool {
        self.update_otp_doors(now);
        self.expire(now, events);
        let mut arrival = Arrival {
            knock,
            own,
            may_be_stage,
            now,
            events,
            opened: None,
            used: Vec::new(),
            current_door: None,
            has_advanced: false,
            is_awaited: false,
            failure: None,
            tried: Vec::new(),
            tallies: std::mem::take(&mut self.tallies),
            steps: self.steps,
        };
        let mut has_attempt = false;
        let mut next = self.attempts.first_of(knock.source);
        while let Some(id) = next {
            next = self.attempts.next_of(id);
            has_attempt |= self.apply_to_attempt(id, &mut arrival);
        }
        if may_begin && !has_attempt {
            self.begin(&mut arrival);
        }
        let (has_opened, is_left_over) = (arrival.opened.is_some(), !arrival.is_awaited);
        arrival.switch_to(None);
        arrival.events.append(&mut arrival.tried);
        (self.tallies, self.steps) = (arrival.tallies, arrival.steps);
        for (index, turn) in arrival.used {
            spend_at_namesakes(&mut self.doors, index as usize, turn, knock.source, now);
        }
        self.most_attempts = self.most_attempts.max(self.attempts.len());
        if has_opened {
            self.strays.forget(knock.source);
        } else if may_be_stage {
            self.strays.note(knock.source, Stage::of(knock), now);
        }
        is_left_over
    }

    /// Advances an attempt of the knocker, leaves it alone or ends it, at each of its doors. Returns whether
    /// any of these doors accepts the knock's destination.
    fn apply_to_attempt(&mut self, id: AttemptId, arrival: &mut Arrival<'_>) -> bool {
        let (mut before, mut left) = (std::mem::take(&mut self.before), std::mem::take(&mut self.left));
        before.clear();
        before.extend_from_slice(self.attempts.candidates(id));
        left.clear();
        let mut is_meant = false;
        for &candidate in &before {
            let (is_destination, next) = self.apply_to_candidate(candidate, arrival);
            is_meant |= is_destination;
            left.extend(next);
        }
        if left != before {
            self.attempts.keep(id, &left, self.shortest_timeout(&left));
            arrival.count_evicted(&mut self.attempts);
        }
        (self.before, self.left) = (before, left);
        is_meant
    }

    /// Applies the knock to an attempt at one door. Returns whether the door accepts the knock's destination,
    /// and what remains of the attempt at this door. All rules for attempts in progress are here.
    fn apply_to_candidate(
        &mut self,
        candidate: Candidate,
        arrival: &mut Arrival<'_>,
    ) -> (bool, Option<Candidate>) {
        let knock = arrival.knock;
        let Candidate { door: index, reached, turn } = candidate;
        let Some(door) = self.doors.get(index as usize) else { return (false, None) };
        if !door.accepts_destination(knock.destination, arrival.own) {
            return (false, Some(candidate));
        }
        if arrival.opened == Some(index) {
            // Two lists of the door were completed by the same knocks: they open it once.
            return (true, None);
        }
        let stage = usize::from(reached);
        let is_stage = |index| door.lock.stage(turn, knock.source, index) == Some(Stage::of(knock));
        let counts = arrival.may_be_stage && door.packet_rule().allows(knock);
        if !(counts && is_stage(stage)) {
            let is_repeat = door.rules.allows_duplicates && is_stage(stage - 1);
            arrival.is_awaited |= is_repeat;
            if !is_repeat && (counts || door.fails_strict(knock)) {
                arrival.failed(index, door, stage);
                let tried = self.record_failed_attempt(index, turn, knock.source, stage, arrival.now);
                arrival.tried.extend(tried);
                return (true, None);
            }
            if arrival.may_be_stage && !counts {
                arrival.events.push(Event::Unfit { rule: door.packet_rule().flags, flags: knock.flags });
            }
            return (true, Some(candidate));
        }
        arrival.is_awaited = true;
        arrival.advanced(index, door, stage + 1);
        if door.lock.length(turn, knock.source) == Some(stage + 1) {
            self.open(index, turn, arrival);
            return (true, None);
        }
        (true, Some(Candidate { reached: reached.saturating_add(1), ..candidate }))
    }

    /// The shortest `seq_timeout` of these doors.
    pub(super) fn shortest_timeout(&self, candidates: &[Candidate]) -> Duration {
        let doors = candidates.iter().filter_map(|candidate| self.doors.get(candidate.door as usize));
        doors.map(Door::seq_timeout).min().unwrap_or_default()
    }

    /// Begins an attempt at the doors whose sequences begin with this knock, in the order of the doors.
    fn begin(&mut self, arrival: &mut Arrival<'_>) {
        let knock = arrival.knock;
        let (mut begun, mut firsts) = (std::mem::take(&mut self.left), std::mem::take(&mut self.firsts));
        begun.clear();
        self.first_stages.doors_at(Stage::of(knock), knock.destination, arrival.own, &mut firsts);
        let mut explained = 0;
        for &(index, turn) in &firsts {
            if self.explains_flags {
                self.explain_flags_of(explained..=index, arrival);
                explained = index.saturating_add(1);
            }
            let Some(door) = self.doors.get(index as usize) else { continue };
            if !door.packet_rule().allows(knock) {
                if !self.explains_flags {
                    arrival.events.push(Event::Unfit { rule: door.packet_rule().flags, flags: knock.flags });
                }
                continue;
            }
            let is_ignored = self.cooldowns.get(index, knock.source, arrival.now.uptime).is_some();
            if is_ignored || !door.rules.admit(knock.source) {
                arrival.count(index, |tally| tally.ignored += 1);
                continue;
            }
            let Some(length) = door.lock.length(turn, knock.source) else {
                arrival.count(index, |tally| tally.wrong_list += 1);
                continue;
            };
            if arrival.opened == Some(index) {
                continue;
            }
            arrival.advanced(index, door, 1);
            if length == 1 {
                self.open(index, turn, arrival);
            } else {
                begun.push(Candidate { door: index, reached: 1, turn });
            }
        }
        if !begun.is_empty() {
            let shortest_timeout = self.shortest_timeout(&begun);
            self.attempts.begin(knock.source, &begun, shortest_timeout, arrival.now.uptime);
            arrival.count_evicted(&mut self.attempts);
        }
        (self.left, self.firsts) = (begun, firsts);
        self.explain_flags_of(explained..=u32::MAX, arrival);
    }

    /// If [`Engine::explain_flags`] is on, reports each of these doors whose TCP flag rule the segment fails.
    fn explain_flags_of(&self, doors: RangeInclusive<u32>, arrival: &mut Arrival<'_>) {
        let knock = arrival.knock;
        if !self.explains_flags || knock.protocol != Protocol::Tcp {
            return;
        }
        let (first, last) = (*doors.start() as usize, *doors.end() as usize);
        let doors = self.doors.iter().take(last.saturating_add(1)).skip(first);
        let rules = doors.map(|door| door.packet_rule().flags).filter(|rule| !rule.allows(knock.flags));
        arrival.events.extend(rules.map(|rule| Event::Unfit { rule, flags: knock.flags }));
    }

    /// Opens the door after a completed sequence. With `Repeat`, only counts the completion until there are
    /// enough.
    fn open(&mut self, index: u32, turn: Turn, arrival: &mut Arrival<'_>) {
        let Some(door) = self.doors.get_mut(index as usize) else { return };
        let (knocker, uptime) = (arrival.knock.source, arrival.now.uptime);
        arrival.opened = Some(index);
        if let Some(Repeat { times, within }) = door.rules.repeat {
            let mut made = self.repeats.get(index, knocker, uptime).cloned().unwrap_or_default();
            made.retain(|&time| time + within > uptime);
            made.push(uptime);
            let count = (made.len(), usize::from(times));
            if count.0 < count.1 {
                made.shrink_to_fit();
                self.repeats.set(index, knocker, made, uptime + within, uptime);
                arrival.events.push(Event::Repeated { door: door.name.clone(), knocker, count });
                return;
            }
            self.repeats.remove(index, knocker);
        }
        let opening = Opening { door: index as usize, knocker, turn };
        let name = door.name.clone();
        // Before the line is spent: the default rate depends on whether the current line is a single knock.
        let is_admitted = self.buckets.admit(index as usize, door, Duration::ZERO, uptime);
        // The list is spent even if the rate limit refuses the opening: others may have overheard it.
        let (is_one_time, cooldown) = (matches!(door.lock, Lock::OneTime(_)), door.rules.cooldown);
        door.lock.spend(turn, knocker, arrival.now);
        arrival.used.push((index, turn));
        if is_admitted {
            let unix = arrival.now.unix;
            arrival.count(index, |tally| {
                tally.opened += 1;
                tally.last_opened = Some(unix);
            });
            if !cooldown.is_zero() {
                self.cool_down(&name, knocker, uptime.saturating_add(cooldown), arrival.now);
            }
            arrival.events.push(Event::Opened { door: name, opening });
        } else {
            arrival.events.push(Event::TooOften { door: name, opening });
        }
        if is_one_time {
            self.sequence_changed(index);
        }
    }
}

impl Arrival<'_> {
    /// Updates the counters of a door.
    fn count(&mut self, index: u32, count: impl FnOnce(&mut Tally)) {
        if let Some(tally) = self.tallies.get_mut(index as usize) {
            count(tally);
        }
    }

    /// Counts the attempts that were evicted.
    fn count_evicted(&mut self, attempts: &mut Attempts) {
        for door in attempts.take_evicted() {
            self.count(door, |tally| tally.pushed_out += 1);
        }
    }

    /// Reports the failure of the current door, if any, and makes this one current.
    fn switch_to(&mut self, door: Option<u32>) {
        if self.current_door != door {
            if let Some((failed, event)) = self.failure.take() {
                self.count(failed, |tally| tally.failed += 1);
                self.events.push(event);
            }
            (self.current_door, self.has_advanced) = (door, false);
        }
    }

    /// Reports that the knocker reached a stage: once for all lists of a door.
    fn advanced(&mut self, index: u32, door: &Door, stage: usize) {
        self.switch_to(Some(index));
        if !self.has_advanced {
            if stage == 1 {
                self.count(index, |tally| tally.begun += 1);
            }
            if self.steps.admits() {
                let knocker = self.knock.source;
                self.events.push(Event::Advanced { door: door.name.clone(), knocker, stage });
            }
        }
        (self.has_advanced, self.failure) = (true, None);
    }

    /// Reports that an attempt failed, unless the knock advances another list of the door.
    fn failed(&mut self, index: u32, door: &Door, stage: usize) {
        self.switch_to(Some(index));
        if !self.has_advanced {
            let event = Event::Failed {
                door: door.name.clone(),
                knocker: self.knock.source,
                stage,
                is_logged: door.rules.logs_failures,
            };
            self.failure = Some((index, event));
        }
    }
}
