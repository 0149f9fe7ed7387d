//! What the members of a fleet must agree on: what a door is, and what a knock used up.

use std::net::IpAddr;
use std::time::Duration;

use crate::door::Door;
use crate::door::lock::{Lock, Turn};
use crate::door::spa::sealed::PacketId;
use crate::fleet::message::Shared;
use crate::opening::record::{Record, sum};
use crate::time::Now;

/// How long a used line of a one-time file is remembered by the fleet. Each member strikes it in its own file.
const LINES: Duration = Duration::from_hours(30 * 24);
/// How far the clocks of members may be apart, beside what a door accepts anyway, in seconds.
const SLACK: u64 = 60;

/// What stands for the lock in the mark of a line of a one-time file.
const LOCK_OF_LINES: u64 = u64::MAX;

/// What a door is, besides its name: its kind of lock (the lowest byte), and of one-time ports their periods and
/// whose they are. No secret is in it, nor times and commands, in which the members may differ.
#[must_use]
pub fn shape(door: &Door) -> u64 {
    match &door.lock {
        Lock::Fixed(_) => 0,
        Lock::OneTime(_) => 1,
        Lock::Spa(_) => 2,
        Lock::Otp(lock) => {
            let kind = if lock.otp.is_protected() { 4 } else { 3 };
            kind + (u64::from(lock.otp.change_time()) << 8)
        }
    }
}

/// A fingerprint of all doors, of their names and shapes: people compare it, nothing depends on it.
#[must_use]
pub fn shape_of_all(doors: &[Door]) -> u64 {
    let add = |all: u64, door: &Door| (all ^ sum(&door.name) ^ shape(door)).rotate_left(1);
    doors.iter().fold(0, add)
}

/// The mark of an opening: what it used up, and how long that must be remembered from this Unix time on (in seconds). Of a
/// door for single packets, `packet` is the one, and its turn is its time. Otherwise it is the list or line with that turn;
/// the lock is 0, and there is nothing to remember, if it can be used again.
#[must_use]
pub fn used_up(
    door: &Door,
    turn: Turn,
    knocker: IpAddr,
    packet: Option<PacketId>,
    unix: u64,
) -> (Record, Duration) {
    let (lock, owner, life) = match (&door.lock, packet) {
        (Lock::Spa(lock), Some(id)) => {
            // Other members may accept it for longer.
            let end = turn.0.saturating_add(2 * u64::from(lock.max_age) + SLACK);
            return (Record::Packet(turn.0, id), Duration::from_secs(end.saturating_sub(unix)));
        }
        (Lock::OneTime(_), _) => (LOCK_OF_LINES, None, LINES),
        (Lock::Otp(lock), _) if !lock.is_reusable => {
            (lock.otp.identity(), lock.owner(knocker), lock.otp.longest_life())
        }
        _ => (0, None, Duration::ZERO),
    };
    (Record::Spent(lock, turn.0, owner), life)
}

/// The bytes that stand for what an opening used up, different for each one-time line, list and single packet; none if it
/// used up nothing.
#[must_use]
pub fn use_of(shared: &Shared) -> Option<Vec<u8>> {
    let mut text = match shared.used {
        Record::Spent(0, ..) => return None,
        ref used => used.line(Now::default()),
    };
    if let Record::Spent(LOCK_OF_LINES, ..) = shared.used {
        text += &shared.stop.door;
    }
    Some(text.into_bytes())
}
