//! The messages between the doorkeeper and the program of a fleet, and what waits, as values.

use std::time::Duration;

use knocking::door::knock::{Flags, Knock, Protocol};
use knocking::door::sequence::Stage;
use knocking::door::spa::sealed::PacketId;
use knocking::fleet::message::{self, FromKnockd, LONGEST, OPEN, Shared, ToKnockd, VERSION};
use knocking::fleet::waiting::{Held, PATIENCE};
use knocking::opening::record::Record;
use knocking::opening::standing::{Access, Key, Stop};
use knocking::protocol::knock::EncodedKnock;
use knocking::protocol::messages::Crossing;

use crate::random::Random;

trials![
    what_is_encoded_is_decoded,
    a_changed_byte_changes_the_message,
    other_lines_are_no_opening,
    another_version_can_be_named,
    other_sizes_are_no_message,
    an_answer_comes_once_and_in_time,
];

fn shared(number: u64, due: Duration) -> Box<Shared> {
    let stop = Stop {
        key: Key { origin: 7, number },
        door: "ssh".into(),
        knocker: "192.0.2.7".parse().unwrap(),
        access: None,
        command: Vec::new(),
        after: Duration::from_secs(100),
        limit: None,
        due,
    };
    Box::new(Shared { stop, has_end: true, used: Record::Spent(0, 5, None) })
}

/// Messages of each kind.
fn messages(random: &Random) -> (Vec<FromKnockd>, Vec<ToKnockd>) {
    let number = random.number();
    let mut from = vec![FromKnockd::Hello(VERSION, random.number(), random.number())];
    let mut to: Vec<ToKnockd> =
        [Some(true), Some(false), None].map(|answer| ToKnockd::Answer(number, answer)).into();
    let port = Stage { protocol: Protocol::Udp, port: 51820 };
    let (longest, odd) = ("d".repeat(127), knocking::octets::text(&[0xff; 127]));
    for (knocker, door, access) in [
        ("192.0.2.7", "ssh", None),
        ("2001:db8::7", "a door with a longer name", Some(("anna".to_owned(), port))),
        ("::", "x", Some(("n".repeat(48), Stage { protocol: Protocol::Tcp, port: 1 }))),
        ("::", &longest, None),
        // Bytes that are not UTF-8, as a configuration may have them.
        ("::", &odd, None),
    ] {
        let mut shared = shared(number.max(1), Duration::from_millis(random.number()));
        shared.stop = Stop {
            key: Key { origin: random.number(), ..shared.stop.key },
            door: door.into(),
            knocker: knocker.parse().unwrap(),
            access: access.map(|(user, port)| Box::new(Access { user, port, seconds: 99 })),
            after: Duration::from_millis(random.number() >> 20),
            ..shared.stop
        };
        shared.has_end = random.once_in(2);
        shared.used = match random.below(3) {
            0 => Record::Packet(random.number(), PacketId([random.byte(); 16])),
            1 => Record::Spent(random.number(), random.number(), Some(shared.stop.knocker)),
            _ => Record::Spent(random.number(), random.number(), None),
        };
        from.extend([FromKnockd::Opened(shared.clone()), FromKnockd::Ask(shared.clone())]);
        to.push(ToKnockd::Open(shared));
    }
    for knocker in ["192.0.2.7", "2001:db8::7"] {
        let knock = Knock {
            source: knocker.parse().unwrap(),
            source_port: 0,
            destination: "2001:db8::1".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: random.port(),
            flags: Some(Flags(random.byte())),
            udp_length: None,
            length: 0,
        };
        for knock in [
            knock,
            Knock { protocol: Protocol::Udp, flags: None, udp_length: Some(random.port()), ..knock },
            Knock { protocol: Protocol::Icmp, flags: None, ..knock },
        ] {
            let encoded = EncodedKnock::of(&knock);
            assert_eq!(encoded.knock(), Some(knock));
            from.push(FromKnockd::Knock(encoded));
            to.push(ToKnockd::Knock(encoded));
        }
    }
    (from, to)
}

