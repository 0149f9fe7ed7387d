//! The records that members exchange through the engine.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 2 | `kf` |
//! | 2 | 1 | version: 4 |
//! | 3 | 1 | kind: 1 opening, 2 heartbeat, 3 knock |
//! | 4 | 1 | length of the member's name, 1 to 32 |
//! | 5 | n | the member's name: letters, digits, `.`, `-` and `_` |
//! | | 8 | session: chosen at random when the member's program started |
//! | | 8 | counter: the number of records of this kind in the session |
//! | | 8 | creation time in microseconds since 1970, by the engine's clock |
//! | opening | 16 | the name of the spent key; zeros if nothing was used up |
//! | | 8 | how long to keep that key, in seconds |
//! | | n | the message `Open` to knockd, with the time left when the record was made |
//! | heartbeat | 8 | the number of openings the member has sent |
//! | | 8 | the number of messages that wait there |
//! | | 8 | the shapes of all doors of its knockd; 0 if knockd is not connected |
//! | knock | n | the message `Knock` to knockd |
//! | end | 32 | HMAC-SHA256 with the fleet's key over `knockd-fleet 1`, 0, the fleet's name, 0 and all preceding bytes |
//!
//! Numbers are little-endian. Each record has exactly one encoding.

use std::time::Duration;

use knocking::door::digest::{Digest, HmacKey};
use knocking::fleet::marks::use_of;
use knocking::fleet::message::{LONGEST as MESSAGE, Shared, ToKnockd};
use knocking::protocol::knock::EncodedKnock;
use knocking::protocol::messages::Crossing;

/// The longest record in bytes; longer ones are rejected unread.
pub const LONGEST: usize = 5 + MAX_MEMBER + 24 + 24 + MESSAGE + MAC;
/// The longest name of a member, in bytes.
pub const MAX_MEMBER: usize = 32;
/// How far the engine's clock may have been set back since a record was made, in microseconds.
pub const TOLERANCE: u64 = 2_000_000;

const MAC: usize = 32;
const TITLE: &[u8] = b"kf\x04";
const OPENED: u8 = 1;
const ALIVE: u8 = 2;
const KNOCKED: u8 = 3;

/// A record in the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The member that wrote it.
    pub member: String,
    /// Different for each process of a member.
    pub session: u64,
    /// Increases with each record of the same session and kind.
    pub counter: u64,
    /// The creation time in microseconds since 1970, by the engine's clock.
    pub made: u64,
    /// The content.
    pub body: Body,
}

/// The content of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A door was opened.
    Opened {
        /// The opening.
        shared: Box<Shared>,
        /// The key that the opening used up; `None` if it used up nothing.
        spent: Option<Spent>,
    },
    /// A heartbeat.
    Alive(Alive),
    /// A knock arrived.
    Knocked(EncodedKnock),
}

/// A spent key in the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    /// The name of the key: see [`Key::spent`].
    pub name: [u8; 16],
    /// How long to keep it, in seconds.
    pub seconds: u64,
}

/// The content of a heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alive {
    /// How many openings the member has sent.
    pub openings: u64,
    /// How many messages wait there.
    pub waiting: u64,
    /// The shapes of all doors of its knockd; 0 if knockd is not connected.
    pub shape: u64,
}

/// The fleet's key and name.
#[derive(Clone, Debug)]
pub struct Key {
    keyed: HmacKey,
    fleet: String,
}

/// Why a record is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was not made with the fleet's key.
    Mac,
    /// It is damaged, or of another version.
    Form,
}

impl Key {
    /// The key of a fleet.
    #[must_use]
    pub fn new(key: &[u8], fleet: &str) -> Key {
        Key { keyed: HmacKey::new(Digest::Sha256, key), fleet: fleet.to_owned() }
    }

    /// The name of the spent key for what an opening used up; zeros if it used up nothing. It reveals nothing
    /// about the lock to those who can read the engine.
    #[must_use]
    pub fn spent(&self, opening: &Shared) -> [u8; 16] {
        let Some(used) = use_of(opening) else { return [0; 16] };
        let code = self.keyed.code(&[b"knockd-fleet 2 spent\0", self.fleet.as_bytes(), b"\0", &used]);
        code.first_chunk().copied().unwrap_or_default()
    }

    fn parts<'a>(&'a self, record: &'a [u8]) -> [&'a [u8]; 4] {
        [b"knockd-fleet 1\0", self.fleet.as_bytes(), b"\0", record]
    }
}

/// Whether this is a valid name for a member.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=MAX_MEMBER).contains(&name.len()) && name.bytes().all(is_good)
}

impl Record {
    /// Encodes the record, followed by its MAC.
    #[must_use]
    pub fn encode(&self, key: &Key) -> Vec<u8> {
        let mut out = self.plain();
        let code = key.keyed.code(&key.parts(&out));
        out.extend(code.iter());
        out
    }

