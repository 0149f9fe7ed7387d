//! The client's input as values: stages, flags, times, data, profiles.

use std::net::SocketAddr;
use std::time::Duration;

use knocking::door::knock::{Flags, Protocol};
use knocking::packet::describe::flag_names;
use knocking::plan::packet_template::{self, PayloadSource};
use knocking::plan::profile;
use knocking::plan::{
    self, AddressedSequence, Pace, ParseOptions, Port, RequestedStage, ResolvedStage, StageError, plan_round,
};

use crate::packet::craft::{numbers, stage};

trials![
    stages_are_read_as_knock_0_8_read_them,
    stages_of_icmp_have_a_length,
    stages_are_read_strictly_where_0_8_had_none,
    errors_in_stages_of_a_profile_do_not_repeat_them,
    flags_are_joined_by_plus,
    delays_are_read_as_knock_0_8_read_them,
    decimal_numbers_are_exact,
    a_round_knocks_every_address_at_every_stage,
    jitter_only_lengthens_the_pause,
    data_has_four_forms,
    profiles_are_sections,
    errors_in_profile_files_have_the_line,
    a_broken_section_leaves_the_others_alone,
];

fn stages_are_read_as_knock_0_8_read_them() {
    let old = ParseOptions::default();
    let read = |text: &str| {
        let requested = RequestedStage::parse(text, old).unwrap();
        (requested.port, requested.protocol)
    };
    assert_eq!(read("7000"), (Port::Number(7000), Protocol::Tcp));
    assert_eq!(read("+7000:udp"), (Port::Number(7000), Protocol::Udp));
    assert_eq!(read("0"), (Port::Number(0), Protocol::Tcp));
    assert_eq!(read("7000:UDP"), (Port::Number(7000), Protocol::Tcp));
    assert_eq!(read("7000:"), (Port::Number(7000), Protocol::Tcp));
    assert_eq!(read("ssh"), (Port::Service, Protocol::Tcp));
    assert_eq!(read("0x10"), (Port::Service, Protocol::Tcp));
    assert_eq!(read("-"), (Port::Service, Protocol::Tcp));
    let udp = RequestedStage::parse("7000:tcp", ParseOptions { udp: true, ..old }).unwrap();
    assert_eq!(udp.protocol, Protocol::Udp);
    for text in ["70000", "65536:udp", "99999999999999999999", "-1", "", ":udp"] {
        let port = text.split(':').next().unwrap();
        assert_eq!(RequestedStage::parse(text, old), Err(StageError::Port(port.to_owned())), "{text:?}");
    }
    let text = "7000:tcp:fin";
    assert_eq!(RequestedStage::parse(text, old), Err(StageError::FlagsNeedRaw(text.to_owned())));
}

fn stages_of_icmp_have_a_length() {
    let old = ParseOptions { raw: false, strict: false, udp: true };
    let strict = ParseOptions { raw: true, strict: true, udp: false };
    let read = |text: &str, options| {
        RequestedStage::parse(text, options).map(|requested| (requested.port, requested.protocol))
    };
    // What -u says holds for ports.
    assert_eq!(read("1000:icmp", old), Ok((Port::Number(1000), Protocol::Icmp)));
    assert_eq!(read("0:ICMP", strict), Ok((Port::Number(0), Protocol::Icmp)));
    assert_eq!(read("1400:icmp", strict), Ok((Port::Number(1400), Protocol::Icmp)));
    assert_eq!(
        read("1000:ICMP", ParseOptions { udp: false, ..old }),
        Ok((Port::Number(1000), Protocol::Tcp))
    );
    for length in ["1401", "", "-1", "+5", "ssh", "65536"] {
        let refused = Err(StageError::EchoLength(length.to_owned()));
        assert_eq!(read(&format!("{length}:icmp"), old), refused);
        assert_eq!(read(&format!("{length}:icmp"), strict), refused);
    }
    assert_eq!(read("9:icmp:syn", strict), Err(StageError::FlagsNeedTcp("9:icmp:syn".to_owned())));
}

fn stages_are_read_strictly_where_0_8_had_none() {
    let strict = ParseOptions { raw: true, strict: true, udp: false };
    let requested = RequestedStage::parse("7000:TCP:Fin+psh", strict).unwrap();
    assert_eq!(requested.flags, Some(Flags::FIN.union(Flags::PSH)));
    assert_eq!(RequestedStage::parse("7000::none", strict).unwrap().flags, Some(Flags::NONE));
    assert_eq!(RequestedStage::parse("7000:UDP", strict).unwrap().protocol, Protocol::Udp);
    assert_eq!(RequestedStage::parse("7000:sctp", strict), Err(StageError::Protocol("sctp".to_owned())));
    assert_eq!(
        RequestedStage::parse("7000:udp:syn", strict),
        Err(StageError::FlagsNeedTcp("7000:udp:syn".to_owned()))
    );
    assert_eq!(RequestedStage::parse("7000:tcp:sin", strict), Err(StageError::Flags("sin".to_owned())));
    let list = RequestedStage::parse_list("7000:udp, 8000 ,ssh:tcp:syn", strict).unwrap();
    let ports: Vec<&str> = list.iter().map(|requested| requested.text.as_str()).collect();
    assert_eq!(ports, ["7000", "8000", "ssh"]);
}

