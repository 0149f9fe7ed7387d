//! Single packets as values: those of fwknop's client, to the byte, and those that must be refused.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use knocking::door::digest::{Digest, HmacKey};
use knocking::door::knock::Protocol;
use knocking::door::sequence::Stage;
use knocking::door::spa::Refusal;
use knocking::door::spa::fields::{Fields, Kind, Message, RequestedAccess};
use knocking::door::spa::replay::{MAX_PACKETS, Used};
use knocking::door::spa::request::{RequestablePorts, SpaLock, Terms, is_in_time};
use knocking::door::spa::sealed::{Keys, PacketId};
use tinyjson::JsonValue;

trials![
    packets_of_fwknop_are_read_and_made_to_the_byte,
    what_we_do_not_take_is_refused,
    bad_packets_are_refused_at_their_step,
    a_changed_character_is_a_wrong_hmac,
    no_other_spelling_is_another_packet,
    requests_are_granted_as_a_whole,
    what_a_packet_could_open_at_most,
    grants_are_ports_and_ranges,
    used_packets_stay_used,
    keys_appear_in_no_text,
    a_code_is_judged_alike_whatever_came_before,
];

/// The packets of this name in the corpus.
pub fn list(name: &str) -> Vec<JsonValue> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/spa/vectors.json");
    let all: JsonValue = fs::read_to_string(path).unwrap().parse().unwrap();
    all[name].get::<Vec<JsonValue>>().unwrap().clone()
}

fn field<'a>(vector: &'a JsonValue, name: &str) -> Option<&'a JsonValue> {
    vector.get::<HashMap<String, JsonValue>>()?.get(name)
}

fn word<'a>(vector: &'a JsonValue, name: &str) -> Option<&'a str> {
    field(vector, name)?.get::<String>().map(String::as_str)
}

fn number(vector: &JsonValue, name: &str) -> Option<u64> {
    field(vector, name)?.get().copied().map(whole)
}

/// JSON has no whole numbers.
fn whole(number: f64) -> u64 {
    number.to_string().parse().unwrap()
}

fn text<'a>(vector: &'a JsonValue, name: &str) -> &'a str {
    word(vector, name).unwrap_or_else(|| panic!("{name}"))
}

/// A key as the vectors write it.
fn key(vector: &JsonValue, name: &str) -> Option<Vec<u8>> {
    let text = word(vector, name)?;
    Some(match text.strip_prefix("base64:") {
        Some(text) => BASE64_STANDARD.decode(text).unwrap(),
        None => text.as_bytes().to_vec(),
    })
}

/// The keys of a vector, if it is of a kind that we take: with an HMAC, in CBC mode, without SHA-3.
fn keys(vector: &JsonValue) -> Option<Keys> {
    let hmac_key = key(vector, "hmac_key").filter(|_| word(vector, "mode") == Some("cbc"))?;
    let digest = Digest::from_word(word(vector, "hmac_digest").unwrap_or("sha256"))?;
    Some(Keys::new(&key(vector, "key").unwrap(), &hmac_key, digest).unwrap())
}

fn is_sha3(vector: &JsonValue) -> bool {
    let inner = field(vector, "fields").and_then(|fields| word(fields, "digest"));
    [inner, word(vector, "hmac_digest")].iter().flatten().any(|digest| digest.starts_with("sha3_"))
}

