//! `--new-door` and `--new-seed`: what they print is accepted by both ends, and opens.

use std::collections::HashSet;
use std::path::Path;

use knocking::door::lock::Lock;
use knocking::new_door::{Firewall, LockKind, NewDoorRequest, OtherFirewall};
use rqrr::PreparedImage;

use crate::client::around::{KNOCK, ends};
use crate::client::otp::private;
use crate::door::otp::parse;
use crate::firewall::tools::{connects, load, serve};
use crate::random::Random;
use crate::support::folder::{Folder, read};
use crate::support::namespace::Namespace;
use crate::support::packet::SERVER;
use crate::support::process::Finished;
use crate::support::world::{World, run};

trials![
    a_new_sequence_opens,
    a_new_one_time_password_opens,
    a_new_key_for_single_packets_opens,
    doors_for_browsers_are_tcp_alone,
    the_sets_of_our_own_ruleset_are_used,
    what_the_configuration_has_is_used,
    codes_say_what_is_printed,
    without_a_host_its_place_is_marked,
    mistakes_are_refused,
    others_who_can_read_it_are_pointed_out,
    ports_are_random_and_free,
    unfit_ports_are_passed_over,
    every_firewall_gets_a_door_without_warnings,
    a_new_seed_is_one,
];

/// The end of what `--check` says of one-time passwords that know nothing of addresses.
const OFF: &str = "write on, if the clients know their addresses.";

/// What is printed in the server's namespace.
#[track_caller]
fn new_door(namespace: &Namespace, words: &[&str]) -> String {
    let words = [&["-c", "/nonexistent/knockd.conf", "--new-door"][..], words].concat();
    let finished = run(namespace, env!("CARGO_BIN_EXE_knockd"), &words);
    assert_eq!(finished.code(), Some(0), "{finished:?}");
    finished.stdout
}

/// What stands below the comment that begins with this word, up to the next blank line but for that of
/// `[options]`.
#[track_caller]
fn block<'a>(printed: &'a str, word: &str) -> &'a str {
    let (_, rest) = printed.split_once(&format!("# {word}: ")).unwrap_or_else(|| panic!("{word}: {printed}"));
    let rest = rest.split_once('\n').expect("a line").1;
    rest.split("\n# ").next().expect("a block").trim_end_matches('\n')
}

/// The whole way: the section is pasted at the server, the profile at the client, and the printed command opens.
#[track_caller]
fn opens(world: &World, words: &[&str]) -> String {
    let _ssh = serve(&world.server, 22);
    let printed = new_door(&world.server, &[&["home", "--host", SERVER], words].concat());
    let section = block(&printed, "Server");
    let folder = Folder::new();
    let config = private(&folder, "knockd.conf", section);
    let checked = run(&world.server, env!("CARGO_BIN_EXE_knockd"), &["--check", "-c", &config]);
    assert_eq!(checked.code(), Some(0), "{checked:?}");
    // No remark stands before that.
    assert!(checked.stdout.starts_with(&format!("{config}: ok, 1 door\nhome: ")), "{checked:?}");
    assert_eq!(checked.stderr.lines().filter(|line| !line.ends_with(OFF)).collect::<Vec<_>>(), [""; 0]);

    let daemon = world.knockd("").file(section).arguments(&["-v"]).start();
    assert!(!connects(world, 22), "the port is closed before: {printed}");
    let line = printed.lines().find(|line| line.starts_with("# Client: ")).expect("a line for the client");
    let (file, command) = line.split_once("add this to ~/").unwrap().1.split_once(", then run: ").unwrap();
    std::fs::create_dir(folder.join(".config")).unwrap();
    private(&folder, file, block(&printed, "Client"));
    let words: Vec<&str> = command.split(' ').skip(1).chain(["--timeout", "15"]).collect();
    let finished = knock_at_home(world, &folder, &words);
    assert_eq!(finished.code(), Some(0), "{words:?}: {finished:?}; {printed}; {}", daemon.said());
    assert!(connects(world, 22), "{}", daemon.said());
    printed
}

fn knock_at_home(world: &World, home: &Folder, words: &[&str]) -> Finished {
    let home = format!("HOME={}", home.path().display());
    let words = [&["-u", "XDG_CONFIG_HOME", "LOGNAME=alice", &home, KNOCK][..], words].concat();
    run(&world.client, "env", &words)
}

