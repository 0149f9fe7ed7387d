//! One-time passwords as text: messages, which must not contain the seed, and the client's options.

use std::fmt::Write;
use std::time::Duration;

use knocking::door::rules::Prefixes;
use knocking::engine::Engine;
use knocking::plan::password::{self, KnockTime, SourceLookup};
use knocking::plan::stun::Stun;
use knocking::time::Now;

use crate::door::otp::{UNIX, ip, knock, otp, parse};

trials![
    no_message_shows_a_seed,
    knocking_avoids_the_last_second_of_a_period,
    source_ip_has_four_forms,
    a_stun_answer_is_believed_if_something_confirms_it,
    a_password_file_has_one_line,
    errors_in_a_password_do_not_repeat_it,
];

/// The seed, which must not be found in any message.
pub const MARK: &str = "Geheim";

fn no_message_shows_a_seed() {
    let mut told = String::new();
    let good =
        "[d]\notp = Geheim4711,45,20000,on,tcp,udp\notp_window = 2\notp_reuse = no\notp_digest = sha256\n";
    let config = parse(good, &mut |note| writeln!(told, "{note:?}").unwrap()).unwrap();
    assert!(told.contains("config: d: otp: change_time 45"), "{told}");
    writeln!(told, "{config:?} {:#?} {:?}", config.doors, config.warnings()).unwrap();
    let knocking::door::lock::Lock::Otp(lock) = &config.doors[0].lock else { panic!("no otp") };
    writeln!(told, "{} {:?} {:?}", lock.otp, lock, lock.otp.identity()).unwrap();
    let mut engine = Engine::new(config.doors.clone(), [ip("10.0.0.1")]);
    let now = Now { uptime: UNIX, unix: UNIX };
    let mut events = Vec::new();
    for stage in lock.otp.list(lock.otp.period(UNIX), ip("10.0.0.2")) {
        engine.observe(&knock(ip("10.0.0.2"), stage), now, &mut events);
    }
    for event in events {
        writeln!(told, "{event:?} {:?} {:?}", event.line(None), event.debug_line()).unwrap();
    }
    assert!(told.contains("OPEN SESAME"), "{told}");
    writeln!(told, "{engine:?}").unwrap();
    // Whatever field is wrong, the first one is the seed.
    for rest in [
        "",
        ",",
        ",45",
        ",0,1,on,tcp",
        ",45,70000,on,tcp",
        ",45,2,maybe,tcp",
        ",45,2,on",
        ",45,2,on,icmp",
        ",45,2,on,tcp,",
        ",x,2,on,tcp",
        "0123456789012345678901234567890,45,2,on,tcp",
    ] {
        for more in ["", "otp_window = 1000\n", "sequence = 1\n", "nonsense\n"] {
            let text = format!("[d]\notp = {MARK}{rest}\n{more}");
            let error = parse(&text, &mut |note| writeln!(told, "{note:?}").unwrap()).unwrap_err();
            writeln!(told, "{error} {error:?}").unwrap();
        }
        if let Err(error) = password::parse(format!("{MARK}{rest}").as_bytes()) {
            writeln!(told, "{error} {error:?}").unwrap();
        }
    }
    // Whatever is in the wrong place, the seed may be any of these words.
    let mut lines = Vec::new();
    let mut fields = [MARK, "45", "2", "on", "tcp"];
    permute(&mut fields, 0, &mut |fields| lines.push(format!("otp = {}", fields.join(","))));
    let whole = format!("{MARK},45,2,on,tcp");
    lines.extend(
        ["otp ", "otp: ", "otp=otp=", "OTP\t", "seed = ", "password: ", "", "= ", "otp_digest = ", "key = "]
            .map(|name| format!("{name}{whole}")),
    );
    lines.push(format!("otp {MARK} = 45,2,on,tcp"));
    lines.push(format!("[{MARK},45\notp = 45"));
    for line in lines {
        for place in ["[d]\n", "[options]\n", ""] {
            let parsed = parse(&format!("{place}{line}\n"), &mut |note| writeln!(told, "{note:?}").unwrap());
            if let Err(error) = parsed {
                writeln!(told, "{error}").unwrap();
            }
        }
        if let Err(error) = password::parse(line.trim_start_matches("otp = ").as_bytes()) {
            writeln!(told, "{error}").unwrap();
        }
    }
    let at = told.to_lowercase().find(&MARK.to_lowercase());
    assert_eq!(at, None, "the seed is shown: {:?}", at.map(|at| &told[at.saturating_sub(60)..at + 20]));
}