fn packets_of_fwknop_are_read_and_made_to_the_byte() {
    let mut read = 0;
    for vector in list("vectors").iter().filter(|vector| !is_sha3(vector)) {
        let Some(keys) = keys(vector) else { continue };
        let name = text(vector, "name");
        let packet = text(vector, "packet");
        let opened = keys.open(packet.as_bytes()).unwrap_or_else(|why| panic!("{name}: {why}"));
        let (fields, wanted) = (&opened.fields, field(vector, "fields").unwrap());
        assert_eq!(fields.random, text(wanted, "random"), "{name}");
        assert_eq!(fields.user, text(wanted, "user"), "{name}");
        assert_eq!(fields.time, number(wanted, "timestamp").unwrap(), "{name}");
        assert_eq!(fields.version, text(wanted, "version"), "{name}");
        assert_eq!(fields.kind as u64, number(wanted, "type").unwrap(), "{name}");
        assert_eq!(fields.digest.word(), text(wanted, "digest"), "{name}");
        assert_eq!(fields.nat.as_deref(), word(wanted, "nat"), "{name}");
        assert_eq!(fields.timeout.map(u64::from), number(wanted, "timeout"), "{name}");
        assert_eq!(fields.message.address.to_string(), text(wanted, "address"), "{name}");
        match &fields.message.access {
            RequestedAccess::Command(command) => {
                assert_eq!(str::from_utf8(command).unwrap(), text(wanted, "command"), "{name}");
            }
            RequestedAccess::Ports(ports) => {
                let ports: Vec<(String, u64)> =
                    ports.iter().map(|port| (port.protocol.to_string(), port.port.into())).collect();
                let wanted = field(wanted, "access").unwrap().get::<Vec<JsonValue>>().unwrap().iter();
                let wanted: Vec<(String, u64)> = wanted
                    .map(|port| {
                        let number = whole(*port[1].get().unwrap());
                        (port[0].get::<String>().unwrap().clone(), number)
                    })
                    .collect();
                assert_eq!(ports, wanted, "{name}");
            }
        }
        if let Some(wanted) = word(vector, "text") {
            assert_eq!(fields.to_text(), wanted, "{name}");
        }
        assert_eq!(format!("{:016x}", u64::from_be_bytes(opened.salt)), text(vector, "salt"), "{name}");
        assert_eq!(keys.seal(fields, opened.salt), packet, "{name}");
        read += 1;
    }
    assert_eq!(read, 60);
}

/// Packets without HMAC, in other modes, with SHA-3: neither keys nor a packet of these are taken.
fn what_we_do_not_take_is_refused() {
    let mut refused = 0;
    for vector in list("vectors") {
        let name = text(&vector, "name");
        let packet = text(&vector, "packet").as_bytes();
        if let Some(keys) = keys(&vector).filter(|_| is_sha3(&vector)) {
            assert_eq!(keys.open(packet), Err(Refusal::Digest), "{name}");
            refused += 1;
        } else if word(&vector, "hmac_key").is_none() {
            let keys = Keys::new(&key(&vector, "key").unwrap(), b"any", Digest::Sha256).unwrap();
            assert!(matches!(keys.open(packet), Err(Refusal::Length | Refusal::Hmac)), "{name}");
            refused += 1;
        } else if word(&vector, "mode") != Some("cbc") {
            let hmac = key(&vector, "hmac_key").unwrap();
            let keys = Keys::new(&key(&vector, "key").unwrap(), &hmac, Digest::Sha256).unwrap();
            assert!(keys.open(packet).is_err(), "{name}");
            refused += 1;
        } else if is_sha3(&vector) {
            assert_eq!(Digest::from_word(text(&vector, "hmac_digest")), None, "{name}");
            refused += 1;
        }
    }
    assert_eq!(60 + refused, list("vectors").len());
}