fn a_new_sequence_opens() {
    let printed = opens(&World::v4_only(), &[]);
    assert!(printed.contains("    Guard = yes\n") && printed.contains(":udp"), "{printed}");
}

fn a_new_one_time_password_opens() {
    let printed = opens(&World::v4_only(), &["--otp"]);
    assert!(printed.contains("    OTP_Digest = sha256\n"), "{printed}");
}

fn a_new_key_for_single_packets_opens() {
    opens(&World::v4_only(), &["--spa"]);
}

fn doors_for_browsers_are_tcp_alone() {
    let world = World::v4_only();
    let printed = opens(&world, &["--web"]);
    assert!(!printed.contains("udp"), "{printed}");
    let sequence = printed.lines().find_map(|line| line.strip_prefix("sequence = ")).unwrap();
    let link = format!("knock.html#name=home&host={SERVER}&sequence={sequence}");
    assert_eq!(block(&printed, "Browser"), link);

    let page = "https://example.org/k.html";
    let printed =
        new_door(&world.server, &["b", "--otp", &format!("--web={page}"), "--host", "fe80::1%eth0"]);
    let otp = printed.lines().find_map(|line| line.strip_prefix("otp = ")).unwrap();
    assert!(otp.ends_with(",off,tcp,tcp,tcp,tcp,tcp"), "{otp}");
    let link = format!("{page}#name=b&host=fe80::1%25eth0&otp={otp}&otp_digest=sha256");
    assert_eq!(block(&printed, "Browser"), link);
}

