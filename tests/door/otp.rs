//! One-time passwords as values: the arithmetic, which lists are accepted when, and which stay spent.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use knocking::config::{Config, Note, Reading};
use knocking::door::knock::{Flags, Knock, Protocol};
use knocking::door::otp::Otp;
use knocking::door::seed::{MAX_SEED, Seed};
use knocking::door::sequence::Stage;
use knocking::door::spent::Spent;
use knocking::door::tries::Tries;
use knocking::engine::Engine;
use knocking::opening::event::Event;
use knocking::time::Now;

use crate::packet::craft::numbers;
use crate::random::Random;

trials![
    lists_match_openssl,
    every_stage_lies_in_its_range,
    the_window_moves_with_the_clock,
    spent_lists_stay_spent_under_any_order_of_knocks,
    setting_the_clock_back_revives_no_spent_list,
    an_attempt_outlives_its_period,
    spent_lists_are_bounded_and_never_forgotten,
    so_many_lists_of_one_period_shut_the_others_out,
    identities_differ_between_locks_only,
    seeds_are_judged_by_how_they_were_made,
    tries_are_bounded_and_those_that_are_out_stay,
];

/// An arbitrary time.
pub const UNIX: Duration = Duration::from_mins(29_922_500);

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn otp(text: &str) -> Otp {
    Otp::parse(text.as_bytes()).unwrap().unwrap()
}

/// The table was made by tests/corpus/otp/vectors.sh with the openssl command line.
fn lists_match_openssl() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/otp/vectors.txt");
    let table = fs::read(path).unwrap();
    let mut lengths = HashSet::new();
    for line in table.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b'\t').collect();
        let [digest, unix, knocker, text, ports] = fields[..] else { panic!("{line:?}") };
        let word = |bytes| str::from_utf8(bytes).unwrap();
        let shown = String::from_utf8_lossy(line);
        let digest = if digest == b"sha1" { "" } else { word(digest) };
        let config = [b"[d]\notp = ", text, b"\n"].concat();
        let config = if digest.is_empty() {
            config
        } else {
            [config, format!("otp_digest = {digest}\n").into_bytes()].concat()
        };
        let reading = Reading {
            file: &mut |_| Err(io::ErrorKind::NotFound.into()),
            note: &mut |_| {},
            interface_is_given: false,
        };
        let doors = Config::parse(&config, reading).unwrap().doors;
        let lock = &doors[0].lock;
        let knocking::door::lock::Lock::Otp(lock) = lock else { panic!("{shown}") };
        let (otp, knocker) = (&lock.otp, ip(word(knocker)));
        let period = otp.period(Duration::from_secs(word(unix).parse().unwrap()));
        let wanted: Vec<u16> = word(ports).split(' ').map(|port| port.parse().unwrap()).collect();
        let list = otp.list(period, knocker);
        assert_eq!(list.iter().map(|stage| stage.port).collect::<Vec<_>>(), wanted, "{shown}");
        let one_by_one: Vec<Stage> = (0..).map_while(|index| otp.stage(period, knocker, index)).collect();
        assert_eq!((&one_by_one, otp.first_stage(period), otp.stages()), (&list, Some(list[0]), list.len()));
        lengths.insert((digest.to_owned(), list.len()));
    }
    assert!(lengths.len() >= 3 * 32, "{} kinds of lists", lengths.len());
}

/// A random password, in half the cases with few protocols.
fn any_otp(random: &mut dyn FnMut() -> u64) -> Otp {
    let mut below = |most: usize| usize::try_from(random() >> 34).unwrap() % most;
    let count = if below(2) == 0 { 1 + below(4) } else { 1 + below(32) };
    let protocols: Vec<&str> = (0..count).map(|_| if below(2) == 0 { "tcp" } else { "udp" }).collect();
    let letters: Vec<char> = ('-'..'~').collect();
    let seed: String = (0..=below(MAX_SEED - 1)).map(|_| letters[below(letters.len())]).collect();
    let (change, base) = (1 + below(600), if below(4) == 0 { 65_300 + below(236) } else { below(65_536) });
    let text = format!("{seed},{change},{base},{},{}", ["on", "off"][below(2)], protocols.join(","));
    otp(&text)
}