fn bad_packets_are_refused_at_their_step() {
    let vectors = list("refused");
    assert_eq!(vectors.len(), 54);
    for vector in vectors {
        let name = text(&vector, "name");
        let seen = keys(&vector).unwrap().open(text(&vector, "packet").as_bytes()).expect_err(name);
        // The words are those of the program that made the packets; a wrong length is seen sooner here.
        let is_right = match text(&vector, "why") {
            "hmac" | "cipher text" => matches!(seen, Refusal::Hmac | Refusal::Length),
            "packet: not base64" | "packet: base64 that nobody writes" => {
                matches!(seen, Refusal::Base64 | Refusal::Length)
            }
            "padding" => seen == Refusal::Padding,
            "digest" => seen == Refusal::Digest,
            "text" => matches!(seen, Refusal::Digest | Refusal::Field("time")),
            "number of fields" => matches!(seen, Refusal::Field("message" | "after the last")),
            "random value" => seen == Refusal::Field("random value"),
            "user" => seen == Refusal::Field("user"),
            "timestamp: not a number in range" => seen == Refusal::Field("time"),
            "version" => seen == Refusal::Field("version"),
            "type: not a number in range" => seen == Refusal::Field("type"),
            "message: address" => seen == Refusal::Field("address"),
            "message: port" => seen == Refusal::Field("port"),
            "message" => seen == Refusal::Field("message"),
            "no timeout" | "timeout: not a number in range" => seen == Refusal::Field("timeout"),
            "no nat access" | "nat access" => seen == Refusal::Field("nat access"),
            other => panic!("{name}: {other}"),
        };
        assert!(is_right, "{name}: {seen:?}");
        assert_eq!(
            seen.is_authentic(),
            !matches!(seen, Refusal::Hmac | Refusal::Length | Refusal::Base64 | Refusal::Padding)
        );
    }
}

fn a_changed_character_is_a_wrong_hmac() {
    for vector in list("vectors").iter().filter(|vector| !is_sha3(vector)).take(20) {
        let Some(keys) = keys(vector) else { continue };
        let packet = text(vector, "packet").as_bytes();
        for at in 0..packet.len() {
            let mut damaged = packet.to_vec();
            damaged[at] = if packet[at] == b'A' { b'B' } else { b'A' };
            // The first character alone tells that it is no packet.
            let why = if at == 0 { Refusal::Length } else { Refusal::Hmac };
            assert_eq!(keys.open(&damaged), Err(why));
            assert!(keys.open(&packet[..at]).is_err());
        }
    }
}

/// What anybody who saw a packet can make of it without the keys.
fn no_other_spelling_is_another_packet() {
    let vector = &list("vectors")[0];
    let keys = keys(vector).unwrap();
    let packet = text(vector, "packet");
    let others = spellings(packet);
    assert!(others.len() >= 1000, "{}", others.len());
    for other in others {
        assert!(keys.open(other.as_bytes()).is_err(), "{other}");
    }
}

/// A thousand and more ways to write a packet, none of them its own: padding, line ends and blanks at both
/// ends and inside, unused bits of the last characters, the other alphabet, the prefix put back, one character
/// more or less.
pub fn spellings(packet: &str) -> Vec<String> {
    let mut others: Vec<String> = Vec::new();
    for mark in ["=", "==", "\n", "\r\n", "\0", " ", "A"] {
        others.push(format!("{packet}{mark}"));
        others.push(format!("{mark}{packet}"));
        others.extend((1..packet.len()).map(|at| format!("{}{mark}{}", &packet[..at], &packet[at..])));
    }
    // 43 characters of HMAC; the last one of each part has bits that say nothing.
    let data = packet.len() - 43;
    for end in [data - 1, packet.len() - 1] {
        for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".chars() {
            others.push(format!("{}{other}{}", &packet[..end], &packet[end + 1..]));
        }
    }
    others.push(packet.replace('+', "-").replace('/', "_"));
    others.push(format!("U2FsdGVkX1{packet}"));
    others.push(packet[1..].to_owned());
    others.push(packet[..packet.len() - 1].to_owned());
    others.retain(|other| other != packet);
    others
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn tcp(port: u16) -> Stage {
    Stage { protocol: Protocol::Tcp, port }
}

pub fn fields(address_text: &str, ports: Vec<Stage>) -> Fields {
    Fields {
        random: "1234567890123456".to_owned(),
        user: "alice".to_owned(),
        time: 1_795_898_455,
        version: "3.0.0".to_owned(),
        kind: Kind::Access,
        message: Message { address: address(address_text), access: RequestedAccess::Ports(ports) },
        nat: None,
        auth: None,
        timeout: None,
        digest: Digest::Sha256,
    }
}

