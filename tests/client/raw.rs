//! Crafted packets, byte by byte, on the other end of the cable.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use crate::client::knocking::{QUIET, QUIET6, brief, quiet_world, sent, well};
use crate::support::folder::Folder;
use crate::support::packet::{ACK, CLIENT, CLIENT6, FIN, PSH, RST, SERVER, SERVER6, SYN, Seen, URG};
use crate::support::seconds;
use crate::support::world::{CLIENT_LINK, World};

trials![
    a_crafted_syn_looks_like_the_systems_own,
    a_crafted_syn_looks_like_the_systems_own_over_ipv6,
    every_option_is_on_the_wire,
    every_option_is_on_the_wire_over_ipv6,
    each_stage_has_its_flags,
    data_has_every_form_on_the_wire,
    a_spoofed_source_arrives,
    the_receiving_kernel_accepts_crafted_datagrams,
    a_listener_answers_a_crafted_syn,
    a_bad_checksum_is_dropped_by_the_receiver,
    a_packet_above_the_mtu_is_not_sent,
    a_capture_file_has_the_packets_that_were_sent,
    a_capture_file_is_private_and_overwrites_no_other,
];

/// The IP packet of a frame.
fn ip(seen: &Seen) -> &[u8] {
    &seen.frame[14..]
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap())
}

/// A TCP packet in which the fields that differ between connections are zeroed.
fn look(seen: &Seen) -> Vec<u8> {
    let mut bytes = ip(seen).to_vec();
    let (header, volatile) = match bytes[0] >> 4 {
        // Identification and checksum.
        4 => (20, [4..6, 10..12]),
        // The flow label.
        _ => (40, [1..2, 2..4]),
    };
    // Source port, sequence number, checksum, timestamp.
    let transport = [0..2, 4..8, 16..18, 28..32].map(|range| range.start + header..range.end + header);
    for range in volatile.iter().cloned().chain(transport) {
        bytes[range].fill(0);
    }
    bytes
}

fn a_crafted_syn_looks_like_the_systems_own() {
    let world = quiet_world();
    let system = sent(&world, 1, &[QUIET, "7000"]);
    let crafted = sent(&world, 1, &["--raw", QUIET, "7000"]);
    assert_eq!(look(&crafted[0]), look(&system[0]));
}

fn a_crafted_syn_looks_like_the_systems_own_over_ipv6() {
    let world = quiet_world();
    let system = sent(&world, 1, &[QUIET6, "7000"]);
    let crafted = sent(&world, 1, &["--raw", QUIET6, "7000"]);
    assert_eq!(look(&crafted[0]), look(&system[0]));
}

fn every_option_is_on_the_wire() {
    let world = quiet_world();
    let crafted = |options: &str| {
        let mut arguments = vec!["--raw"];
        arguments.extend(options.split(' '));
        arguments.extend([QUIET, "7000"]);
        sent(&world, 1, &arguments).remove(0)
    };
    let names = [("fin", FIN), ("syn", SYN), ("rst", RST), ("psh", PSH), ("ack", ACK), ("urg", URG)];
    for (name, flag) in names.into_iter().chain([("ece", 64), ("cwr", 128), ("none", 0), ("SYN+fin", 3)]) {
        assert_eq!(crafted(&format!("--flags {name}")).flags, flag, "{name}");
    }
    assert_eq!(crafted("--source-port 53").source_port, 53);
    assert!(crafted("--source-port random").source_port >= 1024);
    assert_eq!(ip(&crafted("--ttl 9"))[8], 9);
    assert_eq!(ip(&crafted("--tos 0x10"))[1], 0x10);
    assert_eq!(ip(&crafted("--dscp 46"))[1], 46 << 2);
    assert_eq!(half(ip(&crafted("--id 4711")), 4), 4711);
    assert_eq!(ip(&crafted("--df"))[6], 0x40);
    assert_eq!(ip(&crafted("--df=no"))[6], 0);
    assert_eq!(word(ip(&crafted("--seq 4000000000")), 24), 4_000_000_000);
    assert_eq!(word(ip(&crafted("--ack-seq 5")), 28), 5);
    assert_eq!(half(ip(&crafted("--window 1024")), 34), 1024);
    assert_eq!(half(ip(&crafted("--flags urg --urgent 6")), 38), 6);
    let with_mss = crafted("--mss 536");
    assert_eq!(ip(&with_mss)[40..44], [2, 4, 2, 24]);
    assert_eq!(half(ip(&with_mss), 34), 65535 / 536 * 536);
    assert_eq!(crafted("--data hello").data, b"hello");
    assert_eq!(crafted(&format!("--interface {CLIENT_LINK}")).port, 7000);
}

