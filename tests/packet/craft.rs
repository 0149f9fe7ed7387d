//! Crafted packets as values: their bytes, and their defaults.

use std::fmt::Write;
use std::net::IpAddr;

use knocking::door::knock::{Flags, Protocol};
use knocking::door::sequence::Stage;
use knocking::packet::craft::{CraftError, Options, Packet, Segment, Tcp};
use knocking::packet::describe::{Dissection, flag_names};
use knocking::packet::{is_possible_source, parse};
use knocking::plan::packet_template::{self, PacketTemplate, Route, SourcePort};
use knocking::plan::{ParseOptions, Port, RequestedStage};

use crate::support::packet::checksum;

trials![
    built_packets_parse_back,
    checksums_are_right_unless_a_wrong_one_is_requested,
    a_udp_checksum_is_never_zero,
    impossible_packets_are_errors,
    options_are_in_the_order_of_linux,
    a_syn_looks_like_the_systems_own,
    only_a_syn_carries_options,
    the_window_scale_follows_the_buffer,
    requests_override_the_defaults,
    source_ports_stay_in_their_ranges,
    a_dissection_names_every_field,
    cut_packets_can_be_shown,
];

/// Pseudo-random numbers, the same in every run.
pub fn numbers() -> impl FnMut() -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A random packet.
fn any_packet(random: &mut dyn FnMut() -> u64) -> Packet {
    let six = random().is_multiple_of(2);
    let mut bytes = |count: usize| (0..count).map(|_| random().to_be_bytes()[3]).collect::<Vec<u8>>();
    let mut address = || {
        if six {
            IpAddr::from(<[u8; 16]>::try_from(bytes(16)).unwrap())
        } else {
            IpAddr::from(<[u8; 4]>::try_from(bytes(4)).unwrap())
        }
    };
    let (source, destination) = (address(), address());
    let mut half = || u16::try_from(random() >> 48).unwrap();
    let tcp = Tcp {
        sequence: u32::from(half()) << 16 | u32::from(half()),
        acknowledgment: u32::from(half()) << 16,
        flags: Flags(half().to_be_bytes()[0]),
        window: half(),
        urgent: half(),
        options: Options {
            mss: half().is_multiple_of(2).then(&mut half),
            sack: half().is_multiple_of(2),
            timestamp: half().is_multiple_of(2).then(|| u32::from(half())),
            window_scale: half().is_multiple_of(2).then_some(7),
        },
    };
    let segment = match half() % 5 {
        0 => Segment::Echo,
        1 | 2 => Segment::Udp,
        _ => Segment::Tcp(tcp),
    };
    Packet {
        source,
        destination,
        tos: half().to_be_bytes()[0],
        ttl: half().to_be_bytes()[0],
        id: half(),
        dont_fragment: half().is_multiple_of(2),
        flow_label: u32::from(half()) << 4,
        source_port: half(),
        port: half(),
        segment,
        data: bytes_of(usize::from(half() % 300)),
        bad_checksum: false,
    }
}

