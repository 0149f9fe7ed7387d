//! One-time passwords: lists of ports derived from a shared seed and the time.
//!
//! The algorithm is that of the knockd extension that introduced one-time passwords: the period is the Unix
//! time divided by the change time; port i is the base plus byte i of HMAC(seed, period in decimal), modulo
//! 65536. IP protection appends as many ports again, with the text of the knocker's address (RFC 5952 for
//! IPv6) appended to the seed as the key. HMAC is that of RFC 2104.
//!
//! Seeds are zeroed when dropped and never shown.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::door::digest::{Digest, HmacKey};
use crate::door::knock::Protocol;
use crate::door::seed::{MAX_SEED, Seed};
use crate::door::sequence::{MAX_STAGES, Stage};
use crate::octets;

/// How many neighbouring periods are accepted on each side by default (RFC 6238, 5.2).
pub const DEFAULT_WINDOW: u16 = 1;
/// The most neighbouring periods that may be configured.
pub const MAX_WINDOW: u16 = 100;
/// The ports of a list lie between the base and this many above it.
pub const MAX_PORT_OFFSET: u16 = 255;
/// Digest bytes repeat after this many stages. The last one is always 0: SHA-1, the first digest, has
/// one byte less.
const STAGES_PER_DIGEST: usize = 21;

/// The digests that `otp` supports; existing clients use the first.
const DIGESTS: [Digest; 3] = [Digest::Sha1, Digest::Sha256, Digest::Sha512];

/// The digest of this name, in any case, if `otp` supports it.
#[must_use]
pub fn digest_from_word(word: &str) -> Option<Digest> {
    Digest::from_word(word).filter(|digest| DIGESTS.contains(digest))
}

/// An error in the value of `otp`. A message quotes a word of the value, in upper case, only if it cannot be
/// the seed: if the fields are in the wrong order, any of them can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OtpError {
    /// The seed is empty or too long.
    Seed,
    /// This field is missing.
    Missing(&'static str),
    /// Not a number, or out of range: the field, its minimum and its maximum.
    Number(&'static str, u16, u16),
    /// Neither on nor off; the word, if it may be quoted.
    Protection(Option<String>),
    /// A protocol other than tcp and udp; the word, if it may be quoted.
    Protocol(Option<String>),
    /// More than [`MAX_STAGES`] protocols.
    TooMany,
}

impl fmt::Display for OtpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OtpError::Seed => write!(f, "otp: the seed must have 1 to {MAX_SEED} bytes"),
            OtpError::Missing(field) => {
                write!(f, "otp: {field} is missing (otp = seed, change_time, base, on|off, protocol, ...)")
            }
            OtpError::Number(field, low, high) => {
                write!(f, "otp: {field} must be a number from {low} to {high}")
            }
            OtpError::Protection(Some(word)) => write!(f, "Invalid ip_protection value: {word}."),
            OtpError::Protection(None) => {
                f.write_str("Invalid ip_protection value: it is neither on nor off.")
            }
            OtpError::Protocol(Some(word)) => write!(f, "unknown protocol {word} in knock sequence"),
            OtpError::Protocol(None) => {
                f.write_str("unknown protocol in knock sequence: otp takes tcp and udp")
            }
            OtpError::TooMany => {
                write!(f, "too many ports {MAX_STAGES} in knock sequence for otp. MAX = {MAX_STAGES}.")
            }
        }
    }
}

impl std::error::Error for OtpError {}

/// `otp = SEED, CHANGE_TIME, BASE, on|off, PROTO[, PROTO ...]`.
#[derive(Clone, Debug)]
pub struct Otp {
    seed: Seed,
    /// Length of a period in seconds; at least 1.
    change_time: u16,
    base: u16,
    /// The second half of a list depends on the knocker's address.
    is_protected: bool,
    protocols: Box<[Protocol]>,
    /// The hash function of the HMAC.
    pub digest: Digest,
    /// How many periods before and after the current one are accepted.
    pub window: u16,
}

impl Otp {
    /// Parses the comma-separated fields; `None` if they name no protocol.
    ///
    /// # Errors
    /// The first invalid field.
    pub fn parse(text: &[u8]) -> Result<Option<Otp>, OtpError> {
        let mut fields = text.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        let seed = Seed::new(fields.next().unwrap_or_default()).ok_or(OtpError::Seed)?;
        let change_time = number(fields.next(), "change_time", 1)?;
        let base = number(fields.next(), "base", 0)?;
        let is_protected = match word(fields.next().ok_or(OtpError::Missing("on or off"))?) {
            on if on == "ON" => true,
            off if off == "OFF" => false,
            other => return Err(OtpError::Protection(quotable(other, seed.bytes()))),
        };
        let mut protocols = Vec::new();
        for field in fields {
            let name = word(field);
            let Some(protocol) = Protocol::with_ports(&name) else {
                return Err(OtpError::Protocol(quotable(name, seed.bytes())));
            };
            if protocols.len() == MAX_STAGES {
                return Err(OtpError::TooMany);
            }
            protocols.push(protocol);
        }
        if protocols.is_empty() {
            return Ok(None);
        }
        Ok(Some(Otp {
            seed,
            change_time,
            base,
            is_protected,
            protocols: protocols.into(),
            digest: Digest::Sha1,
            window: DEFAULT_WINDOW,
        }))
    }

    /// The secret that the lists are derived from.
    #[must_use]
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// The period of this time (since 1970).
    #[must_use]
    pub fn period(&self, unix: Duration) -> u64 {
        unix.as_secs() / u64::from(self.change_time)
    }