fn every_option_is_on_the_wire_over_ipv6() {
    let world = quiet_world();
    let seen = sent(&world, 1, &["--raw", "--ttl", "9", "--tos", "0xb8", "--window", "7", QUIET6, "7000"]);
    let bytes = ip(&seen[0]);
    assert_eq!((bytes[7], word(bytes, 0) >> 20 & 0xff, half(bytes, 54)), (9, 0xb8, 7));
    assert_eq!((bytes[6], usize::from(half(bytes, 4))), (6, bytes.len() - 40));
}

fn each_stage_has_its_flags() {
    let world = quiet_world();
    let stages = ["1:tcp:fin+psh", "2", "3::none", "4:UDP", "5:tcp:syn+ece"];
    let seen = sent(&world, 5, &[&["--raw", "--flags", "ack", QUIET][..], &stages].concat());
    let flags: Vec<u8> = seen.iter().map(|seen| seen.flags).collect();
    assert_eq!(flags, [FIN | PSH, ACK, 0, 0, SYN | 64]);
    assert_eq!(brief(&seen), ["1:tcp", "2:tcp", "3:tcp", "4:udp", "5:tcp"]);
    assert_eq!(seen[3].data, [0]);
}

fn data_has_every_form_on_the_wire() {
    let world = quiet_world();
    let folder = Folder::new();
    let path = folder.write("data", b"from a file\0");
    let file = format!("file:{}", path.display());
    let (sized, none) = (vec![0; 1000], Vec::new());
    for (data, wanted) in [
        ("hi there", b"hi there".to_vec()),
        ("text:file:x", b"file:x".to_vec()),
        ("hex:00ff10", vec![0, 255, 16]),
        (file.as_str(), b"from a file\0".to_vec()),
        ("size:1000", sized),
        ("size:0", none),
    ] {
        for port in ["7000", "7000:udp"] {
            let seen = sent(&world, 1, &["--raw", "--data", data, QUIET, port]);
            assert_eq!(seen[0].data, wanted, "{data} to {port}");
        }
    }
    let refused = world.knock(&["--raw", "--data", "file:/no/such", QUIET, "7000"]);
    assert_eq!(
        (refused.code(), refused.stderr.as_str()),
        (Some(1), "error: --data: /no/such: No such file or directory\n")
    );
}

fn a_spoofed_source_arrives() {
    let world = quiet_world();
    for (source, destination) in [("192.0.2.77", QUIET), ("2001:db8::77", QUIET6)] {
        let seen = sent(&world, 2, &["--raw", "--source", source, destination, "1", "2:udp"]);
        assert!(seen.iter().all(|seen| seen.source.to_string() == source), "{seen:?}");
    }
    let refused = world.knock(&["--raw", "--source", "::1", QUIET, "1"]);
    assert_eq!(refused.code(), Some(1));
}

fn the_receiving_kernel_accepts_crafted_datagrams() {
    let world = World::new();
    for (address, source) in [(SERVER, CLIENT), (SERVER6, CLIENT6)] {
        let socket = world.server.run(|| UdpSocket::bind((address, 9999)).unwrap());
        socket.set_read_timeout(Some(seconds(3.0))).unwrap();
        well(&world.knock(&["--raw", "--data", "knock, knock", address, "9999:udp"]));
        let mut data = [0; 64];
        let (length, from) = socket.recv_from(&mut data).expect("the datagram");
        assert_eq!((&data[..length], from.ip().to_string()), (&b"knock, knock"[..], source.to_owned()));
    }
}

fn a_listener_answers_a_crafted_syn() {
    let world = World::new();
    for address in [SERVER, SERVER6] {
        let _listener = world.server.run(|| TcpListener::bind((address, 8080)).unwrap());
        let mut capture = crate::support::capture::Capture::new(&world.client, CLIENT_LINK);
        well(&world.knock(&["--raw", "--seq", "1000", address, "8080"]));
        let answer = &capture.until(1, seconds(3.0))[0];
        assert_eq!((answer.source.to_string().as_str(), answer.flags), (address, SYN | ACK));
        let header = if address == SERVER { 20 } else { 40 };
        assert_eq!(word(ip(answer), header + 8), 1001, "the acknowledgment");
    }
}

