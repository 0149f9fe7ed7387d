//! Which packets count, and which do not exist for the daemon.

use std::net::UdpSocket;

use nix::sys::signal::Signal;

use crate::support::capture::Capture;
use crate::support::packet::{ACK, CLIENT, CLIENT6, Packet, SERVER, SERVER6, SYN, ping, tcp, udp};
use crate::support::process::{self, Process};
use crate::support::world::{CLIENT_LINK, SERVER_LINK, World};
use crate::support::{pause, seconds};
use crate::wire::attempts::{DOOR, KNOCKS, opened};

trials![
    foreign_destinations_do_not_count,
    every_address_of_the_interface_counts,
    link_local_addresses_count,
    addresses_of_other_interfaces_do_not_count,
    broadcast_and_multicast_do_not_count,
    frames_for_other_machines_do_not_count,
    frames_for_everybody_do_not_count,
    our_own_address_on_a_wire_does_not_count,
    packets_that_claim_more_than_there_is_do_not_count,
    the_interface_is_not_promiscuous,
    checksums_ports_and_payload_do_not_matter,
    ip_options_are_skipped,
    first_fragments_count_and_later_ones_do_not,
    a_tcp_header_cut_after_the_ports_counts_without_flags,
    cut_frames_do_nothing,
    extension_headers_hide_a_knock,
    other_protocols_do_nothing,
    tagged_frames_do_nothing,
    frames_with_a_priority_alone_count,
    ipv6_opens_too,
    pings_are_knocks_by_their_length,
    fragmented_pings_are_no_knocks,
    the_client_pings,
    ipv6_can_be_switched_off,
    ipv4_alone_is_enough,
    ipv6_alone_is_enough,
    a_target_counts_instead_of_our_addresses,
    a_target_may_be_an_ipv6_address,
    an_attempt_on_a_target_is_apart,
    without_an_address_targets_still_work,
    any_interface_knows_all_addresses,
    on_any_interface_each_packet_counts_once,
    what_the_host_sends_does_not_count,
    what_the_host_sends_to_a_target_counts,
    on_lo_each_packet_counts_once,
    the_kernel_keeps_other_packets_away,
];

fn foreign_destinations_do_not_count() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send(KNOCKS.map(|port| tcp(port).to("10.77.0.200")));
    world.send(KNOCKS.map(|port| tcp(port).from(CLIENT6).to("fd77::200")));
    world.send([tcp(1000), tcp(3000).to("10.77.0.200"), tcp(2000), tcp(3000)]);
    daemon.expect(&opened("d", CLIENT, 3));
}

/// All of them, and they may be mixed during one attempt.
fn every_address_of_the_interface_counts() {
    let world = World::new();
    for address in ["10.77.0.3/24", "192.0.2.7/32", "fd77::3/64"] {
        world.server.add_address(SERVER_LINK, address);
    }
    let daemon = world.knockd(DOOR).start();
    world.send([tcp(1000).to("10.77.0.3"), tcp(2000).to("192.0.2.7"), tcp(3000).to(SERVER)]);
    world.send([tcp(1000).v6().to("fd77::3"), tcp(2000).v6(), tcp(3000).v6().to("fd77::3")]);
    daemon.expect(&(opened("d", CLIENT, 3) + &opened("d", CLIENT6, 3)));
}

fn link_local_addresses_count() {
    let world = World::new();
    world.server.add_address(SERVER_LINK, "fe80::77/64");
    let daemon = world.knockd(DOOR).start();
    world.send(KNOCKS.map(|port| tcp(port).from("fe80::2").to("fe80::77")));
    daemon.expect(&opened("d", "fe80::2", 3));
}

fn addresses_of_other_interfaces_do_not_count() {
    let world = World::new();
    world.server.add_address("lo", "192.0.2.9/32");
    let daemon = world.knockd(DOOR).start();
    world.send(KNOCKS.map(|port| tcp(port).to("192.0.2.9")));
    world.send(KNOCKS.map(|port| tcp(port).to("127.0.0.1")));
    daemon.expect("");
}

fn broadcast_and_multicast_do_not_count() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000:udp,2000:udp").start();
    let all = [0xff; 6];
    let places = [("10.77.0.255", all), ("255.255.255.255", all), ("224.0.0.1", [1, 0, 0x5e, 0, 0, 1])];
    for (address, mac) in places {
        world.send([1000, 2000].map(|port| udp(port).to(address).mac(mac)));
    }
    world.send([1000, 2000].map(|port| udp(port).from(CLIENT6).to("ff02::1").mac([0x33, 0x33, 0, 0, 0, 1])));
    daemon.expect("");
}

