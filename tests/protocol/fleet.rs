//! The messages between the doorkeeper and the program of a fleet, and what waits, as values.

use std::net::IpAddr;
use std::time::Duration;

use knocking::door::knock::{Flags, Knock, Protocol};
use knocking::door::lock::Turn;
use knocking::door::sequence::Stage;
use knocking::fleet::message::{FromKnockd, LONGEST, Mark, Shared, ToKnockd, VERSION};
use knocking::fleet::waiting::{Held, MOST_RECENT, PATIENCE, Recent};
use knocking::protocol::messages::Crossing;

use crate::random::Random;

trials![
    what_is_encoded_is_decoded,
    every_message_has_one_spelling,
    an_address_has_one_spelling,
    other_sizes_are_no_message,
    an_answer_comes_once_and_in_time,
    a_number_is_new_once,
];

fn shared(number: u64, time: Duration) -> Shared {
    Shared {
        number,
        door: "ssh".into(),
        shape: 7,
        knocker: "192.0.2.7".parse().unwrap(),
        turn: Turn(5),
        mark: Mark([3; 16]),
        time,
        has_end: true,
        access: None,
    }
}

/// Messages of each kind.
fn messages(random: &Random) -> (Vec<FromKnockd>, Vec<ToKnockd>) {
    let number = random.number();
    let mut from = vec![FromKnockd::Hello(VERSION, random.number())];
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
        let shared = Shared {
            door: door.into(),
            knocker: knocker.parse().unwrap(),
            shape: random.number(),
            turn: Turn(random.number()),
            mark: Mark([random.byte(); 16]),
            has_end: random.once_in(2),
            access,
            ..shared(number, Duration::from_millis(random.number() >> 20))
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
            from.push(FromKnockd::Knock(knock));
            to.push(ToKnockd::Knock(knock));
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

/// A changed byte makes another message, with another spelling, or none: never the same.
fn every_message_has_one_spelling() {
    let random = Random::new();
    let (from, to) = messages(&random);
    for message in &from {
        has_one_spelling(message, &random);
    }
    for message in &to {
        has_one_spelling(message, &random);
    }
}

fn has_one_spelling<T: Crossing + PartialEq + std::fmt::Debug>(message: &T, random: &Random) {
    let bytes = message.encode();
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1 << random.below(8);
        if let Some(other) = T::decode(&changed) {
            assert_ne!(other, *message, "byte {place}");
            assert_eq!(other.encode(), changed, "byte {place}");
        }
    }
}

fn an_address_has_one_spelling() {
    let knocker: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
    let bytes = ToKnockd::Open(Shared { knocker, ..shared(1, Duration::ZERO) }).encode();
    assert_eq!(ToKnockd::decode(&bytes), None);
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

fn an_answer_comes_once_and_in_time() {
    let second = Duration::from_secs(1);
    let mut held = Held::default();
    held.hold(1, second, "one");
    held.hold(2, 2 * second, "two");
    held.hold(3, 3 * second, "three");
    assert_eq!(held.next_deadline(), Some(second + PATIENCE));
    assert_eq!((held.answered(2), held.answered(2), held.answered(9)), (Some("two"), None, None));
    assert_eq!(held.overdue(second), None);
    assert_eq!(held.overdue(second + PATIENCE), Some("one"));
    assert_eq!(held.answered(1), None);
    assert_eq!(held.overdue(second + PATIENCE), None);
    assert_eq!(held.overdue(Duration::MAX), Some("three"));
    assert_eq!(held.next_deadline(), None);
}

fn a_number_is_new_once() {
    let mut recent = Recent::default();
    let most = u64::try_from(MOST_RECENT).unwrap();
    for number in 0..most {
        assert!(recent.is_new(number) && !recent.is_new(number));
    }
    assert!(recent.is_new(most) && !recent.is_new(1));
    assert!(recent.is_new(0));
}
