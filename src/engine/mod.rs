//! The engine: knocks in, events out.
//!
//! It knows who is knocking. The rules are those of knockd 0.8 (knockd(1), "How knocks are
//! matched") without its slips: knockers never disturb each other, and an attempt runs out when its
//! time is over, not when the next packet comes.
//!
//! Total and bounded: no knock makes it fail or block, and it remembers at most so many attempts,
//! cooldowns and repeats as it was made for.

pub mod attempts;
pub mod expiring;
pub mod first_stages;

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::door::Door;
use crate::door::knock::Knock;
use crate::door::lock::{Lock, OneTime, Turn};
use crate::door::rules::Repeat;
use crate::door::sequence::Stage;
use crate::engine::attempts::{Attempt, AttemptId, Attempts};
use crate::engine::expiring::Expiring;
use crate::engine::first_stages::Beginnings;
use crate::filter::interest::Interest;
use crate::opening::event::{Event, Opening};
use crate::time::Now;

/// How many attempts are remembered where nothing is said; a few megabytes when it is full.
pub const MAX_ATTEMPTS: usize = 65_536;

/// What is written opens a door whatever the time is.
const AT_ANY_TIME: Now = Now { uptime: Duration::ZERO, unix: Duration::ZERO };

/// Who is knocking.
#[derive(Debug)]
pub struct Engine {
    doors: Vec<Door>,
    /// Our own addresses, sorted.
    here: Vec<IpAddr>,
    interest: Interest,
    beginnings: Beginnings,
    /// The doors whose sequences change with the time.
    otp_doors: Vec<u32>,
    /// Unix times at which `beginnings` are right.
    is_right: Range<Duration>,
    attempts: Attempts,
    /// Knockers whose knocks are ignored for a time, because they opened the door just now.
    cooldowns: Expiring<()>,
    /// When (uptime) a knocker made the sequence of a door that wants it more than once.
    repeats: Expiring<Vec<Duration>>,
}

/// A knock, and what is known of it.
struct Arrival<'a> {
    knock: &'a Knock,
    /// It is for one of our own addresses.
    own: bool,
    /// It is on some door's list.
    is_known: bool,
    now: Now,
    events: &'a mut Vec<Event>,
    /// The door that was last opened by it.
    opened: Option<u32>,
    /// The door that was last told about, whether one of its lists fits, and if not, how it failed.
    told_about: Option<u32>,
    fits: bool,
    failure: Option<Event>,
}

impl Engine {
    /// An engine for these doors and our own addresses, with nobody knocking yet.
    #[must_use]
    pub fn new(doors: Vec<Door>, here: impl IntoIterator<Item = IpAddr>) -> Engine {
        Engine::with_capacity(doors, here, MAX_ATTEMPTS)
    }

    /// The same for at most so many attempts, and as many cooldowns and repeats.
    #[must_use]
    pub fn with_capacity(
        doors: Vec<Door>,
        here: impl IntoIterator<Item = IpAddr>,
        capacity: usize,
    ) -> Engine {
        let mut engine = Engine {
            otp_doors: (0..).zip(&doors).filter(|(_, door)| is_otp(door)).map(|(index, _)| index).collect(),
            interest: Interest::of(&doors, 0),
            doors,
            here: sorted(here),
            beginnings: Beginnings::default(),
            is_right: Duration::ZERO..Duration::ZERO,
            attempts: Attempts::new(capacity),
            cooldowns: Expiring::new(capacity),
            repeats: Expiring::new(capacity),
        };
        let indexes = (0..).zip(&engine.doors);
        let written: Vec<u32> = indexes.filter(|(_, door)| !is_otp(door)).map(|(index, _)| index).collect();
        engine.beginnings.renew(&engine.doors, &written, AT_ANY_TIME);
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
        self.here = sorted(here);
    }

    /// Lists that were spent on the doors of `earlier` stay spent on the same doors of this engine,
    /// and cooldowns go on.
    pub fn inherit(&mut self, earlier: &Engine, now: Now) {
        let doors: HashMap<Arc<str>, u32> =
            (0..).zip(&self.doors).map(|(index, door)| (door.name.clone(), index)).collect();
        for (old, knocker, &(), until) in earlier.cooldowns.iter() {
            let name = earlier.doors.get(old as usize).map(|door| &door.name);
            if let Some(&index) = name.and_then(|name| doors.get(name)) {
                self.cooldowns.set(index, knocker, (), until, now.uptime);
            }
        }
        let mut spent = HashMap::new();
        for door in &earlier.doors {
            if let Lock::Otp(it) = &door.lock {
                spent.entry((&door.name, it.otp.identity())).or_insert(&it.spent);
            }
        }
        for door in &mut self.doors {
            let Lock::Otp(lock) = &mut door.lock else { continue };
            if let Some(&before) = spent.get(&(&door.name, lock.otp.identity())) {
                lock.spent = before.clone();
            }
        }
    }

