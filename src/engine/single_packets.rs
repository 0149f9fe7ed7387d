//! Single packets: which ones the watcher passes on, and how the doorkeeper decides on them.
//!
//! The watcher holds only the HMAC keys: it can reject the packets of strangers, but cannot make one that
//! opens a door. All other checks happen in the doorkeeper, which holds the encryption keys.

use std::collections::VecDeque;
use std::net::IpAddr;

use litemap::LiteMap;

use crate::door::Door;
use crate::door::digest::Digest;
use crate::door::knock::Knock;
use crate::door::lock::{Lock, Turn};
use crate::door::spa::Refusal;
use crate::door::spa::replay::Used;
use crate::door::spa::request::{Arrival, Request, SpaLock, is_in_time};
use crate::door::spa::sealed::{HmacVerifier, PacketId, UncheckedPacket};
use crate::opening::event::Opening;
use crate::sorted;

/// How many passed packets are remembered, so that a packet sent again and again does not reach the
/// doorkeeper.
const MAX_PASSED: usize = 4096;

/// The verifiers of all doors that accept single packets.
#[derive(Clone, Debug, Default)]
pub struct HmacVerifiers {
    by_port: LiteMap<u16, Vec<DoorVerifier>>,
    passed: PassedPackets,
}

#[derive(Clone, Debug)]
struct DoorVerifier {
    door: usize,
    target: Option<IpAddr>,
    logs_failures: bool,
    verifier: HmacVerifier,
}

/// The watcher's decision on a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No door listens for it.
    Stray,
    /// It fails the HMAC check of every verifier.
    Wrong {
        /// The first door that it may have been meant for.
        door: usize,
        /// The first such door with `Log_Failures`, if there is one.
        reporter: Option<usize>,
    },
    /// This door's verifier has accepted the same packet before.
    Repeated(usize),
    /// This door's verifier accepts it, for the first time.
    Passed(usize),
}

/// The packets passed most recently, as the first 16 bytes of their SHA-256.
#[derive(Clone, Debug, Default)]
struct PassedPackets {
    /// Sorted.
    known: Vec<[u8; 16]>,
    order: VecDeque<[u8; 16]>,
}

impl PassedPackets {
    /// The decision on a packet that a door's verifier accepts.
    fn verdict(&mut self, door: usize, packet: &UncheckedPacket) -> Verdict {
        if self.insert(packet.payload()) { Verdict::Passed(door) } else { Verdict::Repeated(door) }
    }

    /// Adds a packet. Returns whether it was new.
    fn insert(&mut self, packet: &[u8]) -> bool {
        let hash = Digest::Sha256.of(packet);
        let Some(&id) = hash.first_chunk() else { return true };
        if !sorted::insert(&mut self.known, id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > MAX_PASSED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.retain(|it| *it != oldest);
        }
        true
    }
}

impl HmacVerifiers {
    /// The verifiers of these doors, in their order.
    #[must_use]
    pub fn of(doors: &[Door]) -> HmacVerifiers {
        let mut verifiers = HmacVerifiers::default();
        for (index, door) in doors.iter().enumerate() {
            let Lock::Spa(lock) = &door.lock else { continue };
            let verifiers = verifiers.by_port.entry(lock.port).or_default();
            verifiers.extend(lock.terms.iter().map(|terms| DoorVerifier {
                door: index,
                target: door.target,
                logs_failures: door.rules.logs_failures,
                verifier: terms.keys.verifier().clone(),
            }));
        }
        verifiers
    }

    /// Decides on a datagram; `own` says whether its destination is one of this host's addresses.
    #[cfg_attr(has_optimize_attribute, optimize(speed))]
    pub fn judge(&mut self, knock: &Knock, packet: &UncheckedPacket, own: bool) -> Verdict {
        let Some(verifiers) = self.by_port.get_mut(&knock.port) else { return Verdict::Stray };
        let (mut first, mut reporter) = (None, None);
        for DoorVerifier { door, target, logs_failures, verifier } in verifiers {
            if !target.map_or(own, |target| target == knock.destination) {
                continue;
            }
            if verifier.check(packet).is_ok() {
                return self.passed.verdict(*door, packet);
            }
            first = first.or(Some(*door));
            reporter = reporter.or(logs_failures.then_some(*door));
        }
        first.map_or(Verdict::Stray, |door| Verdict::Wrong { door, reporter })
    }
}

