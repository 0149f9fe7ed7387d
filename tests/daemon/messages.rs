//! The messages between the daemon's two processes: what is sent arrives, and nothing else is a message.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use knocking::daemon::messages::{
    Crossing, Message, Received, Report, Request, SIZE, pair, receive, transmit,
};
use knocking::door::lock::Turn;
use knocking::opening::event::Opening;
use nix::sys::socket::{MsgFlags, send};

use crate::random::Random;

trials![
    what_is_encoded_is_decoded,
    every_message_has_one_spelling,
    no_changed_byte_goes_unnoticed,
    messages_cross_in_their_order,
    other_sizes_are_nonsense,
    an_empty_socket_waits_for_nobody,
    a_full_socket_waits_for_nobody,
    an_end_is_seen_behind_the_last_message,
];

fn requests(random: &Random) -> Vec<Request> {
    let opening = |knocker: IpAddr| {
        let door = usize::try_from(random.number() >> 32).unwrap();
        Opening { door, knocker, turn: Turn(random.number()) }
    };
    let mut requests = vec![
        Request::Adopt,
        Request::Begin,
        Request::Finish,
        Request::FinishNow,
        Request::Prepare(random.number()),
    ];
    requests.extend([0, 1, u64::MAX].map(Request::Prepare));
    requests.extend([0, 1, 0xffff_ffff].map(Request::Exhausted));
    requests.extend([random.v4(), random.v6()].map(|knocker| Request::Open(opening(knocker))));
    requests.extend([random.v4(), random.v6()].map(|knocker| Request::Logged(opening(knocker))));
    requests.extend(["0.0.0.0", "255.255.255.255", "::", "::ffff:10.0.0.1", "::10.0.0.1"].map(|text| {
        Request::Open(Opening { door: 0, knocker: text.parse().unwrap(), turn: Turn::default() })
    }));
    requests
}

fn reports(random: &Random) -> Vec<Report> {
    let door = usize::try_from(random.number() >> 32).unwrap();
    vec![Report::Prepared(true), Report::Prepared(false), Report::Struck(0), Report::Struck(door)]
}

fn what_is_encoded_is_decoded() {
    let random = Random::new();
    for _ in 0..500 {
        for request in requests(&random) {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        for report in reports(&random) {
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
    }
}

/// Bytes that are a message are the bytes of that message; there is no second way to say it.
fn every_message_has_one_spelling() {
    let random = Random::new();
    let mut messages = 0;
    for _ in 0..100_000 {
        let mut bytes: Message = [0; SIZE];
        let used = *random.pick(&[2, 8, 16, 32]);
        bytes.iter_mut().take(used).for_each(|byte| *byte = random.byte());
        bytes[0] = *random.pick(&[0, 1, 2, 3, 4, 5, 6, 7, bytes[0]]);
        bytes[1] = *random.pick(&[0, 4, 6, bytes[1]]);
        if random.once_in(2) {
            bytes[2..4].fill(0);
        }
        messages += one_spelling(&bytes);
    }
    assert!(messages > 1000, "only {messages} were messages");
}

fn no_changed_byte_goes_unnoticed() {
    let random = Random::new();
    for message in requests(&random).iter().map(Crossing::encode) {
        for at in 0..SIZE {
            for value in 0..=255 {
                let mut changed = message;
                changed[at] = value;
                one_spelling(&changed);
                if changed != message {
                    assert_ne!(Request::decode(&changed), Request::decode(&message));
                }
            }
        }
    }
}

/// How many kinds of message these bytes are.
fn one_spelling(bytes: &Message) -> u32 {
    let (request, report) = (Request::decode(bytes), Report::decode(bytes));
    assert!(request.is_none_or(|request| request.encode() == *bytes), "{request:?} {bytes:?}");
    assert!(report.is_none_or(|report| report.encode() == *bytes), "{report:?} {bytes:?}");
    u32::from(request.is_some()) + u32::from(report.is_some())
}

fn messages_cross_in_their_order() {
    let (ours, theirs) = pair().unwrap();
    let random = Random::new();
    let (requests, reports) = (requests(&random), reports(&random));
    assert!(requests.iter().all(|request| transmit(&ours, request).is_ok()));
    assert!(reports.iter().all(|report| transmit(&theirs, report).is_ok()));
    for request in requests {
        assert_eq!(receive::<Request>(&theirs), Received::Message(request));
    }
    for report in reports {
        assert_eq!(receive::<Report>(&ours), Received::Message(report));
    }
}

fn other_sizes_are_nonsense() {
    let (ours, theirs) = pair().unwrap();
    let whole = Request::Adopt.encode();
    let long = [whole.as_slice(), &[0; 100]].concat();
    for size in (1..SIZE).chain([SIZE + 1, SIZE + 2, 2 * SIZE, long.len()]) {
        put(&ours, &long[..size]);
        assert_eq!(receive::<Request>(&theirs), Received::Nonsense, "{size} bytes");
    }
    // Nothing of a long one is left in the way of the next.
    put(&ours, &whole);
    assert_eq!(receive::<Request>(&theirs), Received::Message(Request::Adopt));
    put(&ours, &[0xff; SIZE]);
    assert_eq!(receive::<Request>(&theirs), Received::Nonsense);
}

fn an_empty_socket_waits_for_nobody() {
    let (ours, theirs) = pair().unwrap();
    assert_eq!(receive::<Request>(&theirs), Received::Nothing);
    drop(ours);
    assert_eq!(receive::<Request>(&theirs), Received::Closed);
}

fn a_full_socket_waits_for_nobody() {
    let (ours, theirs) = pair().unwrap();
    let sent = (0..1_000_000).take_while(|_| transmit(&ours, &Request::Adopt).is_ok()).count();
    assert!((1..1_000_000).contains(&sent), "{sent} messages");
    let refusal = transmit(&ours, &Request::Adopt).unwrap_err();
    assert_eq!(refusal.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!((0..sent).filter(|_| receive(&theirs) == Received::Message(Request::Adopt)).count(), sent);
    drop(theirs);
    // No signal ends us for it.
    assert_eq!(transmit(&ours, &Request::Adopt).unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}

fn an_end_is_seen_behind_the_last_message() {
    let (ours, theirs) = pair().unwrap();
    transmit(&ours, &Request::Finish).unwrap();
    drop(ours);
    assert_eq!(receive::<Request>(&theirs), Received::Message(Request::Finish));
    assert_eq!(receive::<Request>(&theirs), Received::Closed);
}

fn put(socket: &OwnedFd, bytes: &[u8]) {
    assert_eq!(send(socket.as_raw_fd(), bytes, MsgFlags::empty()), Ok(bytes.len()));
}