fn every_stage_lies_in_its_range() {
    let mut random = numbers();
    for _ in 0..300 {
        let otp = any_otp(&mut random);
        let ranges: Vec<(Protocol, u16, u16)> = otp.ranges();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let of_this: Vec<_> = ranges.iter().filter(|range| range.0 == protocol).collect();
            let ports: u32 = of_this.iter().map(|&&(_, low, high)| u32::from(high - low) + 1).sum();
            assert!(ports == 0 || ports == 256, "{otp:?} has {ranges:?}");
            for port in [0, 1, 255, 256, 65_300, 65_535]
                .into_iter()
                .chain((0..50).map(|_| u16::try_from(random() >> 48).unwrap()))
            {
                let holds = of_this.iter().any(|(_, low, high)| (*low..=*high).contains(&port));
                assert_eq!(otp.can_have(Stage { protocol, port }), holds, "port {port} of {otp:?}");
            }
        }
        for period in [0, 1, otp.period(UNIX), u64::MAX] {
            for knocker in [ip("10.0.0.2"), ip("fd00::2")] {
                for stage in otp.list(period, knocker) {
                    assert!(otp.can_have(stage), "{stage} of {otp:?}");
                    let holds = |&&(protocol, low, high): &&(Protocol, u16, u16)| {
                        protocol == stage.protocol && (low..=high).contains(&stage.port)
                    };
                    assert_eq!(ranges.iter().filter(holds).count(), 1, "{stage} in {ranges:?}");
                }
            }
        }
    }
}

/// An engine with one door.
struct Door {
    engine: Engine,
    otp: Otp,
    now: Now,
}

impl Door {
    fn new(text: &str) -> Door {
        let config = parse(text, &mut |_| {}).unwrap();
        let knocking::door::lock::Lock::Otp(lock) = &config.doors[0].lock else { panic!("{text}") };
        let otp = lock.otp.clone();
        Door {
            engine: Engine::new(config.doors, [ip("10.0.0.1"), ip("fd00::1")]),
            otp,
            now: Now { uptime: Duration::from_secs(1000), unix: UNIX },
        }
    }

    /// Knocks once; returns the turn if that opened the door.
    fn knock(&mut self, source: IpAddr, stage: Stage) -> Option<u64> {
        let knock = knock(source, stage);
        let mut events = Vec::new();
        self.engine.observe(&knock, self.now, &mut events);
        events.into_iter().find_map(|event| match event {
            Event::Opened { opening, .. } => Some(opening.turn.0),
            _ => None,
        })
    }

    /// Knocks a whole list; returns whether it opened the door.
    fn list(&mut self, source: IpAddr, period: u64) -> bool {
        let list = self.otp.list(period, source);
        list.into_iter().fold(false, |opened, stage| opened | (self.knock(source, stage) == Some(period)))
    }

    fn period(&self) -> u64 {
        self.otp.period(self.now.unix)
    }
}

pub fn knock(source: IpAddr, stage: Stage) -> Knock {
    let destination = if source.is_ipv4() { ip("10.0.0.1") } else { ip("fd00::1") };
    Knock {
        source,
        source_port: 40_000,
        destination,
        protocol: stage.protocol,
        port: stage.port,
        flags: (stage.protocol == Protocol::Tcp).then_some(Flags::SYN),
        length: 40,
        udp_length: None,
    }
}

pub fn parse(text: &str, note: &mut dyn FnMut(Note)) -> Result<Config, knocking::config::ConfigError> {
    let mut file = |_: &std::path::Path| Err(io::ErrorKind::NotFound.into());
    Config::parse(text.as_bytes(), Reading { file: &mut file, note, interface_is_given: false })
}

