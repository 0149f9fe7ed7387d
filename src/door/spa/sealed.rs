//! The packet on the wire: a text that is encrypted and authenticated with two shared keys.
//!
//! The checks of an incoming packet come in the order of their cost: length and first byte, HMAC, encryption.
//! Only packets made by a holder of the HMAC key are decrypted.

use std::fmt;

use aes::Aes256;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use zeroize::Zeroizing;

use super::fields::Fields;
use super::{MAX_HMAC_KEY, MAX_KEY, Refusal, base64, base64_length, bytes, bytes_into, may_be_single_packet};
use crate::door::digest::{Digest, HmacKey};

/// The start of the base64 of [`MAGIC`] and whatever follows; it is not transmitted.
const PREFIX: &str = "U2FsdGVkX1";
/// [`PREFIX`] after zeros.
const PADDED_PREFIX: &[u8; 16] = b"\0\0\0\0\0\0U2FsdGVkX1";
/// The magic number of OpenSSL's salted encryption.
const MAGIC: &[u8; 8] = b"Salted__";
/// The length of the longest HMAC, in bytes.
const MAX_HMAC: usize = Digest::Sha512.bytes();
/// The length of an AES block, in bytes.
const BLOCK: usize = 16;

/// Random bytes from which the AES key and the initialisation vector of one packet are derived.
pub type Salt = [u8; 8];

/// The identity of a packet, by which its use is remembered: the first 16 bytes of the SHA-256 of its salt
/// and cipher text, both decoded. Another base64 spelling of a packet has the same identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(pub [u8; 16]);

/// A datagram that may be a single packet: it has the length and the first byte of a packet.
///
/// It is stored after the prefix that is not transmitted, because the HMAC covers both: in one piece, they
/// are hashed without a copy. Zeros before both put the payload at a multiple of 16 bytes, where copies are
/// fastest.
///
/// Once there was a payload, the prefix stays.
#[derive(Clone, Debug, Default)]
pub struct UncheckedPacket(Vec<u8>);

impl UncheckedPacket {
    /// The payload of a datagram, if it may be a packet.
    #[must_use]
    pub fn of(payload: &[u8]) -> Option<UncheckedPacket> {
        let mut unchecked = UncheckedPacket::default();
        unchecked.set(Some(payload));
        Some(unchecked).filter(|it| !it.is_empty())
    }

    /// Replaces the datagram, in the same memory. Without a payload, or with one that cannot be a packet, the
    /// result is empty.
    #[cfg_attr(has_optimize_attribute, optimize(speed))]
    pub fn set(&mut self, payload: Option<&[u8]>) {
        self.0.truncate(PADDED_PREFIX.len());
        if let Some(payload) = payload.filter(|it| may_be_single_packet(it)) {
            if self.0.is_empty() {
                self.0.extend_from_slice(PADDED_PREFIX);
            }
            self.0.extend_from_slice(payload);
        }
    }

    /// Whether it holds no datagram.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.len() <= PADDED_PREFIX.len()
    }

    /// The payload of the datagram.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.0.get(PADDED_PREFIX.len()..).unwrap_or_default()
    }

    /// The text that the HMAC covers, followed by the HMAC.
    fn text(&self) -> &[u8] {
        self.0.get(PADDED_PREFIX.len() - PREFIX.len()..).unwrap_or_default()
    }
}

/// A decrypted packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecryptedPacket {
    /// Its text.
    pub fields: Fields,
    /// Its identity.
    pub id: PacketId,
    /// The random bytes with which it was encrypted.
    pub salt: Salt,
}

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// The encryption key is empty or longer than [`MAX_KEY`] bytes.
    Encryption,
    /// The HMAC key is empty or longer than [`MAX_HMAC_KEY`] bytes.
    Hmac,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Encryption => write!(f, "the encryption key must have 1 to {MAX_KEY} bytes"),
            KeyError::Hmac => write!(f, "the HMAC key must have 1 to {MAX_HMAC_KEY} bytes"),
        }
    }
}

impl std::error::Error for KeyError {}

/// Computes and checks the HMAC of packets, without the encryption key.
#[derive(Clone, Debug)]
pub struct HmacVerifier {
    digest: Digest,
    key: HmacKey,
}

impl HmacVerifier {
    /// A verifier with this key.
    ///
    /// # Errors
    /// [`KeyError::Hmac`].
    pub fn new(key: &[u8], digest: Digest) -> Result<HmacVerifier, KeyError> {
        if key.is_empty() || key.len() > MAX_HMAC_KEY {
            return Err(KeyError::Hmac);
        }
        Ok(HmacVerifier { digest, key: HmacKey::new(digest, key) })
    }

