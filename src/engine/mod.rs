//! The engine: knocks in, events out.
//!
//! It knows who is knocking. Its rules are those of knockd 0.8 (knockd(1), "How knocks are matched")
//! without its bugs: knockers never disturb each other, and an attempt expires at its deadline, not
//! with the next packet.
//!
//! No knock makes it fail or block, and its capacity limits the memory of the attempts, cooldowns and
//! repeats that it stores.

pub mod attempts;
pub mod expiring_map;
pub mod first_stages;
pub mod single_packets;
pub mod strays;
pub mod tally;

use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;

use crate::door::Door;
use crate::door::knock::{Knock, Protocol};
use crate::door::lock::{Lock, OneTime, Turn};
use crate::door::rules::Repeat;
use crate::door::sequence::Stage;
use crate::door::spent::Spent;
use crate::door::tries::Tries;
use crate::engine::attempts::{Attempt, AttemptId, Attempts};
use crate::engine::expiring_map::ExpiringMap;
use crate::engine::first_stages::FirstStages;
use crate::engine::single_packets::{Gates, Verdict};
use crate::engine::strays::Strays;
use crate::engine::tally::Tally;
use crate::filter::interest::Interest;
use crate::opening::event::{Event, Opening};
use crate::opening::rate::Buckets;
use crate::time::Now;

/// The default capacity; a full table of attempts takes a few megabytes.
pub const MAX_ATTEMPTS: usize = 65_536;

/// For how many knockers who completed a sequence, cooldowns are kept, and as many repeats: an eighth of
/// the attempts, so that the memory of these is the most of it, but not below what a small table is for.
fn knockers_kept(capacity: usize) -> usize {
    (capacity / 8).max(1024)
}

/// The time to pass for doors whose sequences do not depend on it.
const AT_ANY_TIME: Now = Now { uptime: Duration::ZERO, unix: Duration::ZERO };

/// The attempts of all knockers at all doors.
#[derive(Debug)]
pub struct Engine {
    doors: Vec<Door>,
    /// This host's addresses, sorted.
    here: Vec<IpAddr>,
    interest: Interest,
    first_stages: FirstStages,
    gates: Gates,
    /// The doors whose sequences change with the time.
    otp_doors: Vec<u32>,
    /// The Unix times for which `first_stages` is up to date.
    valid_times: Range<Duration>,
    attempts: Attempts,
    /// Knocks that opened nothing.
    strays: Strays,
    /// `-D`: packets whose TCP flags do not fit a door are reported, see [`Engine::explain_flags`].
    explains_flags: bool,
    /// Knockers whose knocks are ignored for a while, because they have just opened the door.
    cooldowns: ExpiringMap<()>,
    /// The uptimes at which a knocker completed the sequence of a door with `Repeat`.
    repeats: ExpiringMap<Vec<Duration>>,
    /// What was counted for each door.
    tallies: Vec<Tally>,
    /// The most attempts that were in progress at once.
    most_attempts: usize,
    /// What doors with a rate have used of it.
    buckets: Buckets,
}

/// A knock that is being processed, and what it has caused so far.
struct Arrival<'a> {
    knock: &'a Knock,
    /// Its destination is one of this host's addresses.
    own: bool,
    /// It may be a stage of some door, and is not only a hit on a strict one.
    may_be_stage: bool,
    now: Now,
    events: &'a mut Vec<Event>,
    /// The door that it opened last.
    opened: Option<u32>,
    /// The door that events are reported for, whether the knock advanced one of its lists, and the
    /// failure to report if it advances none.
    current_door: Option<u32>,
    has_advanced: bool,
    failure: Option<(u32, Event)>,
    /// [`Event::Tried`], which comes after the failures.
    tried: Vec<Event>,
    /// The engine's, for as long as the knock is being processed.
    tallies: Vec<Tally>,
}

impl Engine {
    /// An engine for these doors and this host's addresses, without attempts.
    #[must_use]
    pub fn new(doors: Vec<Door>, here: impl IntoIterator<Item = IpAddr>) -> Engine {
        Engine::with_capacity(doors, here, MAX_ATTEMPTS)
    }

