//! The client's packets on the wire: which ones, in which order, at which pace.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use caps::{CapSet, Capability};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::support::folder::Folder;
use crate::support::packet::{CLIENT, CLIENT6, SERVER, SERVER_MAC, SERVER6, SYN, Seen};
use crate::support::process::Finished;
use crate::support::seconds;
use crate::support::world::{CLIENT_LINK, World};

trials![
    plain_knocks_are_one_packet_each,
    plain_knocks_keep_their_pace,
    rounds_come_one_after_the_other,
    jitter_lengthens_the_delay,
    both_families_are_knocked,
    crafted_knocks_open_a_door,
    flags_of_stages_open_a_door_that_requires_them,
    a_dry_run_sends_nothing,
    raw_packets_need_a_privilege,
    pings_need_a_privilege_or_a_group,
    a_dry_run_shows_pings,
    services_are_found_for_either_protocol,
    errors_come_before_the_first_packet,
    ports_may_be_written_as_guides_write_them,
];

/// Unused addresses: packets reach the server's end of the cable, and nothing answers.
pub const QUIET: &str = "10.77.0.50";

pub const QUIET6: &str = "fd77::50";

const KNOCK: &str = env!("CARGO_BIN_EXE_knock");

/// A world in which packets to the unused addresses are sent.
pub fn quiet_world() -> World {
    let world = World::new();
    for address in [QUIET, QUIET6] {
        world.client.add_neighbour(CLIENT_LINK, address, SERVER_MAC);
    }
    world
}

/// Runs `knock` on a thread in the client's namespace, after `prepare` ran on it.
fn knock_after(world: &World, words: &[&str], prepare: impl FnOnce() + Send) -> Finished {
    let output = world.client.run(|| {
        prepare();
        Command::new(KNOCK).args(words).stdin(Stdio::null()).output().expect("starting knock")
    });
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Finished { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[track_caller]
pub fn well(finished: &Finished) {
    let said = (finished.code(), finished.stderr.as_str());
    assert_eq!(said, (Some(0), ""), "exit code and standard error");
}

/// The packets that `knock` sends with these arguments; waits for so many.
#[track_caller]
pub fn sent(world: &World, count: usize, arguments: &[&str]) -> Vec<Seen> {
    let mut capture = world.capture();
    well(&world.knock(arguments));
    capture.until(count, seconds(3.0));
    let seen = capture.read_for(Duration::from_millis(30)).to_vec();
    assert_eq!(seen.len(), count, "packets of {arguments:?}: {seen:?}");
    seen
}

pub fn brief(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|seen| format!("{}:{}", seen.port, seen.protocol)).collect()
}

fn plain_knocks_are_one_packet_each() {
    let world = quiet_world();
    let seen = sent(&world, 4, &[QUIET, "1000", "2000:udp", "3000:tcp", "0"]);
    assert_eq!(brief(&seen), ["1000:tcp", "2000:udp", "3000:tcp", "0:tcp"]);
    assert_eq!((seen[0].flags, seen[0].data.len()), (SYN, 0));
    assert_eq!(seen[1].data, [0]);
    let seen = sent(&world, 2, &["-u", QUIET6, "1000", "2000:tcp"]);
    assert_eq!(brief(&seen), ["1000:udp", "2000:udp"]);
}

fn plain_knocks_keep_their_pace() {
    let world = quiet_world();
    let begin = Instant::now();
    sent(&world, 3, &["-d", "60.5", QUIET, "1", "2", "3"]);
    assert!(begin.elapsed() >= Duration::from_micros(181_500), "{:?}", begin.elapsed());
}

fn rounds_come_one_after_the_other() {
    let world = quiet_world();
    for options in [&["--count", "3"][..], &["--raw", "--count", "3"]] {
        let seen = sent(&world, 6, &[options, &[QUIET, "1", "2:udp"]].concat());
        assert_eq!(brief(&seen), ["1:tcp", "2:udp", "1:tcp", "2:udp", "1:tcp", "2:udp"]);
    }
    for count in ["0", "10001", "-1", "many"] {
        let refused = world.knock(&["--count", count, QUIET, "1"]);
        let wanted = format!("error: --count: '{count}' is not between 1 and 10000\n");
        assert_eq!((refused.code(), refused.stderr), (Some(1), wanted));
    }
}

fn jitter_lengthens_the_delay() {
    let world = quiet_world();
    let begin = Instant::now();
    sent(&world, 3, &["--delay", "20", "--jitter=0.5", QUIET, "1", "2", "3"]);
    assert!(begin.elapsed() >= Duration::from_millis(60), "{:?}", begin.elapsed());
    assert_eq!(world.knock(&["--jitter", "-1", QUIET, "1"]).code(), Some(1));
}

fn both_families_are_knocked() {
    let world = quiet_world();
    let folder = Folder::new();
    let hosts = folder.write("hosts", format!("{QUIET} dual.test\n{QUIET6} dual.test\n"));
    let dual = |options: &[&str]| {
        let words = [options, &["dual.test", "1", "2:udp"]].concat();
        knock_after(&world, &words, || {
            let none = None::<&str>;
            unshare(CloneFlags::CLONE_NEWNS).expect("a new mount namespace");
            mount(Some(&hosts), "/etc/hosts", none, MsFlags::MS_BIND, none).expect("binding a hosts file");
        })
    };
    for options in [&["--both", "-v"][..], &["--both", "-v", "--raw"]] {
        let mut capture = world.capture();
        let finished = dual(options);
        well(&finished);
        let first = finished.stdout.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("addresses of dual.test: ") && first.contains(QUIET) && first.contains(QUIET6),
            "{}",
            finished.stdout
        );
        let seen = capture.until(4, seconds(3.0)).iter();
        let seen: Vec<String> = seen.map(|seen| format!("{} {}", seen.destination, seen.port)).collect();
        assert_eq!(
            seen,
            [QUIET, QUIET6, QUIET, QUIET6]
                .map(str::to_owned)
                .iter()
                .zip([1, 1, 2, 2])
                .map(|(a, p)| format!("{a} {p}"))
                .collect::<Vec<_>>()
        );
    }
    // The last of these counts.
    let finished = dual(&["--both", "-6", "-v"]);
    assert_eq!(finished.stdout, format!("hitting tcp {QUIET6}:1\nhitting udp {QUIET6}:2\n"));
}

