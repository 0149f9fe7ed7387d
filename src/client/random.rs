//! Random numbers for ports, sequence numbers and jitter, and random bytes for keys.

use std::hash::{BuildHasher, RandomState};

use crate::client::failure::Failure;

/// A stream of random numbers.
///
/// Each is the standard library's keyed hash of a counter, with a key from the system's random source. Not
/// suitable as keys.
pub(super) fn numbers() -> impl FnMut() -> u64 {
    let state = RandomState::new();
    let mut counter = 0_u64;
    move || {
        counter = counter.wrapping_add(1);
        state.hash_one(counter)
    }
}

/// Random bytes for keys, from the system's random source.
///
/// # Errors
/// The system has no random source (neither `getrandom` nor /dev/urandom).
pub(super) fn bytes<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::refused(format_args!("the system gives no random numbers: {error}")))?;
    Ok(bytes)
}
