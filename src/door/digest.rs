//! Hashes, plain and keyed: the one place where hash functions are called.
//!
//! Keys are zeroed when dropped and never shown.

use std::fmt;

use hmac::digest::FixedOutputReset;
use hmac::{HmacReset, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

/// A hash function.
///
/// MD5 and SHA-1 are there for existing clients: an HMAC does not need its hash to be free of collisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// MD5 (RFC 1321), 16 bytes.
    Md5,
    /// SHA-1 (FIPS 180-4), 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Digest {
    /// Every hash function, the shortest first.
    pub const ALL: [Digest; 5] = [Digest::Md5, Digest::Sha1, Digest::Sha256, Digest::Sha384, Digest::Sha512];

    /// Its name in a configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Digest::Md5 => "md5",
            Digest::Sha1 => "sha1",
            Digest::Sha256 => "sha256",
            Digest::Sha384 => "sha384",
            Digest::Sha512 => "sha512",
        }
    }

    /// The digest of this name, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Digest> {
        Digest::ALL.into_iter().find(|digest| digest.word().eq_ignore_ascii_case(word))
    }

    /// The length of the hash in bytes, with or without a key.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Digest::Md5 => 16,
            Digest::Sha1 => 20,
            Digest::Sha256 => 32,
            Digest::Sha384 => 48,
            Digest::Sha512 => 64,
        }
    }

    /// The hash of these bytes.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> Vec<u8> {
        fn hash<D: sha2::Digest>(bytes: &[u8]) -> Vec<u8> {
            D::digest(bytes).to_vec()
        }
        match self {
            Digest::Md5 => hash::<Md5>(bytes),
            Digest::Sha1 => hash::<Sha1>(bytes),
            Digest::Sha256 => hash::<Sha256>(bytes),
            Digest::Sha384 => hash::<Sha384>(bytes),
            Digest::Sha512 => hash::<Sha512>(bytes),
        }
    }
}

/// A key that is set up for HMAC (RFC 2104). Reusing it costs a third less than setting it up again.
#[derive(Clone)]
pub struct HmacKey(Option<HmacState>);

/// The state of the HMAC after its key, by hash function.
#[derive(Clone)]
enum HmacState {
    Md5(HmacReset<Md5>),
    Sha1(HmacReset<Sha1>),
    Sha256(HmacReset<Sha256>),
    Sha384(HmacReset<Sha384>),
    Sha512(HmacReset<Sha512>),
}

impl fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HmacKey(not shown)")
    }
}

impl HmacKey {
    /// Sets up a key, of any length.
    #[must_use]
    pub fn new(digest: Digest, key: &[u8]) -> HmacKey {
        // HMAC accepts keys of any length. If the crate ever rejects one, no code is correct.
        let state = match digest {
            Digest::Md5 => HmacReset::new_from_slice(key).map(HmacState::Md5),
            Digest::Sha1 => HmacReset::new_from_slice(key).map(HmacState::Sha1),
            Digest::Sha256 => HmacReset::new_from_slice(key).map(HmacState::Sha256),
            Digest::Sha384 => HmacReset::new_from_slice(key).map(HmacState::Sha384),
            Digest::Sha512 => HmacReset::new_from_slice(key).map(HmacState::Sha512),
        };
        HmacKey(state.ok())
    }

    /// The code of a message, given in parts.
    #[must_use]
    pub fn code(&self, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        fn finish<M: Mac + Clone>(state: &M, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
            let mut mac = state.clone();
            update(&mut mac, parts);
            Zeroizing::new(mac.finalize().into_bytes().to_vec())
        }
        match &self.0 {
            Some(HmacState::Md5(state)) => finish(state, parts),
            Some(HmacState::Sha1(state)) => finish(state, parts),
            Some(HmacState::Sha256(state)) => finish(state, parts),
            Some(HmacState::Sha384(state)) => finish(state, parts),
            Some(HmacState::Sha512(state)) => finish(state, parts),
            None => Zeroizing::default(),
        }
    }

    /// Whether this is the code of a message, given in parts. Takes constant time, wherever the two differ.
    ///
    /// Computes in place and resets the state to that of the key alone. Copying the state first, and zeroing
    /// the copy, would take as long as a block of the hash.
    #[must_use]
    pub fn verifies(&mut self, parts: &[&[u8]], code: &[u8]) -> bool {
        match &mut self.0 {
            Some(HmacState::Md5(state)) => check(state, parts, code),
            Some(HmacState::Sha1(state)) => check(state, parts, code),
            Some(HmacState::Sha256(state)) => check_sha256(state, parts, code),
            Some(HmacState::Sha384(state)) => check(state, parts, code),
            Some(HmacState::Sha512(state)) => check(state, parts, code),
            None => false,
        }
    }
}

/// [`check`] with the hash that nearly all clients use, optimised for speed where the rest of the program
/// is optimised for size. There the crates fill each array that they return byte by byte, which takes as
/// long as two blocks of the hash.
#[inline(never)]
#[cfg_attr(has_optimize_attribute, optimize(speed))]
fn check_sha256(state: &mut HmacReset<Sha256>, parts: &[&[u8]], code: &[u8]) -> bool {
    check(state, parts, code)
}

#[inline]
fn check<M: Mac + FixedOutputReset>(state: &mut M, parts: &[&[u8]], code: &[u8]) -> bool {
    // With a code of another length, the crate would return without a reset.
    if code.len() != M::output_size() {
        return false;
    }
    update(state, parts);
    state.verify_slice_reset(code).is_ok()
}

fn update<M: Mac>(mac: &mut M, parts: &[&[u8]]) {
    for part in parts {
        mac.update(part);
    }
}
