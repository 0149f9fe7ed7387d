//! Parsing a configuration, and applying it.

use divan::{Bencher, black_box};
use knocking::engine::Engine;

use crate::support::{doors, engine, fixed, here, noon, otp};

const DOORS: [u32; 3] = [1, 1000, 5000];

#[divan::bench(args = DOORS)]
fn read(bencher: Bencher, number: u32) {
    let text = fixed(number);
    bencher.bench_local(|| doors(black_box(&text)));
}

#[divan::bench(args = DOORS)]
fn put_in_force(bencher: Bencher, number: u32) {
    let read = doors(&fixed(number));
    bencher.with_inputs(|| read.clone()).bench_local_values(|doors| Engine::new(doors, [here()]));
}

/// What SIGHUP does in addition for doors with a one-time password.
#[divan::bench(args = DOORS)]
fn inherit(bencher: Bencher, number: u32) {
    let (text, earlier) = (otp(number), engine(&otp(number)));
    bencher
        .with_inputs(|| engine(&text))
        .bench_local_values(|mut engine| engine.inherit(black_box(&earlier), noon()));
}