fn bytes_of(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// The checksum over the segment and its pseudo-header; 0 if the one in the segment is correct.
fn sum_of_segment(packet: &[u8]) -> u16 {
    let (addresses, protocol, segment) = match packet[0] >> 4 {
        4 => (&packet[12..20], packet[9], &packet[20..]),
        _ => (&packet[8..40], packet[6], &packet[40..]),
    };
    let mut covered = Vec::new();
    // ICMP over IPv4 has no pseudo-header.
    if protocol != 1 {
        covered.extend(addresses);
        covered.extend([0, protocol]);
        covered.extend(u16::try_from(segment.len()).unwrap().to_be_bytes());
    }
    covered.extend(segment);
    checksum(&covered)
}

fn built_packets_parse_back() {
    let mut random = numbers();
    for _ in 0..2_000 {
        let packet = any_packet(&mut random);
        if !is_possible_source(packet.source) {
            continue;
        }
        let bytes = packet.build().unwrap();
        let knock = parse(&bytes).unwrap_or_else(|| panic!("not read back: {packet:?}"));
        let (source_port, port) = match packet.segment {
            Segment::Echo => (0, u16::try_from(packet.data.len()).unwrap()),
            _ => (packet.source_port, packet.port),
        };
        assert_eq!((knock.source, knock.source_port), (packet.source, source_port));
        assert_eq!((knock.destination, knock.port), (packet.destination, port));
        let flags = match &packet.segment {
            Segment::Tcp(tcp) => Some(tcp.flags),
            Segment::Udp | Segment::Echo => None,
        };
        assert_eq!((knock.protocol, knock.flags), (packet.protocol(), flags));
        assert_eq!(usize::try_from(knock.length).unwrap(), bytes.len());
        assert!(bytes.ends_with(&packet.data));
    }
}

fn checksums_are_right_unless_a_wrong_one_is_requested() {
    let mut random = numbers();
    for _ in 0..2_000 {
        let mut packet = any_packet(&mut random);
        let bytes = packet.build().unwrap();
        assert_eq!(sum_of_segment(&bytes), 0, "{packet:?}");
        if packet.source.is_ipv4() {
            assert_eq!(checksum(&bytes[..20]), 0, "{packet:?}");
        }
        packet.bad_checksum = true;
        let bytes = packet.build().unwrap();
        assert_ne!(sum_of_segment(&bytes), 0, "{packet:?}");
    }
}

fn a_udp_checksum_is_never_zero() {
    let mut packet = PacketTemplate::default().packet(stage("9:udp"), None, &route4(), &mut numbers());
    let mut wrong = 0;
    for port in 0..=u16::MAX {
        packet.source_port = port;
        packet.bad_checksum = false;
        let bytes = packet.build().unwrap();
        assert_ne!(&bytes[26..28], &[0, 0], "source port {port}");
        packet.bad_checksum = true;
        let bytes = packet.build().unwrap();
        assert_ne!(&bytes[26..28], &[0, 0], "source port {port}");
        wrong += u32::from(sum_of_segment(&bytes) != 0);
    }
    assert_eq!(wrong, 65536);
}

fn impossible_packets_are_errors() {
    let mut packet = PacketTemplate::default().packet(stage("9:udp"), None, &route4(), &mut numbers());
    packet.data = vec![0; 65_507];
    assert!(packet.build().is_ok());
    packet.data = vec![0; 65_508];
    assert_eq!(packet.build(), Err(CraftError::TooLong(65_536)));
    packet.data.clear();
    packet.source = ip("::1");
    assert_eq!(packet.build(), Err(CraftError::MixedFamilies));
}

fn options_are_in_the_order_of_linux() {
    let all = Options { mss: Some(1460), sack: true, timestamp: Some(0x0102_0304), window_scale: Some(7) };
    let none = Options::default();
    assert_eq!(all.bytes(), [2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7]);
    assert_eq!(none.bytes(), []);
    assert_eq!(Options { mss: Some(536), ..none }.bytes(), [2, 4, 2, 24]);
    assert_eq!(Options { sack: true, ..none }.bytes(), [1, 1, 4, 2]);
    assert_eq!(Options { timestamp: Some(1), ..none }.bytes(), [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(Options { window_scale: Some(2), ..none }.bytes(), [1, 3, 3, 2]);
}

fn route4() -> Route {
    Route { source: ip("10.0.0.2"), destination: ip("10.0.0.1"), mtu: 1500, window_scale: 7 }
}

fn route6() -> Route {
    Route { source: ip("fd00::2"), destination: ip("fd00::1"), mtu: 1500, window_scale: 7 }
}

/// `80` or `9:udp` as a stage.
pub fn stage(text: &str) -> Stage {
    let asked = RequestedStage::parse(text, ParseOptions::default()).unwrap();
    let Port::Number(port) = asked.port else { panic!("{text} is no number") };
    Stage { protocol: asked.protocol, port }
}

fn tcp_of(packet: &Packet) -> &Tcp {
    match &packet.segment {
        Segment::Tcp(tcp) => tcp,
        Segment::Udp | Segment::Echo => panic!("not TCP: {packet:?}"),
    }
}

fn a_syn_looks_like_the_systems_own() {
    for (route, mss, window) in [
        (route4(), 1460, 64240),
        (route6(), 1440, 64800),
        (Route { mtu: 65536, ..route4() }, 65496, 65496),
        (Route { mtu: 1280, ..route6() }, 1220, 64660),
        (Route { mtu: u32::MAX, ..route6() }, 65535, 65535),
        (Route { mtu: 0, ..route4() }, 1, 65535),
    ] {
        let packet = PacketTemplate::default().packet(stage("80"), None, &route, &mut numbers());
        let tcp = tcp_of(&packet);
        assert_eq!((tcp.options.mss, tcp.window), (Some(mss), window), "{route:?}");
        assert!(tcp.options.sack && tcp.options.timestamp.is_some());
        assert_eq!((tcp.options.window_scale, tcp.flags), (Some(7), Flags::SYN));
        assert_eq!((tcp.acknowledgment, tcp.urgent), (0, 0));
        assert_eq!((packet.ttl, packet.tos, packet.dont_fragment), (64, 0, true));
        assert_eq!((packet.source, packet.destination), (route.source, route.destination));
        assert!(packet.data.is_empty() && packet.id != 0);
    }
}

fn the_window_scale_follows_the_buffer() {
    let table =
        [(0, 0), (65535, 0), (65536, 1), (212_992, 2), (6_291_456, 7), (33_554_432, 10), (u64::MAX, 14)];
    for (buffer, scale) in table {
        assert_eq!(packet_template::window_scale(buffer), scale, "{buffer} bytes");
    }
}

fn only_a_syn_carries_options() {
    let packet = PacketTemplate::default().packet(stage("80"), Some(Flags::FIN), &route4(), &mut numbers());
    assert_eq!((tcp_of(&packet).options, tcp_of(&packet).flags), (Options::default(), Flags::FIN));
    let asked = PacketTemplate { mss: Some(1000), ..PacketTemplate::default() };
    let packet = asked.packet(stage("80"), Some(Flags::NONE), &route4(), &mut numbers());
    assert_eq!(tcp_of(&packet).options, Options { mss: Some(1000), ..Options::default() });
}

fn requests_override_the_defaults() {
    let template = PacketTemplate {
        flags: Flags::ACK,
        source: Some(ip("192.0.2.9")),
        source_port: SourcePort::Fixed(53),
        ttl: 3,
        tos: 0xb8,
        id: Some(0),
        dont_fragment: false,
        sequence: Some(5),
        acknowledgment: 6,
        window: Some(7),
        urgent: 8,
        mss: None,
        data: Some(b"hi".to_vec()),
        bad_checksum: false,
    };
    let packet = template.packet(stage("80"), None, &route4(), &mut numbers());
    assert_eq!(
        (packet.source, packet.source_port, packet.data.as_slice()),
        (ip("192.0.2.9"), 53, &b"hi"[..])
    );
    assert_eq!((packet.ttl, packet.tos, packet.id, packet.dont_fragment), (3, 0xb8, 0, false));
    let tcp = tcp_of(&packet);
    assert_eq!((tcp.sequence, tcp.acknowledgment, tcp.window, tcp.urgent), (5, 6, 7, 8));
    assert_eq!(tcp.flags, Flags::ACK);
    let udp = template.packet(stage("80:udp"), None, &route4(), &mut numbers());
    assert_eq!((udp.protocol(), udp.data.as_slice()), (Protocol::Udp, &b"hi"[..]));
}

fn source_ports_stay_in_their_ranges() {
    let mut random = numbers();
    let mut ports = |source_port| {
        let template = PacketTemplate { source_port, ..PacketTemplate::default() };
        (0..500)
            .map(|_| template.packet(stage("80"), None, &route4(), &mut random).source_port)
            .collect::<Vec<_>>()
    };
    let ephemeral = ports(SourcePort::Ephemeral);
    assert!(ephemeral.iter().all(|port| (32768..=60999).contains(port)));
    assert!(ephemeral.iter().any(|port| *port != ephemeral[0]));
    assert!(ports(SourcePort::Random).iter().all(|port| *port >= 1024));
    assert!(ports(SourcePort::Fixed(7)).iter().all(|port| *port == 7));
}

fn a_dissection_names_every_field() {
    let template = PacketTemplate {
        source_port: SourcePort::Fixed(4660),
        id: Some(7),
        sequence: Some(9),
        data: Some(b"knock".to_vec()),
        ..PacketTemplate::default()
    };
    let mut packet = template.packet(stage("7000"), Some(Flags::SYN.union(Flags::ACK)), &route4(), &mut || 0);
    let shown = Dissection(&packet.build().unwrap()).to_string();
    let wanted = "
  ip   version          4
  ip   header length    20
  ip   tos              0x00 (dscp 0)
  ip   total length     65
  ip   identification   0x0007
  ip   flags            df
  ip   fragment offset  0
  ip   ttl              64
  ip   protocol         6
  ip   checksum         0x26ae
  ip   source           10.0.0.2
  ip   destination      10.0.0.1
  tcp  source port      4660
  tcp  destination port 7000
  tcp  sequence         9
  tcp  acknowledgment   0
  tcp  header length    40
  tcp  flags            syn+ack
  tcp  window           64240
  tcp  checksum         0xc590
  tcp  urgent pointer   0
  tcp  option           mss 1460
  tcp  option           sack permitted
  tcp  option           timestamp 0 echo 0
  tcp  option           nop
  tcp  option           window scale 7
  data bytes            5
  0000  45 00 00 41 00 07 40 00 40 06 26 ae 0a 00 00 02  E..A..@.@.&.....
  0010  0a 00 00 01 12 34 1b 58 00 00 00 09 00 00 00 00  .....4.X........
  0020  a0 12 fa f0 c5 90 00 00 02 04 05 b4 04 02 08 0a  ................
  0030  00 00 00 00 00 00 00 00 01 03 03 07 6b 6e 6f 63  ............knoc
  0040  6b                                               k
";
    assert_eq!(format!("\n{shown}"), wanted);
    packet = template.packet(stage("9:udp"), None, &route6(), &mut || 0);
    let shown = Dissection(&packet.build().unwrap()).to_string();
    for line in ["ip   next header      17", "ip   hop limit        64", "udp  length           13"] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    assert_eq!(flag_names(Flags::NONE), "none");
}

fn cut_packets_can_be_shown() {
    let packet = PacketTemplate::default().packet(stage("80"), None, &route4(), &mut numbers());
    let bytes = packet.build().unwrap();
    for end in 0..=bytes.len() {
        let mut shown = String::new();
        write!(shown, "{}", Dissection(&bytes[..end])).unwrap();
        assert_eq!(shown.matches("  00").count(), end.div_ceil(16), "{end} bytes:\n{shown}");
    }
    let mut random = numbers();
    for _ in 0..2_000 {
        let length = usize::try_from(random() % 90).unwrap();
        let noise: Vec<u8> = (0..length).map(|_| random().to_be_bytes()[0]).collect();
        let _ = Dissection(&noise).to_string();
    }
}