fn the_sets_of_our_own_ruleset_are_used() {
    let world = World::v4_only();
    load(&world.server, &read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/nftables.conf")));
    let printed = opens(&world, &[]);
    let sets = "[options]\n    Nft_Set = inet filter knockd4 knockd6\n\n[home]\n";
    assert!(block(&printed, "Server").starts_with(sets), "{printed}");
}

fn what_the_configuration_has_is_used() {
    let folder = Folder::new();
    let text = "[options]\nguard = yes\n[ssh]\nsequence = 20000,20001\nopen = tcp/22\n";
    let config = private(&folder, "knockd.conf", text);
    let door = |name| {
        let words = ["--new-door", name, "--host", "example.org", "-c", &config];
        run(&Namespace::new(), env!("CARGO_BIN_EXE_knockd"), &words)
    };
    let made = door("home");
    assert_eq!(made.code(), Some(0), "{made:?}");
    assert!(block(&made.stdout, "Server").starts_with("[home]\n"), "{made:?}");
    assert!(made.stdout.contains(&format!("then run: knockd --check -c {config}\n")), "{made:?}");
    ends(&door("SSH"), 1, "knockd: the configuration has a door 'SSH' already\n");
    // Nothing is written.
    assert_eq!(folder.read("knockd.conf"), text);
    private(&folder, "knockd.conf", "[ssh]\nsequence\n");
    let refused = door("home");
    assert!(refused.stderr.starts_with("knockd: config: line 2: "), "{refused:?}");
}

/// The text of each QR code in what was printed.
fn codes(printed: &str) -> Vec<String> {
    const SCALE: usize = 4;
    let blocks = printed.split("\n# QR code of ").skip(1);
    blocks
        .map(|block| {
            let rows: Vec<Vec<bool>> = block
                .lines()
                .skip(1)
                .take_while(|line| line.contains(['█', '▀', '▄']))
                .flat_map(|line| {
                    let upper = line.chars().map(|half| "█▀".contains(half)).collect();
                    [upper, line.chars().map(|half| "█▄".contains(half)).collect()]
                })
                .collect();
            let light = |x: usize, y: usize| if rows[y / SCALE][x / SCALE] { 255 } else { 0 };
            let (width, height) = (rows[0].len() * SCALE, rows.len() * SCALE);
            let mut image = PreparedImage::prepare_from_greyscale(width, height, light);
            let grids = image.detect_grids();
            assert_eq!(grids.len(), 1, "{block}");
            grids[0].decode().expect("a code that can be read").1
        })
        .collect()
}

fn codes_say_what_is_printed() {
    let namespace = Namespace::new();
    for words in [&["--web"][..], &["--otp", "--web"]] {
        let printed = new_door(&namespace, &[&["home", "--host", "example.org", "--qr"], words].concat());
        let profile = format!("{}\n", block(&printed, "Client"));
        assert_eq!(codes(&printed), [profile, block(&printed, "Browser").to_owned()]);
    }
    let printed = new_door(&namespace, &["home", "--qr"]);
    let profile = block(&printed, "Client");
    assert_eq!(codes(&printed), [format!("{}\n", profile.split_once('\n').unwrap().1)]);
    let printed = new_door(&namespace, &["home", "--spa", "--qr"]);
    let value = |name: &str| printed.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let keys = format!("KEY_BASE64:{} HMAC_KEY_BASE64:{}", value("KEY_BASE64 "), value("HMAC_KEY_BASE64 "));
    assert_eq!(codes(&printed), [keys]);
    assert_eq!(codes(&new_door(&namespace, &["home"])), [""; 0]);
}

fn without_a_host_its_place_is_marked() {
    let comment = "# Replace SERVER by the name or address of the server.\n[home]\n";
    let namespace = Namespace::new();
    for (words, line) in [(&["home"][..], "\nhost = SERVER\n"), (&["home", "--spa"], "\nSPA_SERVER SERVER\n")]
    {
        let printed = new_door(&namespace, words);
        let profile = block(&printed, "Client");
        assert!(profile.starts_with(comment) && profile.contains(line), "{printed}");
    }
    assert!(!new_door(&namespace, &["home", "--host", "h"]).contains("SERVER"));
}

fn mistakes_are_refused() {
    let refused = |words: &[&str], why: &str| {
        let words = [&["-c", "/nonexistent/knockd.conf"], words].concat();
        let finished = run(&Namespace::new(), env!("CARGO_BIN_EXE_knockd"), &words);
        assert_eq!((finished.code(), finished.stderr), (Some(1), format!("knockd: {why}\n")), "{words:?}");
        assert_eq!(finished.stdout, "", "{words:?}");
    };
    let names =
        "cannot be the name of a door here: use up to 100 letters, digits, dots, hyphens and underscores";
    for name in ["", "two words", "a]", "-x", "\u{fc}", &"a".repeat(101)] {
        refused(&["--new-door", name], &format!("'{name}' {names}"));
    }
    let all = "'Options' cannot be the name of a door: [Options] has the settings for all";
    refused(&["--new-door", "Options"], all);
    refused(&["--new-door", "a", "--host", "a b"], "--host: 'a b' is not a host name or an IP address");
    refused(&["--new-door", "a", "--host", ""], "--host: '' is not a host name or an IP address");
    refused(&["--new-door", "a", "--port", "0"], "--port: '0' is not a number from 1 to 65535");
    refused(&["--new-door", "a", "--port", "ssh"], "--port: 'ssh' is not a number from 1 to 65535");
    refused(&["--new-door", "a", "--otp", "--spa"], "--otp and --spa exclude each other");
    let single = "--web: a browser cannot send single packets; use a sequence or --otp";
    refused(&["--new-door", "a", "--web", "--spa"], single);
    for option in ["--otp", "--spa", "--host=a", "--port=1", "--web", "--qr"] {
        let name = option.split('=').next().unwrap();
        refused(&[option], &format!("{name} belongs to --new-door"));
    }
    refused(&["--new-door", "a", "--web", "k.html"], "--new-door: 'k.html' is one word too many");
    refused(&["--new-door"], "option '--new-door' requires an argument");
}

fn others_who_can_read_it_are_pointed_out() {
    let script =
        "umask $1 && knockd=$2 && shift 2 && $knockd -c /nonexistent --new-door a >made && wc -l <made";
    let make =
        |umask| run(&Namespace::new(), "sh", &["-c", script, "sh", umask, env!("CARGO_BIN_EXE_knockd")]);
    ends(&make("077"), 0, "");
    ends(&make("022"), 0, "warning: this goes to a file that others can read; umask 077 prevents that\n");
}

fn request(kind: LockKind, page: Option<&str>) -> NewDoorRequest {
    NewDoorRequest { name: "d".to_owned(), kind, host: None, port: 22, page: page.map(str::to_owned) }
}

/// A door made with these random numbers, and its lock.
#[track_caller]
fn lock(request: &NewDoorRequest, firewall: &Firewall, taken: &[u16], random: &Random) -> Lock {
    let mut fill = |bytes: &mut [u8]| {
        bytes.fill_with(|| random.byte());
        Ok(())
    };
    let section = request.generate(firewall, taken, &mut fill).expect("a door").section;
    let config = parse(&section, &mut |_| {}).unwrap_or_else(|why| panic!("{why}: {}", *section));
    let mut warnings = config.warnings();
    warnings.retain(|warning| !format!("{warning}").ends_with(OFF));
    assert_eq!(warnings, [], "{}", *section);
    config.doors[0].lock.clone()
}

fn ports_are_random_and_free() {
    let random = Random::new();
    // Nearly all ports are taken.
    let is_free = |port: u16| port.is_multiple_of(50) || (30_000..=31_000).contains(&port);
    let taken: Vec<u16> = (0..=u16::MAX).filter(|port| !is_free(*port)).collect();
    let mut seen = HashSet::new();
    for round in 0..200 {
        let page = (round % 2 == 0).then_some("knock.html");
        let firewall = Firewall::Guard(OtherFirewall::Unknown);
        let lock_of = |kind| lock(&request(kind, page), &firewall, &taken, &random);
        let (Lock::Fixed(sequence), Lock::Otp(otp)) = (lock_of(LockKind::Sequence), lock_of(LockKind::Otp))
        else {
            panic!("other locks");
        };
        let ports: Vec<u16> = sequence.stages().iter().map(|stage| stage.port).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 5, "{ports:?}");
        assert!(ports.iter().all(|port| is_free(*port) && (1024..=32_767).contains(port)), "{ports:?}");
        assert!(!ports.is_sorted() && !ports.iter().rev().is_sorted(), "{ports:?}");
        let udp = sequence.to_string().matches("udp").count();
        assert!(if page.is_some() { udp == 0 } else { (1..5).contains(&udp) }, "{sequence}");
        for (_, low, high) in otp.otp.ranges() {
            assert!((low..=high).all(is_free), "{low} to {high}");
        }
        assert!(seen.insert(ports));
    }
    let all: Vec<u16> = (0..=u16::MAX).collect();
    for kind in [LockKind::Sequence, LockKind::Otp] {
        let result = request(kind, None).generate(&Firewall::Configured, &all, &mut |_| Ok(()));
        assert_eq!(result.err().as_deref(), Some("too few ports are free"));
        let result =
            request(kind, None).generate(&Firewall::Configured, &all, &mut |_| Err("none".to_owned()));
        assert_eq!(result.err().as_deref(), Some("none"));
    }
}

