//! Single packets: which of them the watcher passes on, and what the doorkeeper makes of one.
//!
//! The watcher has the keys of the HMACs alone: it can tell packets of strangers, but make none that opens a door.
//! All else is found out where the encryption keys are.

use std::collections::VecDeque;
use std::net::IpAddr;

use litemap::LiteMap;

use crate::door::Door;
use crate::door::digest::Digest;
use crate::door::knock::Knock;
use crate::door::lock::Lock;
use crate::door::spa::Refusal;
use crate::door::spa::replay::Used;
use crate::door::spa::request::{Arrival, Request, SpaLock, is_in_time};
use crate::door::spa::sealed::{Gate, PacketId, UncheckedPacket};
use crate::sorted;

/// How many packets are remembered that were passed on, so that one that is sent again and again costs nothing.
const PASSED: usize = 4096;

/// The gates of all doors that take single packets.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    by_port: LiteMap<u16, Vec<GateOfDoor>>,
    passed: Passed,
}

#[derive(Clone, Debug)]
struct GateOfDoor {
    door: usize,
    target: Option<IpAddr>,
    logs_failures: bool,
    gate: Gate,
}

/// What is to become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No door listens for it.
    Stray,
    /// No gate takes it.
    Wrong {
        /// The first door that it may have been meant for.
        door: usize,
        /// The door that wants that in the log, if there is one.
        reporter: Option<usize>,
    },
    /// This door's gate took it before.
    Again(usize),
    /// This door's gate takes it, as the first.
    Passed(usize),
}

/// The packets that were passed on last.
#[derive(Clone, Debug, Default)]
struct Passed {
    /// Sorted.
    known: Vec<[u8; 16]>,
    order: VecDeque<[u8; 16]>,
}

impl Passed {
    /// Whether it was there already; it is from now on.
    fn insert(&mut self, packet: &[u8]) -> bool {
        let hash = Digest::Sha256.of(packet);
        let Some(&id) = hash.first_chunk() else { return false };
        if !sorted::insert(&mut self.known, id) {
            return true;
        }
        self.order.push_back(id);
        if self.order.len() > PASSED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.retain(|it| *it != oldest);
        }
        false
    }
}

impl Gates {
    /// The gates of these doors, in their order.
    #[must_use]
    pub fn of(doors: &[Door]) -> Gates {
        let mut gates = Gates::default();
        for (index, door) in doors.iter().enumerate() {
            let Lock::Spa(lock) = &door.lock else { continue };
            let gates = gates.by_port.entry(lock.port).or_default();
            gates.extend(lock.terms.iter().map(|terms| GateOfDoor {
                door: index,
                target: door.target,
                logs_failures: door.rules.logs_failures,
                gate: terms.keys.gate().clone(),
            }));
        }
        gates
    }

    /// What is to become of a datagram; `own` says whether its destination is one of this host's addresses.
    pub fn judge(&mut self, knock: &Knock, packet: &UncheckedPacket, own: bool) -> Verdict {
        let Some(gates) = self.by_port.get_mut(&knock.port) else { return Verdict::Stray };
        let is_meant = |gate: &&mut GateOfDoor| gate.target.map_or(own, |target| target == knock.destination);
        let mut gates = gates.iter_mut().filter(is_meant).peekable();
        let Some(door) = gates.peek().map(|gate| gate.door) else { return Verdict::Stray };
        let mut reporter = None;
        for gate in gates {
            if gate.gate.check(packet).is_ok() {
                return if self.passed.insert(packet.payload()) {
                    Verdict::Again(gate.door)
                } else {
                    Verdict::Passed(gate.door)
                };
            }
            reporter = reporter.or(gate.logs_failures.then_some(gate.door));
        }
        Verdict::Wrong { door, reporter }
    }
}

/// A packet that opens a door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The door, counted from 0.
    pub door: usize,
    /// What it is opened for.
    pub request: Request,
    /// When the packet was made, as it says.
    pub time: u64,
    /// Which packet it was.
    pub id: PacketId,
}

/// A packet that opens none: the door that it came to, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The door, counted from 0.
    pub door: usize,
    /// Why.
    pub why: Refusal,
    /// The packet, if it is made with the keys of a door and could be good later, for another sender or at another
    /// address: then it is to be used up, because others may have overheard it.
    pub used_up: Option<UsedPacket>,
}

/// A packet that is to open nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedPacket {
    /// The door with its keys, counted from 0.
    pub door: usize,
    /// When it was made, as it says: seconds since 1970.
    pub time: u64,
    /// Which packet it is.
    pub id: PacketId,
}

/// How far ahead of this host's clock a packet may be, in seconds, so that it is used up when it is refused for that. Those
/// beyond would be remembered for too long.
const AHEAD: u64 = 24 * 60 * 60;

/// Tries a packet at a door, and at those behind it that listen at the same port for the same address: the first
/// that grants what it asks for opens, alone. A packet that was used at any of them opens none.
///
/// `is_resting` tells whether a door does not listen to somebody for a while.
///
/// # Errors
/// Why the first door refused it that could open it.
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

/// The first reason that somebody with the keys can act on is the one that is told.
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
