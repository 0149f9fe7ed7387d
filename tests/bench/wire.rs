//! The packet parser, the program for the kernel's filter, and what a forged single packet runs through.

use divan::{Bencher, black_box};
use knocking::door::knock::Flags;
use knocking::door::spa::DEFAULT_PORT;
use knocking::door::spa::sealed::UncheckedPacket;
use knocking::engine::Engine;
use knocking::engine::single_packets::Verdict;
use knocking::filter::interest::Interest;
use knocking::filter::{HostProperties, MAX_INSTRUCTIONS, program};
use knocking::opening::event::Event;
use knocking::packet;
use knocking::packet::craft::{Options, Packet, Segment, Tcp};

use crate::support::{doors, engine, fixed, forged, here, knocker, noon, otp, single};

fn packet(port: u16, segment: Segment, data: Vec<u8>) -> Vec<u8> {
    Packet {
        source: knocker(1),
        destination: here(),
        tos: 0,
        ttl: 64,
        id: 1,
        dont_fragment: true,
        flow_label: 0,
        source_port: 40_000,
        port,
        segment,
        data,
        bad_checksum: false,
    }
    .build()
    .unwrap()
}

/// A SYN like those of the system's own connections.
fn syn() -> Vec<u8> {
    let options = Options { mss: Some(1460), sack: true, timestamp: Some(7), window_scale: Some(7) };
    packet(7000, Segment::Tcp(Tcp { flags: Flags::SYN, options, ..Tcp::default() }), Vec::new())
}

#[divan::bench]
fn parse(bencher: Bencher) {
    let packet = syn();
    bencher.bench_local(|| packet::parse(black_box(&packet)));
}

/// What the watcher does with each packet that it takes from an interface, where no event results.
#[inline(never)]
fn receive(
    ip: &[u8],
    engine: &mut Engine,
    unchecked: &mut UncheckedPacket,
    events: &mut Vec<Event>,
) -> Verdict {
    let knock = packet::parse(ip).unwrap();
    unchecked.set(packet::payload(ip));
    engine.observe(&knock, noon(), events);
    engine.judge_single_packet(&knock, unchecked)
}

/// A single packet that somebody without the key made as well as can be.
#[divan::bench]
fn forged_packet(bencher: Bencher) {
    let mut engine = engine(&single(1));
    let ip = packet(DEFAULT_PORT, Segment::Udp, forged());
    let (mut unchecked, mut events) = (UncheckedPacket::default(), Vec::new());
    bencher.bench_local(|| {
        let verdict = receive(black_box(&ip), &mut engine, &mut unchecked, &mut events);
        assert_eq!(verdict, Verdict::Wrong { door: 0, reporter: None });
    });
    assert_eq!(events, []);
}

fn assemble(bencher: Bencher, text: &str) {
    let interest = Interest::of(&doors(text), 0);
    let here = [here()];
    let host = HostProperties { here: &here, loopback: None, only_v4: false, count_once: None };
    bencher.bench_local(|| program(black_box(&interest), host, MAX_INSTRUCTIONS));
}

#[divan::bench(args = [1, 1000, 5000])]
fn filter(bencher: Bencher, doors: u32) {
    assemble(bencher, &fixed(doors));
}

#[divan::bench(args = [1, 1000])]
fn filter_of_otp_doors(bencher: Bencher, doors: u32) {
    assemble(bencher, &otp(doors));
}

#[divan::bench(args = [1, 1000, 5000])]
fn interest(bencher: Bencher, number: u32) {
    let doors = doors(&fixed(number));
    bencher.bench_local(|| Interest::of(black_box(&doors), 0));
}
