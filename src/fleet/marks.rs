//! What the members of a fleet must agree on: what a door is, and what a knock used up.

use std::time::Duration;

use crate::door::Door;
use crate::door::lock::{Lock, Turn};
use crate::door::spa::sealed::PacketId;
use crate::fleet::message::{Mark, Shared};
use crate::protocol::bytes;

/// How long a used line of a one-time file is remembered by the fleet. Each member strikes it in its own file.
const LINES: Duration = Duration::from_hours(30 * 24);
/// How far the clocks of members may be apart, beside what a door accepts anyway, in seconds.
const SLACK: u64 = 60;

/// The shape of a door with a one-time file.
const LINE: u64 = 1;
/// The kind of lock in the shape of a door where each address has one-time lists of its own.
const OWN_LISTS: u64 = 4;

/// What a door is, besides its name: its kind of lock (the lowest byte), and of one-time ports their periods and
/// whose they are. No secret is in it, nor times and commands, in which the members may differ.
#[must_use]
pub fn shape(door: &Door) -> u64 {
    match &door.lock {
        Lock::Fixed(_) => 0,
        Lock::OneTime(_) => LINE,
        Lock::Spa(_) => 2,
        Lock::Otp(lock) => {
            let kind = if lock.otp.is_protected() { OWN_LISTS } else { 3 };
            kind + (u64::from(lock.otp.change_time()) << 8)
        }
    }
}

/// A fingerprint of all doors: of their names and shapes.
#[must_use]
pub fn shape_of_all(doors: &[Door]) -> u64 {
    // FNV-1a: people compare it, nothing depends on it.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |number: u64| hash = (hash ^ number).wrapping_mul(0x100_0000_01b3);
    for door in doors {
        door.name.bytes().for_each(|byte| add(byte.into()));
        add(shape(door) << 8);
    }
    hash
}

/// Of what an opening of this door uses up one use, and how long that must be remembered from this Unix time on (in
/// seconds); nothing if it can be used again. Of a door for single packets, `packet` is the one, and its turn is its
/// time.
#[must_use]
pub fn used_up(door: &Door, turn: Turn, packet: Option<PacketId>, unix: u64) -> Option<(Mark, Duration)> {
    let (mark, life) = match &door.lock {
        Lock::Fixed(_) => return None,
        Lock::Otp(lock) if lock.is_reusable => return None,
        Lock::OneTime(_) => (u128::MAX.to_le_bytes(), LINES),
        Lock::Otp(lock) => (u128::from(lock.otp.identity()).to_le_bytes(), lock.otp.longest_life()),
        Lock::Spa(lock) => {
            // One that is ahead of the clock here is good for so much longer.
            let ahead = turn.0.saturating_sub(unix);
            let seconds = 2 * u64::from(lock.max_age) + SLACK;
            (packet?.0, Duration::from_secs(seconds.saturating_add(ahead)))
        }
    };
    Some((Mark(mark), life))
}

/// The bytes that stand for what an opening used up, different for each one-time line, list and single packet; none if it
/// used up nothing.
#[must_use]
pub fn use_of(shared: &Shared) -> Option<Vec<u8>> {
    let Shared { mark, turn, shape, .. } = shared;
    let mut text = mark.0.to_vec();
    text.extend(turn.0.to_le_bytes());
    match shape & 0xff {
        LINE => text.extend(shared.door.as_bytes()),
        OWN_LISTS => bytes::address(&mut text, shared.knocker),
        _ => {}
    }
    (*mark != Mark::default()).then_some(text)
}