fn crafted_knocks_open_a_door() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000,2000:udp,3000\ntcpflags = syn\n").start();
    for (address, source) in [(SERVER, CLIENT), (SERVER6, CLIENT6)] {
        well(&world.knock(&["--raw", address, "1000", "2000:udp", "3000"]));
        daemon.wait_for(&format!("{source}: d: OPEN SESAME"));
    }
    well(&world.knock(&["--raw", "--source", "10.77.0.222", SERVER, "1000", "2000:udp", "3000"]));
    daemon.wait_for("10.77.0.222: d: OPEN SESAME");
}

fn flags_of_stages_open_a_door_that_requires_them() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000,2000\ntcpflags = fin,psh,!syn\n").start();
    well(&world.knock(&["--raw", SERVER, "1000:tcp:fin+psh", "2000:tcp:fin+psh+urg"]));
    daemon.wait_for(&format!("{CLIENT}: d: OPEN SESAME"));
}

fn a_dry_run_sends_nothing() {
    let world = quiet_world();
    let mut capture = world.capture();
    let shown = world.knock(&["--dry-run", "-d", "1000", QUIET, "1", "2:udp", "--", "false"]);
    well(&shown);
    assert_eq!(shown.stdout, format!("would hit tcp {QUIET}:1\nwould hit udp {QUIET}:2\n"));
    let shown = world.knock(&["--dry-run", "--raw", "-d", "250", QUIET, "1:tcp:fin", "2:udp"]);
    well(&shown);
    for line in
        ["packet 1: tcp 10.77.0.50:1 (fin) from 10.77.0.2:", ", after 250 ms\n", "  0000  45 00 00 28"]
    {
        assert!(shown.stdout.contains(line), "{line:?} is not in\n{}", shown.stdout);
    }
    assert!(capture.read_for(Duration::from_millis(50)).is_empty());
}