fn a_bad_checksum_is_dropped_by_the_receiver() {
    let world = World::new();
    for address in [SERVER, SERVER6] {
        let socket = world.server.run(|| UdpSocket::bind((address, 9999)).unwrap());
        socket.set_read_timeout(Some(seconds(3.0))).unwrap();
        for (option, data) in [("--bad-checksum", "wrong"), ("--df", "right")] {
            well(&world.knock(&["--raw", option, "--data", data, address, "9999:udp"]));
        }
        let mut data = [0; 64];
        let length = socket.recv(&mut data).expect("the second datagram");
        assert_eq!(&data[..length], b"right");
    }
}

fn a_packet_above_the_mtu_is_not_sent() {
    let world = quiet_world();
    world.client.set_mtu(CLIENT_LINK, 1280);
    for (destination, headers) in [(QUIET, 28), (QUIET6, 48)] {
        for option in ["--df", "--df=no"] {
            let fits = format!("size:{}", 1280 - headers);
            let seen = sent(&world, 1, &["--raw", option, "--data", &fits, destination, "7:udp"]);
            assert_eq!(ip(&seen[0]).len(), 1280);
            let mut capture = world.capture();
            let too_long = format!("size:{}", 1281 - headers);
            let failed = world.knock(&["--raw", option, "--data", &too_long, destination, "7:udp"]);
            assert_eq!(failed.code(), Some(4), "{}", failed.stderr);
            assert!(failed.stderr.contains("of 1281 bytes to"), "{}", failed.stderr);
            assert!(capture.read_for(Duration::from_millis(30)).is_empty());
        }
    }
}

fn a_capture_file_has_the_packets_that_were_sent() {
    let world = quiet_world();
    let folder = Folder::new();
    let path = folder.join("knocks.pcap");
    let file = path.to_string_lossy().into_owned();
    let mut seen = sent(&world, 2, &["--raw", "--pcap", &file, QUIET, "1", "2:udp"]);
    seen.extend(sent(&world, 1, &["--raw", "--pcap", &format!("{file}6"), QUIET6, "3"]));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o777, 0o600, "others may read the sequence");
    let mut packets = recorded(&path);
    packets.extend(recorded(&folder.join("knocks.pcap6")));
    let sent: Vec<&[u8]> = seen.iter().map(ip).collect();
    assert_eq!(packets, sent);
    assert_eq!(world.knock(&["--raw", "--pcap", "/no/such/folder", QUIET, "1"]).code(), Some(1));
}

/// A capture opens the door for anyone who reads it, and a second name may be that of any file of ours.
fn a_capture_file_is_private_and_overwrites_no_other() {
    let world = quiet_world();
    let folder = Folder::new();
    let path = folder.write("old", "readable");
    let file = path.to_string_lossy().into_owned();
    assert_eq!(world.knock(&["--raw", "--pcap", &file, QUIET, "1"]).code(), Some(0));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
    assert_eq!((mode & 0o777, recorded(&path).len()), (0o600, 1));
    let mine = folder.write("mine", "mine");
    std::fs::hard_link(&mine, folder.join("name")).unwrap();
    let name = folder.join("name").to_string_lossy().into_owned();
    let refused = world.knock(&["--raw", "--pcap", &name, QUIET, "1"]);
    assert!(refused.code() == Some(1) && refused.stderr.contains("another name"), "{}", refused.stderr);
    assert_eq!(folder.read("mine"), "mine");
}

/// The packets of a capture file of bare IP packets.
fn recorded(path: &std::path::Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let number = |at: usize| word(&bytes, at);
    assert_eq!((number(0), number(20)), (0xa1b2_c3d4, 101), "magic number and link type");
    let (mut packets, mut at) = (Vec::new(), 24);
    while at < bytes.len() {
        let (kept, length) = (usize::try_from(number(at + 8)).unwrap(), number(at + 12));
        assert_eq!(u32::try_from(kept).unwrap(), length);
        packets.push(bytes[at + 16..at + 16 + kept].to_vec());
        at += 16 + kept;
    }
    packets
}
