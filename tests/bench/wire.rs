//! The packet parser, and the program for the kernel's filter.

use divan::{Bencher, black_box};
use knocking::door::knock::Flags;
use knocking::filter::interest::Interest;
use knocking::filter::{HostProperties, MAX_INSTRUCTIONS, program};
use knocking::packet;
use knocking::packet::craft::{Options, Packet, Segment, Tcp};

use crate::support::{doors, fixed, here, knocker, otp};

/// A SYN like those of the system's own connections.
fn syn() -> Vec<u8> {
    let options = Options { mss: Some(1460), sack: true, timestamp: Some(7), window_scale: Some(7) };
    Packet {
        source: knocker(1),
        destination: here(),
        tos: 0,
        ttl: 64,
        id: 1,
        dont_fragment: true,
        flow_label: 0,
        source_port: 40_000,
        port: 7000,
        segment: Segment::Tcp(Tcp { flags: Flags::SYN, options, ..Tcp::default() }),
        data: Vec::new(),
        bad_checksum: false,
    }
    .build()
    .unwrap()
}

#[divan::bench]
fn parse(bencher: Bencher) {
    let packet = syn();
    bencher.bench_local(|| packet::parse(black_box(&packet)));
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