/// The random numbers are looked at one by one.
fn unfit_ports_are_passed_over() {
    // Blocked by browsers, too low, too high, taken, one twice; rising; falling.
    let numbers =
        [6000, 10_080, 22, 40_000, 7777, 7004, 7004, 7005, 7006, 7007, 7008, 9, 8005, 8004, 8003, 8002];
    let mut numbers = numbers.into_iter().chain([8001, 7004, 7001, 7003, 7002, 7005]);
    let mut next = |bytes: &mut [u8]| {
        let number: u16 = numbers.next().ok_or("no more numbers")?;
        bytes.copy_from_slice(&number.to_ne_bytes());
        Ok(())
    };
    let made =
        request(LockKind::Sequence, Some("knock.html")).generate(&Firewall::Configured, &[7777], &mut next);
    let profile = made.map_or_else(|why| panic!("{why}"), |door| door.profile);
    assert!(profile.contains("\nsequence = 7004,7001,7003,7002,7005\n"), "{}", *profile);
}

fn every_firewall_gets_a_door_without_warnings() {
    let random = Random::new();
    let guards = [OtherFirewall::Unknown, OtherFirewall::Ufw, OtherFirewall::Firewalld].map(Firewall::Guard);
    let others = [Firewall::Sets("inet filter knockd4 knockd6"), Firewall::Script];
    for firewall in guards.iter().chain(&others) {
        for kind in [LockKind::Sequence, LockKind::Otp, LockKind::Spa] {
            lock(&request(kind, None), firewall, &[], &random);
        }
    }
}

fn a_new_seed_is_one() {
    let namespace = Namespace::new();
    let seeds = [(); 2].map(|()| {
        let finished = run(&namespace, KNOCK, &["--new-seed"]);
        ends(&finished, 0, "");
        finished.stdout.trim_end().to_owned()
    });
    assert!(seeds[0] != seeds[1] && seeds.iter().all(|seed| seed.len() == 24), "{seeds:?}");
    let printed =
        run(&namespace, KNOCK, &["--print", "--otp", &format!("{},60,20000,off,tcp", seeds[0]), SERVER]);
    assert_eq!(printed.code(), Some(0), "{printed:?}");
}