fn errors_in_stages_of_a_profile_do_not_repeat_them() {
    for text in ["70001", "7000:icmpx", "7000:tcp:sinx", "7000:udp:syn"] {
        let error =
            RequestedStage::parse(text, ParseOptions { raw: true, strict: true, udp: false }).unwrap_err();
        for secret in ["7000", "icmpx", "sinx", "70001"] {
            assert!(!error.redacted().contains(secret), "{error}: {}", error.redacted());
        }
    }
}

fn flags_are_joined_by_plus() {
    assert_eq!(plan::parse_flags("syn"), Ok(Flags::SYN));
    assert_eq!(plan::parse_flags("CWR+ece"), Ok(Flags::CWR.union(Flags::ECE)));
    assert_eq!(plan::parse_flags("none"), Ok(Flags::NONE));
    for text in ["", "+", "syn+", "syn,ack", "none+syn", "all"] {
        assert_eq!(plan::parse_flags(text), Err(StageError::Flags(text.to_owned())));
    }
    for (name, flag) in Flags::NAMES {
        assert_eq!(plan::parse_flags(&flag_names(flag)), Ok(flag), "{name}");
    }
}

fn delays_are_read_as_knock_0_8_read_them() {
    let read = |text: &str| plan::parse_delay(text).unwrap().as_micros();
    let table =
        [("5", 5_000), (" 5ms", 5_000), ("+7", 7_000), ("abc", 0), ("", 0), ("-", 0), ("1.2.3", 1_000)];
    for (text, microseconds) in table {
        assert_eq!(read(text), microseconds, "{text:?}");
    }
    assert_eq!((read("0.25"), read(".5"), read("2.")), (250, 500, 2_000));
    for text in ["-5", "-0.5", " -1x"] {
        assert_eq!(plan::parse_delay(text), Err("delay cannot be negative".to_owned()), "{text:?}");
    }
    assert!(plan::parse_delay("99999999999999999999").unwrap() > Duration::from_secs(1 << 40));
}

fn decimal_numbers_are_exact() {
    let second = Duration::from_secs(1);
    for (text, nanoseconds) in [
        ("0", 0),
        ("1", 1_000_000_000),
        ("0.1", 100_000_000),
        ("86400.000000001", 86_400_000_000_001),
        ("0.0000000009", 0),
        ("07.50", 7_500_000_000),
    ] {
        assert_eq!(plan::parse_decimal(text, second), Some(Duration::from_nanos(nanoseconds)), "{text}");
    }
    let long = "9".repeat(60);
    assert_eq!(plan::parse_decimal(&long, second), Some(Duration::MAX));
    assert_eq!(plan::parse_decimal(&format!("0.{long}"), second), Some(Duration::from_nanos(999_999_999)));
    for text in ["", ".", "-1", "+1", "1e3", "1.2.3", "1,5", " 1", "inf"] {
        assert_eq!(plan::parse_decimal(text, second), None, "{text:?}");
    }
    for (micros, text) in [(0, "0"), (50_000, "50"), (500, "0.5"), (1_250, "1.25"), (100_000, "100")] {
        assert_eq!(plan::format_milliseconds(Duration::from_micros(micros)), text);
    }
}

fn a_round_knocks_every_address_at_every_stage() {
    let resolved = |text: &str| ResolvedStage { stage: stage(text), flags: None, text: text.to_owned() };
    let addresses: [SocketAddr; 2] = ["10.0.0.1:0".parse().unwrap(), "[fd00::1]:0".parse().unwrap()];
    let pace = Pace { delay: Duration::from_millis(5), jitter: Duration::ZERO };
    let sequences = addresses.map(|address| AddressedSequence {
        address,
        stages: vec![resolved("1"), resolved("2:udp")],
        allow_ip: None,
    });
    let planned = plan_round(&sequences, pace, &mut numbers());
    let shown: Vec<_> = planned
        .iter()
        .map(|knock| {
            format!("{} {} {}", knock.resolved.stage.protocol, knock.destination, knock.pause.as_millis())
        })
        .collect();
    assert_eq!(shown, ["tcp 10.0.0.1:1 0", "tcp [fd00::1]:1 5", "udp 10.0.0.1:2 0", "udp [fd00::1]:2 5"]);
    assert!(plan_round(&[], pace, &mut numbers()).is_empty());
    // Each address may have its own sequence.
    let [mut one, other] = sequences;
    one.stages.push(resolved("3"));
    assert_eq!((one.to_string(), other.to_string()), ("1:tcp 2:udp 3:tcp".into(), "1:tcp 2:udp".into()));
    let planned = plan_round(&[one, other], pace, &mut numbers());
    let ports: Vec<u16> = planned.iter().map(|knock| knock.destination.port()).collect();
    assert_eq!(ports, [1, 1, 2, 2, 3]);
}