fn the_window_moves_with_the_clock() {
    for window in [0_u64, 1, 2, 7] {
        let mut door =
            Door::new(&format!("[d]\notp = moving,30,20000,off,tcp,udp,tcp\notp_window = {window}\n"));
        for hop in [0, 30, 60, 3600, 86_400] {
            door.now.unix += Duration::from_secs(hop);
            let now = door.period();
            for period in now - window - 3..=now + window + 3 {
                let is_accepted = now.abs_diff(period) <= window;
                // A fresh door, because `door` may have spent the list on an earlier hop.
                let mut fresh = Door::new(&format!(
                    "[d]\notp = moving,30,20000,off,tcp,udp,tcp\notp_window = {window}\n"
                ));
                fresh.now = door.now;
                assert_eq!(fresh.list(ip("10.0.0.2"), period), is_accepted, "{period} in {now}, {window}");
            }
            assert_eq!(door.otp.accepted(door.now.unix), now - window..=now + window);
        }
    }
    let otp = otp("s,45,20000,off,tcp");
    assert_eq!(otp.accepted(Duration::ZERO), 0..=1, "no period is before 1970");
    assert_eq!(otp.accepted(Duration::from_secs(44)), 0..=1);
    assert_eq!(otp.accepted(Duration::from_secs(45)), 0..=2);
}

/// Several knockers with genuine lists, interleaved at random, while the clock jumps.
fn spent_lists_stay_spent_under_any_order_of_knocks() {
    let mut random = numbers();
    for text in [
        "[d]\notp = many,7,20000,on,tcp,udp\n",
        "[d]\notp = many,7,20000,off,tcp,udp,udp\notp_window = 2\n",
        "[d]\notp = many,7,65500,on,udp\notp_window = 0\notp_digest = sha256\n",
    ] {
        let mut door = Door::new(text);
        let is_protected = door.otp.is_protected();
        let mut used = BTreeSet::new();
        // For each knocker, the rest of its current list in reverse.
        let mut in_progress: Vec<(IpAddr, Vec<Stage>)> = (2..6)
            .flat_map(|host| [ip(&format!("10.0.0.{host}")), ip(&format!("fd00::{host}"))])
            .map(|source| (source, Vec::new()))
            .collect();
        for _ in 0..20_000 {
            let chosen = usize::try_from(random() >> 34).unwrap() % in_progress.len();
            let period = door.period();
            let (source, left) = &mut in_progress[chosen];
            if left.is_empty() {
                *left = door.otp.list((period + (random() >> 30) % 5).saturating_sub(2), *source);
                left.reverse();
            }
            let (source, stage) = (*source, left.pop().unwrap());
            if let Some(turn) = door.knock(source, stage) {
                let owner = is_protected.then_some(source);
                assert!(used.insert((turn, owner)), "period {turn} opened twice for {owner:?}: {text}");
            }
            door.now.uptime += Duration::from_millis(100);
            match (random() >> 30) % 50 {
                0 => door.now.unix += Duration::from_secs((random() >> 30) % 40),
                1 => door.now.unix -= Duration::from_secs((random() >> 30) % 40),
                _ => door.now.unix += Duration::from_millis(100),
            }
        }
        assert!(used.len() > 100, "only {} openings: {text}", used.len());
    }
}

fn setting_the_clock_back_revives_no_spent_list() {
    let (mut door, knocker) = (Door::new("[d]\notp = back,30,20000,on,tcp,udp\n"), ip("10.0.0.2"));
    let first = door.period();
    for period in first..first + 600 {
        assert!(door.list(knocker, period), "{period}");
        door.now.unix += Duration::from_secs(30);
    }
    // Set the clock back, by a little, and to before the first period.
    for back in [30, 60, 3600, 600 * 30] {
        let earlier = Now { unix: UNIX + Duration::from_secs(600 * 30 - back), ..door.now };
        let now = std::mem::replace(&mut door.now, earlier);
        let period = door.period();
        for spent in [period - 1, period, period + 1]
            .into_iter()
            .filter(|period| (first..first + 600).contains(period))
        {
            assert!(!door.list(knocker, spent), "{spent} opened again, {back} s back");
        }
        door.now = now;
    }
    assert!(door.list(knocker, first + 600), "a list that was never used");
}