    /// When a period begins, as Unix time.
    #[must_use]
    pub fn begins(&self, period: u64) -> Duration {
        Duration::from_secs(period.saturating_mul(self.change_time.into()))
    }

    /// The periods whose lists are accepted at this time.
    #[must_use]
    pub fn accepted(&self, unix: Duration) -> RangeInclusive<u64> {
        let (now, window) = (self.period(unix), u64::from(self.window));
        now.saturating_sub(window)..=now.saturating_add(window)
    }

    /// How long a list may be accepted anywhere, if clocks differ by less than a period.
    #[must_use]
    pub fn longest_life(&self) -> Duration {
        self.begins(2 * u64::from(self.window) + 3)
    }

    /// The length of a period in seconds.
    #[must_use]
    pub fn change_time(&self) -> u16 {
        self.change_time
    }

    /// Whether lists depend on the knocker's address.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.is_protected
    }

    /// How many stages a list has.
    #[must_use]
    pub fn stages(&self) -> usize {
        self.protocols.len() * if self.is_protected { 2 } else { 1 }
    }

    /// The stage with this index, from 0, of a period's list for this knocker.
    #[must_use]
    pub fn stage(&self, period: u64, knocker: IpAddr, index: usize) -> Option<Stage> {
        let length = self.protocols.len();
        let digest = match index / length {
            0 => self.code(period, None),
            1 if self.is_protected => self.code(period, Some(knocker)),
            _ => return None,
        };
        self.stage_of(&digest, index % length)
    }

    /// The first stage of a period's list, which is the same for every knocker.
    #[must_use]
    pub fn first_stage(&self, period: u64) -> Option<Stage> {
        self.stage_of(&self.code(period, None), 0)
    }

    /// The whole list of a period for this knocker.
    #[must_use]
    pub fn list(&self, period: u64, knocker: IpAddr) -> Vec<Stage> {
        let mut stages = Vec::with_capacity(self.stages());
        for address in [None, Some(knocker)].into_iter().take(if self.is_protected { 2 } else { 1 }) {
            let digest = self.code(period, address);
            stages.extend((0..self.protocols.len()).filter_map(|index| self.stage_of(&digest, index)));
        }
        stages
    }

    /// All ports that a list can have, as protocol, first and last port: for each protocol one range,
    /// or two if it wraps at 65536.
    #[must_use]
    pub fn ranges(&self) -> Vec<(Protocol, u16, u16)> {
        let (low, high) = (self.base, self.base.wrapping_add(MAX_PORT_OFFSET));
        let mut ranges = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            if !self.protocols.contains(&protocol) {
                continue;
            }
            if low <= high {
                ranges.push((protocol, low, high));
            } else {
                ranges.extend([(protocol, low, u16::MAX), (protocol, 0, high)]);
            }
        }
        ranges
    }

    /// Whether a list can have this stage.
    #[must_use]
    pub fn can_have(&self, stage: Stage) -> bool {
        self.protocols.contains(&stage.protocol) && stage.port.wrapping_sub(self.base) <= MAX_PORT_OFFSET
    }

    /// A fingerprint of everything that determines the lists; it reveals nothing about the seed.
    #[must_use]
    pub fn identity(&self) -> u64 {
        let text = format!("identity {self} {}", self.digest.word());
        let digest = HmacKey::new(Digest::Sha256, self.seed.bytes()).code(&[text.as_bytes()]);
        digest.first_chunk().copied().map_or(0, u64::from_be_bytes)
    }

    fn stage_of(&self, digest: &[u8], index: usize) -> Option<Stage> {
        let protocol = *self.protocols.get(index)?;
        let at = index % STAGES_PER_DIGEST;
        let byte = if at == STAGES_PER_DIGEST - 1 { 0 } else { *digest.get(at)? };
        Some(Stage { protocol, port: self.base.wrapping_add(byte.into()) })
    }

    fn code(&self, period: u64, address: Option<IpAddr>) -> Zeroizing<Vec<u8>> {
        let mut key = Zeroizing::new(Vec::with_capacity(MAX_SEED + 64));
        key.extend_from_slice(self.seed.bytes());
        if let Some(address) = address {
            key.extend_from_slice(address.to_string().as_bytes());
        }
        HmacKey::new(self.digest, &key).code(&[period.to_string().as_bytes()])
    }
}

impl fmt::Display for Otp {
    /// Everything but the seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protection = if self.is_protected { "on" } else { "off" };
        write!(f, "change_time {}, base {}, ip protection {protection}, ", self.change_time, self.base)?;
        for (i, protocol) in self.protocols.iter().enumerate() {
            write!(f, "{}{protocol}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

fn word(field: &[u8]) -> String {
    octets::text(field).to_ascii_uppercase()
}

/// The word, if a message may quote it. If the fields are in the wrong order, a field after the first can be
/// the seed: only a short word of letters is quoted, and only if the first field looks like a seed.
fn quotable(word: String, seed: &[u8]) -> Option<String> {
    const MAX_QUOTED: usize = 8;
    let is_word = word.len() <= MAX_QUOTED && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_mixed_up = ["on", "off", "tcp", "udp"].iter().any(|it| seed.eq_ignore_ascii_case(it.as_bytes()))
        || seed.iter().all(u8::is_ascii_digit);
    Some(word).filter(|_| is_word && !is_mixed_up)
}

/// A decimal number from `low` to 65535.
fn number(field: Option<&[u8]>, name: &'static str, low: u16) -> Result<u16, OtpError> {
    let field = field.ok_or(OtpError::Missing(name))?;
    let digits =
        std::str::from_utf8(field).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).filter(|&number| number >= low).ok_or(OtpError::Number(
        name,
        low,
        u16::MAX,
    ))
}