fn raw_packets_need_a_privilege() {
    let world = quiet_world();
    let mut capture = world.capture();
    let unprivileged = |words: &[&str]| {
        knock_after(&world, words, || {
            caps::drop(None, CapSet::Bounding, Capability::CAP_NET_RAW).expect("giving up a capability");
        })
    };
    let refused = unprivileged(&["--raw", QUIET, "1"]);
    assert_eq!(refused.code(), Some(2), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("--raw needs CAP_NET_RAW: run as root, or once: setcap"),
        "{}",
        refused.stderr
    );
    assert!(capture.read_for(Duration::from_millis(30)).is_empty());
    well(&unprivileged(&["--raw", "--dry-run", QUIET, "1"]));
    well(&unprivileged(&[QUIET, "1"]));
    assert_eq!(capture.until(1, seconds(2.0)).len(), 1);
}

/// Without either, nothing is sent; a ping socket needs no privilege.
fn pings_need_a_privilege_or_a_group() {
    let world = quiet_world();
    let mut capture = world.capture();
    let unprivileged = |words: &[&str]| {
        knock_after(&world, words, || {
            caps::drop(None, CapSet::Bounding, Capability::CAP_NET_RAW).expect("giving up a capability");
        })
    };
    let groups = |range: &str| {
        world.client.run(|| std::fs::write("/proc/sys/net/ipv4/ping_group_range", range)).expect("a sysctl");
    };
    // A new network namespace lets no group ping.
    for host in [QUIET, QUIET6] {
        let refused = unprivileged(&[host, "1", "9:icmp"]);
        assert_eq!(refused.code(), Some(2), "{}", refused.stderr);
        let advice = "run as root, or once: sysctl net.ipv4.ping_group_range='0 2147483647', or: setcap";
        assert!(refused.stderr.contains(advice), "{}", refused.stderr);
    }
    assert!(capture.read_for(Duration::from_millis(30)).is_empty());
    groups("0 0");
    for host in [QUIET, QUIET6] {
        well(&unprivileged(&[host, "1", "9:icmp"]));
    }
    assert_eq!(capture.until(2, seconds(2.0)).len(), 2);
}

fn a_dry_run_shows_pings() {
    let world = quiet_world();
    let shown = world.knock(&["--dry-run", QUIET, "7000", "9:icmp", "--delay", "1"]);
    assert_eq!(shown.stdout, "would hit tcp 10.77.0.50:7000\nwould hit icmp 10.77.0.50:9\n");
    let shown = world.knock(&["--print", QUIET, "7000", "9:icmp", "-u"]);
    assert_eq!(shown.stdout, "7000:udp 9:icmp\n");
    let shown = world.knock(&["--dry-run", "--raw", QUIET6, "9:icmp", "--data", "text"]);
    well(&shown);
    for line in
        ["icmp type             128 (echo request)", "icmp sequence         1\n", "data bytes            9\n"]
    {
        assert!(shown.stdout.contains(line), "{line:?} is not in\n{}", shown.stdout);
    }
    let refused = world.knock(&[QUIET, "1401:icmp"]);
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("'1401:icmp': the length of an echo request is not between 0 and 1400"));
}

/// ssh is in /etc/services for TCP only.
fn services_are_found_for_either_protocol() {
    let world = quiet_world();
    assert_eq!(brief(&sent(&world, 1, &["-u", QUIET, "ssh"])), ["22:udp"]);
    assert_eq!(brief(&sent(&world, 1, &[QUIET, "ssh"])), ["22:tcp"]);
}

