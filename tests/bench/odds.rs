//! How often a blind scan opens a door with a one-time password: the figures of SECURITY in knockd(1).
//!
//! A scanner that knows only `base` sends to the 256 ports from there on, once each, in random order, one packet
//! a millisecond, again and again, to the real engine. The extension that introduced these doors ignores ports
//! that are not on the list; the `old rule` models that with the list of a period as the door's `sequence`.
//! `cargo bench --bench odds` counts; with `-- --test` it makes only a few scans.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[allow(dead_code)] // shared with the other benches
mod support;

use std::time::Duration;

use knocking::door::otp::Otp;
use knocking::door::sequence::Sequence;
use knocking::engine::Engine;
use knocking::opening::event::Event;

use support::{doors, engine, here, knock, knocker, noon, tcp};

const BASE: u16 = 20_000;
/// Under the old rule, how many scans meet the same list.
const SAME: u32 = 50;

/// Pseudo-random numbers, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 34).unwrap_or(0) % most
    }
}

/// Runs `scans` scans and returns how many opened the door; `renew` may replace the engine before each.
fn scan(scans: u32, mut engine: Engine, mut renew: impl FnMut(u32) -> Option<Engine>) -> u32 {
    let (mut random, mut now, mut opened) = (Numbers(0x9e37_79b9_7f4a_7c15), noon(), 0);
    let mut events = Vec::new();
    let mut ports: Vec<u16> = (BASE..=BASE + 255).collect();
    for number in 0..scans {
        engine = renew(number).unwrap_or(engine);
        for last in (1..ports.len()).rev() {
            ports.swap(last, random.below(last + 1));
        }
        for &port in &ports {
            engine.observe(&knock(knocker(1), tcp(port)), now, &mut events);
            opened += u32::from(events.drain(..).any(|event| matches!(event, Event::Opened { .. })));
            now.uptime += Duration::from_millis(1);
            now.unix += Duration::from_millis(1);
        }
    }
    opened
}

fn words(stages: usize, protection: &str) -> String {
    format!("odds,30,{BASE},{protection}{}", ",tcp".repeat(stages))
}

fn old_rule(scans: u32, stages: usize, protection: &str) -> u32 {
    let otp = Otp::parse(words(stages, protection).as_bytes()).unwrap().unwrap();
    let door = |number: u32| {
        let list = Sequence::new(otp.list(u64::from(number / SAME), knocker(1))).unwrap();
        Engine::new(doors(&format!("[d]\nsequence = {list}\n")), [here()])
    };
    scan(scans, door(0), |number| number.is_multiple_of(SAME).then(|| door(number)))
}

fn our_rule(scans: u32, stages: usize, protection: &str, window: u32) -> u32 {
    let words = words(stages, protection);
    let door = format!("[d]\notp = {words}\notp_window = {window}\notp_reuse = yes\n");
    scan(scans, engine(&door), |_| None)
}

fn tell(rule: &str, stages: usize, protection: &str, scans: u32, opened: u32) {
    let odds = if opened == 0 {
        "-".to_owned()
    } else {
        format!("1 in {:.1}", f64::from(scans) / f64::from(opened))
    };
    println!("{rule:<12} {stages} protocols {protection:<4} {scans:>9} scans {opened:>7} openings  {odds}");
}

fn main() {
    let is_trial = std::env::args().any(|word| word == "--test");
    let scans = |number: u32| if is_trial { number.div_ceil(50_000) } else { number };
    for (stages, protection, number) in
        [(2, "off", 10_000), (3, "off", 50_000), (4, "off", 100_000), (3, "on", 200_000)]
    {
        let number = scans(number);
        tell("old rule", stages, protection, number, old_rule(number, stages, protection));
    }
    for (stages, protection, window, number) in [
        (2, "off", 0, 50_000),
        (2, "off", 1, 50_000),
        (3, "off", 0, 1_000_000),
        (3, "off", 1, 1_000_000),
        (4, "off", 1, 200_000),
        (3, "on", 1, 200_000),
    ] {
        let number = scans(number);
        let rule = format!("ours, +-{window}");
        tell(&rule, stages, protection, number, our_rule(number, stages, protection, window));
    }
}