    /// The same for at most `capacity` attempts.
    #[must_use]
    pub fn with_capacity(
        doors: Vec<Door>,
        here: impl IntoIterator<Item = IpAddr>,
        capacity: usize,
    ) -> Engine {
        Engine::at(doors, sorted(here), capacity)
    }

    fn at(doors: Vec<Door>, here: Vec<IpAddr>, capacity: usize) -> Engine {
        let mut engine = Engine {
            otp_doors: (0..).zip(&doors).filter(|(_, door)| is_otp(door)).map(|(index, _)| index).collect(),
            interest: Interest::of(&doors, 0),
            gates: Gates::of(&doors),
            tallies: vec![Tally::default(); doors.len()],
            most_attempts: 0,
            strays: Strays::of(&doors),
            doors,
            here,
            first_stages: FirstStages::default(),
            valid_times: Duration::ZERO..Duration::ZERO,
            attempts: Attempts::new(capacity),
            explains_flags: false,
            cooldowns: ExpiringMap::new(knockers_kept(capacity)),
            repeats: ExpiringMap::new(knockers_kept(capacity)),
            buckets: Buckets::default(),
        };
        let indexes = (0..).zip(&engine.doors);
        let others: Vec<u32> = indexes.filter(|(_, door)| !is_otp(door)).map(|(index, _)| index).collect();
        engine.first_stages.update(&engine.doors, &others, AT_ANY_TIME);
        engine
    }

    /// The doors, in the order of the configuration.
    #[must_use]
    pub fn doors(&self) -> &[Door] {
        &self.doors
    }

    /// How many attempts are in progress.
    #[must_use]
    pub fn attempts(&self) -> usize {
        self.attempts.len()
    }

    /// The most attempts that were in progress at once.
    #[must_use]
    pub fn most_attempts(&self) -> usize {
        self.most_attempts
    }