/// Somebody else may have made the interface promiscuous. Only a target may be another machine.
fn frames_for_other_machines_do_not_count() {
    const OTHER: [u8; 6] = [2, 0x77, 0, 0, 0, 0x55];
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}[t]\nsequence = 1000,2000\ntarget = 192.0.2.5\n")).start();
    world.send(KNOCKS.map(|port| tcp(port).mac(OTHER)));
    world.send(KNOCKS.map(|port| tcp(port).v6().mac(OTHER)));
    world.send([1000, 2000].map(|port| tcp(port).to("192.0.2.5").mac(OTHER)));
    daemon.expect(&opened("t", CLIENT, 2));
}

fn frames_for_everybody_do_not_count() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    for mac in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
        world.send(KNOCKS.map(|port| tcp(port).mac(mac)));
        world.send(KNOCKS.map(|port| tcp(port).v6().mac(mac)));
    }
    daemon.expect("");
}

/// On the loopback interface it does: `on_lo_each_packet_counts_once`.
fn our_own_address_on_a_wire_does_not_count() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    for source in [SERVER, SERVER6, "127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "224.0.0.1", "ff02::1"] {
        world.send(KNOCKS.map(|port| tcp(port).from(source)));
    }
    world.send(KNOCKS.map(|port| tcp(port).from("::ffff:10.77.0.2").to(SERVER6)));
    daemon.expect("");
}

fn packets_that_claim_more_than_there_is_do_not_count() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000:udp\n").start();
    for packet in [udp(1000).data(&[7; 200]), udp(1000).v6().data(&[7; 200])] {
        let ip = packet.ip();
        world.send_frame(&packet.frame_around(&ip[..ip.len() - 1]));
    }
    daemon.expect("");
    // The link may add bytes.
    let ip = udp(1000).ip();
    world.send_frame(&udp(1000).frame_around(&[ip, vec![0; 40]].concat()));
    daemon.expect(&opened("d", CLIENT, 1));
}

fn the_interface_is_not_promiscuous() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    daemon.sync();
    assert_eq!(world.server.promiscuity(SERVER_LINK), 0);
}

fn checksums_ports_and_payload_do_not_matter() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000,2000,3000:udp,4000:udp").start();
    world.send([
        tcp(1000).bad_checksum().source_port(0),
        tcp(2000).ttl(1).source_port(65535).data(&[7; 1400]),
    ]);
    world.send([udp(3000).bad_checksum().source_port(3000), udp(4000).data(b"")]);
    daemon.expect(&opened("d", CLIENT, 4));
}

fn ip_options_are_skipped() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000,2000,3000:udp\ntcpflags = syn").start();
    let mut longest = [1; 40];
    longest[39] = 0;
    world.send([tcp(1000).ip_options(&[1, 1, 1, 0]), tcp(2000).ip_options(&longest)]);
    world.send([udp(3000).ip_options(&[0x94, 4, 0, 0])]);
    daemon.expect(&opened("d", CLIENT, 3));
}

/// The bytes of a later fragment that look like a knock are none: it neither counts nor resets.
fn first_fragments_count_and_later_ones_do_not() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([tcp(1000).fragment(10, false), tcp(1000).fragment(0, true), tcp(3000).fragment(2, true)]);
    world.send([tcp(2000).fragment(0, true), tcp(3000).fragment(185, false), tcp(3000)]);
    daemon.expect(&opened("d", CLIENT, 3));
}

fn a_tcp_header_cut_after_the_ports_counts_without_flags() {
    let world = World::new();
    let daemon = world.knockd("[any]\nsequence = 1,2\n[syn]\nsequence = 11,12\ntcpflags = syn").start();
    let cut = |packet: Packet| packet.frame_around(&packet.ip_around(6, &packet.segment()[..4]));
    world.send([tcp(1)]);
    world.send_frame(&cut(tcp(2)));
    world.send([tcp(11)]);
    world.send_frame(&cut(tcp(12)));
    daemon.expect(&(opened("any", CLIENT, 2) + "10.77.0.2: syn: Stage 1"));
    world.send([tcp(12)]);
    daemon.expect(&(opened("any", CLIENT, 2) + &opened("syn", CLIENT, 2)));
}

