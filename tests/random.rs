//! Repeatable random input: a test that fails prints its seed, and `KNOCKD_SEED=N` repeats it.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{SystemTime, UNIX_EPOCH};

trials![the_same_seed_gives_the_same_numbers, numbers_are_spread];

/// A generator (`SplitMix64`) that prints its seed when its test fails.
pub struct Random {
    seed: u64,
    state: Cell<u64>,
}

impl Random {
    /// Seeded by `KNOCKD_SEED`, or by the clock.
    pub fn new() -> Random {
        let given =
            std::env::var("KNOCKD_SEED").ok().map(|text| text.parse().expect("KNOCKD_SEED is a number"));
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").subsec_nanos().into();
        Random::of(given.unwrap_or_else(clock))
    }

    pub fn of(seed: u64) -> Random {
        Random { seed, state: Cell::new(seed) }
    }

    pub fn number(&self) -> u64 {
        self.state.set(self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mixed = self.state.get();
        let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `limit`.
    pub fn below(&self, limit: usize) -> usize {
        usize::try_from(self.number() % u64::try_from(limit).unwrap()).unwrap()
    }

    /// Once in `times`, on average.
    pub fn once_in(&self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn byte(&self) -> u8 {
        self.number().to_le_bytes()[0]
    }

    pub fn port(&self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn bytes(&self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    pub fn pick<'a, T>(&self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }

    pub fn v4(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(self.number() >> 32).unwrap()))
    }

    pub fn v6(&self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(u128::from(self.number()) << 64 | u128::from(self.number())))
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("KNOCKD_SEED={} repeats this", self.seed);
        }
    }
}

fn the_same_seed_gives_the_same_numbers() {
    let (one, two) = (Random::of(7), Random::of(7));
    assert_eq!(one.bytes(100), two.bytes(100));
    assert_ne!(one.number(), Random::of(8).number());
}

fn numbers_are_spread() {
    let random = Random::new();
    let mut seen = [0; 8];
    (0..8000).for_each(|_| seen[random.below(8)] += 1);
    assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
}
