//! The packet parser: no input makes it panic, and a knock holds only what the packet holds.

use std::net::IpAddr;

use knocking::door::knock::{Flags, Knock, Protocol};
use knocking::packet::{is_possible_source, parse};

use crate::random::Random;
use crate::support::packet::{ACK, CLIENT, CLIENT6, Packet, SERVER, SERVER6, SYN, checksum, ping, tcp, udp};

trials![
    pings_that_are_none,
    built_packets_are_parsed,
    every_truncation_is_harmless,
    options_are_skipped,
    an_ipv4_header_below_20_bytes_is_none,
    only_first_fragments_count,
    only_ipv6_without_extensions_counts,
    other_protocols_and_versions_are_none,
    the_length_field_ends_the_packet,
    a_length_of_zero_is_none,
    impossible_sources_are_none,
    a_wrong_header_checksum_is_none,
    source_routes_are_none,
    a_data_offset_below_5_is_none,
    a_datagram_that_claims_more_than_there_is_is_none,
    random_bytes_are_harmless,
    random_changes_are_harmless,
];

fn built_packets_are_parsed() {
    let random = Random::new();
    for _ in 0..2000 {
        let (port, source_port) = (random.port(), random.port());
        let is_v4 = random.once_in(2);
        let (source, destination) =
            if is_v4 { (random.v4(), random.v4()) } else { (random.v6(), random.v6()) };
        if !is_possible_source(source) {
            continue;
        }
        let (kind, flags) = (*random.pick(&[Protocol::Tcp, Protocol::Udp]), random.byte());
        let packet = if kind == Protocol::Tcp { tcp(port) } else { udp(port) };
        let packet = packet.from(&source.to_string()).to(&destination.to_string()).source_port(source_port);
        let mut options = if is_v4 { random.bytes(4 * random.below(11)) } else { Vec::new() };
        // Source routes begin with bytes above this.
        for byte in &mut options {
            *byte &= 0x7f;
        }
        let data = random.bytes(random.below(64));
        let ip = packet.flags(flags).ip_options(&options).data(&data).ip();
        let expected = Knock {
            source,
            source_port,
            destination,
            protocol: kind,
            port,
            flags: (kind == Protocol::Tcp).then_some(Flags(flags)),
            udp_length: (kind == Protocol::Udp).then(|| u16::try_from(data.len()).unwrap()),
            length: u32::try_from(ip.len()).unwrap(),
        };
        assert_eq!(parse(&ip), Some(expected));
    }
}

/// A packet with both ports is a knock; flags and length are `None` if they are cut off.
fn every_truncation_is_harmless() {
    for packet in samples() {
        let ip = packet.ip();
        let whole = parse(&ip).unwrap();
        let header = if ip[0] >> 4 == 6 { 40 } else { usize::from(ip[0] & 15) * 4 };
        for length in 0..=ip.len() {
            let flags = whole.flags.filter(|_| length > header + 13);
            let udp_length = whole.udp_length.filter(|_| length >= header + 6);
            let least = if whole.protocol == Protocol::Icmp { 2 } else { 4 };
            let expected = (length >= header + least).then_some(Knock { flags, udp_length, ..whole });
            assert_eq!(parse(&ip[..length]), expected, "{packet:?} cut to {length}");
        }
    }
}

fn options_are_skipped() {
    for words in 0..=10 {
        // Options that look like ports, to catch a parser that takes them for ports.
        let knock = parse(&tcp(7000).ip_options(&vec![0x11; words * 4]).ip()).unwrap();
        assert_eq!((knock.port, knock.flags), (7000, Some(Flags(SYN))), "{words} words");
    }
}

fn an_ipv4_header_below_20_bytes_is_none() {
    for words in 0..5 {
        let mut ip = tcp(7000).ip_options(&[0x50; 40]).ip();
        ip[0] = 4 << 4 | words;
        assert_eq!(parse(&with_checksum(ip)), None, "{words} words");
    }
}

fn only_first_fragments_count() {
    let knock = |place, more| parse(&tcp(7000).fragment(place, more).ip());
    assert!(knock(0, false).is_some() && knock(0, true).is_some());
    for bit in 0..13 {
        assert_eq!((knock(1 << bit, true), knock(1 << bit, false)), (None, None), "place {}", 1 << bit);
    }
    // "Don't fragment" and the reserved bit are not part of the offset.
    for bits in [0x40, 0x80, 0xc0] {
        let mut ip = tcp(7000).ip();
        ip[6] = bits;
        assert!(parse(&with_checksum(ip)).is_some());
    }
}

fn only_ipv6_without_extensions_counts() {
    let knock = parse(&tcp(7000).v6().ip()).unwrap();
    assert_eq!((knock.source, knock.destination), (address(CLIENT6), address(SERVER6)));
    let segment = tcp(7000).v6().segment();
    let extension = [vec![6, 0, 1, 4, 0, 0, 0, 0], segment].concat();
    for header in [0, 43, 44, 50, 51, 60, 135] {
        assert_eq!(parse(&tcp(7000).v6().ip_around(header, &extension)), None, "extension header {header}");
    }
}

