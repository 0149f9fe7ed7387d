//! Knocks that opened nothing, kept for a while so that the log can name a wrong clock or a used list.
//!
//! They influence no decision. The cost is bounded: a few knockers are kept, and at most once a second the
//! knocks of one of them are compared with the lists of a few doors.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use crate::door::Door;
use crate::door::lock::{Lock, OtpLock, Turn};
use crate::door::misfit::Misfit;
use crate::door::sequence::{MAX_STAGES, Stage};
use crate::time::Now;

/// How many knockers are kept; a new one replaces the one that has been silent for longest.
const MAX_KNOCKERS: usize = 64;
/// How many knocks of each are kept: the longest list of an OTP door with IP protection.
const MAX_KNOCKS: usize = 2 * MAX_STAGES;
/// How many doors are examined.
const MAX_DOORS: usize = 64;
/// How many periods before and after the current one are examined.
const MAX_PERIOD_OFFSET: u64 = 10;
/// How long after its last knock a knocker is examined: by then its list should be complete.
const EXAMINATION_DELAY: Duration = Duration::from_secs(1);
/// How long knocks are kept after the last one.
const RETENTION: Duration = Duration::from_secs(30);

/// The knocks of one knocker.
#[derive(Debug)]
struct Stray {
    knocker: IpAddr,
    /// In order of arrival, without immediate repetitions, which are retransmissions.
    knocks: VecDeque<Stage>,
    /// When the last one came.
    last: Now,
    /// No new knock has arrived since the last examination.
    is_examined: bool,
}

/// Knocks that opened nothing.
#[derive(Debug, Default)]
pub struct Strays {
    /// The doors whose lists are examined.
    doors: Vec<u32>,
    /// Sorted by the time of the last knock, most recent last.
    knockers: VecDeque<Stray>,
    /// No knocker is examined before this uptime.
    next_look: Duration,
}

impl Strays {
    /// A store without knocks, which examines the `OTP` doors with `Log_Failures`.
    #[must_use]
    pub fn of(doors: &[Door]) -> Strays {
        let is_meant = |door: &Door| door.rules.logs_failures && matches!(door.lock, Lock::Otp(_));
        let doors = (0..).zip(doors).filter(|(_, door)| is_meant(door)).map(|(index, _)| index);
        Strays { doors: doors.take(MAX_DOORS).collect(), ..Strays::default() }
    }

    /// Records a knock.
    pub fn note(&mut self, knocker: IpAddr, stage: Stage, now: Now) {
        if self.doors.is_empty() {
            return;
        }
        let fresh = || Stray { knocker, knocks: VecDeque::new(), last: now, is_examined: true };
        let mut stray = self.take(knocker).unwrap_or_else(fresh);
        if stray.knocks.back() != Some(&stage) {
            if stray.knocks.len() == MAX_KNOCKS {
                stray.knocks.pop_front();
            }
            stray.knocks.push_back(stage);
            stray.is_examined = false;
        }
        stray.last = now;
        if self.knockers.len() == MAX_KNOCKERS {
            self.knockers.pop_front();
        }
        self.knockers.push_back(stray);
    }

    /// Forgets the knocks of a knocker who opened a door.
    pub fn forget(&mut self, knocker: IpAddr) {
        self.take(knocker);
    }

    fn take(&mut self, knocker: IpAddr) -> Option<Stray> {
        let place = self.knockers.iter().position(|stray| stray.knocker == knocker)?;
        self.knockers.remove(place)
    }

    /// When to call [`Strays::look`] next, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let waits = self.knockers.iter().find(|stray| !stray.is_examined)?;
        Some(waits.last.uptime.saturating_add(EXAMINATION_DELAY).max(self.next_look))
    }

    /// Examines one knocker whose list is complete. Returns the door that the list was meant for, the
    /// knocker, and what is wrong with the list.
    pub fn look(&mut self, doors: &[Door], now: Now) -> Option<(u32, IpAddr, Misfit)> {
        if self.next_deadline().is_none_or(|at| at > now.uptime) {
            return None;
        }
        while self.knockers.front().is_some_and(|it| it.last.uptime.saturating_add(RETENTION) <= now.uptime)
            && self.knockers.front().is_some_and(|it| it.is_examined)
        {
            self.knockers.pop_front();
        }
        self.next_look = now.uptime.saturating_add(EXAMINATION_DELAY);
        let stray = self.knockers.iter_mut().find(|stray| !stray.is_examined)?;
        stray.is_examined = true;
        let knocker = stray.knocker;
        let found = self.doors.iter().find_map(|&index| {
            let door = doors.get(index as usize)?;
            let Lock::Otp(lock) = &door.lock else { return None };
            let misfit = misfit(lock, stray).filter(|_| door.rules.admit(knocker))?;
            Some((index, knocker, misfit))
        })?;
        self.take(knocker);
        Some(found)
    }
}

/// If the knocks contain a list of this lock that does not open the door now, the reason why not.
fn misfit(lock: &OtpLock, stray: &Stray) -> Option<Misfit> {
    let (otp, unix) = (&lock.otp, stray.last.unix);
    let (now, accepted) = (otp.period(unix), otp.accepted(unix));
    let knocks: Vec<Stage> = stray.knocks.iter().copied().collect();
    // A list of one port could match by chance.
    if otp.stages() < 2 || knocks.len() < 2 {
        return None;
    }
    let periods = now.saturating_sub(MAX_PERIOD_OFFSET)..=now.saturating_add(MAX_PERIOD_OFFSET);
    let is_meant = |period: &u64| {
        let mut list = otp.list(*period, stray.knocker);
        list.dedup();
        knocks.windows(list.len()).any(|window| window == list)
    };
    let wrong = |period: &u64| !accepted.contains(period) || lock.is_spent(Turn(*period), stray.knocker);
    let period = periods.filter(wrong).find(is_meant)?;
    if accepted.contains(&period) {
        return Some(Misfit::Used);
    }
    let distance = i64::try_from(period).ok()? - i64::try_from(now).ok()?;
    i8::try_from(distance).ok().map(Misfit::OtherPeriod)
}