/// Cut anywhere before the ports, or with a header that lies: no count, no reset, no end of the daemon.
fn cut_frames_do_nothing() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([tcp(1000)]);
    for packet in [tcp(3000), tcp(3000).v6(), udp(3000), tcp(3000).ip_options(&[1; 40])] {
        let frame = packet.frame();
        let ports_end = frame.len() - packet.segment().len() + 4;
        (15..ports_end).for_each(|length| world.send_frame(&frame[..length]));
    }
    // A header shorter than itself, one that says it is longer than the frame, and other versions of IP.
    for first in [0x40, 0x41, 0x44, 0x4f, 0x05, 0x55, 0x65, 0x75, 0xf5] {
        let mut ip = tcp(3000).ip();
        ip[0] = first;
        world.send_frame(&tcp(3000).frame_around(&ip[..24]));
    }
    world.send_frame(&tcp(3000).frame_around(&[]));
    world.send_frame(&tcp(3000).frame_around(&[0x45]));
    world.send([2000, 3000].map(tcp));
    daemon.expect(&opened("d", CLIENT, 3));
}

fn extension_headers_hide_a_knock() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    let behind = |kind: u8, packet: Packet| {
        let payload = [vec![6, 0, 1, 4, 0, 0, 0, 0], packet.segment()].concat();
        packet.frame_around(&packet.ip_around(kind, &payload))
    };
    world.send([tcp(1000).v6()]);
    // Hop-by-hop options, destination options, routing, fragment.
    for kind in [0, 60, 43, 44] {
        world.send_frame(&behind(kind, tcp(3000).v6()));
    }
    world.send([2000, 3000].map(|port| tcp(port).v6()));
    daemon.expect(&opened("d", CLIENT6, 3));
}

/// The bytes where ports would be mean nothing in ICMP, SCTP or UDP-Lite.
fn other_protocols_do_nothing() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([tcp(1000)]);
    for protocol in [1, 2, 58, 132, 136, 255] {
        for packet in [tcp(3000), tcp(3000).v6()] {
            world.send_frame(&packet.frame_around(&packet.ip_around(protocol, &packet.segment())));
        }
    }
    world.send([2000, 3000].map(tcp));
    daemon.expect(&opened("d", CLIENT, 3));
}

fn tagged_frames_do_nothing() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send(KNOCKS.map(|port| tcp(port).vlan(5)));
    world.send([tcp(1000), tcp(3000).vlan(5), tcp(2000), tcp(1000).vlan(0x7005), tcp(3000)]);
    world.send(KNOCKS.map(|port| tcp(port).v6().vlan(5)));
    daemon.expect(&opened("d", CLIENT, 3));
}

/// As the kernel takes them: VLAN 0 is none, whatever the priority.
fn frames_with_a_priority_alone_count() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([tcp(1000).vlan(0), tcp(2000).vlan(0xf000), tcp(3000)]);
    world.send(KNOCKS.map(|port| tcp(port).v6().vlan(0x7000)));
    daemon.expect(&(opened("d", CLIENT, 3) + &opened("d", CLIENT6, 3)));
}

fn ipv6_opens_too() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000,2000:udp,3000\ntcpflags = syn").start();
    world.send([tcp(1000).v6(), udp(2000).v6(), tcp(3000).v6().flags(ACK), tcp(3000).v6().flags(SYN)]);
    daemon.expect(&opened("d", CLIENT6, 3));
}

fn ipv6_can_be_switched_off() {
    let world = World::new();
    let daemon = world.knockd(DOOR).arguments(&["-4"]).start();
    world.send(KNOCKS.map(|port| tcp(port).v6()));
    world.send([tcp(1000), tcp(3000).v6(), tcp(2000), tcp(3000)]);
    daemon.expect(&opened("d", CLIENT, 3));
}

const PINGS: &str = "[d]\nsequence = 1000:icmp,7000,0:icmp\n";

fn pings_are_knocks_by_their_length() {
    let world = World::new();
    let daemon = world.knockd(PINGS).start();
    let between = [ping(999), ping(1001), ping(56)];
    world.send([ping(1000)].into_iter().chain(between).chain([tcp(7000), ping(0)]));
    world.send([ping(1000).v6(), ping(999).v6(), tcp(7000).v6(), ping(0).v6()]);
    daemon.expect(&(opened("d", CLIENT, 3) + &opened("d", CLIENT6, 3)));
}