fn an_attempt_outlives_its_period() {
    let mut door = Door::new("[d]\notp = long,5,20000,on,tcp,udp,tcp\notp_window = 0\nseq_timeout = 60\n");
    let knocker = ip("fd00::2");
    let (period, other) = (door.period(), ip("fd00::3"));
    let list = door.otp.list(period, knocker);
    for (index, stage) in list.iter().enumerate() {
        let opened = door.knock(knocker, *stage);
        assert_eq!(opened, (index + 1 == list.len()).then_some(period), "stage {}", index + 1);
        door.now.unix += Duration::from_secs(6);
        door.now.uptime += Duration::from_secs(6);
    }
    assert!(!door.list(other, period), "the old list still begins attempts");
}

fn spent_lists_are_bounded_and_never_forgotten() {
    let mut spent = Spent::default();
    for period in 0..10_000_u64 {
        assert!(!spent.contains(period, None));
        spent.insert(period, None, period.saturating_sub(1));
        assert!(spent.lists().count() <= 256, "{} lists", spent.lists().count());
    }
    assert!((0..10_000).all(|period| spent.contains(period, None)), "a list was forgotten");
    assert!(!spent.contains(10_000, None) && spent.floor().is_some_and(|floor| floor < 9_999));
    // Lists that are still accepted are not merged: one knocker's list must not spend another's.
    let mut spent = Spent::default();
    let knockers: Vec<IpAddr> =
        (0..2_000_u32).map(|host| IpAddr::from((0x0a00_0000 + host).to_be_bytes())).collect();
    for &knocker in &knockers {
        assert!(!spent.contains(7, Some(knocker)), "{knocker} is shut out");
        spent.insert(7, Some(knocker), 7);
    }
    assert!(knockers.iter().all(|&knocker| spent.contains(7, Some(knocker))) && spent.floor().is_none());
    // Lists that are too old are merged, all of one period at once.
    spent.insert(9, None, 8);
    assert_eq!((spent.lists().count(), spent.floor()), (256, Some(7)));
    assert!(spent.contains(7, Some(ip("192.0.2.1"))) && !spent.contains(8, None));
}

/// Memory is bounded also where strangers knock whole lists from as many addresses as they like.
fn so_many_lists_of_one_period_shut_the_others_out() {
    let mut spent = Spent::default();
    spent.insert(8, None, 7);
    let owner = |host: u32| Some(IpAddr::from((0x0a00_0000 + host).to_be_bytes()));
    (0..65_535).for_each(|host| spent.insert(7, owner(host), 7));
    assert_eq!((spent.lists().count(), spent.floor()), (65_536, None));
    spent.insert(7, owner(65_535), 7);
    assert_eq!((spent.lists().count(), spent.floor()), (1, Some(7)));
    assert!(spent.contains(7, owner(70_000)) && spent.contains(8, None) && !spent.contains(8, owner(0)));
}

fn identities_differ_between_locks_only() {
    let texts = [
        "seed,45,20000,on,tcp",
        "seee,45,20000,on,tcp",
        "see,45,20000,on,tcp",
        "seed,46,20000,on,tcp",
        "seed,45,20001,on,tcp",
        "seed,45,20000,off,tcp",
        "seed,45,20000,on,udp",
        "seed,45,20000,on,tcp,tcp",
    ];
    let identities: HashSet<u64> = texts.iter().map(|text| otp(text).identity()).collect();
    assert_eq!(identities.len(), texts.len());
    let mut wide = otp(texts[0]);
    wide.window = 9;
    assert_eq!(wide.identity(), otp(texts[0]).identity(), "the window does not change the lock");
    wide.digest = knocking::door::digest::Digest::Sha512;
    assert_ne!(wide.identity(), otp(texts[0]).identity());
    // Identities of similar seeds are unrelated: on average, 32 of 64 bits differ.
    let differing: u32 = (0..1000)
        .map(|number| {
            let of = |seed: u32| otp(&format!("seed {seed},45,20000,on,tcp")).identity();
            (of(2 * number) ^ of(2 * number + 1)).count_ones()
        })
        .sum();
    assert!((31_000..33_000).contains(&differing), "{differing} of 64,000 bits differ");
}