/// With a slash, with commas, with an address in brackets.
fn ports_may_be_written_as_guides_write_them() {
    let world = quiet_world();
    let typed = [QUIET, "7000/udp", "7001/TCP", "7002,7003:udp,7004/udp", "7005,", "ssh/tcp", "domain/udp"];
    let wanted = ["7000:udp", "7001:tcp", "7002:tcp", "7003:udp", "7004:udp", "7005:tcp", "22:tcp", "53:udp"];
    assert_eq!(brief(&sent(&world, 8, &typed)), wanted);
    assert_eq!(brief(&sent(&world, 2, &["-u", QUIET, "7000/tcp,7001"])), ["7000:udp", "7001:udp"]);
    let in_brackets = format!("[{SERVER6}]");
    let shown = world.knock(&["-v", "--dry-run", &in_brackets, "7000/udp"]);
    assert!(shown.code() == Some(0) && shown.stdout.contains(SERVER6), "{shown:?}");
    // Whatever the resolver makes of it: the one of musl finds these in /etc/services.
    for port in ["7000/sctp", "7000/", "/udp", "7000,", "7000,,7001", "70 00", "7000;7001", "7000-7002"] {
        let words: &[&str] = if port == "7000," { &[QUIET, ",", "1"] } else { &[QUIET, port] };
        let refused = world.knock(words);
        assert_eq!(refused.code(), Some(1), "{port}: {refused:?}");
    }
}

fn errors_come_before_the_first_packet() {
    let world = quiet_world();
    let mut capture = world.capture();
    for (line, wanted) in [
        ("H 1 70000", "error: port '70000' is not between 0 and 65535"),
        ("H 1 no-such-service", "Failed to resolve hostname 'H' on port no-such-service\ngetaddrinfo: "),
        ("H 1 2:tcp:fin", "error: the TCP flags in '2:tcp:fin' need --raw"),
        ("--ttl 3 H 1", "error: --ttl needs --raw"),
        ("--bad-checksum H 1", "error: --bad-checksum needs --raw"),
        ("--pcap /tmp/x H 1", "error: --pcap needs --raw"),
        ("H 1 7/udp:tcp", "error: '7/udp:tcp' has two protocols: write one of them, as in 7000:udp"),
        ("H 1 7000/sctp", "Failed to resolve hostname 'H' on port 7000/sctp\ngetaddrinfo: Servname not"),
        ("--clock-offset 3 H 1", "error: --clock-offset needs --otp, --otp-file, --config or --stanza"),
        ("--raw --ttl 300 H 1", "error: --ttl: '300' is not between 0 and 255"),
        ("--raw --flags syn,fin H 1", "error: 'syn,fin' is not a list of TCP flags; known are none fin syn"),
        ("--raw H 1:sctp", "error: protocol 'sctp' is neither tcp, udp nor icmp"),
        ("--raw H 1:udp:syn", "error: '1:udp:syn' is not TCP, so it has no TCP flags"),
        ("--raw --tos 1 --dscp 1 H 1", "error: --tos and --dscp exclude each other"),
        ("--raw --interface nix0 H 1", "error: cannot use interface nix0: No such device"),
        ("-i nix0 H 1", "error: cannot use interface nix0: No such device"),
        ("--raw --source here H 1", "error: --source: 'here' is no IP address"),
        ("--raw --df=maybe H 1", "error: --df: 'maybe' is neither yes nor no"),
        ("--raw --data hex:1 H 1", "error: --data: not pairs of hexadecimal digits"),
        ("--wait 0 H 1", "error: port '0' is not between 1 and 65535"),
        ("--wait 22/icmp H 1", "error: '22/icmp' cannot be awaited"),
        ("--timeout x --wait 22 H 1", "error: --timeout: 'x' is not between 0 and 86400 seconds"),
        ("--retries 2 H 1", "error: --retries needs --wait or --proxy"),
        ("--proxy 22 H 1 -- true", "error: --proxy and a command exclude each other"),
    ] {
        let line = line.replace("H ", &format!("{QUIET} "));
        let words: Vec<&str> = line.split(' ').collect();
        let refused = world.knock(&words);
        assert_eq!(refused.code(), Some(1), "{line}: {}", refused.stderr);
        let wanted = wanted.replace("'H'", &format!("'{QUIET}'"));
        assert!(refused.stderr.starts_with(&wanted), "{line}: {}", refused.stderr);
    }
    assert!(capture.read_for(Duration::from_millis(50)).is_empty());
}