/// Not a first fragment either, whose length says nothing about that of the whole.
fn fragmented_pings_are_no_knocks() {
    let world = World::new();
    let daemon = world.knockd(PINGS).start();
    let last = [tcp(7000), ping(0)];
    world.send([ping(1000).fragment(0, true)].into_iter().chain(last.clone()));
    world.send([ping(1000).fragment(1, false)].into_iter().chain(last.clone()));
    world.send([ping(1000)].into_iter().chain(last));
    daemon.expect(&opened("d", CLIENT, 3));
}

/// Plain and crafted, over IPv4 and IPv6.
fn the_client_pings() {
    let world = World::new();
    let daemon = world.knockd(PINGS).start();
    for (host, raw) in [(SERVER, false), (SERVER6, false), (SERVER, true), (SERVER6, true)] {
        let mut words = vec![host, "1000:icmp", "7000", "0:icmp"];
        words.extend(raw.then_some("--raw"));
        let knocked = world.knock(&words);
        assert_eq!((knocked.code(), &*knocked.stderr), (Some(0), ""), "{words:?}");
        daemon.sync();
    }
    daemon.expect(&[CLIENT, CLIENT6, CLIENT, CLIENT6].map(|client| opened("d", client, 3)).concat());
}

fn ipv4_alone_is_enough() {
    let world = World::v4_only();
    let daemon = world.knockd(&format!("{DOOR}tcpflags = syn")).start();
    world.send(KNOCKS.map(tcp));
    daemon.expect(&opened("d", CLIENT, 3));
}

fn ipv6_alone_is_enough() {
    let world = World::v6_only();
    let daemon = world.knockd(&format!("{DOOR}tcpflags = syn")).without_sync().start();
    world.send(KNOCKS.map(|port| tcp(port).v6()));
    daemon.expect_log(&opened("d", CLIENT6, 3));
}

fn a_target_counts_instead_of_our_addresses() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}target = 10.99.0.5\ncommand = echo %IP% >> @/out")).start();
    world.send(KNOCKS.map(tcp));
    world.send(KNOCKS.map(|port| tcp(port).to("10.99.0.5")));
    daemon.wait_for_file("out", "10.77.0.2\n");
    let ran = format!("d: running command: echo 10.77.0.2 >> {}/out", daemon.folder.path().display());
    daemon.expect(&(opened("d", CLIENT, 3) + &ran));
}

fn a_target_may_be_an_ipv6_address() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}tcpflags = syn\ntarget = fd99::5")).start();
    world.send(KNOCKS.map(|port| tcp(port).v6()));
    world.send(KNOCKS.map(|port| tcp(port).v6().to("fd99::5")));
    daemon.expect(&opened("d", CLIENT6, 3));
}

/// Packets to us neither advance nor fail an attempt on a target, and the other way round.
fn an_attempt_on_a_target_is_apart() {
    let world = World::new();
    let doors = "[t]\nsequence = 1000,2000\ntarget = 10.99.0.5\n[d]\nsequence = 1000,2000";
    let daemon = world.knockd(doors).start();
    world.send([tcp(1000).to("10.99.0.5"), tcp(1000), tcp(2000), tcp(2000).to("10.99.0.5")]);
    daemon.expect(&format!(
        "10.77.0.2: t: Stage 1\n{}10.77.0.2: t: Stage 2\n10.77.0.2: t: OPEN SESAME",
        opened("d", CLIENT, 2)
    ));
}

/// The original sets no filter then, and every packet to the target resets.
fn without_an_address_targets_still_work() {
    let world = World::without_addresses();
    let daemon = world.knockd(&format!("{DOOR}target = 10.99.0.5")).without_sync().start();
    world.send([1000, 4444, 2000, 22, 3000].map(|port| tcp(port).to("10.99.0.5")));
    daemon.expect_log(&opened("d", CLIENT, 3));
}

