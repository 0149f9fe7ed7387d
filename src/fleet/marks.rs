//! What the members of a fleet must agree on: what a door is, and what a knock used up.

use std::net::IpAddr;
use std::time::Duration;

use crate::door::Door;
use crate::door::digest::Digest;
use crate::door::lock::{Lock, Turn};
use crate::door::spa::request::SpaLock;
use crate::fleet::message::Mark;

/// How long a used line of a one-time file is remembered by the fleet. Each member strikes it in its own file.
const LINES: Duration = Duration::from_hours(30 * 24);
/// How far the clocks of members may be apart, beside what a door accepts anyway.
const SLACK: u64 = 60;

/// A fingerprint of what a door is: its name, its kind of lock, and of one-time ports their periods and whose they are. No
/// secret is in it, nor times and commands, in which the members may differ.
#[must_use]
pub fn shape(door: &Door) -> u64 {
    let (kind, periods) = match &door.lock {
        Lock::Fixed(_) => (0_u8, [0; 2]),
        Lock::OneTime(_) => (1, [0; 2]),
        Lock::Otp(lock) => (2, [door.lock.period().as_secs(), lock.otp.is_protected().into()]),
        Lock::Spa(_) => (3, [0; 2]),
    };
    let mut text = Vec::from(door.name.as_bytes());
    text.extend([0, kind]);
    text.extend(periods.iter().flat_map(|number| number.to_le_bytes()));
    first(&text)
}

/// The shapes of all doors in one.
#[must_use]
pub fn shape_of_all(doors: &[Door]) -> u64 {
    let shapes: Vec<u8> = doors.iter().flat_map(|door| shape(door).to_le_bytes()).collect();
    first(&shapes)
}

/// What an opening of this door uses up, and how long that must be remembered; nothing if it can be used again. Of a
/// single packet, which has a mark of its own, see [`life_of_packet`].
#[must_use]
pub fn mark(door: &Door, turn: Turn, knocker: IpAddr) -> Option<(Mark, Duration)> {
    let mut text = Vec::new();
    let life = match &door.lock {
        Lock::Fixed(_) | Lock::Spa(_) => return None,
        Lock::Otp(lock) if lock.is_reusable => return None,
        Lock::OneTime(_) => {
            text.extend(door.name.as_bytes());
            LINES
        }
        Lock::Otp(lock) => {
            text.extend(lock.otp.identity().to_le_bytes());
            text.extend(lock.owner(knocker).map(|owner| owner.to_string()).unwrap_or_default().bytes());
            // All periods that may be accepted at once, and one more at each end for clocks that differ.
            let accepted = lock.otp.accepted(lock.otp.begins(u32::MAX.into()));
            let periods = u32::try_from(accepted.end() - accepted.start()).unwrap_or(u32::MAX);
            lock.otp.begins(1).saturating_mul(periods.saturating_add(3))
        }
    };
    text.extend(turn.0.to_le_bytes());
    let digest = Digest::Sha256.of(&text);
    Some((Mark(*digest.first_chunk()?), life))
}

/// How long a single packet must be remembered that was used.
#[must_use]
pub fn life_of_packet(lock: &SpaLock) -> Duration {
    Duration::from_secs(2 * u64::from(lock.max_age) + SLACK)
}

fn first(text: &[u8]) -> u64 {
    Digest::Sha256.of(text).first_chunk().copied().map_or(0, u64::from_le_bytes)
}
