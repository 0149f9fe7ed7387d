//! The seed of one-time passwords: a secret, and how hard it is to guess.
//!
//! It is zeroed when it is dropped, and never shown.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::door::digest::{Digest, HmacKey};

/// The longest seed, in bytes.
pub const MAX_SEED: usize = 31;
/// How many random bytes a new seed is made of: 144 bits.
pub const SEED_BYTES: usize = 18;
/// A seed with less than this can be guessed by anyone who overheard one list.
pub const MIN_SEED_BITS: u32 = 80;
/// Bits are counted in fixed point, with this many parts to a bit: floating point would link the C library's
/// logarithm.
const PARTS_PER_BIT: u32 = 1 << 16;
/// A word of a language counts for 13 bits, as one drawn from a list of some 8,000...
const WORD_PARTS: u32 = 13 * PARTS_PER_BIT;
/// ... or for 2.2 bits a letter (rounded up), if it is long: then it is several words, or a sentence.
const LETTER_PARTS: u32 = PARTS_PER_BIT * 11 / 5 + 1;
/// The fewest letters of a word; a random seed has shorter runs of letters by chance.
const MIN_WORD: usize = 6;
/// The same for a word between blanks, hyphens and the like.
const MIN_SEPARATE_WORD: usize = 3;
/// The most vowels or consonants in a row in a word; random letters seldom keep to it.
const MAX_CLUSTER: usize = 3;

/// A new seed in the form in which it is written: letters, digits, hyphens and underscores. The bytes must be
/// random. One in several hundred looks like words, and `--check` would call it guessable: then the result is
/// `None`, and the caller draws other bytes.
#[must_use]
pub fn new_seed(random: &[u8; SEED_BYTES]) -> Option<Zeroizing<String>> {
    let text = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(random));
    let is_good = Seed::new(text.as_bytes()).is_some_and(|seed| seed.bits() >= MIN_SEED_BITS);
    is_good.then_some(text)
}

/// The secret of a door.
#[derive(Clone)]
pub struct Seed(Zeroizing<Vec<u8>>);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(not shown)")
    }
}

impl Seed {
    /// A seed of 1 to [`MAX_SEED`] bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Seed> {
        (1..=MAX_SEED).contains(&bytes.len()).then(|| Seed(Zeroizing::new(bytes.to_vec())))
    }

    /// The secret itself.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// A fingerprint, equal for equal seeds only; it reveals nothing about the seed.
    #[must_use]
    pub fn fingerprint(&self) -> Vec<u8> {
        HmacKey::new(Digest::Sha256, &self.0).code(&[b"seed"]).to_vec()
    }

    /// The approximate number of bits to guess for an attacker who knows how the seed was made: from which
    /// characters, or from words.
    ///
    /// A character counts as one of those that occur in the seed. One that continues a run (`abc`, `321`,
    /// `xxx`) or repeats a pair counts one bit, and a word 13 bits, or 2.2 a letter.
    #[must_use]
    pub fn bits(&self) -> u32 {
        let seed = self.0.as_slice();
        let different = Zeroizing::new(std::array::from_fn::<bool, 256, _>(|byte| {
            u8::try_from(byte).is_ok_and(|byte| seed.contains(&byte))
        }));
        let different = different.iter().filter(|&&occurs| occurs).count();
        let character_parts = logarithm(u32::try_from(different).unwrap_or(u32::MAX));
        let mut parts = 0;
        let mut at = 0;
        while let Some(rest) = seed.get(at..).filter(|rest| !rest.is_empty()) {
            let before = at.checked_sub(1).and_then(|before| seed.get(before)).copied();
            if let Some(length) = word_length(before, rest) {
                let letters = u32::try_from(length).unwrap_or(u32::MAX);
                parts += WORD_PARTS.max(letters.saturating_mul(LETTER_PARTS));
                at += length;
            } else {
                parts +=
                    if is_expected(seed, at) { character_parts.min(PARTS_PER_BIT) } else { character_parts };
                at += 1;
            }
        }
        parts / PARTS_PER_BIT
    }
}

/// The base-2 logarithm in parts of a bit, rounded down; that of 0 is taken as 0.
fn logarithm(number: u32) -> u32 {
    let whole = number.checked_ilog2().unwrap_or(0);
    // The number divided by 2 to the power of `whole`, from 1 up to 2. Squaring it doubles its logarithm: if
    // the square is 2 or more, the next binary digit of the logarithm is 1.
    let mut rest = u64::from(number) << (31 - whole);
    let mut parts = whole;
    for _ in 0..PARTS_PER_BIT.ilog2() {
        rest = (rest * rest) >> 31;
        let digit = rest >> 32;
        rest >>= digit;
        parts = (parts << 1) | u32::from(digit == 1);
    }
    parts
}

/// The length in letters of the word that begins here; `None` if no word does.
fn word_length(before: Option<u8>, text: &[u8]) -> Option<usize> {
    let (first, rest) = text.split_first()?;
    let is_in_the_middle = before.is_some_and(|it| {
        if first.is_ascii_lowercase() { it.is_ascii_alphabetic() } else { it.is_ascii_uppercase() }
    });
    if !first.is_ascii_alphabetic() || is_in_the_middle {
        return None;
    }
    let is_upper = first.is_ascii_uppercase() && rest.first().is_some_and(u8::is_ascii_uppercase);
    let continues = |byte: &&u8| if is_upper { byte.is_ascii_uppercase() } else { byte.is_ascii_lowercase() };
    let length = 1 + rest.iter().take_while(continues).count();
    let is_vowel = |byte: u8| b"aeiouy".contains(&byte.to_ascii_lowercase());
    let mut clusters = text.get(..length)?.chunk_by(|a, b| is_vowel(*a) == is_vowel(*b));
    let is_pronounceable = clusters.all(|cluster| cluster.len() <= MAX_CLUSTER);
    let stands_apart =
        [before, text.get(length).copied()].into_iter().flatten().all(|it| !it.is_ascii_alphanumeric());
    let shortest = if stands_apart { MIN_SEPARATE_WORD } else { MIN_WORD };
    (is_pronounceable && length >= shortest).then_some(length)
}

/// Whether the byte at this place follows from those before it: as the next one of a run, or as the end of a
/// pair that occurred already.
fn is_expected(seed: &[u8], at: usize) -> bool {
    let Some((earlier, &[before, byte])) = seed.get(..=at).and_then(|it| it.split_last_chunk::<2>()) else {
        return false;
    };
    let step = byte.wrapping_sub(before);
    let is_next =
        matches!(step, 0 | 1 | u8::MAX) && earlier.last().is_none_or(|it| before.wrapping_sub(*it) == step);
    is_next || earlier.windows(2).any(|pair| pair == [before, byte])
}

#[cfg(test)]
mod tests {
    use super::{PARTS_PER_BIT, logarithm};

    #[test]
    fn logarithms_are_exact_to_the_last_part() {
        assert_eq!([0, 1, 2, 16].map(logarithm), [0, 0, PARTS_PER_BIT, 4 * PARTS_PER_BIT]);
        for number in 1..=256 {
            let exact = f64::from(number).log2() * f64::from(PARTS_PER_BIT);
            let parts = f64::from(logarithm(number));
            assert!(parts <= exact && parts > exact - 1.001, "{number}: {parts}, not {exact}");
        }
    }
}