fn any_interface_knows_all_addresses() {
    let world = World::new();
    world.server.add_address("lo", "192.0.2.9/32");
    let doors = "[own]\nsequence = 1000,2000\n[t]\nsequence = 1000,2000\ntarget = 10.99.0.5\n\
                 [six]\nsequence = 1000,2000\ntarget = fd99::5";
    let daemon = world.knockd(doors).interface(Some("any")).start();
    let [own, own6, other] = ["10.77.0.1", "fd77::1", "192.0.2.9"];
    let places =
        [(CLIENT, own), (CLIENT6, own6), (CLIENT, other), (CLIENT6, "fd99::5"), (CLIENT, "10.99.0.5")];
    for (source, destination) in places.into_iter().chain([(CLIENT, "10.77.0.200")]) {
        world.send([1000, 2000].map(|port| tcp(port).from(source).to(destination)));
    }
    let doors = ["own", "own", "own", "six", "t"];
    daemon.expect(
        &doors.iter().zip(places).map(|(door, (source, _))| opened(door, source, 2)).collect::<String>(),
    );
}

/// What the host sends to itself would be seen coming and going.
fn on_any_interface_each_packet_counts_once() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000:udp,1000:udp,2000:udp").interface(Some("any")).start();
    let socket = world.server.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
    for port in [1000, 1000, 2000] {
        socket.send_to(b"x", ("127.0.0.1", port)).unwrap();
    }
    daemon.expect(&opened("d", "127.0.0.1", 3));
}

fn what_the_host_sends_does_not_count() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000:udp,2000:udp").start();
    host_sends(&world, &[1000, 2000]);
    daemon.expect("");
}

fn what_the_host_sends_to_a_target_counts() {
    let world = World::new();
    let daemon = world.knockd(&format!("[d]\nsequence = 1000:udp,2000:udp\ntarget = {CLIENT}")).start();
    host_sends(&world, &[1000, 2000]);
    daemon.expect(&opened("d", SERVER, 2));
}

/// The server sends datagrams to the client. Returns when they have arrived there.
fn host_sends(world: &World, ports: &[u16]) {
    let mut at_the_client = Capture::new(&world.client, CLIENT_LINK);
    let socket = world.server.run(|| UdpSocket::bind((SERVER, 0))).unwrap();
    for port in ports {
        socket.send_to(b"x", (CLIENT, *port)).unwrap();
    }
    assert_eq!(at_the_client.until(ports.len(), seconds(3.0)).len(), ports.len());
}

fn on_lo_each_packet_counts_once() {
    let world = World::new();
    let doors = "[d]\nsequence = 1000:udp,1000:udp,2000:udp\n[e]\nsequence = 3000:udp,3000:udp";
    let daemon = world.knockd(doors).interface(Some("lo")).without_sync().start();
    for (from, to) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1")] {
        let socket = world.server.run(|| UdpSocket::bind((from, 0))).unwrap();
        for port in [1000, 1000, 2000, 3000] {
            socket.send_to(b"x", (to, port)).unwrap();
        }
        daemon.wait_for(&format!("{from}: e: Stage 1"));
    }
    pause(0.1);
    let wanted = ["127.0.0.1", "::1"].map(|from| opened("d", from, 3) + &format!("{from}: e: Stage 1\n"));
    daemon.expect_log(&wanted.concat());
}

/// While the daemon is stopped, its socket's queue shows what the filter lets through.
fn the_kernel_keeps_other_packets_away() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000,2000:udp\ntcpflags = syn").start();
    daemon.sync();
    let family: Vec<i32> = daemon.descendants().iter().map(|p: &Process| p.pid).chain([daemon.pid]).collect();
    let all = |signal| family.iter().all(|pid| process::signal(*pid, signal));
    assert!(all(Signal::SIGSTOP));
    pause(0.05);
    assert_eq!(world.queued(), 0, "an idle daemon has packets to read");
    world.send([999, 1001, 2000, 22, 65000].map(tcp));
    world.send([999, 1000, 2001, 53].map(udp));
    world.send([1, 58, 132].map(|_| tcp(1000).to("10.77.0.200")));
    world.send([tcp(1000).fragment(3, false), tcp(1000).vlan(3), tcp(999).v6(), udp(1000).v6()]);
    let icmp = tcp(1000);
    world.send_frame(&icmp.frame_around(&icmp.ip_around(1, &icmp.segment())));
    assert_eq!(world.queued(), 0, "a packet that nobody waits for reached the daemon");
    world.send([tcp(1000)]);
    assert!(world.queued() > 0, "this test cannot see what reaches the daemon");
    assert!(all(Signal::SIGCONT));
    world.send([udp(2000)]);
    daemon.expect(&opened("d", CLIENT, 2));
}
