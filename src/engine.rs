//! The engine: knocks in, events out.
//!
//! It knows who is knocking. The rules are those of knockd 0.8 (knockd(1), "How knocks are
//! matched") without its slips: knockers never disturb each other, and an attempt runs out when its
//! time is over, not when the next packet comes.
//!
//! Total and bounded: no knock makes it fail or block, and it remembers at most
//! [`MAX_ATTEMPTS`] attempts.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::attempts::{Attempt, AttemptId, Attempts};
use crate::door::Door;
use crate::event::{Event, Opening};
use crate::interest::Interest;
use crate::knock::Knock;
use crate::lock::{Lock, OneTime, Turn};
use crate::sequence::Stage;
use crate::time::Now;

/// How many attempts are remembered; a few megabytes when it is full.
pub const MAX_ATTEMPTS: usize = 65_536;

/// Where a sequence begins: the door's target, if it has one, and the first stage.
type Beginning = (Option<IpAddr>, Stage);

/// Who is knocking.
#[derive(Debug)]
pub struct Engine {
    doors: Vec<Door>,
    here: HashSet<IpAddr>,
    interest: Interest,
    beginnings: HashMap<Beginning, Vec<(u32, Turn)>>,
    attempts: Attempts,
}

impl Engine {
    /// An engine for these doors and our own addresses, with nobody knocking yet.
    #[must_use]
    pub fn new(doors: Vec<Door>, here: impl IntoIterator<Item = IpAddr>) -> Engine {
        let mut engine = Engine {
            doors,
            here: here.into_iter().collect(),
            interest: Interest::default(),
            beginnings: HashMap::new(),
            attempts: Attempts::new(MAX_ATTEMPTS),
        };
        engine.learn_sequences();
        engine
    }

    /// The doors, in the order of the configuration.
    #[must_use]
    pub fn doors(&self) -> &[Door] {
        &self.doors
    }

    /// How many attempts are under way.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// Our own addresses changed; attempts under way go on.
    pub fn relocate(&mut self, here: impl IntoIterator<Item = IpAddr>) {
        self.here = here.into_iter().collect();
    }

    /// A packet arrived. Says what that changed, in the order it happened.
    pub fn observe(&mut self, knock: &Knock, now: Now) -> Vec<Event> {
        let own = self.here.contains(&knock.destination);
        if !self.interest.includes(knock, own) {
            return Vec::new();
        }
        let mut events = self.expire(now);
        let mut is_under_way = false;
        let mut next = self.attempts.first_of(knock.source);
        while let Some(id) = next {
            next = self.attempts.next_of(id);
            is_under_way |= self.carry_on(id, knock, own, &mut events);
        }
        if !is_under_way {
            self.begin(knock, own, now, &mut events);
        }
        events
    }

    /// Whether a packet exists for us at all.
    #[must_use]
    pub fn is_of_interest(&self, knock: &Knock) -> bool {
        self.interest.includes(knock, self.here.contains(&knock.destination))
    }

    /// Ends the attempts whose time is over.
    pub fn expire(&mut self, now: Now) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(attempt) = self.attempts.expire(now.uptime) {
            if let Some(door) = self.doors.get(attempt.door as usize) {
                events.push(Event::Expired {
                    door: door.name.clone(),
                    knocker: attempt.knocker,
                    stage: attempt.reached.into(),
                });
            }
        }
        events
    }

    /// When to call [`Engine::expire`] next, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.attempts.next_deadline()
    }

    /// A one-time door was opened and its line struck: `fresh` is what its file has left, if it
    /// could be read. Says so when that is nothing.
    pub fn refill(&mut self, door: usize, fresh: Option<OneTime>) -> Option<Event> {
        let door = self.doors.get_mut(door)?;
        let Lock::OneTime(lines) = &mut door.lock else { return None };
        if let Some(fresh) = fresh {
            *lines = fresh;
        }
        let event = lines.first().is_none().then(|| Event::Exhausted { door: door.name.clone() });
        self.learn_sequences();
        event
    }

    /// Takes one attempt of the knocker further, or ends it. Says whether the attempt is for the
    /// address that was knocked at.
    fn carry_on(&mut self, id: AttemptId, knock: &Knock, own: bool, events: &mut Vec<Event>) -> bool {
        let Some(&attempt) = self.attempts.get(id) else { return false };
        let Some(door) = self.doors.get(attempt.door as usize) else { return false };
        if !door.is_meant(knock.destination, own) {
            return false;
        }
        if !door.flags.allows(knock) {
            events.push(Event::Unfit { rule: door.flags, flags: knock.flags });
            return true;
        }
        let reached = usize::from(attempt.reached);
        if door.lock.stage(attempt.turn, reached) == Some(Stage::of(knock)) {
            let stage = reached + 1;
            events.push(Event::Advanced { door: door.name.clone(), knocker: knock.source, stage });
            if door.lock.stage(attempt.turn, stage).is_none() {
                self.attempts.remove(id);
                self.open(attempt.door, attempt.turn, knock.source, events);
            } else {
                self.attempts.advance(id);
            }
        } else {
            self.attempts.remove(id);
            events.push(Event::Failed { knocker: knock.source });
        }
        true
    }

    /// Begins an attempt on every door whose sequence begins with this knock, in their order.
    fn begin(&mut self, knock: &Knock, own: bool, now: Now, events: &mut Vec<Event>) {
        let mut doors = Vec::new();
        for target in [own.then_some(None), Some(Some(knock.destination))].into_iter().flatten() {
            doors.extend(self.beginnings.get(&(target, Stage::of(knock))).into_iter().flatten().copied());
        }
        doors.sort_unstable_by_key(|(door, _)| *door);
        let mut previous = None;
        for (index, turn) in doors {
            let Some(door) = self.doors.get(index as usize) else { continue };
            if !door.flags.allows(knock) {
                events.push(Event::Unfit { rule: door.flags, flags: knock.flags });
                continue;
            }
            events.push(Event::Advanced { door: door.name.clone(), knocker: knock.source, stage: 1 });
            if door.lock.stage(turn, 1).is_none() {
                self.open(index, turn, knock.source, events);
            } else {
                let deadline = now.uptime.saturating_add(door.seq_timeout());
                let attempt = Attempt { knocker: knock.source, reached: 1, door: index, turn };
                previous = self.attempts.begin(attempt, deadline, previous).or(previous);
            }
        }
    }

    fn open(&mut self, index: u32, turn: Turn, knocker: IpAddr, events: &mut Vec<Event>) {
        let Some(door) = self.doors.get_mut(index as usize) else { return };
        let opening = Opening { door: index as usize, knocker, turn };
        events.push(Event::Opened { door: door.name.clone(), opening });
        if door.lock.spend(turn) {
            self.learn_sequences();
        }
    }

    /// Brings up to date what follows from the sequences that are good now.
    fn learn_sequences(&mut self) {
        self.interest = Interest::of(&self.doors, 0);
        self.beginnings.clear();
        for (index, door) in (0_u32..).zip(&self.doors) {
            for (turn, sequence) in door.lock.current() {
                if let Some(first) = sequence.stages().first() {
                    self.beginnings.entry((door.target, *first)).or_default().push((index, turn));
                }
            }
        }
    }
}
