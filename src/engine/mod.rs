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
mod fit;
mod inheritance;
mod matching;
mod number;
pub mod sharing;
pub mod single_packets;
mod steps;
pub mod strays;
pub mod tally;

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use crate::door::Door;
use crate::door::knock::Knock;
use crate::door::lock::{Lock, OneTime, Turn};
use crate::door::sequence::Stage;
use crate::door::spa::sealed::UncheckedPacket;
use crate::engine::attempts::{Attempts, Candidate};
use crate::engine::expiring_map::ExpiringMap;
use crate::engine::first_stages::FirstStages;
use crate::engine::number::number;
use crate::engine::sharing::Sharing;
use crate::engine::single_packets::{HmacVerifiers, Verdict};
use crate::engine::steps::Steps;
use crate::engine::strays::Strays;
use crate::engine::tally::Tally;
use crate::filter::interest::Interest;
use crate::opening::event::Event;
use crate::opening::rate::Buckets;
use crate::sorted;
use crate::time::Now;

/// The default capacity; a full table of attempts takes a few megabytes.
pub const MAX_ATTEMPTS: usize = 65_536;

/// The number of cooldowns to keep, and likewise of repeats: an eighth of the attempts, so that attempts take
/// most of the memory, but enough for a small table to be useful.
fn knockers_kept(capacity: usize) -> usize {
    (capacity / 8).max(1024)
}

/// The time to pass for doors whose sequences do not depend on it.
const AT_ANY_TIME: Now = Now { uptime: Duration::ZERO, unix: Duration::ZERO };

/// The attempts of all knockers at all doors.
#[derive(Debug)]
pub struct Engine {
    doors: Vec<Door>,
    /// This host's addresses, as sorted numbers.
    here: Vec<u128>,
    interest: Interest,
    first_stages: FirstStages,
    verifiers: HmacVerifiers,
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
    /// The knocks that are shared with other gateways.
    sharing: Sharing,
    /// Limits how many steps of attempts are reported.
    steps: Steps,
    /// The counters of each door, in the order of `doors`.
    tallies: Vec<Tally>,
    /// The most attempts that were in progress at once.
    most_attempts: usize,
    /// The token buckets of rate-limited doors.
    buckets: Buckets,
    /// Scratch buffers, kept so that processing a knock allocates no memory: the candidates of an attempt,
    /// those that remain, and the doors that a knock begins.
    before: Vec<Candidate>,
    left: Vec<Candidate>,
    firsts: Vec<(u32, Turn)>,
}

impl Engine {
    /// An engine for these doors and this host's addresses, without attempts.
    #[must_use]
    pub fn new(doors: Vec<Door>, here: impl IntoIterator<Item = IpAddr>) -> Engine {
        Engine::with_capacity(doors, here, MAX_ATTEMPTS)
    }

    /// Like [`Engine::new`], with room for at most `capacity` attempts.
    #[must_use]
    pub fn with_capacity(
        doors: Vec<Door>,
        here: impl IntoIterator<Item = IpAddr>,
        capacity: usize,
    ) -> Engine {
        Engine::with_sorted_addresses(doors, sorted_numbers(here), capacity)
    }

    fn with_sorted_addresses(doors: Vec<Door>, here: Vec<u128>, capacity: usize) -> Engine {
        let mut engine = Engine {
            otp_doors: (0..).zip(&doors).filter(|(_, door)| is_otp(door)).map(|(index, _)| index).collect(),
            interest: Interest::of(&doors, 0),
            verifiers: HmacVerifiers::of(&doors),
            tallies: vec![Tally::default(); doors.len()],
            most_attempts: 0,
            strays: Strays::of(&doors),
            doors,
            here,
            first_stages: FirstStages::default(),
            valid_times: Duration::ZERO..Duration::ZERO,
            attempts: Attempts::new(capacity),
            explains_flags: false,
            steps: Steps::default(),
            sharing: Sharing::new(false),
            cooldowns: ExpiringMap::new(knockers_kept(capacity)),
            repeats: ExpiringMap::new(knockers_kept(capacity)),
            buckets: Buckets::default(),
            before: Vec::new(),
            left: Vec::new(),
            firsts: Vec::new(),
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

    /// The counters of each door, in the order of [`Engine::doors`].
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
        self.here = sorted_numbers(here);
    }

    /// Reports a packet that may begin an attempt ([`Event::Unfit`]) for every door whose TCP flags it does
    /// not match, whatever the door's ports and target, as the debug output of knockd 0.8 does. This takes
    /// time proportional to the number of doors.
    pub fn explain_flags(&mut self) {
        self.explains_flags = true;
    }

    /// Allows at most `most` further reports of reached stages ([`Event::Advanced`]) and expired attempts
    /// ([`Event::Expired`]); `None`, the default, is no limit.
    /// [`take_suppressed_steps`](Engine::take_suppressed_steps) returns the number of reports suppressed.
    pub fn limit_steps(&mut self, most: Option<u32>) {
        self.steps.limit(most);
    }

    /// The number of reports suppressed by [`limit_steps`](Engine::limit_steps) since the last call.
    pub fn take_suppressed_steps(&mut self) -> u64 {
        self.steps.take_suppressed()
    }

    /// Checks a datagram against the verifiers of single-packet doors, and counts the result.
    #[cfg_attr(has_optimize_attribute, optimize(speed))]
    pub fn judge_single_packet(&mut self, knock: &Knock, packet: &UncheckedPacket) -> Verdict {
        let own = self.is_here(knock.destination);
        let verdict = self.verifiers.judge(knock, packet, own);
        let counted = match verdict {
            Verdict::Wrong { door, .. } | Verdict::Repeated(door) => self.tallies.get_mut(door),
            Verdict::Stray | Verdict::Passed(_) => None,
        };
        if let Some(tally) = counted {
            if matches!(verdict, Verdict::Repeated(_)) {
                tally.repeated_packets += 1;
            } else {
                tally.forged += 1;
            }
        }
        verdict
    }

    /// Whether any door can use this packet as a knock.
    #[must_use]
    pub fn may_be_stage(&self, knock: &Knock) -> bool {
        self.interest.includes(knock, self.is_here(knock.destination))
    }

    /// Whether any door could use this packet, to advance or to fail an attempt, if its destination were one
    /// of this host's addresses.
    #[must_use]
    pub fn may_affect_attempts_if_here(&self, knock: &Knock) -> bool {
        self.interest.includes(knock, true) || self.interest.includes_hit(knock, true)
    }

    /// The attempts of a knocker: the door, how many stages it reached, and the stage that it waits for.
    pub fn progress(&self, knocker: IpAddr) -> impl Iterator<Item = (usize, usize, Option<Stage>)> {
        self.candidates_of(knocker).into_iter().filter_map(move |Candidate { door, reached, turn }| {
            let next = self.doors.get(door as usize)?.lock.stage(turn, knocker, reached.into());
            Some((door as usize, reached.into(), next))
        })
    }

    /// What the attempts of a knocker may open.
    fn candidates_of(&self, knocker: IpAddr) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let mut next = self.attempts.first_of(knocker);
        while let Some(id) = next {
            next = self.attempts.next_of(id);
            candidates.extend_from_slice(self.attempts.candidates(id));
        }
        candidates
    }