/// Below 80 bits, `--check` warns.
fn seeds_are_judged_by_how_they_were_made() {
    let bits = |seed: &str| Seed::new(seed.as_bytes()).unwrap().bits();
    for (seed, most) in [
        ("a", 0),
        ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 0),
        ("abcdefghijklmnopqrstuvwxyz", 40),
        ("0123456789012345678901234567890", 40),
        ("abababababababababababababababa", 70),
        ("a seed of ours", 50),
        ("CHOOSE YOUR OWN", 50),
        ("correct horse battery staple", 70),
        ("correcthorsebatterystaple", 65),
        ("Tr0ub4dor&3", 45),
        ("MYSECRETSEED", 45),
        ("2026-11-29", 35),
        ("blue moon over lake tree", 79),
    ] {
        assert!(bits(seed) <= most, "{seed}: {} bits", bits(seed));
    }
    let random = Random::new();
    for (letters, length) in [
        // Such as knock --new-seed and openssl rand -hex 15 print.
        ("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 24),
        ("0123456789abcdef", 30),
    ] {
        let letter = |_| char::from(letters.as_bytes()[random.below(letters.len())]);
        let seeds = (0..1000).map(|_| (0..length).map(letter).collect());
        let weak: Vec<String> = seeds.filter(|seed: &String| bits(seed) < 80).collect();
        // One of them, at most a few, looks like words by chance.
        assert!(weak.len() < 20, "{weak:?}");
    }
    assert_eq!(Seed::new(b"").map(|_| ()), None);
    assert_eq!(Seed::new(&[b'x'; MAX_SEED + 1]).map(|_| ()), None);
}

/// A flood from other addresses does not make the table forget who is out, unless those are out too.
fn tries_are_bounded_and_those_that_are_out_stay() {
    let mut tries = Tries::shared_by(64);
    let address = |number: u32| IpAddr::from(std::net::Ipv4Addr::from(number));
    let guesser = ip("10.0.0.2");
    for count in 1..=3 {
        assert_eq!(tries.add(100, guesser, 99), count);
    }
    for number in 0..5000 {
        tries.add(100, address(0x0b00_0000 + number), 99);
        tries.add(98, address(0x0c00_0000 + number), 99);
        assert!(tries.iter().count() <= 1024);
    }
    assert_eq!(tries.count(100, guesser), 3);
    // Of what no longer counts, nothing is kept.
    for number in 0..5000 {
        tries.add(200, address(0x0b00_0000 + number), 199);
    }
    assert_eq!(tries.count(100, guesser), 0);
    assert!(tries.iter().all(|(period, ..)| period == 200));
    assert_eq!(tries.add(200, guesser, 199), 1);
    for _ in 0..300 {
        tries.add(200, guesser, 199);
    }
    assert_eq!(tries.count(200, guesser), u8::MAX);
    // A whole IPv6 /48 is remembered.
    let mut tries = Tries::default();
    let network = |number: u32| {
        let address = (0x2001_0db8_0000_u128 << 80) + (u128::from(number) << 64) + 1;
        IpAddr::from(std::net::Ipv6Addr::from(address))
    };
    for number in 0..65_536 {
        tries.add(100, network(number), 99);
    }
    assert!((0..65_536).all(|number| tries.count(100, network(number)) == 1));
}