pub fn terms(open: &str) -> Terms {
    Terms {
        keys: Keys::new(b"key", b"hmac key", Digest::Sha256).unwrap(),
        open: RequestablePorts::parse(open).unwrap(),
        restricted: RequestablePorts::default(),
        users: None,
        requires_source: false,
        sources: None,
        destinations: None,
        timeout: None,
        max_timeout: None,
        expires: None,
    }
}

fn requests_are_granted_as_a_whole() {
    let sender = address("198.51.100.7");
    let mut terms = terms("tcp/22, udp/5000-5010");
    let asked = fields("192.0.2.7", vec![tcp(22), tcp(22)]);
    let granted = terms.grant(&asked, sender, 30).unwrap();
    assert_eq!(
        (granted.address, granted.ports, granted.seconds),
        (address("192.0.2.7"), vec![tcp(22)], None)
    );
    assert_eq!(granted.user, "alice");
    // One port that is not granted refuses all of it.
    let more = fields("192.0.2.7", vec![tcp(22), tcp(23)]);
    assert_eq!(terms.grant(&more, sender, 30), Err(Refusal::Port));
    for unnamed in ["0.0.0.0", "::", "::ffff:0.0.0.0"] {
        let asked = fields(unnamed, vec![tcp(22)]);
        assert_eq!(terms.grant(&asked, sender, 30).unwrap().address, sender);
        let strict = Terms { requires_source: true, ..terms.clone() };
        assert_eq!(strict.grant(&asked, sender, 30), Err(Refusal::NoSource));
    }
    let mapped = terms.grant(&fields("::ffff:192.0.2.9", vec![tcp(22)]), sender, 30).unwrap();
    assert_eq!(mapped.address, address("192.0.2.9"));
    terms.users = Some(vec!["bob".to_owned(), "Alice".to_owned()]);
    assert_eq!(terms.grant(&asked, sender, 30), Err(Refusal::User));
    terms.users = None;
    for (asked_for, most, wanted) in [
        (Some(0), None, None),
        (Some(10), None, Some(10)),
        (Some(40), None, Some(30)),
        (Some(40), Some(60), Some(40)),
        (Some(4000), Some(60), Some(60)),
    ] {
        let timed = Fields { kind: Kind::TimedAccess, timeout: asked_for, ..asked.clone() };
        let granted = Terms { max_timeout: most, ..terms.clone() }.grant(&timed, sender, 30).unwrap();
        assert_eq!(granted.seconds, wanted);
    }
    for kind in [Kind::Command, Kind::Nat, Kind::TimedNat, Kind::LocalNat, Kind::TimedLocalNat] {
        let refused = terms.grant(&Fields { kind, ..asked.clone() }, sender, 30);
        assert!(matches!(refused, Err(Refusal::Kind(_))), "{kind:?}");
    }
    assert!(is_in_time(1000, 1120, 120) && is_in_time(1120, 1000, 120));
    assert!(!is_in_time(1000, 1121, 120) && !is_in_time(1121, 1000, 120));
}

fn what_a_packet_could_open_at_most() {
    let everybody = Terms {
        restricted: RequestablePorts::parse("tcp/25").unwrap(),
        timeout: Some(20),
        expires: Some(1_000),
        ..terms("tcp/22-80")
    };
    let alice = Terms { users: Some(vec!["alice".to_owned()]), max_timeout: Some(90), ..terms("tcp/22") };
    let lock = SpaLock { port: 62201, max_age: 120, terms: vec![everybody, alice] };
    let longest = |user, port, unix| lock.longest_grant(user, tcp(port), unix, 30);
    assert_eq!(longest("bob", 22, 999), Some(20));
    assert_eq!(longest("bob", 25, 999), None);
    assert_eq!(longest("bob", 81, 999), None);
    assert_eq!(longest("bob", 22, 1_000), None);
    // The longest that any of her keys grants.
    assert_eq!(longest("alice", 22, 999), Some(90));
    assert_eq!(longest("alice", 80, 999), Some(20));
    assert_eq!(longest("alice", 22, 1_000), Some(90));
    // Nothing is said: the time of the door. Less is said for what is asked for than without asking.
    let of = |timeout, max_timeout| {
        let terms = vec![Terms { timeout, max_timeout, ..terms("tcp/22") }];
        SpaLock { port: 62201, max_age: 120, terms }.longest_grant("alice", tcp(22), 0, 30)
    };
    assert_eq!([of(None, None), of(Some(60), Some(5)), of(None, Some(5))], [Some(30), Some(60), Some(30)]);
}