    fn plain(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LONGEST);
        out.extend(TITLE);
        out.push(match self.body {
            Body::Opened { .. } => OPENED,
            Body::Alive(_) => ALIVE,
            Body::Knocked(_) => KNOCKED,
        });
        out.push(u8::try_from(self.member.len()).unwrap_or(u8::MAX));
        out.extend(self.member.bytes());
        for number in [self.session, self.counter, self.made] {
            out.extend(number.to_le_bytes());
        }
        match &self.body {
            Body::Opened { shared, spent } => {
                let (name, seconds) = spent.map_or(([0; 16], 0), |it| (it.name, it.seconds));
                out.extend(name);
                out.extend(seconds.to_le_bytes());
                out.extend(ToKnockd::Open(shared.clone()).encode());
            }
            Body::Alive(Alive { openings, waiting, shape }) => {
                for number in [openings, waiting, shape] {
                    out.extend(number.to_le_bytes());
                }
            }
            Body::Knocked(knock) => out.extend(ToKnockd::Knock(*knock).encode()),
        }
        out
    }

    /// Decodes a record. Verifies the MAC before anything else.
    ///
    /// # Errors
    /// Why the record is rejected.
    pub fn decode(bytes: &[u8], key: &Key) -> Result<Record, Fault> {
        if bytes.len() > LONGEST {
            return Err(Fault::Form);
        }
        let (plain, code) = bytes.split_last_chunk::<MAC>().ok_or(Fault::Form)?;
        if !key.keyed.clone().verifies(&key.parts(plain), code) {
            return Err(Fault::Mac);
        }
        let record = read(plain).ok_or(Fault::Form)?;
        if record.plain() == plain { Ok(record) } else { Err(Fault::Form) }
    }

    /// Whether the record is at most this old at this time of the engine. False for a record from the future.
    #[must_use]
    pub fn is_fresh(&self, now: u64, most: Duration) -> bool {
        let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        self.made <= now.saturating_add(TOLERANCE) && now <= self.made.saturating_add(most)
    }

    /// The time left of its opening at this time of the engine; `None` if it is over, or the record is from
    /// the future.
    #[must_use]
    pub fn left(&self, now: u64) -> Option<Duration> {
        let Body::Opened { shared, .. } = &self.body else { return None };
        if self.made > now.saturating_add(TOLERANCE) {
            return None;
        }
        let age = Duration::from_micros(now.saturating_sub(self.made));
        shared.stop.due.checked_sub(age)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

fn read(plain: &[u8]) -> Option<Record> {
    let mut reader = Reader(plain.strip_prefix(TITLE)?);
    let [kind, length] = reader.take()?;
    let member =
        std::str::from_utf8(reader.slice(length.into())?).ok().filter(|name| is_name(name))?.to_owned();
    let (session, counter, made) = (reader.number()?, reader.number()?, reader.number()?);
    let body = match kind {
        OPENED => {
            let (name, seconds) = (reader.take()?, reader.number()?);
            let Some(ToKnockd::Open(shared)) = ToKnockd::decode(reader.rest()) else { return None };
            Body::Opened { shared, spent: (name != [0; 16]).then_some(Spent { name, seconds }) }
        }
        ALIVE => Body::Alive(Alive {
            openings: reader.number()?,
            waiting: reader.number()?,
            shape: reader.number()?,
        }),
        KNOCKED => {
            let Some(ToKnockd::Knock(knock)) = ToKnockd::decode(reader.rest()) else { return None };
            Body::Knocked(knock)
        }
        _ => return None,
    };
    reader.0.is_empty().then_some(Record { member, session, counter, made, body })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use knocking::door::knock::{Flags, Knock, Protocol};
    use knocking::door::spa::sealed::PacketId;
    use knocking::opening::record::Record as Used;
    use knocking::opening::standing::Stop;

    fn records() -> Vec<Record> {
        let shared = shared("ssh");
        let record = |member: &str, body| Record {
            member: member.to_owned(),
            session: 0x1122_3344_5566_7788,
            counter: 3,
            made: 1_000_000_000,
            body,
        };
        vec![
            record("g1", Body::Opened { shared: shared.clone(), spent: None }),
            record(
                &"m".repeat(MAX_MEMBER),
                Body::Opened {
                    shared: self::shared(&"d".repeat(127)),
                    spent: Some(Spent { name: [1; 16], seconds: 99 }),
                },
            ),
            record("g-2.example_x", Body::Alive(Alive { openings: 1, waiting: 2, shape: 3 })),
            record("g1", Body::Knocked(knock())),
        ]
    }

    fn shared(door: &str) -> Box<Shared> {
        Box::new(Shared {
            stop: Stop {
                key: knocking::opening::standing::Key { origin: 8, number: 7 },
                door: door.into(),
                knocker: "192.0.2.7".parse().unwrap(),
                access: None,
                command: Vec::new(),
                after: Duration::from_secs(10),
                limit: None,
                due: Duration::from_secs(10),
            },
            has_end: true,
            used: Used::Spent(0, 9, None),
        })
    }

    fn knock() -> EncodedKnock {
        EncodedKnock::of(&Knock {
            source: "2001:db8::7".parse().unwrap(),
            source_port: 0,
            destination: "2001:db8::1".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: 7000,
            flags: Some(Flags::SYN),
            udp_length: None,
            length: 0,
        })
    }

    fn key() -> Key {
        Key::new(b"0123456789abcdef0123456789abcdef", "home")
    }

    #[test]
    fn what_is_written_is_read() {
        for record in records() {
            let bytes = record.encode(&key());
            assert!(bytes.len() <= LONGEST);
            assert_eq!(Record::decode(&bytes, &key()), Ok(record));
        }
    }

    #[test]
    fn any_change_breaks_the_mac() {
        for record in records() {
            let bytes = record.encode(&key());
            for place in 0..bytes.len() {
                for bit in 0..8 {
                    let mut changed = bytes.clone();
                    changed[place] ^= 1 << bit;
                    assert_eq!(Record::decode(&changed, &key()), Err(Fault::Mac), "byte {place}");
                }
            }
        }
    }

    #[test]
    fn another_key_or_fleet_reads_nothing() {
        let bytes = records()[0].encode(&key());
        let other_key = Key::new(b"0123456789abcdef0123456789abcdeF", "home");
        assert_eq!(Record::decode(&bytes, &other_key), Err(Fault::Mac));
        assert_eq!(
            Record::decode(&bytes, &Key::new(b"0123456789abcdef0123456789abcdef", "hom")),
            Err(Fault::Mac)
        );
    }

    #[test]
    fn a_right_mac_over_nonsense_is_no_record() {
        let key = key();
        let whole = records()[0].encode(&key);
        let plain = &whole[..whole.len() - MAC];
        let sealed = |plain: &[u8]| {
            let mut out = plain.to_vec();
            out.extend(key.keyed.code(&key.parts(plain)).iter());
            out
        };
        for length in 0..plain.len() {
            assert_eq!(Record::decode(&sealed(&plain[..length]), &key), Err(Fault::Form), "{length}");
        }
        assert_eq!(Record::decode(&sealed(&[plain, &[0]].concat()), &key), Err(Fault::Form));
        assert_eq!(Record::decode(&vec![0; 1 << 20], &key), Err(Fault::Form));
        assert_eq!(Record::decode(&[], &key), Err(Fault::Form));
        // Changed bytes under a right MAC: another record with one spelling, or none; never a panic.
        let mut state = 1_u64;
        for _ in 0..10_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut changed = plain.to_vec();
            let place = usize::try_from(state >> 33).unwrap() % changed.len();
            changed[place] = state.to_le_bytes()[7];
            let bytes = sealed(&changed);
            if let Ok(record) = Record::decode(&bytes, &key) {
                assert_eq!(record.encode(&key), bytes);
            }
        }
    }

    #[test]
    fn ages_are_the_engines() {
        let record = &records()[0];
        let left = |now| record.left(now).map(|left| left.as_millis());
        assert_eq!(left(1_000_000_000), Some(10_000));
        assert_eq!(left(1_004_500_000), Some(5_500));
        assert_eq!(left(1_010_000_000), Some(0));
        assert_eq!(left(1_010_000_001), None);
        // The engine's clock was set back a little; and a record from the future.
        assert_eq!(left(999_000_000), Some(10_000));
        assert_eq!(left(1_000_000_000 - TOLERANCE - 1), None);
        assert_eq!(records()[2].left(1_000_000_000), None);
    }

    #[test]
    fn spent_names_depend_on_the_key() {
        let Body::Opened { shared: nothing, .. } = &records()[0].body else { panic!("no opening") };
        assert_eq!(key().spent(nothing), [0; 16]);
        let used = |used| Shared { used, ..Shared::clone(nothing) };
        let owner = Some("192.0.2.7".parse().unwrap());
        let others = [
            Used::Spent(6, 9, None),
            Used::Spent(5, 1, None),
            Used::Spent(5, 9, owner),
            Used::Spent(u64::MAX, 9, None),
            Used::Packet(9, PacketId([5; 16])),
        ];
        let used = |it: &Used| used(it.clone());
        let mark = used(&Used::Spent(5, 9, None));
        assert_eq!(key().spent(&mark), key().spent(&mark));
        for other in &others {
            assert_ne!(key().spent(&mark), key().spent(&used(other)), "{other:?}");
        }
        // The lines of two files are different ones.
        let line = |door: &str| Shared { used: Used::Spent(u64::MAX, 9, None), ..*shared(door) };
        assert_ne!(key().spent(&line("a")), key().spent(&line("b")));
        let used = mark;
        assert_ne!(key().spent(&used), Key::new(b"another key, of enough bytes....", "home").spent(&used));
    }
}
