//! Numbers that nobody can guess: ports, sequence numbers, jitter, and what keys are made of.

use std::hash::{BuildHasher, RandomState};

use crate::client::failure::Failure;

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

/// Random bytes that keys are made of, from the system's random source.
///
/// # Errors
/// The system has none (there is no `getrandom`, and no /dev/urandom).
pub(super) fn bytes<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::refused(format_args!("the system gives no random numbers: {error}")))?;
    Ok(bytes)
}