fn grants_are_ports_and_ranges() {
    let grants = RequestablePorts::parse("tcp/22,UDP/8000-8010").unwrap();
    assert!(grants.contains(tcp(22)) && !grants.contains(tcp(8000)));
    assert!(grants.contains(Stage { protocol: Protocol::Udp, port: 8010 }));
    assert!(RequestablePorts::parse("any").unwrap().contains(tcp(1)));
    for bad in ["", "22", "tcp/", "tcp/0", "tcp/65536", "tcp/30-22", "icmp/1", "tcp/22,", "tcp/22 udp/5"] {
        assert_eq!(RequestablePorts::parse(bad), None, "{bad}");
    }
}

fn used_packets_stay_used() {
    let id = |number: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        PacketId(id)
    };
    let mut used = Used::default();
    assert_eq!(used.insert(1000, id(1), 120, 1000), Ok(()));
    assert_eq!(used.insert(1000, id(1), 120, 1000), Err(Refusal::Replay));
    assert_eq!(used.insert(1120, id(2), 120, 1000), Ok(()));
    // A packet from a clock that is ahead is remembered for as long as it could be taken.
    assert_eq!(used.insert(1120, id(2), 120, 1240), Err(Refusal::Replay));
    assert_eq!(used.insert(1300, id(3), 120, 1300), Ok(()));
    // The clock is set back: what was forgotten one by one is not good again.
    assert_eq!(used.insert(1000, id(1), 120, 1000), Err(Refusal::Replay));
    assert_eq!(used.insert(999, id(4), 120, 1000), Err(Refusal::Replay));
    assert_eq!(used.floor(), Some(1120));
    for number in 10..10 + MAX_PACKETS - 1 {
        assert_eq!(used.insert(1300, id(number), 120, 1300), Ok(()));
    }
    assert_eq!(used.insert(1300, id(9999), 120, 1300), Err(Refusal::Full));
    assert_eq!(used.packets().count(), MAX_PACKETS);
    let mut later = Used::default();
    later.merge(used.packets(), used.floor());
    assert_eq!(later, used);
    later.merge([(1, id(9999))], None);
    assert_eq!((later.packets().count(), later.floor()), (MAX_PACKETS, Some(1120)));
}

fn keys_appear_in_no_text() {
    let terms = terms("tcp/22");
    let shown = format!("{terms:?}");
    assert!(shown.contains("Keys(not shown)") && !shown.contains("hmac key"), "{shown}");
}

/// The state of the key is used again and again in place.
fn a_code_is_judged_alike_whatever_came_before() {
    let (message, other): ([&[u8]; 2], [&[u8]; 1]) = ([b"a message ", &[7; 300]], [b"another"]);
    for digest in Digest::ALL {
        let mut keyed = HmacKey::new(digest, b"a key");
        let code = keyed.code(&message);
        let short = &code[1..];
        for _ in 0..3 {
            assert!(!keyed.verifies(&other, &code), "{digest:?}");
            assert!(!keyed.verifies(&message, short), "{digest:?}");
            assert!(!keyed.verifies(&message, &[&code[..], &[0]].concat()), "{digest:?}");
            assert!(keyed.verifies(&message, &code), "{digest:?}");
        }
        assert_eq!(keyed.code(&message), code, "{digest:?}");
    }
}
