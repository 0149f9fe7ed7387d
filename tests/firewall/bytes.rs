//! The messages of `src/firewall`, byte by byte, and what is made of answers. Written for machines of either byte
//! order: heads are in the machine's own.

use std::time::Duration;

use knocking::config::{Config, Reading};
use knocking::door::knock::Protocol;
use knocking::door::open::{Family, SetName, Sets};
use knocking::door::ports::Ports;
use knocking::firewall::answer::{Answer, Refused, answers};
use knocking::firewall::element::{self, Element, Operation, Time, found, removed};
use knocking::firewall::flows::{Flow, Stage, flows};
use knocking::firewall::guard::{Abilities, Guard, names};
use knocking::firewall::message::{Attributes, Batch, Kind};
use knocking::firewall::refusal::Refusal;
use knocking::firewall::sessions::{Scope, connections};
use knocking::firewall::set::{Description, Form, Unfit};
use litemap::LiteMap;

trials![
    an_element_is_these_bytes,
    a_renewal_is_three_messages_of_one_batch,
    an_element_for_ever_has_no_time_unless_the_set_gives_one,
    ranges_are_elements_of_their_own_without_intervals,
    answers_are_told_apart,
    cut_answers_are_left_out,
    errors_have_sentences,
    a_set_is_judged_by_its_key,
    elements_are_read_back,
    ports_and_sets_are_read,
    sets_of_the_guard_have_names_of_their_own,
    nothing_in_an_answer_panics,
    flows_end_by_their_state,
];

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

fn set() -> SetName {
    SetName { family: Family::Inet, table: "t".to_owned(), set: "s".to_owned() }
}

fn service(has_intervals: bool) -> Description {
    Description { form: Form::Service, is_v6: false, has_intervals, default_timeout: None, handle: 1 }
}

fn ssh() -> Vec<Element> {
    Element::all("192.0.2.7/32".parse().unwrap(), &[Ports::parse("tcp/22").unwrap()], &service(false))
}

/// `struct nlmsghdr`, `struct nfgenmsg`.
pub fn head(length: u32, kind: u16, flags: u16, sequence: u32, netfilter: [u8; 4]) -> Vec<u8> {
    let numbers =
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &sequence.to_ne_bytes()];
    [numbers.concat(), vec![0; 4], netfilter.to_vec()].concat()
}