/// A packet that opens a door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The door, counted from 0.
    pub door: usize,
    /// The request that the door grants.
    pub request: Request,
    /// When the packet was made, as it states, in seconds since 1970.
    pub time: u64,
    /// The identity of the packet.
    pub id: PacketId,
}

impl Granted {
    /// The opening of its door. Its turn is the time of the packet.
    #[must_use]
    pub fn opening(&self) -> Opening {
        Opening { door: self.door, knocker: self.request.address, turn: Turn(self.time) }
    }
}

/// A packet that opens no door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The door, counted from 0.
    pub door: usize,
    /// The reason.
    pub why: Refusal,
    /// The packet, if it was made with the keys of a door and could be accepted later, from another sender or
    /// at another address. It must then be marked as used, because others may have overheard it.
    pub used_up: Option<UsedPacket>,
}

/// A refused packet that must be marked as used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedPacket {
    /// The door whose keys it was made with, counted from 0.
    pub door: usize,
    /// When it was made, as it states, in seconds since 1970.
    pub time: u64,
    /// The identity of the packet.
    pub id: PacketId,
}

/// How far ahead of this host's clock, in seconds, a refused packet may be and still be marked as used. A
/// packet further ahead would have to be remembered for too long.
const AHEAD: u64 = 24 * 60 * 60;

/// Tries a packet at the door `first` and at the doors after it with the same port and target, in order. Only
/// the first door that grants the request opens. A packet that was used at any of these doors opens none.
///
/// `is_resting` says whether a door ignores an address for a while (`Cooldown`).
///
/// # Errors
/// [`Refusal::Replay`] for a used packet. Otherwise the first refusal by a door whose keys fit the packet, or
/// [`Refusal::Hmac`].
pub fn grant(
    doors: &[Door],
    used: &Used,
    first: usize,
    arrival: Arrival,
    packet: &[u8],
    is_resting: &dyn Fn(&Door, IpAddr) -> bool,
) -> Result<Granted, Refused> {
    let mut refused = Refused { door: first, why: Refusal::Hmac, used_up: None };
    let place = |door: &Door| lock_of(door).map(|lock| (lock.port, door.target));
    let Some(wanted) = doors.get(first).and_then(place) else { return Err(refused) };
    let same_place = doors.iter().enumerate().skip(first).filter(|(_, door)| place(door) == Some(wanted));
    for (index, door) in same_place {
        let Some(lock) = lock_of(door) else { continue };
        for terms in &lock.terms {
            let opened = match terms.keys.open(packet) {
                Ok(opened) => opened,
                Err(why) => {
                    note(&mut refused, index, why);
                    continue;
                }
            };
            let fields = &opened.fields;
            let why = if !is_in_time(fields.time, arrival.unix, lock.max_age) {
                Refusal::Age
            } else if used.contains(fields.time, opened.id) {
                return Err(Refused { door: index, why: Refusal::Replay, used_up: None });
            } else {
                let door_timeout = u32::try_from(door.cmd_timeout().as_secs()).unwrap_or(u32::MAX);
                let admitted = terms.admit(arrival);
                match admitted.and_then(|()| terms.grant(fields, arrival.sender, door_timeout)) {
                    Ok(request)
                        if !door.rules.admit(arrival.sender) || !door.rules.admit(request.address) =>
                    {
                        Refusal::Source
                    }
                    Ok(request) if is_resting(door, request.address) => Refusal::Resting,
                    Ok(request) => {
                        return Ok(Granted { door: index, request, time: fields.time, id: opened.id });
                    }
                    Err(why) => why,
                }
            };
            let is_too_old = why == Refusal::Age && fields.time <= arrival.unix;
            if !is_too_old && fields.time.saturating_sub(arrival.unix) <= AHEAD {
                refused.used_up = Some(UsedPacket { door: index, time: fields.time, id: opened.id });
            }
            note(&mut refused, index, why);
        }
    }
    Err(refused)
}

/// Keeps the first refusal that a holder of the keys can act on.
fn note(refused: &mut Refused, door: usize, why: Refusal) {
    if !refused.why.is_authentic() && why.is_authentic() {
        (refused.door, refused.why) = (door, why);
    }
}

fn lock_of(door: &Door) -> Option<&SpaLock> {
    match &door.lock {
        Lock::Spa(lock) => Some(lock),
        Lock::Fixed(_) | Lock::OneTime(_) | Lock::Otp(_) => None,
    }
}