fn other_protocols_and_versions_are_none() {
    for number in 0..=255 {
        let segment = if number == 17 { udp(7000) } else { tcp(7000) }.segment();
        let counts = [6, 17].contains(&number);
        assert_eq!(parse(&tcp(7000).ip_around(number, &segment)).is_some(), counts, "IPv4 {number}");
        assert_eq!(parse(&tcp(7000).v6().ip_around(number, &segment)).is_some(), counts, "IPv6 {number}");
    }
    for version in (0..16).filter(|version| ![4, 6].contains(version)) {
        let mut ip = tcp(7000).ip();
        ip[0] = version << 4 | 5;
        assert_eq!(parse(&ip), None, "version {version}");
    }
}

/// Ethernet pads short packets: bytes beyond the length in the IP header do not count.
fn the_length_field_ends_the_packet() {
    for (packet, header, length_at) in [(tcp(7000), 20, 2), (tcp(7000).v6(), 40, 4)] {
        let whole = packet.ip();
        let padded = [whole.clone(), vec![0x55; 46]].concat();
        assert_eq!(parse(&padded), parse(&whole));
        for segment in 1..20_u8 {
            let mut short = padded.clone();
            short[length_at + 1] = if header == 20 { 20 + segment } else { segment };
            short[length_at] = 0;
            let short = with_checksum(short);
            let expected = parse(&whole[..header + usize::from(segment)]);
            let length = u32::try_from(header).unwrap() + u32::from(segment);
            assert_eq!(parse(&short), expected.map(|knock| Knock { length, ..knock }), "{segment} bytes");
        }
    }
    let mut too_short = tcp(7000).ip();
    too_short[2..4].copy_from_slice(&[0, 19]);
    assert_eq!(parse(&with_checksum(too_short)), None, "an end within the header");
}

/// Linux sets the length to 0 in packets of more than 64 kB that it merged itself: no knock is that long.
fn a_length_of_zero_is_none() {
    for (packet, length_at) in [(tcp(7000), 2), (tcp(7000).v6(), 4)] {
        let mut ip = packet.ip();
        assert!(parse(&ip).is_some());
        ip[length_at..length_at + 2].fill(0);
        assert_eq!(parse(&with_checksum(ip)), None);
    }
}

/// What the kernel's IP layer drops is no knock.
fn impossible_sources_are_none() {
    for source in ["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "255.255.255.255"] {
        assert_eq!(parse(&tcp(7000).from(source).ip()), None, "{source}");
        assert_eq!(parse(&udp(7000).from(source).ip()), None, "{source}");
    }
    for source in ["::", "ff02::1", "ff0e::5", "::ffff:10.77.0.2", "::ffff:127.0.0.1"] {
        assert_eq!(parse(&tcp(7000).from(source).to(SERVER6).ip()), None, "{source}");
    }
    for source in ["1.0.0.0", "223.255.255.255", "240.0.0.1", "255.255.255.254", "::2", "64:ff9b::a4d:2"] {
        assert!(parse(&tcp(7000).from(source).ip()).is_some(), "{source}");
    }
}

fn a_wrong_header_checksum_is_none() {
    for bit in 0..8 {
        for at in [10, 11, 15, 8] {
            let mut ip = tcp(7000).ip_options(&[1; 8]).ip();
            ip[at] ^= 1 << bit;
            assert_eq!(parse(&ip), None, "byte {at}, bit {bit}");
        }
    }
    // That of the segment is not looked at.
    assert!(parse(&tcp(7000).bad_checksum().ip()).is_some());
}

fn source_routes_are_none() {
    for kind in [131, 137] {
        for before in [&[][..], &[1, 1, 1, 1], &[7, 3, 4, 1], &[0x94, 4, 0, 0]] {
            let options = [before, &[kind, 7, 4, 192, 0, 2, 1, 0]].concat();
            assert_eq!(parse(&tcp(7000).ip_options(&options).ip()), None, "{options:?}");
        }
    }
    // As the data of another option, or after the end of the list.
    for options in [[7, 4, 131, 137], [0, 131, 137, 131], [7, 250, 131, 137]] {
        assert!(parse(&tcp(7000).ip_options(&options).ip()).is_some(), "{options:?}");
    }
}

fn a_data_offset_below_5_is_none() {
    for packet in [tcp(7000), tcp(7000).v6()] {
        let ip = packet.ip();
        let at = ip.len() - 20 + 12;
        for words in 0..16_u8 {
            let mut ip = ip.clone();
            ip[at] = words << 4;
            assert_eq!(parse(&ip).is_some(), words >= 5, "{words} words");
        }
    }
}