    /// A cooldown goes on that began before this engine did.
    pub fn cool_down(&mut self, door: &str, knocker: IpAddr, until: Duration, now: Now) {
        let named = (0..).zip(&self.doors).find(|(_, it)| *it.name == *door);
        if let Some((index, _)) = named {
            self.cooldowns.set(index, knocker, (), until, now.uptime);
        }
    }

    /// A packet arrived. Adds what that changed to `events`, in the order it happened: to those of the
    /// caller, so that a flood does not ask for memory with each packet.
    pub fn observe(&mut self, knock: &Knock, now: Now, events: &mut Vec<Event>) {
        let own = self.is_here(knock.destination);
        let is_known = self.interest.includes(knock, own);
        if !is_known && !self.interest.includes_hit(knock, own) {
            return;
        }
        self.follow_the_clock(now);
        self.expire(now, events);
        let mut arrival = Arrival {
            knock,
            own,
            is_known,
            now,
            events,
            opened: None,
            told_about: None,
            fits: false,
            failure: None,
        };
        let mut is_under_way = false;
        let mut next = self.attempts.first_of(knock.source);
        while let Some(id) = next {
            next = self.attempts.next_of(id);
            is_under_way |= self.carry_on(id, &mut arrival);
        }
        if is_known && !is_under_way {
            self.begin(&mut arrival);
        }
        arrival.turn_to(None);
    }

    /// Whether a packet exists for us at all.
    #[must_use]
    pub fn is_of_interest(&self, knock: &Knock) -> bool {
        self.interest.includes(knock, self.is_here(knock.destination))
    }

    fn is_here(&self, address: IpAddr) -> bool {
        self.here.binary_search(&address).is_ok()
    }

    /// Ends the attempts whose time is over, and adds that to `events`.
    pub fn expire(&mut self, now: Now, events: &mut Vec<Event>) {
        let mut last = None;
        while let Some(Attempt { knocker, reached, door: index, .. }) = self.attempts.expire(now.uptime) {
            // A door with several lists may have several attempts of one knocker.
            let is_told = last.replace((index, knocker, reached)) == Some((index, knocker, reached));
            if let Some(door) = self.doors.get(index as usize).filter(|_| !is_told) {
                events.push(Event::Expired { door: door.name.clone(), knocker, stage: reached.into() });
            }
        }
    }

