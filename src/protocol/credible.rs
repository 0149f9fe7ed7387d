//! Checks openings that the watcher reports without seeing the knocks: a compromised watcher may report
//! anything.
//!
//! The watcher has the sequences, so it can claim any opening that they allow. It cannot claim one that the
//! configuration forbids.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::door::Door;
use crate::door::lock::{Lock, Turn};
use crate::opening::event::Opening;
use crate::packet::is_possible_source;
use crate::time::Now;

/// Both processes read their clocks at different instants, and messages take a while. An honest watcher must
/// never be doubted because of that.
const TOLERANCE: Duration = Duration::from_secs(2);
/// How long an opening may wait in the watcher while the doorkeeper is busy.
pub const DELAY: Duration = Duration::from_mins(1);

/// Why an opening is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// No packet can have this source address.
    Address,
    /// `Allow` or `Deny` forbids it.
    NotAllowed,
    /// The door is in its `Cooldown` for this knocker.
    CoolingDown,
    /// The door has no such sequence, or not at this time.
    Turn,
    /// The list was used before. An honest watcher may not know that yet.
    Spent,
}

impl Doubt {
    /// The reason, as the end of a sentence.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Doubt::Address => "nothing can come from this address",
            Doubt::NotAllowed => "it may not knock at this door",
            Doubt::CoolingDown => "the door is cooling down for it",
            Doubt::Turn => "the door has no such sequence now",
            Doubt::Spent => "the sequence was used",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// Checks that this knocker may open the door at all, at any time.
///
/// # Errors
/// Why it may not.
pub fn check_knocker(door: &Door, knocker: IpAddr) -> Result<(), Doubt> {
    if !is_possible_source(knocker) {
        return Err(Doubt::Address);
    }
    if door.rules.admit(knocker) { Ok(()) } else { Err(Doubt::NotAllowed) }
}

/// Checks that the door may open for this opening; `cools_until` is the end of the door's cooldown for the
/// knocker, as uptime.
///
/// # Errors
/// Why it may not.
pub fn check(door: &Door, opening: &Opening, cools_until: Option<Duration>, now: Now) -> Result<(), Doubt> {
    let Opening { knocker, turn, .. } = *opening;
    check_knocker(door, knocker)?;
    // The cooldown began here slightly later than in the watcher.
    if cools_until.is_some_and(|until| until > now.uptime.saturating_add(TOLERANCE)) {
        return Err(Doubt::CoolingDown);
    }
    check_turn(door, knocker, turn, now)
}

/// Checks that this knocker may have tried to guess this list of the door.
///
/// # Errors
/// Why not.
pub fn check_list(door: &Door, knocker: IpAddr, turn: Turn, now: Now) -> Result<(), Doubt> {
    if !is_possible_source(knocker) {
        return Err(Doubt::Address);
    }
    if is_known(door, turn, now) { Ok(()) } else { Err(Doubt::Turn) }
}

fn is_known(door: &Door, turn: Turn, now: Now) -> bool {
    match &door.lock {
        Lock::Fixed(_) => turn == Turn::default(),
        Lock::OneTime(lines) => lines.lines().any(|line| line.turn() == turn),
        Lock::Otp(lock) => {
            // The list had to be valid when the first knock arrived.
            let began = now.unix.saturating_sub(door.seq_timeout() + DELAY);
            let first = *lock.otp.accepted(began).start();
            let last = *lock.otp.accepted(now.unix.saturating_add(TOLERANCE)).end();
            (first..=last).contains(&turn.0)
        }
        // Single packets are checked where the keys are.
        Lock::Spa(_) => false,
    }
}

fn check_turn(door: &Door, knocker: IpAddr, turn: Turn, now: Now) -> Result<(), Doubt> {
    match &door.lock {
        _ if !is_known(door, turn, now) => Err(Doubt::Turn),
        Lock::Otp(_) if door.lock.length(turn, knocker).is_none() => Err(Doubt::Spent),
        _ => Ok(()),
    }
}