    /// Whether this is one of this host's addresses.
    #[must_use]
    #[cfg_attr(has_optimize_attribute, optimize(speed))]
    pub fn is_here(&self, address: IpAddr) -> bool {
        self.here.binary_search(&number(address)).is_ok()
    }

    /// Ends the attempts whose deadline has come and appends their events to `events`, followed by the
    /// [`Event::Misfit`] that [`Strays::look`] finds, if any.
    pub fn expire(&mut self, now: Now, events: &mut Vec<Event>) {
        let mut last = None;
        while let Some((id, deadline)) = self.attempts.due(now.uptime) {
            let (Some(knocker), Some(began)) = (self.attempts.knocker(id), self.attempts.began(id)) else {
                break;
            };
            let (mut before, mut left) = (std::mem::take(&mut self.before), std::mem::take(&mut self.left));
            before.clear();
            before.extend_from_slice(self.attempts.candidates(id));
            left.clear();
            for &candidate in &before {
                let Candidate { door: index, reached, turn } = candidate;
                let Some(door) = self.doors.get(index as usize) else { continue };
                if began.saturating_add(door.seq_timeout()) > deadline {
                    left.push(candidate);
                    continue;
                }
                // A door with several lists is reported once.
                let is_reported = last.replace((index, knocker, reached)) == Some((index, knocker, reached));
                if !is_reported {
                    if let Some(tally) = self.tallies.get_mut(index as usize) {
                        tally.expired += 1;
                    }
                    if self.steps.admits() {
                        let stage = reached.into();
                        events.push(Event::Expired { door: door.name.clone(), knocker, stage });
                    }
                }
                events.extend(self.record_failed_attempt(index, turn, knocker, reached.into(), now));
            }
            self.attempts.keep(id, &left, self.shortest_timeout(&left));
            (self.before, self.left) = (before, left);
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

    /// Records that an attempt ended without opening its door. Returns [`Event::Tried`] if that counts as a
    /// try to guess the second half of a one-time list.
    fn record_failed_attempt(
        &mut self,
        index: u32,
        turn: Turn,
        knocker: IpAddr,
        reached: usize,
        now: Now,
    ) -> Option<Event> {
        let door = self.doors.get_mut(index as usize)?;
        let (count, is_locked_out) = door.lock.record_failed_attempt(turn, knocker, reached, now)?;
        Some(Event::Tried { door: door.name.clone(), knocker, turn, count, is_locked_out })
    }

    /// When to call [`Engine::expire`] next, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.attempts.next_deadline()
    }

    /// When [`Engine::expire`] should next examine knocks that opened nothing, as uptime.
    #[must_use]
    pub fn next_look(&self) -> Option<Duration> {
        self.strays.next_deadline()
    }

    /// Replaces the unused lines of a one-time door with those in its file after the used line was struck;
    /// `None` (the file could not be read) keeps the current ones. Returns whether no line is left
    /// ([`Event::Exhausted`]).
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

    /// Updates everything derived from the current sequence of a one-time door.
    fn sequence_changed(&mut self, index: u32) {
        self.interest = Interest::of(&self.doors, 0);
        self.first_stages.update(&self.doors, &[index], AT_ANY_TIME);
    }

    /// Updates the first stages of doors with one-time passwords when a period has ended. It runs for each
    /// packet, so it needs no timer; within a period it only compares the time.
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

/// Addresses as sorted integers, which compare several times faster than `IpAddr`; each packet needs two
/// lookups.
fn sorted_numbers(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<u128> {
    let mut numbers = Vec::new();
    for address in addresses {
        sorted::insert(&mut numbers, number(address));
    }
    numbers
}

fn is_otp(door: &Door) -> bool {
    matches!(door.lock, Lock::Otp(_))
}