/// Calls `each` with every order of the words from `first` on.
fn permute(words: &mut [&'static str], first: usize, each: &mut dyn FnMut(&[&'static str])) {
    if first == words.len() {
        return each(words);
    }
    for other in first..words.len() {
        words.swap(first, other);
        permute(words, first + 1, each);
        words.swap(first, other);
    }
}

fn knocking_avoids_the_last_second_of_a_period() {
    let otp = otp("s,45,20000,off,tcp");
    let at = |milliseconds| KnockTime::next(&otp, Duration::from_millis(milliseconds));
    let now = |period| KnockTime { wait: Duration::ZERO, period };
    assert_eq!((at(0), at(44_000), at(45_000), at(90_000)), (now(0), now(0), now(1), now(2)));
    assert_eq!(at(44_001), KnockTime { wait: Duration::from_millis(999), period: 1 });
    assert_eq!(at(89_999), KnockTime { wait: Duration::from_millis(1), period: 2 });
    // The time has come when the period has begun, unless the clock was set.
    let next = at(44_500);
    let has_begun = |milliseconds| next.has_begun(&otp, Duration::from_millis(milliseconds));
    assert_eq!(
        (has_begun(44_999), has_begun(45_000), has_begun(89_999), has_begun(90_000)),
        (false, true, true, false)
    );
    // A period of one second is all last second: knock at the beginning of the next one.
    let short = crate::door::otp::otp("s,1,20000,off,tcp");
    let knock_time = KnockTime::next(&short, Duration::from_millis(7_300));
    assert_eq!(knock_time, KnockTime { wait: Duration::from_millis(700), period: 8 });
    assert!(knock_time.has_begun(&short, Duration::from_millis(8_001)));
    assert_eq!(KnockTime::next(&short, Duration::from_secs(8)).period, 8);
}

fn a_stun_answer_is_believed_if_something_confirms_it() {
    for (text, answers, wanted) in [
        ("stun:a stun:b", &["192.0.2.1 198.51.100.7", "192.0.2.2 198.51.100.7"][..], "198.51.100.7"),
        ("stun:a stun:b", &["192.0.2.1 198.51.100.7", "192.0.2.2 198.51.100.8"], "disagree"),
        ("stun:a stun:b stun:c", &["::1 2001:db8::7", "::2 2001:db8::7", "::3 2001:db8::8"], "disagree"),
        ("stun:a stun:b", &["192.0.2.1 198.51.100.7", "192.0.2.1 198.51.100.7"], "cannot confirm itself"),
        ("stun:a 198.51.100.0/24 2001:db8::/32", &["192.0.2.1 198.51.100.7"], "198.51.100.7"),
        ("stun:a 198.51.100.0/24 2001:db8::/32", &["::1 2001:db8::7"], "2001:db8::7"),
        ("stun:a 198.51.100.7", &["192.0.2.1 198.51.100.8"], "not where the answer has to be"),
        ("stun:a stun:b 198.51.100.7", &["192.0.2.1 192.0.2.3", "192.0.2.2 192.0.2.3"], "has to be"),
        ("stun:a", &["192.0.2.1 198.51.100.7"], "alone is not believed"),
        ("stun:a 10.0.0.0/8", &["192.0.2.1 10.0.0.7"], "10.0.0.7"),
        ("stun:a 127.0.0.1", &["192.0.2.1 127.0.0.1"], "no address of the internet"),
    ] {
        let addresses =
            |pair: &str| pair.split_once(' ').map(|(server, seen)| (ip(server), ip(seen))).unwrap();
        let answers: Vec<_> = answers.iter().map(|pair| addresses(pair)).collect();
        let judged = Stun::parse(text).unwrap().confirm(&answers);
        let said = judged.map_or_else(|error| error.to_string(), |address| address.to_string());
        assert!(said.ends_with(wanted) || said.contains(wanted), "{text}: {said}");
        let is_accepted = wanted.parse::<std::net::IpAddr>().is_ok();
        assert_eq!(is_accepted, said == wanted, "{text}: {said}");
    }
    let both = Stun::parse("stun:a stun:b").unwrap();
    for address in [
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "172.31.0.1",
        "192.168.1.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:192.0.2.1",
        "fd00::1",
        "fe80::1",
        "ff02::1",
    ] {
        let judged = both.confirm(&[(ip("192.0.2.1"), ip(address)), (ip("192.0.2.2"), ip(address))]);
        assert!(
            judged.is_err_and(|error| error.to_string().contains("no address of the internet")),
            "{address}"
        );
    }
}