fn a_datagram_that_claims_more_than_there_is_is_none() {
    for packet in [udp(7000).data(&[7; 20]), udp(7000).data(&[7; 20]).v6()] {
        let ip = packet.ip();
        let at = ip.len() - 28 + 4;
        for length in 0..60_u16 {
            let mut ip = ip.clone();
            ip[at..at + 2].copy_from_slice(&length.to_be_bytes());
            let knock = parse(&ip);
            assert_eq!(knock.is_some(), (8..=28).contains(&length), "{length}");
            assert!(knock.is_none_or(|knock| knock.udp_length == Some(length - 8)));
        }
    }
    // A first fragment does not have all of it.
    let mut ip = udp(7000).data(&[7; 24]).fragment(0, true).ip();
    ip[24..26].copy_from_slice(&1000_u16.to_be_bytes());
    assert_eq!(parse(&ip).and_then(|knock| knock.udp_length), Some(992));
}

fn random_bytes_are_harmless() {
    let random = Random::new();
    for _ in 0..200_000 {
        let mut bytes = random.bytes(random.below(80));
        if let Some(first) = bytes.first_mut().filter(|_| random.once_in(2)) {
            *first = *random.pick(&[0x45, 0x46, 0x4f, 0x44, 0x60]);
        }
        agree(&bytes);
    }
}

fn random_changes_are_harmless() {
    let random = Random::new();
    let samples: Vec<Vec<u8>> = samples().iter().map(Packet::ip).collect();
    for _ in 0..100_000 {
        let mut bytes = random.pick(&samples).clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.byte();
        }
        if random.once_in(2) {
            bytes = with_checksum(bytes);
        }
        bytes.truncate(random.below(bytes.len() + 1));
        agree(&bytes);
    }
}

/// Checks that what is parsed from any bytes is really there.
fn agree(bytes: &[u8]) {
    let Some(knock) = parse(bytes) else { return };
    let is_v4 = bytes[0] >> 4 == 4;
    let header = if is_v4 { usize::from(bytes[0] & 15) * 4 } else { 40 };
    assert!((20..=60).contains(&header));
    assert_eq!(knock.source.is_ipv4(), is_v4);
    assert_eq!(knock.destination.is_ipv4(), is_v4);
    assert_eq!(knock.protocol.number(is_v4), bytes[if is_v4 { 9 } else { 6 }]);
    if knock.protocol == Protocol::Icmp {
        assert_eq!(bytes[header..header + 2], [if is_v4 { 8 } else { 128 }, 0]);
        let end = if is_v4 { 2 } else { 4 };
        let end = usize::from(u16::from_be_bytes([bytes[end], bytes[end + 1]])) + if is_v4 { 0 } else { 40 };
        assert_eq!(usize::from(knock.port), end - header - 8);
        return;
    }
    assert_eq!(knock.source_port.to_be_bytes(), bytes[header..header + 2]);
    assert_eq!(knock.port.to_be_bytes(), bytes[header + 2..header + 4]);
    assert!(knock.flags.is_none_or(|flags| knock.protocol == Protocol::Tcp && flags.0 == bytes[header + 13]));
}

fn pings_that_are_none() {
    for packet in [ping(9), ping(9).v6()] {
        let (bytes, header) = (packet.ip(), if packet.ip()[0] >> 4 == 4 { 20 } else { 40 });
        assert_eq!(parse(&bytes).map(|knock| (knock.protocol, knock.port)), Some((Protocol::Icmp, 9)));
        // A reply, another type, another code.
        for (at, value) in [(0, 0), (0, 129), (0, 3), (1, 1)] {
            let mut other = bytes.clone();
            other[header + at] = value;
            assert_eq!(parse(&other), None);
        }
        // Shorter than its header, by what IP says.
        let mut short = bytes.clone();
        let at = if header == 20 { 2 } else { 4 };
        short[at..at + 2].copy_from_slice(&[0, if header == 20 { 27 } else { 7 }]);
        assert_eq!(parse(&short), None);
        // The length that IP says counts, also where less was captured.
        assert_eq!(parse(&bytes[..header + 8]).map(|knock| knock.port), Some(9));
    }
    assert_eq!(parse(&ping(9).fragment(0, true).ip()), None);
    // The protocol of one family in a packet of the other.
    assert_eq!(parse(&ping(9).ip_around(58, &ping(9).v6().segment())), None);
}

/// The packet with the checksum of its IPv4 header, whatever length that claims to have.
fn with_checksum(mut ip: Vec<u8>) -> Vec<u8> {
    let length = (usize::from(ip[0] & 15) * 4).clamp(20, ip.len());
    if ip[0] >> 4 == 4 {
        ip[10..12].fill(0);
        let sum = checksum(&ip[..length]).to_be_bytes();
        ip[10..12].copy_from_slice(&sum);
    }
    ip
}

fn samples() -> [Packet; 8] {
    let options: Vec<u8> = (1..=40).collect();
    [
        tcp(7000),
        tcp(0).flags(ACK).data(b"payload"),
        udp(65535).from(SERVER).to(CLIENT),
        udp(53).ip_options(&options),
        tcp(7000).v6(),
        udp(7000).v6().data(b""),
        ping(56),
        ping(56).v6(),
    ]
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