/// An attribute: its length without padding, its number.
fn attribute(length: u16, kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn an_element_is_these_bytes() {
    let mut batch = Batch::new(7);
    let numbers = element::push(
        &mut batch,
        &set(),
        &ssh()[0],
        Operation::Add,
        Some(Time::For(Duration::from_secs(10))),
    );
    assert_eq!(numbers, 8..=8);
    let (bytes, last) = batch.finish();
    assert_eq!(last, 8);
    let key = attribute(16, 1, &[192, 0, 2, 7, 6, 0, 0, 0, 0, 22, 0, 0]);
    let item = [attribute(20, 1 | NESTED, &key), attribute(12, 4, &10_000_u64.to_be_bytes())].concat();
    let elements = attribute(u16::try_from(4 + item.len()).unwrap(), 1 | NESTED, &item);
    let attributes = [
        attribute(6, 1, b"t\0"),
        attribute(6, 2, b"s\0"),
        attribute(u16::try_from(4 + elements.len()).unwrap(), 3 | NESTED, &elements),
    ]
    .concat();
    let length = u32::try_from(20 + attributes.len()).unwrap();
    // REQUEST, EXCL and CREATE, and ACK since it is the last one.
    let expected = [
        head(20, 0x10, 1, 7, [0, 0, 0, 10]),
        head(length, Kind::NewSetElem.number(), 1 | 0x200 | 0x400 | 4, 8, [1, 0, 0, 0]),
        attributes,
        head(20, 0x11, 1, 9, [0, 0, 0, 10]),
    ]
    .concat();
    assert_eq!(bytes, expected);
}

/// The type and flags of each message in a batch.
fn kinds(bytes: &[u8]) -> Vec<(u16, u16)> {
    let mut kinds = Vec::new();
    let mut rest = bytes;
    while rest.len() >= 16 {
        let half = |at: usize| u16::from_ne_bytes([rest[at], rest[at + 1]]);
        kinds.push((half(4), half(6)));
        let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        rest = &rest[length.next_multiple_of(4)..];
    }
    kinds
}

fn a_renewal_is_three_messages_of_one_batch() {
    let mut batch = Batch::new(1);
    let numbers = element::push(
        &mut batch,
        &set(),
        &ssh()[0],
        Operation::Renew,
        Some(Time::For(Duration::from_secs(1))),
    );
    assert_eq!(numbers, 2..=4);
    let (bytes, last) = batch.finish();
    assert_eq!(last, 4);
    // Add, delete, add; none of them with EXCL, the last one with ACK.
    let (add, delete) = (Kind::NewSetElem.number(), Kind::DelSetElem.number());
    assert_eq!(kinds(&bytes), [(0x10, 1), (add, 0x401), (delete, 1), (add, 0x405), (0x11, 1)]);
    assert!(Batch::new(1).is_empty());
}

fn an_element_for_ever_has_no_time_unless_the_set_gives_one() {
    let length = |time| {
        let mut batch = Batch::new(1);
        element::push(&mut batch, &set(), &ssh()[0], Operation::Add, time);
        batch.finish().0.len()
    };
    let without = length(None);
    assert_eq!(length(Some(Time::ForEver { has_default: false })), without);
    assert_eq!(length(Some(Time::ForEver { has_default: true })), without + 12);
    assert_eq!(length(Some(Time::For(Duration::MAX))), without + 12);
}

fn ranges_are_elements_of_their_own_without_intervals() {
    let ports = [Ports::parse("tcp/8000-8010").unwrap(), Ports::parse("udp/53").unwrap()];
    let network = "192.0.2.7/32".parse().unwrap();
    assert_eq!(Element::all(network, &ports, &service(false)).len(), 12);
    assert_eq!(Element::all(network, &ports, &service(true)).len(), 2);
    let addresses = Description { form: Form::Address, ..service(false) };
    let all = Element::all(network, &ports, &addresses);
    assert_eq!(all.iter().map(|it| it.key.address()).collect::<Vec<_>>(), ["192.0.2.7".parse().ok()]);
    // The highest port has nothing behind it.
    let last = [Ports { protocol: Protocol::Tcp, first: 65534, last: 65535 }];
    assert_eq!(Element::all(network, &last, &service(false)).len(), 2);
}

fn error(sequence: u32, errno: i32) -> Vec<u8> {
    let original = head(20, Kind::NewSetElem.number(), 1, sequence, [1, 0, 0, 0]);
    let mut bytes = head(36, 2, 0, sequence, (-errno).to_ne_bytes());
    bytes.extend_from_slice(&original[..16]);
    bytes
}

fn answers_are_told_apart() {
    let object = [head(28, Kind::NewSet.number(), 2, 5, [1, 0, 0, 0]), attribute(6, 2, b"s\0")].concat();
    let done = head(20, 3, 2, 5, [0; 4]);
    let datagram = [error(3, 2), error(4, 0), object, done].concat();
    let all: Vec<Answer<'_>> = answers(&datagram).collect();
    let attributes = &attribute(6, 2, b"s\0")[..];
    assert_eq!(
        all,
        [
            Answer::Refused(Refused { sequence: 3, errno: 2 }),
            Answer::Done { sequence: 4 },
            Answer::Object { sequence: 5, attributes },
            Answer::Done { sequence: 5 },
        ]
    );
}

fn cut_answers_are_left_out() {
    let whole = [error(3, 2), error(4, 0)].concat();
    for length in 0..whole.len() {
        let count = answers(&whole[..length]).count();
        assert_eq!(count, usize::from(length >= 36), "{length}");
    }
}

fn errors_have_sentences() {
    let meant = |errno, sequence| Refusal::of(Refused { sequence, errno }, 1);
    let (whole, one) = (1, 2);
    assert_eq!(meant(1, whole), Refusal::NotPermitted);
    assert_eq!(meant(1, one), Refusal::Owned);
    assert_eq!(meant(2, one), Refusal::Missing);
    assert_eq!(meant(17, one), Refusal::Exists);
    assert_eq!(meant(22, whole), Refusal::NoNftables);
    assert_eq!(meant(22, one), Refusal::Unfit);
    assert_eq!(meant(23, one), Refusal::Full);
    assert_eq!(meant(95, whole), Refusal::NoNftables);
    assert!(meant(95, one).is_of_an_old_kernel() && meant(122, one).is_of_an_old_kernel());
    let sentences = [
        Refusal::Missing,
        Refusal::Owned,
        Refusal::Exists,
        Refusal::Full,
        Refusal::Unfit,
        Refusal::NotPermitted,
        Refusal::NoNftables,
    ];
    let sentences = sentences.map(|refusal| refusal.sentence(&set()));
    assert_eq!(
        sentences.iter().collect::<std::collections::BTreeSet<_>>().len(),
        sentences.len(),
        "{sentences:?}"
    );
    assert!(sentences[..5].iter().all(|sentence| sentence.contains("inet t")), "{sentences:?}");
}

fn a_set_is_judged_by_its_key() {
    let read = |kind: u32, length: u32, flags: u32, is_v6| {
        let attributes =
            Attributes::new().number(3, flags).number(4, kind).number(5, length).long(11, 5000).long(16, 3);
        Description::read(attributes.as_bytes(), is_v6)
    };
    let timeouts = 0x10;
    let described = read(0x730d, 12, timeouts, false).unwrap();
    assert_eq!((described.form, described.handle), (Form::Service, 3));
    assert_eq!(described.default_timeout, Some(Duration::from_secs(5)));
    assert_eq!(read(0x830d, 24, timeouts | 0x80 | 4, true).map(|it| it.has_intervals), Ok(true));
    assert_eq!(read(7, 4, timeouts, false).map(|it| it.form), Ok(Form::Address));
    assert_eq!(read(8, 16, timeouts, false), Err(Unfit::OtherFamily));
    assert_eq!(read(7, 4, 0, false), Err(Unfit::NoTimeouts));
    assert_eq!(read(13, 2, timeouts, false), Err(Unfit::Key));
    assert_eq!(read(7, 4, timeouts | 8, false), Err(Unfit::NoSet));
}

fn elements_are_read_back() {
    let value = Attributes::new().bytes(1, &[192, 0, 2, 7]);
    let item = |left: Option<u64>| {
        let item = Attributes::new().nested(1, &value);
        left.map_or(item.clone(), |left| item.long(4, 60_000).long(5, left))
    };
    let list = Attributes::new().nested(1, &item(Some(1500))).nested(1, &item(None));
    let attributes = Attributes::new().text(1, "t").text(2, "s").nested(3, &list);
    let all = found(attributes.as_bytes());
    assert_eq!(all.iter().map(|it| it.left).collect::<Vec<_>>(), [Some(Duration::from_millis(1500)), None]);
    assert!(all.iter().all(|it| it.key.address() == "192.0.2.7".parse().ok()));
    let gone = removed(attributes.as_bytes());
    assert_eq!((gone.len(), gone[0].table.as_str(), gone[0].set.as_str()), (2, "t", "s"));
}

fn ports_and_sets_are_read() {
    for (text, shown) in [("tcp/22", "tcp/22"), (" UDP/1-65535 ", "udp/1-65535"), ("tcp/5-5", "tcp/5")] {
        assert_eq!(Ports::parse(text).map(|it| it.to_string()).as_deref(), Some(shown));
    }
    for text in [
        "",
        "22",
        "tcp/",
        "tcp/0",
        "tcp/1-",
        "tcp/2-1",
        "tcp/65536",
        "tcp/+22",
        "icmp/8",
        "tcp/ 22",
        "tcp/22/23",
    ] {
        assert_eq!(Ports::parse(text), None, "{text}");
    }
    let sets = Sets::default().with("inet t four six").unwrap();
    assert_eq!(
        sets.iter().map(|(name, is_v6)| (name.to_string(), is_v6)).collect::<Vec<_>>(),
        [("inet t four".to_owned(), false), ("inet t six".to_owned(), true)]
    );
    let both = Sets::default().with("ip a four").and_then(|sets| sets.with("ip6 b six")).unwrap();
    assert_eq!((both.of(false).unwrap().family, both.of(true).unwrap().family), (Family::Ip, Family::Ip6));
    let long = format!("inet t {}", "s".repeat(256));
    for text in ["", "inet", "inet t", "inet t a b c", "ip t a b", "arp t a", &long] {
        assert_eq!(Sets::default().with(text), None, "{text}");
    }
}

pub fn doors_of(text: &str) -> Config {
    let reading = Reading { file: &mut |_| Ok(Vec::new()), note: &mut |_| {}, interface_is_given: true };
    Config::parse(text.as_bytes(), reading).unwrap()
}

fn sets_of_the_guard_have_names_of_their_own() {
    let sections = ["ssh", "ssh", "my door", "my_door", "tcp_ports", "ü", "9", "door_my_door_1_"];
    let door = |name: &str| format!("[{name}]\nsequence = 1\nopen = tcp/22\n");
    let text = format!("[options]\nguard = yes\n{}", sections.map(door).concat());
    let config = doors_of(&text);
    let all = names(&config.doors);
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), sections.len(), "{all:?}");
    assert_eq!((all[0].as_str(), all[3].as_str()), ("ssh", "my_door"));
    let is_plain = |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    assert!(all.iter().all(is_plain), "{all:?}");
    assert_eq!(all, names(&doors_of(&text).doors));
    // One rule for each port range and IP version, however many doors.
    let guard = Guard::of(&config.doors, &[]).unwrap();
    assert_eq!(guard.ports(), [Ports::parse("tcp/22").unwrap()]);
    let batch = guard.batch(1, true, Abilities::ALL, &LiteMap::new());
    let rules =
        kinds(&batch.finish().0).into_iter().filter(|(kind, _)| *kind == Kind::NewRule.number()).count();
    assert_eq!(rules, 3 + 2);
    assert_eq!(Guard::of(&doors_of("[d]\nsequence = 1\n").doors, &[]), None);
}