fn source_ip_has_four_forms() {
    let stun = |name: &str, port| {
        Some(SourceLookup::Stun(Stun {
            servers: vec![(name.to_owned(), port)],
            expected: Prefixes::default(),
        }))
    };
    let table = [
        ("auto", Some(SourceLookup::Auto)),
        ("192.0.2.1", Some(SourceLookup::Address(ip("192.0.2.1")))),
        ("2001:db8::1", Some(SourceLookup::Address(ip("2001:db8::1")))),
        ("stun:example.org", stun("example.org", 3478)),
        ("stun:example.org:19302", stun("example.org", 19_302)),
        ("stun:192.0.2.1:99", stun("192.0.2.1", 99)),
        ("stun:2001:db8::1", stun("2001:db8::1", 3478)),
        ("stun:[2001:db8::1]", stun("2001:db8::1", 3478)),
        ("stun:[2001:db8::1]:99", stun("2001:db8::1", 99)),
        ("command:echo ::1", Some(SourceLookup::Command("echo ::1".to_owned()))),
        ("", None),
        ("Auto", None),
        ("example.org", None),
        ("stun:", None),
        ("stun::99", None),
        ("stun:a:0", None),
        ("stun:a:65536", None),
        ("stun:a:", None),
        ("stun:[::1]99", None),
        ("stun:a b", None),
        ("192.0.2.1 stun:a", None),
        ("command:", None),
        ("command: ", None),
    ];
    for (text, wanted) in table {
        assert_eq!(SourceLookup::parse(text), wanted, "{text:?}");
    }
    let said = [
        (" 192.0.2.1 \nmore", Some("192.0.2.1")),
        ("2001:db8::1\r\n", Some("2001:db8::1")),
        ("192.0.2.1", Some("192.0.2.1")),
        ("\n192.0.2.1", None),
        ("address 192.0.2.1", None),
        ("", None),
    ];
    for (output, wanted) in said {
        assert_eq!(password::parse_printed_address(output.as_bytes()), wanted.map(ip), "{output:?}");
    }
}

fn a_password_file_has_one_line() {
    let table: [(&[u8], Option<&[u8]>); 7] = [
        (b"a,b", Some(b"a,b")),
        (b"# of home\n\n  a #,b \r\n\n", Some(b"a #,b")),
        (b"", None),
        (b"# a\n", None),
        (b"a\nb\n", None),
        (b"\xff,1\n", Some(b"\xff,1")),
        (b" \n \n", None),
    ];
    for (text, wanted) in table {
        assert_eq!(password::only_line(text), wanted, "{text:?}");
    }
}

fn errors_in_a_password_do_not_repeat_it() {
    let said = |text: &str| password::parse(text.as_bytes()).map(|_| ()).map_err(|error| error.to_string());
    let fields = "is missing (otp = seed, change_time, base, on|off, protocol, ...)";
    let table = [
        ("", "otp: the seed must have 1 to 31 bytes".to_owned()),
        ("seed", format!("otp: change_time {fields}")),
        ("seed,45", format!("otp: base {fields}")),
        ("seed,45,1", format!("otp: on or off {fields}")),
        ("seed,45,1,on", format!("otp: a protocol {fields}")),
        ("seed,0,1,on,tcp", "otp: change_time must be a number from 1 to 65535".to_owned()),
        ("seed,45,65536,on,tcp", "otp: base must be a number from 0 to 65535".to_owned()),
        ("seed,45,1,word,tcp", "otp: the fourth field is neither on nor off".to_owned()),
        ("seed,45,1,on,word", "otp: a protocol is neither tcp nor udp".to_owned()),
    ];
    for (text, wanted) in table {
        assert_eq!(said(text), Err(wanted), "{text:?}");
    }
    assert_eq!(said(" seed , 45 , 1 , ON , TCP , Udp "), Ok(()));
}