    /// What was counted for each door, in the order of [`Engine::doors`].
    #[must_use]
    pub fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    /// How many bytes the tables of attempts, cooldowns and repeats have allocated.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.attempts.bytes() + self.cooldowns.bytes() + self.repeats.bytes()
    }

    /// Replaces this host's addresses; attempts in progress continue.
    pub fn relocate(&mut self, here: impl IntoIterator<Item = IpAddr>) {
        self.here = sorted(here);
    }

    /// From now on reports each door whose TCP flags a packet does not have ([`Event::Unfit`]), as the debug output of
    /// knockd 0.8 does: not only doors that have the packet's port next, but all, whatever their ports and targets, if
    /// the packet may begin an attempt. That takes time in proportion to the number of doors.
    pub fn explain_flags(&mut self) {
        self.explains_flags = true;
    }

    /// Takes over the spent lists, the tries at lists, the cooldowns and the counts of an earlier engine, for the doors that both have.
    pub fn inherit(&mut self, earlier: &Engine, now: Now) {
        self.tallies = tally::inherited(&self.doors, &earlier.doors, &earlier.tallies);
        self.most_attempts = earlier.most_attempts;
        let doors: LiteMap<Arc<str>, u32> =
            (0..).zip(&self.doors).map(|(index, door)| (door.name.clone(), index)).collect();
        for (old, knocker, &(), until) in earlier.cooldowns.iter() {
            let name = earlier.doors.get(old as usize).map(|door| &door.name);
            if let Some(&index) = name.and_then(|name| doors.get(name)) {
                self.cooldowns.set(index, knocker, (), until, now.uptime);
            }
        }
        let mut spent = LiteMap::<_, (&Spent, &Tries)>::new();
        for door in &earlier.doors {
            if let Lock::Otp(it) = &door.lock {
                spent.entry((&door.name, it.otp.identity())).or_insert((&it.spent, &it.tries));
            }
        }
        for door in &mut self.doors {
            let Lock::Otp(lock) = &mut door.lock else { continue };
            if let Some(&(spent, tries)) = spent.get(&(&door.name, lock.otp.identity())) {
                lock.spent = spent.clone();
                lock.tries.merge(tries);
            }
        }
    }

    /// Continues a cooldown that began before this engine was created.
    pub fn cool_down(&mut self, door: &str, knocker: IpAddr, until: Duration, now: Now) {
        let named = (0..).zip(&self.doors).find(|(_, it)| *it.name == *door);
        if let Some((index, _)) = named {
            self.cooldowns.set(index, knocker, (), until, now.uptime);
        }
    }

    /// A door was opened at another gateway: its list opens it no more, and its cooldown begins. What a one-time file has
    /// left comes by [`Engine::refill`].
    pub fn used(&mut self, opening: &Opening, now: Now) {
        let Ok(index) = u32::try_from(opening.door) else { return };
        let Some(door) = self.doors.get_mut(opening.door) else { return };
        let after = door.rules.cooldown;
        if let Lock::Otp(_) = door.lock {
            door.lock.spend(opening.turn, opening.knocker, now);
        }
        if !after.is_zero() {
            self.cooldowns.set(index, opening.knocker, (), now.uptime.saturating_add(after), now.uptime);
        }
    }

    /// Processes a packet and appends what it changed to `events`, in order. The vector is the caller's,
    /// so that a flood does not allocate memory for each packet.
    pub fn observe(&mut self, knock: &Knock, now: Now, events: &mut Vec<Event>) {
        let own = self.is_here(knock.destination);
        let may_be_stage = self.interest.includes(knock, own);
        if !may_be_stage && !self.interest.includes_hit(knock, own) {
            return;
        }
        self.update_otp_doors(now);
        self.expire(now, events);
        let mut arrival = Arrival {
            knock,
            own,
            may_be_stage,
            now,
            events,
            opened: None,
            current_door: None,
            has_advanced: false,
            failure: None,
            tried: Vec::new(),
            tallies: std::mem::take(&mut self.tallies),
        };
        let mut has_attempt = false;
        let mut next = self.attempts.first_of(knock.source);
        while let Some(id) = next {
            next = self.attempts.next_of(id);
            has_attempt |= self.carry_on(id, &mut arrival);
        }
        if may_be_stage && !has_attempt {
            self.begin(&mut arrival);
        }
        let has_opened = arrival.opened.is_some();
        arrival.switch_to(None);
        arrival.events.append(&mut arrival.tried);
        self.tallies = arrival.tallies;
        self.most_attempts = self.most_attempts.max(self.attempts.len());
        if has_opened {
            self.strays.forget(knock.source);
        } else if may_be_stage {
            self.strays.note(knock.source, Stage::of(knock), now);
        }
    }

    /// What is to become of a datagram with this payload.
    pub fn judge_single_packet(&mut self, knock: &Knock, payload: &[u8]) -> Verdict {
        let own = self.is_here(knock.destination);
        let verdict = self.gates.judge(knock, payload, own);
        let counted = match verdict {
            Verdict::Wrong { door, .. } | Verdict::Again(door) => self.tallies.get_mut(door),
            Verdict::Stray | Verdict::Passed(_) => None,
        };
        if let Some(tally) = counted {
            if matches!(verdict, Verdict::Again(_)) {
                tally.repeated_packets += 1;
            } else {
                tally.forged += 1;
            }
        }
        verdict
    }

    /// Whether any door can use this packet as a knock.
    #[must_use]
    pub fn is_of_interest(&self, knock: &Knock) -> bool {
        self.interest.includes(knock, self.is_here(knock.destination))
    }

    /// Whether any door can use this packet, as a knock or as what ends an attempt, if its destination is one of this
    /// host's addresses.
    #[must_use]
    pub fn would_use(&self, knock: &Knock) -> bool {
        self.interest.includes(knock, true) || self.interest.includes_hit(knock, true)
    }

    /// The attempts of a knocker: the door, how many stages it reached, and the stage that it waits for.
    pub fn progress(&self, knocker: IpAddr) -> impl Iterator<Item = (usize, usize, Option<Stage>)> {
        let ids = std::iter::successors(self.attempts.first_of(knocker), |&id| self.attempts.next_of(id));
        ids.filter_map(move |id| {
            let &Attempt { door, reached, turn, .. } = self.attempts.get(id)?;
            let next = self.doors.get(door as usize)?.lock.stage(turn, knocker, reached.into());
            Some((door as usize, reached.into(), next))
        })
    }

    /// Whether this is one of this host's addresses.
    #[must_use]
    pub fn is_here(&self, address: IpAddr) -> bool {
        self.here.binary_search(&address).is_ok()
    }

    /// Ends the attempts whose deadline has come, and appends that to `events`; likewise what is known by now of knocks
    /// that opened nothing.
    pub fn expire(&mut self, now: Now, events: &mut Vec<Event>) {
        let mut last = None;
        while let Some(Attempt { knocker, reached, door: index, turn }) = self.attempts.expire(now.uptime) {
            // A door with several lists may have several attempts of one knocker: they are reported once.
            let is_reported = last.replace((index, knocker, reached)) == Some((index, knocker, reached));
            if let Some(door) = self.doors.get(index as usize).filter(|_| !is_reported) {
                if let Some(tally) = self.tallies.get_mut(index as usize) {
                    tally.expired += 1;
                }
                events.push(Event::Expired { door: door.name.clone(), knocker, stage: reached.into() });
            }
            events.extend(self.note_end(index, turn, knocker, reached.into(), now));
        }
        if let Some((index, knocker, misfit)) = self.strays.look(&self.doors, now)
            && let Some(door) = self.doors.get(index as usize)
        {
            events.push(Event::Misfit {
                door: door.name.clone(),
                knocker,
                misfit,
                period: door.lock.period(),
            });
        }
    }

    /// An attempt ended without opening its door: whether that was a try to guess the second half of a one-time list.
    fn note_end(
        &mut self,
        index: u32,
        turn: Turn,
        knocker: IpAddr,
        reached: usize,
        now: Now,
    ) -> Option<Event> {
        let door = self.doors.get_mut(index as usize)?;
        let (count, is_out) = door.lock.note_end(turn, knocker, reached, now)?;
        Some(Event::Tried { door: door.name.clone(), knocker, turn, count, is_out })
    }

    /// When to call [`Engine::expire`] next, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.attempts.next_deadline()
    }

    /// The same for knocks that opened nothing.
    #[must_use]
    pub fn next_look(&self) -> Option<Duration> {
        self.strays.next_deadline()
    }

    /// Stores what the file of a one-time door has left after the used line was struck; `None` if it
    /// could not be read. Returns whether no line is left: [`Event::Exhausted`].
    pub fn refill(&mut self, door: usize, fresh: Option<OneTime>) -> bool {
        let Some(Lock::OneTime(lines)) = self.doors.get_mut(door).map(|door| &mut door.lock) else {
            return false;
        };
        if let Some(fresh) = fresh {
            **lines = fresh;
        }
        let is_exhausted = lines.first().is_none();
        if let Ok(index) = u32::try_from(door) {
            self.sequence_changed(index);
        }
        is_exhausted
    }

    /// Advances one attempt of the knocker, leaves it alone, or ends it. Returns whether the attempt is
    /// for the destination of the knock. All rules for attempts in progress are here.
    fn carry_on(&mut self, id: AttemptId, arrival: &mut Arrival<'_>) -> bool {
        let knock = arrival.knock;
        let Some(&Attempt { door: index, reached, turn, .. }) = self.attempts.get(id) else { return false };
        let Some(door) = self.doors.get(index as usize) else { return false };
        if !door.accepts_destination(knock.destination, arrival.own) {
            return false;
        }
        if arrival.opened == Some(index) {
            // Two lists of the door were completed by the same knocks: they open it once.
            self.attempts.remove(id);
            return true;
        }
        let reached = usize::from(reached);
        let is_stage = |index| door.lock.stage(turn, knock.source, index) == Some(Stage::of(knock));
        let counts = arrival.may_be_stage && door.packet_rule().allows(knock);
        if !(counts && is_stage(reached)) {
            let is_repeat = door.rules.allows_duplicates && is_stage(reached - 1);
            if !is_repeat && (counts || door.fails_strict(knock)) {
                self.attempts.remove(id);
                arrival.failed(index, door, reached);
                let tried = self.note_end(index, turn, knock.source, reached, arrival.now);
                arrival.tried.extend(tried);
            } else if arrival.may_be_stage && !counts {
                arrival.events.push(Event::Unfit { rule: door.packet_rule().flags, flags: knock.flags });
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

    /// Begins an attempt on each door whose sequence begins with this knock, in the order of the doors.
    fn begin(&mut self, arrival: &mut Arrival<'_>) {
        let knock = arrival.knock;
        let mut previous = None;
        let mut explained = 0;
        for (index, turn) in self.first_stages.doors_at(Stage::of(knock), knock.destination, arrival.own) {
            self.explain_flags_of(explained..=index, arrival);
            explained = index.saturating_add(1);
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
                let deadline = arrival.now.uptime.saturating_add(door.seq_timeout());
                let attempt = Attempt { knocker: knock.source, reached: 1, door: index, turn };
                previous = self.attempts.begin(attempt, deadline, previous).or(previous);
                for door in self.attempts.take_pushed_out() {
                    arrival.count(door, |tally| tally.pushed_out += 1);
                }
            }
        }
        self.explain_flags_of(explained..=u32::MAX, arrival);
    }

    /// Reports those of these doors whose TCP flags this segment does not have, if that is wanted.
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

    /// Opens the door after a completed sequence, or counts it if the door wants it repeatedly.
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
        if !self.buckets.admit(index as usize, door, Duration::ZERO, uptime) {
            arrival.events.push(Event::TooOften { door: door.name.clone() });
            return;
        }
        let opening = Opening { door: index as usize, knocker, turn };
        let unix = arrival.now.unix;
        arrival.count(index, |tally| {
            tally.opened += 1;
            tally.last_opened = Some(unix);
        });
        arrival.events.push(Event::Opened { door: door.name.clone(), opening });
        if !door.rules.cooldown.is_zero() {
            self.cooldowns.set(index, knocker, (), uptime.saturating_add(door.rules.cooldown), uptime);
        }
        door.lock.spend(turn, knocker, arrival.now);
        if matches!(door.lock, Lock::OneTime(_)) {
            self.sequence_changed(index);
        }
    }

    /// Updates everything derived from the current sequence of a one-time door.
    fn sequence_changed(&mut self, index: u32) {
        self.interest = Interest::of(&self.doors, 0);
        self.first_stages.update(&self.doors, &[index], AT_ANY_TIME);
    }

    /// Updates the first stages of doors with one-time passwords: costs nothing until some period is
    /// over, and needs no timer.
    fn update_otp_doors(&mut self, now: Now) {
        if self.otp_doors.is_empty() || self.valid_times.contains(&now.unix) {
            return;
        }
        let before = std::mem::replace(&mut self.valid_times, Duration::ZERO..Duration::MAX);
        let mut changed = Vec::new();
        for &index in &self.otp_doors {
            let Some(Lock::Otp(lock)) = self.doors.get(index as usize).map(|door| &door.lock) else {
                continue;
            };
            let otp = &lock.otp;
            let period = otp.period(now.unix);
            let (begin, end) = (otp.begins(period), otp.begins(period.saturating_add(1)));
            self.valid_times = self.valid_times.start.max(begin)..self.valid_times.end.min(end);
            let is_same_period = !before.is_empty() && otp.period(before.start) == period;
            if !is_same_period {
                changed.push(index);
            }
        }
        self.first_stages.update(&self.doors, &changed, now);
    }
}

impl Arrival<'_> {
    /// Counts something for a door.
    fn count(&mut self, index: u32, count: impl FnOnce(&mut Tally)) {
        if let Some(tally) = self.tallies.get_mut(index as usize) {
            count(tally);
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
            self.events.push(Event::Advanced { door: door.name.clone(), knocker: self.knock.source, stage });
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

fn sorted(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = addresses.into_iter().collect();
    addresses.sort_unstable();
    addresses
}

fn is_otp(door: &Door) -> bool {
    matches!(door.lock, Lock::Otp(_))
}