/// Whatever the kernel sends, or somebody who can pass for it.
fn nothing_in_an_answer_panics() {
    let random = crate::random::Random::of(17);
    let mut bytes = [error(3, 2), head(28, 20, 2, 5, [2, 0, 0, 0]), vec![0; 80]].concat();
    for _ in 0..20_000 {
        let at = random.below(bytes.len());
        bytes[at] = u8::try_from(random.below(256)).unwrap();
        let cut = &bytes[..random.below(bytes.len() + 1)];
        for answer in answers(cut) {
            if let Answer::Object { attributes, .. } = answer {
                let _ = (found(attributes), removed(attributes), Description::read(attributes, false));
            }
        }
        let _ = (connections(cut), flows(cut));
    }
}

/// A message of conntrack: a connection from 192.0.2.7, port 4000, to port 8080, which port 80 answers.
fn flow(kind: u16, state: Option<u8>) -> Vec<u8> {
    let nested = |kind: u16, inner: &[Vec<u8>]| {
        let inner = inner.concat();
        attribute(u16::try_from(inner.len() + 4).unwrap(), 1 << 15 | kind, &inner)
    };
    let tuple = |kind: u16, from: [u8; 4], ports: [u16; 2]| {
        let [source, destination] = ports.map(u16::to_be_bytes);
        let ports = [attribute(5, 1, &[6]), attribute(6, 2, &source), attribute(6, 3, &destination)];
        nested(kind, &[nested(1, &[attribute(8, 1, &from)]), nested(2, &ports)])
    };
    let state = state.map(|state| nested(4, &[nested(1, &[attribute(5, 1, &[state])])]));
    let attributes = [
        tuple(1, [192, 0, 2, 7], [4000, 8080]),
        tuple(2, [10, 99, 0, 2], [80, 4000]),
        state.unwrap_or_default(),
    ]
    .concat();
    let length = u32::try_from(20 + attributes.len()).unwrap();
    [head(length, kind, 0, 0, [2, 0, 0, 0]), attributes].concat()
}