    /// When to call [`Engine::expire`] next, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.attempts.next_deadline()
    }

    /// A one-time door was opened and its line struck: `fresh` is what its file has left, if it
    /// could be read. Says whether that is nothing: [`Event::Exhausted`].
    pub fn refill(&mut self, door: usize, fresh: Option<OneTime>) -> bool {
        let Some(Lock::OneTime(lines)) = self.doors.get_mut(door).map(|door| &mut door.lock) else {
            return false;
        };
        if let Some(fresh) = fresh {
            **lines = fresh;
        }
        let is_exhausted = lines.first().is_none();
        if let Ok(index) = u32::try_from(door) {
            self.learn_sequence(index);
        }
        is_exhausted
    }

    /// Takes one attempt of the knocker further, leaves it alone, or ends it. Says whether the attempt
    /// is for the address that was knocked at. All rules about packets under way are here.
    fn carry_on(&mut self, id: AttemptId, arrival: &mut Arrival<'_>) -> bool {
        let knock = arrival.knock;
        let Some(&Attempt { door: index, reached, turn, .. }) = self.attempts.get(id) else { return false };
        let Some(door) = self.doors.get(index as usize) else { return false };
        if !door.is_meant(knock.destination, arrival.own) {
            return false;
        }
        if arrival.opened == Some(index) {
            // Two lists of one door ended with the same knocks: they open it once.
            self.attempts.remove(id);
            return true;
        }
        let reached = usize::from(reached);
        let is_stage = |index| door.lock.stage(turn, knock.source, index) == Some(Stage::of(knock));
        let counts = arrival.is_known && door.packet_rule().allows(knock);
        if !(counts && is_stage(reached)) {
            let is_repeat = door.rules.allows_duplicates && is_stage(reached - 1);
            if !is_repeat && (counts || door.rules.is_other_hit(knock)) {
                self.attempts.remove(id);
                arrival.failed(index, door, reached);
            } else if arrival.is_known && !counts {
                arrival.events.push(Event::Unfit { rule: door.flags, flags: knock.flags });
            }
            return true;
        }
        let stage = reached + 1;
        arrival.advanced(index, door, stage);
        if door.lock.length(turn, knock.source) == Some(stage) {
            self.attempts.remove(id);
            self.open(index, turn, arrival);
        } else {
            self.attempts.advance(id);
        }
        true
    }

    /// Begins an attempt on every door whose sequence begins with this knock, in their order.
    fn begin(&mut self, arrival: &mut Arrival<'_>) {
        let knock = arrival.knock;
        let mut previous = None;
        for (index, turn) in self.beginnings.at(Stage::of(knock), knock.destination, arrival.own) {
            let Some(door) = self.doors.get(index as usize) else { continue };
            if !door.packet_rule().allows(knock) {
                arrival.events.push(Event::Unfit { rule: door.flags, flags: knock.flags });
                continue;
            }
            let is_ignored = self.cooldowns.get(index, knock.source, arrival.now.uptime).is_some();
            if is_ignored || !door.rules.admit(knock.source) {
                continue;
            }
            let Some(length) = door.lock.length(turn, knock.source) else { continue };
            if arrival.opened == Some(index) {
                continue;
            }
            arrival.advanced(index, door, 1);
            if length == 1 {
                self.open(index, turn, arrival);
            } else {
                let deadline = arrival.now.uptime.saturating_add(door.seq_timeout());
                let attempt = Attempt { knocker: knock.source, reached: 1, door: index, turn };
                previous = self.attempts.begin(attempt, deadline, previous).or(previous);
            }
        }
    }

    /// The whole sequence was knocked: opens the door, or counts how often it was.
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
                self.repeats.set(index, knocker, made, uptime + within, uptime);
                arrival.events.push(Event::Repeated { door: door.name.clone(), knocker, count });
                return;
            }
            self.repeats.remove(index, knocker);
        }
        let opening = Opening { door: index as usize, knocker, turn };
        arrival.events.push(Event::Opened { door: door.name.clone(), opening });
        if !door.rules.cooldown.is_zero() {
            self.cooldowns.set(index, knocker, (), uptime.saturating_add(door.rules.cooldown), uptime);
        }
        door.lock.spend(turn, knocker, arrival.now);
        if matches!(door.lock, Lock::OneTime(_)) {
            self.learn_sequence(index);
        }
    }

    /// Brings up to date what follows from the sequence that is good now on a one-time door.
    fn learn_sequence(&mut self, index: u32) {
        self.interest = Interest::of(&self.doors, 0);
        self.beginnings.renew(&self.doors, &[index], AT_ANY_TIME);
    }

    /// Brings up to date what follows from the time: costs nothing until some period is over, and
    /// nothing has to wake up for it.
    fn follow_the_clock(&mut self, now: Now) {
        if self.otp_doors.is_empty() || self.is_right.contains(&now.unix) {
            return;
        }
        let was_right = std::mem::replace(&mut self.is_right, Duration::ZERO..Duration::MAX);
        let mut changed = Vec::new();
        for &index in &self.otp_doors {
            let Some(Lock::Otp(lock)) = self.doors.get(index as usize).map(|door| &door.lock) else {
                continue;
            };
            let otp = &lock.otp;
            let period = otp.period(now.unix);
            let (begin, end) = (otp.begins(period), otp.begins(period.saturating_add(1)));
            self.is_right = self.is_right.start.max(begin)..self.is_right.end.min(end);
            // Doors whose period goes on have the right beginnings already.
            let goes_on = !was_right.is_empty() && otp.period(was_right.start) == period;
            if !goes_on {
                changed.push(index);
            }
        }
        self.beginnings.renew(&self.doors, &changed, now);
    }
}

impl Arrival<'_> {
    /// What is told from here on is about this door.
    fn turn_to(&mut self, door: Option<u32>) {
        if self.told_about != door {
            self.events.extend(self.failure.take());
            (self.told_about, self.fits) = (door, false);
        }
    }

    /// Tells that the knocker reached a stage: once for all lists of a door.
    fn advanced(&mut self, index: u32, door: &Door, stage: usize) {
        self.turn_to(Some(index));
        if !self.fits {
            self.events.push(Event::Advanced { door: door.name.clone(), knocker: self.knock.source, stage });
        }
        (self.fits, self.failure) = (true, None);
    }

    /// Tells that an attempt failed, unless another list of the door fits.
    fn failed(&mut self, index: u32, door: &Door, stage: usize) {
        self.turn_to(Some(index));
        if !self.fits {
            self.failure = Some(Event::Failed {
                door: door.name.clone(),
                knocker: self.knock.source,
                stage,
                is_logged: door.rules.logs_failures,
            });
        }
    }
}

fn sorted(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = addresses.into_iter().collect();
    addresses.sort_unstable();
    addresses
}

fn is_otp(door: &Door) -> bool {
    matches!(door.lock, Lock::Otp(_))
}
