//! Rules that a door adds, on real packets: what scanners, browsers and noisy clients do.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpStream};

use crate::random::Random;
use crate::support::packet::{CLIENT, CLIENT6, SERVER, tcp, udp};
use crate::support::world::World;
use crate::support::{holds_within, seconds};
use crate::wire::attempts::opened;

trials![
    random_scans_open_a_plain_door_and_never_a_strict_one,
    a_second_connection_is_a_duplicate,
    a_browser_knocks_twice,
    others_are_kept_away_by_the_kernel,
    a_strict_door_sees_no_more_than_it_must,
    a_packet_wakes_once,
    only_the_first_packet_of_the_game_wakes,
    commands_know_why_they_run,
];

/// Scans of all TCP ports in random order, each from another address: one in six opens a plain door of three
/// ports. None of them opens a strict one.
fn random_scans_open_a_plain_door_and_never_a_strict_one() {
    const SCANS: u8 = 30;
    for (rule, opens) in [("strict = no", true), ("strict = yes", false)] {
        let world = World::new();
        let door = format!("[door]\nsequence = 1111,22222,33333\nseq_timeout = 600\n{rule}\n");
        let daemon = world.knockd(&door).start();
        // Always the same orders, so that the plain door opens for sure.
        let random = Random::of(1);
        let mut ports: Vec<u16> = (1..=u16::MAX).collect();
        for scan in 0..SCANS {
            for last in (1..ports.len()).rev() {
                ports.swap(last, random.below(last + 1));
            }
            // A frame of its own for every port takes too long to make; a wrong checksum does not matter.
            let mut frame = tcp(1).from(&format!("10.77.1.{scan}")).frame();
            for batch in ports.chunks(480) {
                for port in batch {
                    frame[36..38].copy_from_slice(&port.to_be_bytes());
                    world.send_frame(&frame);
                }
                assert!(
                    holds_within(seconds(20.0), || world.queued() == 0),
                    "the daemon does not read any more"
                );
            }
        }
        daemon.sync();
        let openings = daemon.lines().iter().filter(|line| line.ends_with("OPEN SESAME")).count();
        assert_eq!(openings > 0, opens, "{openings} of {SCANS} scans opened the door with {rule}");
        // Who knows the sequence gets in.
        world.send([1111, 22222, 33333].map(tcp));
        daemon.wait_for(&format!("{CLIENT}: door: OPEN SESAME"));
    }
}

/// As `nc -z` and impatient clients do it.
fn a_second_connection_is_a_duplicate() {
    let world = World::new();
    let doors = "[patient]\nsequence = 1000,2000\nallow_duplicates = yes\n[plain]\nsequence = 1000,2000\n";
    let daemon = world.knockd(doors).start();
    let there: SocketAddr = format!("{SERVER}:1000").parse().unwrap();
    for _ in 0..2 {
        let refused = world.client.run(|| TcpStream::connect_timeout(&there, seconds(5.0)));
        assert!(refused.is_err());
    }
    world.send([tcp(2000)]);
    daemon.wait_for(&format!("{CLIENT}: patient: OPEN SESAME"));
    daemon.sync();
    assert!(daemon.lines().iter().all(|line| !line.contains("plain: OPEN")), "{:?}", daemon.lines());
}

/// Two connections at once to each port, from two source ports.
fn a_browser_knocks_twice() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000,2000,3000\nallow_duplicates = yes\n").start();
    for port in [1000, 2000, 3000] {
        world.send([40_000, 40_001].map(|source| tcp(port).source_port(source)));
    }
    // The second one of the last pair comes when the door is open already.
    daemon.expect(&opened("d", CLIENT, 3));
}

fn others_are_kept_away_by_the_kernel() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000\n").options("allow = 10.77.0.2, 10.77.0.99\n").start();
    world.send(["10.77.0.3", "10.78.0.2", CLIENT].map(|source| tcp(1000).from(source)));
    daemon.expect(&opened("d", CLIENT, 1));
    let said = daemon.said();
    assert!(!said.contains("10.78.0.2"), "{said}");
}

/// Established connections stay in the kernel, and so do services in use.
fn a_strict_door_sees_no_more_than_it_must() {
    let world = World::new();
    let doors = "[d]\nsequence = 1000,2000\nstrict = yes\nstrict_except = tcp/443\nlog_failures = yes\n";
    let daemon = world.knockd(doors).arguments(&["-D"]).start();
    let (syn, ack) = (0x02, 0x10);
    world.send([
        tcp(1000),
        tcp(80).flags(ack),
        tcp(80).flags(syn | ack),
        tcp(443),
        tcp(9).to("10.77.0.200"),
        udp(9).to("10.77.0.200"),
        tcp(2000),
    ]);
    daemon.expect(&opened("d", CLIENT, 2));
    world.send([tcp(1000), tcp(80), tcp(2000)]);
    daemon.wait_for(&format!("{CLIENT}: d: wrong knock (stage 1)"));
}

fn a_packet_wakes_once() {
    let world = World::new();
    let door = "[wake]\nsequence = 19132:udp\ncooldown = 60\ncommand = echo %IP% >> @/out\n";
    let daemon = world.knockd(door).start();
    world.send((0..100).map(|_| udp(19132)));
    world.send((0..100).map(|_| udp(19132).from("10.77.0.3")));
    daemon.sync();
    assert!(holds_within(seconds(30.0), || daemon.read("out").contains("10.77.0.3")));
    let woken = daemon.read("out");
    assert_eq!(woken.lines().collect::<HashSet<_>>().len(), woken.lines().count(), "{woken}");
}

fn only_the_first_packet_of_the_game_wakes() {
    let world = World::new();
    let daemon = world.knockd("[wake]\nsequence = 19132:udp\nudp_length = 25-40\n").start();
    for length in [0, 1, 24, 41, 1200] {
        world.send([udp(19132).data(&vec![7; length])]);
    }
    daemon.expect("");
    for length in [25, 33, 40] {
        world.send([udp(19132).data(&vec![7; length])]);
    }
    daemon.expect(&opened("wake", CLIENT, 1).repeat(3));
}

/// A script needs neither `%IP%` nor quotes.
fn commands_know_why_they_run() {
    let world = World::new();
    let tell = "echo \"$KNOCKD_EVENT $KNOCKD_DOOR $KNOCKD_FAMILY $KNOCKD_IP\" >> @/out";
    let door = format!(
        "[my door]\nsequence = 1000\nstart_command = {tell}\ncmd_timeout = 0\nstop_command = {tell}\n"
    );
    let daemon = world.knockd(&door).variable("KNOCKD_IP", "203.0.113.1").start();
    world.send([tcp(1000)]);
    daemon.wait_for_file("out", &format!("start my door 4 {CLIENT}\nstop my door 4 {CLIENT}\n"));
    world.send([tcp(1000).v6()]);
    let lines = [("start", 4, CLIENT), ("stop", 4, CLIENT), ("start", 6, CLIENT6), ("stop", 6, CLIENT6)];
    let lines = lines.map(|(event, family, knocker)| format!("{event} my door {family} {knocker}\n"));
    daemon.wait_for_file("out", &lines.concat());
}