/// Source: `enum tcp_conntrack`, and `ctnetlink_conntrack_event`.
fn flows_end_by_their_state() {
    for (kind, state, stage) in [
        (0x100, Some(1), Stage::Unknown),
        (0x100, Some(2), Stage::Connected),
        (0x100, Some(3), Stage::Connected),
        (0x100, Some(5), Stage::Connected),
        (0x100, Some(6), Stage::Ended),
        (0x100, Some(7), Stage::Ended),
        (0x100, Some(8), Stage::Ended),
        (0x100, Some(9), Stage::Unknown),
        (0x100, None, Stage::Unknown),
        (0x102, None, Stage::Ended),
        (0x102, Some(3), Stage::Ended),
    ] {
        let read = flows(&flow(kind, state));
        let wanted = Flow {
            peer: "192.0.2.7".parse().unwrap(),
            peer_port: 4000,
            port: 8080,
            answering_port: 80,
            stage,
        };
        assert_eq!(read, [wanted], "{kind:x} {state:?}");
    }
    let flow = flows(&flow(0x100, Some(3))).remove(0);
    let is_in = |network: &str, port: u16| {
        let ports = [Ports { protocol: Protocol::Tcp, first: port, last: port }];
        flow.is_in(&Scope { network: network.parse().unwrap(), ports: &ports })
    };
    assert!(is_in("192.0.2.7/32", 8080) && is_in("192.0.2.0/24", 80));
    assert!(!is_in("192.0.2.8/32", 8080) && !is_in("192.0.2.7/32", 4000));
}
