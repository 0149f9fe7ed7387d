//! The messages between the daemon's two processes: what is sent arrives, and nothing else is a message.

use std::io::{IoSlice, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use knocking::config::Sandbox;
use knocking::daemon::messages::{Received, hand_out, pair, read_all, receive, transmit};
use knocking::door::knock::{Flags, Knock, Protocol};
use knocking::door::lock::Turn;
use knocking::door::misfit::Misfit;
use knocking::door::spa::{MAX_PACKET, MIN_PACKET};
use knocking::filter::interfaces::State;
use knocking::filter::trouble::{CaptureError, CaptureProblem, Code, Operation, Trouble};
use knocking::opening::event::Opening;
use knocking::opening::log_limit::Cause;
use knocking::protocol::bundle::{Bundle, CoolingDown, SpentLists};
use knocking::protocol::confinement::{Confined, Confinement, Outcome, Part};
use knocking::protocol::knock::EncodedKnock;
use knocking::protocol::messages::{Crossing, Generation, LONGEST, Order, Report, SinglePacket, Step};
use knocking::protocol::values::{LONGEST_TEXT, plain};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{ControlMessage, MsgFlags, send, sendmsg};

use crate::random::Random;

trials![
    what_is_encoded_is_decoded,
    every_message_has_one_spelling,
    an_address_has_one_spelling,
    a_confinement_crosses_as_words,
    no_changed_byte_goes_unnoticed,
    no_message_is_longer_than_it_may_be,
    messages_cross_in_their_order,
    other_sizes_are_nonsense,
    an_empty_socket_waits_for_nobody,
    a_full_socket_waits_for_nobody,
    an_end_is_seen_behind_the_last_message,
    an_end_with_messages_unread_loses_none,
    a_descriptor_crosses_and_is_closed_at_exec,
    a_handed_out_text_cannot_be_changed,
    a_bundle_is_read_as_it_was_written,
    a_damaged_bundle_is_none,
];

fn reports(random: &Random) -> Vec<Report> {
    let number = |bits: u32| random.number() >> (64 - bits);
    let (generation, door) =
        (Generation(u32::try_from(number(32)).unwrap()), usize::try_from(number(32)).unwrap());
    let byte = || random.byte();
    let capture = |problem| CaptureError { interface: "eth0".to_owned(), problem };
    let mut reports = vec![
        Report::Adopted(generation),
        Report::LeftOut(random.number()),
        Report::SocketWanted,
        Report::Described,
        Report::Told("status: door ssh: 3 begun".to_owned()),
        Report::Explained("a line".to_owned(), true),
        Report::Explained(String::new(), false),
        Report::Trouble(Trouble::ListInterfaces(Code(random.byte().into()))),
        Report::Trouble(Trouble::Filter(Code(-1))),
        Report::Trouble(Trouble::Capture(capture(CaptureProblem::Down))),
        Report::Refused(capture(CaptureProblem::Missing("lo, eth1".to_owned()))),
        Report::Refused(capture(CaptureProblem::NoDefaultRoute(String::new()))),
    ];
    for operation in Operation::ALL {
        reports.push(Report::Refused(capture(CaptureProblem::Failed(operation, Code(12)))));
        reports.push(Report::Trouble(Trouble::Switch("eth0".to_owned(), operation, Code(24))));
    }
    for state in [State::Ready, State::NoCarrier, State::Down, State::Missing] {
        reports.push(Report::Interface("br-läñ".to_owned(), state, random.once_in(2)));
    }
    for outcome in [Outcome::Unwanted, Outcome::Done, Outcome::Otherwise, Outcome::Failed(Code(38))] {
        let mut outcomes = [Outcome::Done; Part::ALL.len()];
        outcomes[usize::from(random.byte()) % Part::ALL.len()] = outcome;
        reports.push(Report::Confined(Confined { user: generation.0, outcomes }));
    }
    reports.push(Report::Panicked("index out of bounds".to_owned()));
    reports.push(Report::Shared(EncodedKnock::of(&knock(random))));
    for text in ["0.0.0.0", "255.255.255.255", "::", "2001:db8::1", "::10.0.0.1"] {
        let knocker: IpAddr = text.parse().unwrap();
        let opening = Opening { door, knocker, turn: Turn(random.number()) };
        reports.push(Report::Opened(random.number(), generation, opening));
        reports.push(Report::OverRate(random.number(), generation, opening));
        for cause in [Cause::Rate, Cause::Queue, Cause::End, Cause::Reload] {
            reports.push(Report::Dropped(generation, door, cause, random.number()));
        }
        reports.push(Report::Tried(generation, door, knocker, Turn(random.number()), byte()));
        let repeated = Step::Repeated(u32::try_from(number(32)).unwrap(), 3);
        let used = Step::Misfit(Misfit::Used);
        let packets = [Step::WrongPacket, Step::PacketAgain, used, Step::Misfit(Misfit::OtherPeriod(-3))];
        let steps = [Step::Advanced(byte()), Step::Failed(byte()), Step::Expired(byte()), repeated];
        for step in steps.into_iter().chain(packets) {
            reports.push(Report::Stepped(generation, door, knocker, step));
        }
        for length in [MIN_PACKET, 204, MAX_PACKET] {
            let single =
                SinglePacket { door, sender: knocker, destination: knocker, packet: vec![b'/'; length] };
            reports.push(Report::Single(random.number(), generation, single));
        }
    }
    reports
}

fn orders(random: &Random) -> Vec<Order> {
    let generation = Generation(u32::try_from(random.number() >> 32).unwrap());
    vec![
        Order::Adopt(generation),
        Order::Taken(random.number()),
        Order::Lines(random.number(), generation, 7),
        Order::Socket(Code(0)),
        Order::Socket(Code(24)),
        Order::Finish,
        Order::Describe,
        Order::Tell,
        Order::Heard(EncodedKnock::of(&knock(random))),
    ]
}

fn knock(random: &Random) -> Knock {
    let address = || *random.pick(&["10.0.0.2", "2001:db8::2"].map(|text| text.parse::<IpAddr>().unwrap()));
    let protocol = *random.pick(&[Protocol::Tcp, Protocol::Udp, Protocol::Icmp]);
    Knock {
        source: address(),
        source_port: 0,
        destination: address(),
        protocol,
        port: random.port(),
        flags: (protocol == Protocol::Tcp).then_some(Flags(random.byte())),
        udp_length: (protocol == Protocol::Udp).then_some(random.port()),
        length: 0,
    }
}

fn what_is_encoded_is_decoded() {
    let random = Random::new();
    for _ in 0..200 {
        for report in reports(&random) {
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
        for order in orders(&random) {
            assert_eq!(Order::decode(&order.encode()), Some(order));
        }
    }
}

/// Bytes that are a message are the bytes of that message; there is no second way to say it.
fn every_message_has_one_spelling() {
    let random = Random::new();
    let mut messages = 0;
    for _ in 0..100_000 {
        let length = usize::from(random.byte() % 40);
        let mut bytes: Vec<u8> = (0..length).map(|_| *random.pick(&[0, 1, 2, 4, 6, random.byte()])).collect();
        if let Some(first) = bytes.first_mut() {
            *first = random.byte() % 18;
        }
        messages += one_spelling(&bytes);
    }
    assert!(messages > 1000, "only {messages} were messages");
}

/// An IPv4 address is never written as one of IPv6, which `Deny` and the state would take for another.
fn an_address_has_one_spelling() {
    for (text, is_one) in [("10.0.0.1", true), ("::ffff:10.0.0.1", false), ("::10.0.0.1", true)] {
        let opening = Opening { door: 0, knocker: text.parse().unwrap(), turn: Turn(0) };
        let bytes = Report::Opened(1, Generation(1), opening).encode();
        assert_eq!(Report::decode(&bytes).is_some(), is_one, "{text}");
    }
}

fn a_confinement_crosses_as_words() {
    for identity in [None, Some((0, 0)), Some((998, 65_534))] {
        for sandbox in [Sandbox::Yes, Sandbox::Require, Sandbox::No] {
            let confinement = Confinement { identity, sandbox };
            let [first, second] = confinement.words();
            assert_eq!(Confinement::of([&first, &second]), Some(confinement));
        }
    }
    for words in [["", "yes"], ["1", "yes"], ["1:", "yes"], ["1:-1", "yes"], ["1:2", ""], ["keep", "perhaps"]]
    {
        assert_eq!(Confinement::of(words), None, "{words:?}");
    }
}

fn no_changed_byte_goes_unnoticed() {
    let random = Random::new();
    for message in reports(&random).iter().map(Crossing::encode) {
        for at in 0..message.len() {
            for value in 0..=255 {
                let mut changed = message.clone();
                changed[at] = value;
                one_spelling(&changed);
                if changed != message {
                    assert_ne!(Report::decode(&changed), Report::decode(&message));
                }
            }
            assert_eq!(Report::decode(&message[..at]), None, "cut off at {at}: {message:?}");
        }
        assert_eq!(Report::decode(&[message.as_slice(), &[0]].concat()), None);
    }
}

/// How many kinds of message these bytes are.
fn one_spelling(bytes: &[u8]) -> u32 {
    let (report, order) = (Report::decode(bytes), Order::decode(bytes));
    assert!(report.as_ref().is_none_or(|report| report.encode() == *bytes), "{report:?} {bytes:?}");
    assert!(order.is_none_or(|order| order.encode() == *bytes), "{order:?} {bytes:?}");
    u32::from(report.is_some()) + u32::from(order.is_some())
}

/// Whatever it is made of; and nothing of it could forge a line of the log.
fn no_message_is_longer_than_it_may_be() {
    let long = "\nä\u{1b}".repeat(LONGEST);
    assert!(plain(&long).len() <= LONGEST_TEXT && !plain(&long).contains(['\n', '\u{1b}']));
    let problem = CaptureProblem::Missing(long.clone());
    for report in [
        Report::Explained(long.clone(), true),
        Report::Refused(CaptureError { interface: long.clone(), problem }),
    ] {
        let bytes = report.encode();
        assert!(bytes.len() <= LONGEST, "{}", bytes.len());
        assert!(Report::decode(&bytes).is_some());
    }
}

fn messages_cross_in_their_order() {
    let (ours, theirs) = pair().unwrap();
    let random = Random::new();
    let (reports, orders) = (reports(&random), orders(&random));
    assert!(reports.iter().all(|report| transmit(&ours, report, None).is_ok()));
    assert!(orders.iter().all(|order| transmit(&theirs, order, None).is_ok()));
    for report in reports {
        assert_eq!(message::<Report>(&theirs), Some(report));
    }
    for order in orders {
        assert_eq!(message::<Order>(&ours), Some(order));
    }
}

fn message<T: Crossing>(socket: &OwnedFd) -> Option<T> {
    match receive::<T>(socket) {
        Received::Message(message, None) => Some(message),
        _ => None,
    }
}

fn other_sizes_are_nonsense() {
    let (ours, theirs) = pair().unwrap();
    let whole = Order::Taken(9).encode();
    let long = [whole.as_slice(), &[0; 2 * LONGEST]].concat();
    for size in (1..whole.len()).chain([whole.len() + 1, LONGEST, LONGEST + 1, LONGEST + 2, long.len()]) {
        put(&ours, &long[..size]);
        assert!(matches!(receive::<Order>(&theirs), Received::Nonsense), "{size} bytes");
    }
    // Nothing of a long one is left in the way of the next.
    put(&ours, &whole);
    assert_eq!(message::<Order>(&theirs), Some(Order::Taken(9)));
    put(&ours, &[0xff; 13]);
    assert!(matches!(receive::<Order>(&theirs), Received::Nonsense));
}

fn an_empty_socket_waits_for_nobody() {
    let (ours, theirs) = pair().unwrap();
    assert!(matches!(receive::<Order>(&theirs), Received::Nothing));
    close(ours, &theirs);
    assert!(matches!(receive::<Order>(&theirs), Received::Closed));
}

/// Closes an end, and waits until it is closed: programs that other tests start have it, too, until they are executed.
fn close(end: OwnedFd, other: &OwnedFd) {
    drop(end);
    let mut ends = [PollFd::new(other.as_fd(), PollFlags::empty())];
    assert_eq!(poll(&mut ends, 30_000_u16), Ok(1), "an end that stays open");
}

fn a_full_socket_waits_for_nobody() {
    let (ours, theirs) = pair().unwrap();
    let sent = (0..1_000_000).take_while(|_| transmit(&ours, &Order::Finish, None).is_ok()).count();
    assert!((1..1_000_000).contains(&sent), "{sent} messages");
    let refusal = transmit(&ours, &Order::Finish, None).unwrap_err();
    assert_eq!(refusal.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!((0..sent).filter(|_| message(&theirs) == Some(Order::Finish)).count(), sent);
    close(theirs, &ours);
    // No signal ends us for it.
    assert_eq!(transmit(&ours, &Order::Finish, None).unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}

fn an_end_is_seen_behind_the_last_message() {
    let (ours, theirs) = pair().unwrap();
    transmit(&ours, &Order::Finish, None).unwrap();
    close(ours, &theirs);
    assert_eq!(message(&theirs), Some(Order::Finish));
    assert!(matches!(receive::<Order>(&theirs), Received::Closed));
}

/// Also if it had not read what was sent to it: the kernel says that first.
fn an_end_with_messages_unread_loses_none() {
    let (ours, theirs) = pair().unwrap();
    for number in 0..3 {
        transmit(&ours, &Order::Taken(number), None).unwrap();
        transmit(&theirs, &Order::Finish, None).unwrap();
    }
    close(ours, &theirs);
    for number in 0..3 {
        assert_eq!(message(&theirs), Some(Order::Taken(number)));
    }
    assert!(matches!(receive::<Order>(&theirs), Received::Closed));
}

/// More than one is more than belongs to a message: none of them is left open.
fn a_descriptor_crosses_and_is_closed_at_exec() {
    let (ours, theirs) = pair().unwrap();
    let text = hand_out(b"text").unwrap();
    transmit(&ours, &Order::Adopt(Generation(1)), Some(text.as_fd())).unwrap();
    let Received::Message(Order::Adopt(_), Some(got)) = receive::<Order>(&theirs) else {
        panic!("no descriptor")
    };
    assert_eq!(read_all(&got).unwrap().as_slice(), b"text");
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", got.as_raw_fd())).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
    assert_ne!(u32::from_str_radix(flags, 8).unwrap() & 0o2_000_000, 0, "open at exec: {info}");
    let bytes = Order::Finish.encode();
    let both = [text.as_raw_fd(), got.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&both)];
    sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(&bytes)], &rights, MsgFlags::empty(), None).unwrap();
    let received = receive::<Order>(&theirs);
    assert!(matches!(received, Received::Message(Order::Finish, _)), "{received:?}");
}

fn a_handed_out_text_cannot_be_changed() {
    let text = hand_out(b"a seed").unwrap();
    let mut file = std::fs::File::from(text.try_clone().unwrap());
    assert!(file.write_all(b"x").is_err() && file.set_len(0).is_err());
    // Wherever somebody else has read to.
    for _ in 0..2 {
        assert_eq!(read_all(&text).unwrap().as_slice(), b"a seed");
    }
}

fn bundle() -> Bundle<'static> {
    let file = |name: &'static str, text: &'static [u8]| (Path::new(name), text);
    Bundle {
        interface: "eth0, auto".to_owned(),
        waits: true,
        has_readers: false,
        files: vec![file("/etc/knockd.conf", b"[a]\nsequence = 1"), file("/etc/x.conf", b"")],
        one_time: vec![file("seqs", b" 1,2\n\xff")],
        spent: vec![
            SpentLists {
                door: 0,
                floor: None,
                lists: vec![(u64::MAX, None), (7, Some("::1".parse().unwrap()))],
                tries: vec![(8, "2001:db8::".parse().unwrap(), 3), (9, "10.0.0.1".parse().unwrap(), u8::MAX)],
            },
            SpentLists { door: 9, floor: Some(3), lists: vec![], tries: vec![] },
        ],
        cooldowns: vec![CoolingDown {
            door: 1,
            knocker: "192.0.2.1".parse().unwrap(),
            until: Duration::new(5, 999_999_999),
        }],
    }
}

fn a_bundle_is_read_as_it_was_written() {
    for bundle in [bundle(), Bundle::default()] {
        let text = bundle.encode();
        assert_eq!(Bundle::decode(&text), Some(bundle));
    }
}

/// However it is cut off, and whatever its counts say.
fn a_damaged_bundle_is_none() {
    let text = bundle().encode();
    for at in 0..text.len() {
        assert_eq!(Bundle::decode(&text[..at]), None, "{at}");
        let mut changed = text.to_vec();
        changed[at] = 0xff;
        let _ = Bundle::decode(&changed);
    }
}

fn put(socket: &OwnedFd, bytes: &[u8]) {
    assert_eq!(send(socket.as_raw_fd(), bytes, MsgFlags::empty()), Ok(bytes.len()));
}
