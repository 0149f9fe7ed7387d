//! The engine: a knock must cost the same however many doors and attempts there are.

use std::time::Duration;

use divan::{Bencher, black_box};
use knocking::door::spa::sealed::UncheckedPacket;
use knocking::engine::MAX_ATTEMPTS;
use knocking::engine::single_packets::Verdict;

use crate::support::{
    engine, fixed, forged, knock, knocker, noon, observe, otp, password, same_beginning, single, tcp, udp,
};

const DOORS: [u32; 3] = [1, 1000, 5000];

/// A packet that is of interest to no door.
#[divan::bench(args = DOORS)]
fn stranger(bencher: Bencher, doors: u32) {
    let mut engine = engine(&fixed(doors));
    let knock = knock(knocker(1), tcp(80));
    let mut events = Vec::new();
    bencher.bench_local(|| observe(&mut engine, black_box(&knock), noon(), &mut events));
}

/// A first knock, and the second one that fails the attempt.
#[divan::bench(args = DOORS)]
fn begin_and_fail(bencher: Bencher, doors: u32) {
    let mut engine = engine(&fixed(doors));
    let knock = knock(knocker(1), tcp(1000));
    let mut events = Vec::new();
    bencher.bench_local(|| observe(&mut engine, black_box(&knock), noon(), &mut events));
}

/// First knocks, each from a new knocker, when the table of attempts is full.
#[divan::bench(args = DOORS)]
fn flood(bencher: Bencher, doors: u32) {
    flood_of_first_knocks(bencher, &fixed(doors));
}

/// The same where all doors begin with that knock.
#[divan::bench(args = DOORS)]
fn flood_at_the_same_beginning(bencher: Bencher, doors: u32) {
    flood_of_first_knocks(bencher, &same_beginning(doors));
}

fn flood_of_first_knocks(bencher: Bencher, doors: &str) {
    let mut engine = engine(doors);
    let mut number = 0;
    let mut next = || {
        number += 1;
        knock(knocker(number), tcp(1000))
    };
    let mut events = Vec::new();
    for _ in 0..MAX_ATTEMPTS {
        observe(&mut engine, &next(), noon(), &mut events);
    }
    bencher.bench_local(|| observe(&mut engine, black_box(&next()), noon(), &mut events));
}

/// The same at a gateway that shares knocks: these are not shared.
#[divan::bench(args = DOORS)]
fn shared_flood_of_first_knocks(bencher: Bencher, doors: u32) {
    flood_of_unshared(bencher, &fixed(doors), 1000, MAX_ATTEMPTS);
}

/// Later knocks, each from a new knocker: as many are shared as may be.
#[divan::bench(args = DOORS)]
fn shared_flood_of_later_knocks(bencher: Bencher, doors: u32) {
    flood_of_unshared(bencher, &fixed(doors), 27_014, 10_000);
}

fn flood_of_unshared(bencher: Bencher, doors: &str, port: u16, before: usize) {
    let mut engine = engine(doors);
    engine.share_knocks(true);
    let mut number = 0;
    let mut events = Vec::new();
    let mut arrive = || {
        number += 1;
        let knock = knock(knocker(number), tcp(port));
        observe(&mut engine, black_box(&knock), noon(), &mut events) && engine.may_share(&knock, noon())
    };
    for _ in 0..before {
        arrive();
    }
    bencher.bench_local(arrive);
}

/// A port of the range that is on no list.
#[divan::bench(args = DOORS)]
fn otp_wrong_port(bencher: Bencher, doors: u32) {
    let mut engine = engine(&otp(doors));
    let otp = password(&engine);
    let taken: Vec<u16> =
        otp.accepted(noon().unix).filter_map(|period| Some(otp.first_stage(period)?.port)).collect();
    let port = (1000..1050).find(|port| !taken.contains(port)).unwrap();
    let knock = knock(knocker(1), tcp(port));
    let mut events = Vec::new();
    observe(&mut engine, &knock, noon(), &mut events);
    bencher.bench_local(|| observe(&mut engine, black_box(&knock), noon(), &mut events));
}

/// A whole list. Its second half is keyed with the address, which makes these the most expensive knocks.
#[divan::bench(args = DOORS)]
fn otp_whole_list(bencher: Bencher, doors: u32) {
    let mut engine = engine(&otp(doors));
    let otp = password(&engine);
    let (mut number, mut events) = (0, Vec::new());
    bencher
        .with_inputs(|| {
            number += 1;
            let source = knocker(number);
            let list = otp.list(otp.period(noon().unix), source);
            list.into_iter().map(|stage| knock(source, stage)).collect::<Vec<_>>()
        })
        .bench_local_refs(|knocks| {
            for knock in knocks.iter() {
                observe(&mut engine, knock, noon(), &mut events);
            }
        });
}

/// The first knock of a new period, with all doors changing at once.
#[divan::bench(args = DOORS)]
fn otp_period_change(bencher: Bencher, doors: u32) {
    let mut engine = engine(&otp(doors));
    let knock = knock(knocker(1), tcp(1010));
    let mut now = noon();
    let mut events = Vec::new();
    observe(&mut engine, &knock, now, &mut events);
    bencher.bench_local(|| {
        now.unix += Duration::from_secs(30);
        observe(&mut engine, black_box(&knock), now, &mut events);
    });
}

/// A single packet that somebody without the key made as well as can be: one HMAC of each door at its port.
#[divan::bench(args = [1, 10])]
fn forged_packet(bencher: Bencher, doors: u32) {
    let mut engine = engine(&single(doors));
    let packet = UncheckedPacket::of(&forged()).unwrap();
    let knock = knock(knocker(1), udp(62201));
    assert_eq!(engine.judge_single_packet(&knock, &packet), Verdict::Wrong { door: 0, reporter: None });
    bencher.bench_local(|| engine.judge_single_packet(&knock, black_box(&packet)));
}

/// The list that a client computes.
#[divan::bench]
fn otp_list(bencher: Bencher) {
    let otp = password(&engine(&otp(1)));
    bencher.bench_local(|| otp.list(black_box(59_845_000), knocker(1)));
}
