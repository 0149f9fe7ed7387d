//! Numbers that nobody can guess: ports, sequence numbers, jitter.

use std::hash::{BuildHasher, RandomState};

/// A stream of random numbers.
///
/// The standard library's keyed hash of a counter; its key comes from the system's random source.
/// No key material is made of it.
pub(super) fn numbers() -> impl FnMut() -> u64 {
    let state = RandomState::new();
    let mut counter = 0_u64;
    move || {
        counter = counter.wrapping_add(1);
        state.hash_one(counter)
    }
}
