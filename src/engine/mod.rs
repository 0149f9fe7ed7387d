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
pub mod fit;
mod inheritance;
mod matching;
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
use crate::engine::single_packets::{Gates, Verdict};
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
    /// This host's addresses, as sorted numbers.
    here: Vec<u128>,
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
    /// How many steps of attempts are reported.
    steps: Steps,
    /// What was counted for each door.
    tallies: Vec<Tally>,
    /// The most attempts that were in progress at once.
    most_attempts: usize,
    /// What doors with a rate have used of it.
    buckets: Buckets,
    /// Kept so that knocks allocate no memory: the doors of an attempt, those that are left of it, and the doors that
    /// a knock begins.
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

    /// The same for at most `capacity` attempts.
    #[must_use]
    pub fn with_capacity(
        doors: Vec<Door>,
        here: impl IntoIterator<Item = IpAddr>,
        capacity: usize,
    ) -> Engine {
        Engine::at(doors, sorted_numbers(here), capacity)
    }

    fn at(doors: Vec<Door>, here: Vec<u128>, capacity: usize) -> Engine {
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
            steps: Steps::default(),
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
        self.here = sorted_numbers(here);
    }

    /// From now on reports each door whose TCP flags a packet does not have ([`Event::Unfit`]), as the debug output of
    /// knockd 0.8 does: not only doors that have the packet's port next, but all, whatever their ports and targets, if
    /// the packet may begin an attempt. That takes time in proportion to the number of doors.
    pub fn explain_flags(&mut self) {
        self.explains_flags = true;
    }

    /// From now on reports at most so many stages that are reached ([`Event::Advanced`]) and attempts that expire
    /// ([`Event::Expired`]); `None`, as at first, is no limit. What is left out is counted:
    /// [`take_left_out`](Engine::take_left_out).
    pub fn limit_steps(&mut self, most: Option<u32>) {
        self.steps.limit(most);
    }

    /// How many steps were not reported since this was asked last.
    pub fn take_left_out(&mut self) -> u64 {
        self.steps.take_left_out()
    }

    /// What is to become of a datagram.
    pub fn judge_single_packet(&mut self, knock: &Knock, packet: &UncheckedPacket) -> Verdict {
        let own = self.is_here(knock.destination);
        let verdict = self.gates.judge(knock, packet, own);
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
        let candidates = ids.flat_map(|id| self.attempts.candidates(id));
        candidates.filter_map(move |&Candidate { door, reached, turn }| {
            let next = self.doors.get(door as usize)?.lock.stage(turn, knocker, reached.into());
            Some((door as usize, reached.into(), next))
        })
    }

    /// Whether this is one of this host's addresses.
    #[must_use]
    pub fn is_here(&self, address: IpAddr) -> bool {
        self.here.binary_search(&number(address)).is_ok()
    }

    /// Ends the attempts whose deadline has come, and appends that to `events`; likewise what is known by now of knocks
    /// that opened nothing.
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
                events.extend(self.note_end(index, turn, knocker, reached.into(), now));
            }
            self.attempts.keep(id, &left, self.patience(&left));
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

/// Addresses as sorted numbers, which compare several times faster: that is done twice for each packet.
fn sorted_numbers(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<u128> {
    let mut numbers = Vec::new();
    for address in addresses {
        sorted::insert(&mut numbers, number(address));
    }
    numbers
}

/// An address as a number: one of IPv4 as mapped to IPv6, which no packet has as its destination.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn is_otp(door: &Door) -> bool {
    matches!(door.lock, Lock::Otp(_))
}