fn what_is_encoded_is_decoded() {
    let random = Random::new();
    for _ in 0..100 {
        let (from, to) = messages(&random);
        for message in &from {
            crosses(message);
        }
        for message in &to {
            crosses(message);
        }
    }
}

fn crosses<T: Crossing + PartialEq + std::fmt::Debug>(message: &T) {
    let bytes = message.encode();
    assert!(bytes.len() <= LONGEST, "{message:?}");
    assert_eq!(T::decode(&bytes).as_ref(), Some(message));
}

/// A changed byte makes another message or none: never the same. The lines about an opening have checksums.
fn a_changed_byte_changes_the_message() {
    let random = Random::new();
    let (from, to) = messages(&random);
    for message in &from {
        changes(message, &random);
    }
    for message in &to {
        changes(message, &random);
    }
}

fn changes<T: Crossing + PartialEq + std::fmt::Debug>(message: &T, random: &Random) {
    let bytes = message.encode();
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1 << random.below(8);
        assert_ne!(T::decode(&changed).as_ref(), Some(message), "byte {place}");
    }
}

/// What a state file may hold besides, with right checksums.
fn other_lines_are_no_opening() {
    let opened = |it: &Shared| message::first_line(it.stop.clone(), it.has_end);
    let shared = shared(1, Duration::ZERO);
    let used = Record::Spent(0, 5, None);
    let is_message = |first: &Record, second: &Record| {
        ToKnockd::decode(&message::encode_opening(OPEN, first, second)).is_some()
    };
    assert!(is_message(&opened(&shared), &used));
    assert!(!is_message(&used, &opened(&shared)));
    assert!(!is_message(&opened(&shared), &opened(&shared)));
    assert!(!is_message(&opened(&shared), &Record::PacketFloor(7)));
    assert!(!is_message(&Record::Closed(shared.stop.key), &used));
}

fn other_sizes_are_no_message() {
    let (from, to) = messages(&Random::new());
    for message in &from {
        has_one_size(message);
    }
    for message in &to {
        has_one_size(message);
    }
}

fn has_one_size<T: Crossing + PartialEq + std::fmt::Debug>(message: &T) {
    let bytes = message.encode();
    for length in 0..bytes.len() {
        assert_eq!(T::decode(&bytes[..length]), None, "{length} bytes of {message:?}");
    }
    assert_eq!(T::decode(&[bytes, vec![0]].concat()), None, "{message:?}");
}

/// The greeting of another version is one, whatever follows.
fn another_version_can_be_named() {
    let version_3 = [&[1][..], &3_u64.to_le_bytes(), &7_u64.to_le_bytes()].concat();
    assert_eq!(FromKnockd::decode(&version_3), Some(FromKnockd::Hello(3, 0, 0)));
    assert_eq!(FromKnockd::decode(&[1, 3, 0, 0]), None);
}

fn an_answer_comes_once_and_in_time() {
    let second = Duration::from_secs(1);
    let mut held = Held::default();
    held.hold(1, second, "one");
    held.hold(2, 2 * second, "two");
    held.hold(3, 3 * second, "three");
    let answered = |held: &mut Held<_>, number| held.take(number, Duration::ZERO);
    let overdue = |held: &mut Held<_>, uptime| held.take(0, uptime);
    assert_eq!(held.next_deadline(), Some(second + PATIENCE));
    assert_eq!([2, 2, 9].map(|number| answered(&mut held, number)), [Some("two"), None, None]);
    assert_eq!(overdue(&mut held, second), None);
    assert_eq!(overdue(&mut held, second + PATIENCE), Some("one"));
    assert_eq!(answered(&mut held, 1), None);
    assert_eq!(overdue(&mut held, second + PATIENCE), None);
    assert_eq!(overdue(&mut held, Duration::MAX), Some("three"));
    assert_eq!(held.next_deadline(), None);
}