fn jitter_only_lengthens_the_pause() {
    let pace = Pace { delay: Duration::from_millis(10), jitter: Duration::from_millis(3) };
    let mut random = numbers();
    let pauses: Vec<Duration> = (0..500).map(|_| pace.pause(random())).collect();
    let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
    assert!(*least >= pace.delay && *most <= pace.delay + pace.jitter && least < most);
    assert_eq!(Pace::default().pause(random()), Duration::ZERO);
    let endless = Pace { delay: Duration::MAX, jitter: Duration::MAX };
    assert_eq!(endless.pause(u64::MAX), Duration::MAX);
}

fn data_has_four_forms() {
    let bytes = |text: &str| match packet_template::parse_payload(text.as_bytes()) {
        Ok(PayloadSource::Bytes(bytes)) => bytes,
        other => panic!("{other:?}"),
    };
    assert_eq!(bytes("hello"), b"hello");
    assert_eq!(bytes("text:hex:00"), b"hex:00");
    assert_eq!(bytes("hex:00fFa1"), [0, 255, 161]);
    assert_eq!((bytes("hex:"), bytes(""), bytes("size:0")), (vec![], vec![], vec![]));
    assert_eq!(bytes("size:1000"), [0; 1000]);
    assert_eq!(packet_template::parse_payload(b"file:/a b"), Ok(PayloadSource::Path("/a b".to_owned())));
    assert_eq!(packet_template::parse_payload(b"\xff\xfe"), Ok(PayloadSource::Bytes(vec![255, 254])));
    for text in ["hex:0", "hex:0g", "hex:+1", "size:", "size:65536", "size:-1", "hex:é0"] {
        assert!(packet_template::parse_payload(text.as_bytes()).is_err(), "{text}");
    }
}

fn profiles_are_sections() {
    let text = b"# targets\n[home]\nhost = home.example\nSequence = 1,2:udp\nsource_ip = auto\nraw\n\n[office]\nttl = 3\nTTL=4\n";
    let profiles = profile::parse(text).unwrap();
    let [home, office] = profiles.as_slice() else { panic!("{} profiles", profiles.len()) };
    assert_eq!((home.name.as_str(), home.host()), ("home", "home.example"));
    assert_eq!(home.setting("sequence").unwrap().value(), Some("1,2:udp"));
    assert_eq!(home.setting("source-ip").unwrap().line, 5);
    assert_eq!(home.setting("raw").unwrap().value(), None);
    assert_eq!((office.host(), office.setting("ttl").unwrap().value()), ("office", Some("4")));
}

fn errors_in_profile_files_have_the_line() {
    for (text, wanted) in [
        (&b"host = a\n[x]\n"[..], "line 1: all settings must belong to a section"),
        (b"\n[]\n", "line 2: bad section name"),
        (b"[a\xff]\n", "line 1: the name is not UTF-8"),
        (b"[a]\nraw\n[b\nraw\ntwo words\n", "line 5: neither a section nor a setting"),
    ] {
        match profile::parse(text) {
            Err(error) => assert_eq!(error.to_string(), wanted),
            Ok(_) => panic!("accepted: {:?}", String::from_utf8_lossy(text)),
        }
    }
}

fn a_broken_section_leaves_the_others_alone() {
    for (text, line, wanted) in [
        (&b"raw\n[x]\nttl = 3\n"[..], 5, "there is an earlier section of this name"),
        (b"seq\xff = 1\n\xff\n", 4, "the line is not UTF-8"),
        (b"raw = \xff\n", 4, "the line is not UTF-8"),
        (&[b"sequence = ".as_slice(), &[b'1'; 5000], b"\n"].concat(), 4, "the line is too long"),
    ] {
        let text = [b"[home]\nttl = 3\n[x]\n", text, b"[y]\nttl = 4\n"].concat();
        let profiles = profile::parse(&text).unwrap();
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for profile in &profiles {
            match &profile.mistake {
                None => good.push((profile.name.as_str(), profile.line)),
                Some(mistake) => bad.push((profile.name.as_str(), mistake.to_string())),
            }
        }
        assert_eq!(bad, [("x", format!("line {line}: {wanted}"))]);
        assert_eq!((good.first(), good.last().map(|it| it.0)), (Some(&("home", 1)), Some("y")));
    }
}