    /// The base64 of the encrypted data, if the HMAC after it is correct.
    ///
    /// # Errors
    /// [`Refusal::Length`] and [`Refusal::Hmac`].
    #[cfg_attr(has_optimize_attribute, optimize(speed))]
    pub fn check<'a>(&mut self, packet: &'a UncheckedPacket) -> Result<&'a [u8], Refusal> {
        let text = packet.text();
        let at = text.len().checked_sub(base64_length(self.digest.bytes())).filter(|&at| is_data_length(at));
        let (data, code) = at.and_then(|at| text.split_at_checked(at)).ok_or(Refusal::Length)?;
        let mut room = [0; MAX_HMAC];
        let code = bytes_into(code, &mut room).ok_or(Refusal::Hmac)?;
        if self.key.verifies(&[data], code) { Ok(data) } else { Err(Refusal::Hmac) }
    }
}

/// Both keys of a door, which its clients share.
#[derive(Clone)]
pub struct Keys {
    key: Zeroizing<Vec<u8>>,
    verifier: HmacVerifier,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(not shown)")
    }
}

impl Keys {
    /// The encryption key, and the HMAC key with its digest.
    ///
    /// # Errors
    /// A key is empty or too long.
    pub fn new(key: &[u8], hmac_key: &[u8], digest: Digest) -> Result<Keys, KeyError> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(KeyError::Encryption);
        }
        Ok(Keys { key: Zeroizing::new(key.to_vec()), verifier: HmacVerifier::new(hmac_key, digest)? })
    }

    /// The part that checks the HMAC.
    #[must_use]
    pub fn verifier(&self) -> &HmacVerifier {
        &self.verifier
    }

    /// Encrypts and authenticates these fields. `salt` must be random.
    #[must_use]
    pub fn seal(&self, fields: &Fields, salt: Salt) -> String {
        let text = Zeroizing::new(fields.to_text().into_bytes());
        let (key, block) = self.derive(salt);
        let secret = cbc::Encryptor::<Aes256>::new((&*key).into(), (&*block).into());
        let secret = secret.encrypt_padded_vec::<Pkcs7>(&text);
        let raw = base64(&[&MAGIC[..], &salt, &secret].concat());
        let data = raw.strip_prefix(PREFIX).unwrap_or(&raw);
        let code = self.verifier.key.code(&[PREFIX.as_bytes(), data.as_bytes()]);
        format!("{data}{}", base64(&code))
    }

    /// Authenticates and decrypts a packet.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn open(&self, packet: &[u8]) -> Result<DecryptedPacket, Refusal> {
        let unchecked = UncheckedPacket::of(packet).ok_or(Refusal::Length)?;
        let raw = bytes(self.verifier.clone().check(&unchecked)?).ok_or(Refusal::Base64)?;
        let sealed = raw.strip_prefix(MAGIC).ok_or(Refusal::Base64)?;
        let id = Digest::Sha256.of(sealed).first_chunk().copied().map(PacketId).ok_or(Refusal::Base64)?;
        let (&salt, secret) = sealed.split_first_chunk().ok_or(Refusal::Base64)?;
        let (key, block) = self.derive(salt);
        let mut text = Zeroizing::new(secret.to_vec());
        let plain = cbc::Decryptor::<Aes256>::new((&*key).into(), (&*block).into())
            .decrypt_padded::<Pkcs7>(&mut text)
            .map_err(|_| Refusal::Padding)?;
        Ok(DecryptedPacket { fields: Fields::parse(plain)?, id, salt })
    }

    /// The AES key and initialisation vector of a packet: three rounds of MD5 over the result of the round
    /// before, the key and the salt, as in `openssl enc -md md5`.
    fn derive(&self, salt: Salt) -> (Zeroizing<[u8; 32]>, Zeroizing<[u8; BLOCK]>) {
        let mut made = Zeroizing::new(Vec::with_capacity(3 * BLOCK));
        let mut last = Zeroizing::new(Vec::new());
        for _ in 0..3 {
            let input = Zeroizing::new([&*last, &*self.key, &salt[..]].concat());
            *last = Digest::Md5.of(&input);
            made.extend_from_slice(&last);
        }
        let (mut key, mut block) = (Zeroizing::new([0; 32]), Zeroizing::new([0; BLOCK]));
        let (first, rest) = made.split_at(key.len());
        key.copy_from_slice(first);
        block.copy_from_slice(rest);
        (key, block)
    }
}

/// Whether this many characters can be the base64 of encrypted data: magic, salt and whole blocks.
const fn is_data_length(characters: usize) -> bool {
    let raw = characters * 6 / 8;
    raw >= 2 * BLOCK && raw.is_multiple_of(BLOCK) && base64_length(raw) == characters
}
