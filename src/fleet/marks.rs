//! What the members of a fleet must agree on: what a door is, and what a knock used up.

use std::net::IpAddr;
use std::time::Duration;

use crate::door::Door;
use crate::door::digest::Digest;
use crate::door::lock::{Lock, Turn};
use crate::door::spa::sealed::PacketId;
use crate::fleet::message::Mark;
use crate::protocol::bytes;

/// How long a used line of a one-time file is remembered by the fleet. Each member strikes it in its own file.
const LINES: Duration = Duration::from_hours(30 * 24);
/// How far the clocks of members may be apart, beside what a door accepts anyway, in seconds.
const SLACK: u64 = 60;

/// What a door is, besides its name: its kind of lock, and of one-time ports their periods and whose they are. No secret is
/// in it, nor times and commands, in which the members may differ.
#[must_use]
pub fn shape(door: &Door) -> u64 {
    match &door.lock {
        Lock::Fixed(_) => 0,
        Lock::OneTime(_) => 1,
        Lock::Spa(_) => 2,
        Lock::Otp(lock) => 3 + u64::from(lock.otp.is_protected()) + (door.lock.period().as_secs() << 8),
    }
}

/// A fingerprint of all doors: of their names and shapes.
#[must_use]
pub fn shape_of_all(doors: &[Door]) -> u64 {
    let mut text = Vec::new();
    for door in doors {
        text.extend(door.name.as_bytes());
        text.push(0);
        text.extend(shape(door).to_le_bytes());
    }
    u64::from_le_bytes(first(&text))
}

/// What an opening of this door uses up, and how long that must be remembered from this Unix time on (in seconds);
/// nothing if it can be used again. Of a door for single packets, `packet` is the one, and its turn is its time.
#[must_use]
pub fn used_up(
    door: &Door,
    (turn, knocker): (Turn, IpAddr),
    packet: Option<PacketId>,
    unix: u64,
) -> Option<(Mark, Duration)> {
    let mut text = Vec::new();
    let life = match &door.lock {
        Lock::Fixed(_) => return None,
        Lock::Otp(lock) if lock.is_reusable => return None,
        Lock::OneTime(_) => {
            text.extend(door.name.as_bytes());
            LINES
        }
        Lock::Otp(lock) => {
            text.extend(lock.otp.identity().to_le_bytes());
            if let Some(owner) = lock.owner(knocker) {
                bytes::address(&mut text, owner);
            }
            // All periods that may be accepted at once, and one more at each end for clocks that differ.
            let accepted = lock.otp.accepted(lock.otp.begins(u32::MAX.into()));
            let periods = u32::try_from(accepted.end() - accepted.start()).unwrap_or(u32::MAX);
            lock.otp.begins(1).saturating_mul(periods.saturating_add(3))
        }
        Lock::Spa(lock) => {
            // One that is ahead of the clock here is good for so much longer.
            let ahead = turn.0.saturating_sub(unix);
            let seconds = 2 * u64::from(lock.max_age) + SLACK;
            return Some((Mark(packet?.0), Duration::from_secs(seconds.saturating_add(ahead))));
        }
    };
    text.extend(turn.0.to_le_bytes());
    Some((Mark(first(&text)), life))
}

/// The first bytes of the SHA-256 of this text.
fn first<const N: usize>(text: &[u8]) -> [u8; N] {
    Digest::Sha256.of(text).first_chunk().copied().unwrap_or([0; N])
}
