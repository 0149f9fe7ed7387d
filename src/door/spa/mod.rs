//! Single packets: one datagram, encrypted and authenticated, that asks for ports, as fwknop sends it.
//!
//! ```text
//! text   = random ":" b64(user) ":" time ":" version ":" type ":" b64(message)
//!          [":" b64(nat)] [":" b64(auth)] [":" timeout]
//! plain  = text ":" b64(DIGEST(text))
//! raw    = "Salted__" salt AES-256-CBC(plain with PKCS#7 padding)
//! data   = b64(raw) without its first ten characters, which are always U2FsdGVkX1
//! packet = data b64(HMAC(HMAC key, "U2FsdGVkX1" data))
//! ```
//!
//! `b64` is base64 with the standard alphabet and without `=` (RFC 4648, 3.2 and 4). The format is known from
//! its documentation and from packets; it is that of fwknop 2.6. [`fields`] parses and writes the text,
//! [`sealed`] encrypts and authenticates it, [`request`] decides what a door grants, [`replay`] remembers
//! used packets.
//!
//! Only packets with an HMAC and in CBC mode are accepted: of the forms that fwknop sends by default, those
//! that are safe to accept.

pub mod fields;
pub mod replay;
pub mod request;
pub mod sealed;

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;

/// The UDP port that fwknop's packets are sent to by default.
pub const DEFAULT_PORT: u16 = 62201;
/// The default limit, in seconds, on clock difference and transit time together.
pub const DEFAULT_MAX_AGE: u32 = 120;
/// The longest encryption key, in bytes; the shortest has one.
pub const MAX_KEY: usize = 32;
/// The longest HMAC key, in bytes; the shortest has one.
pub const MAX_HMAC_KEY: usize = 128;
/// The shortest packet that is examined, in bytes.
pub const MIN_PACKET: usize = 140;
/// The longest packet that is examined, in bytes: the longest that the fields allow has 866.
pub const MAX_PACKET: usize = 1100;
/// The possible first bytes of a packet. Of the six bits that each encodes, the first four are the last bits
/// of the underscore of `Salted__`, all ones.
pub const FIRST_BYTES: [u8; 4] = *b"+/89";

/// Why a packet is refused. Reveals nothing of its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A packet with this HMAC digest cannot have this length.
    Length,
    /// The HMAC is not that of the text, or not canonical base64.
    Hmac,
    /// Not canonical base64.
    Base64,
    /// The decrypted text does not end in the padding of PKCS#7: another encryption key.
    Padding,
    /// The digest inside does not match the fields, or is not a known one.
    Digest,
    /// This field is malformed.
    Field(&'static str),
    /// Authentic, but it asks for this, which is never granted.
    Kind(&'static str),
    /// Authentic, but its time is too far from the current time.
    Age,
    /// Authentic, but used before.
    Replay,
    /// Authentic, but it arrived before, whether or not it opened the door.
    Repeated,
    /// Authentic, but there is no room left to remember it as used.
    Full,
    /// Authentic, but not from a user who may open the door.
    User,
    /// Authentic, but not from or not for an address that may open the door.
    Source,
    /// Authentic, but it names no address to let in, and the door wants one named.
    NoSource,
    /// Authentic, but it asks for a port that is not granted.
    Port,
    /// Authentic, but the door ignores this address for a while (`Cooldown`).
    Resting,
    /// The keys have expired.
    Expired,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Length => "its length is that of no packet",
            Refusal::Hmac => "its HMAC is wrong",
            Refusal::Base64 => "it is not base64",
            Refusal::Padding => "it is encrypted with another key",
            Refusal::Digest => "the digest inside is wrong or unknown",
            Refusal::Field(name) => return write!(f, "its field '{name}' is malformed"),
            Refusal::Kind(what) => return write!(f, "it asks for {what}"),
            Refusal::Age => "its time is too far from the time here",
            Refusal::Replay => "it was used before",
            Refusal::Repeated => "it came before",
            Refusal::Full => "too many packets are remembered",
            Refusal::User => "its user may not open the door",
            Refusal::Source => "its address may not open the door",
            Refusal::NoSource => "it names no address",
            Refusal::Port => "it asks for a port that is not granted",
            Refusal::Resting => "its address opened the door a moment ago",
            Refusal::Expired => "its keys have expired",
        })
    }
}

impl Refusal {
    /// Whether the refusal implies that a holder of the keys made the packet.
    #[must_use]
    pub const fn is_authentic(self) -> bool {
        use Refusal::{Base64, Hmac, Length, Padding};
        !matches!(self, Length | Hmac | Base64 | Padding)
    }
}

/// Whether a payload has the length and the first byte of a packet.
#[must_use]
pub fn may_be_single_packet(payload: &[u8]) -> bool {
    (MIN_PACKET..=MAX_PACKET).contains(&payload.len())
        && payload.first().is_some_and(|first| FIRST_BYTES.contains(first))
}

/// Base64 without padding.
fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD_NO_PAD.encode(bytes)
}

/// Decodes canonical base64: only what [`base64`] writes.
fn bytes(text: &[u8]) -> Option<Vec<u8>> {
    BASE64_STANDARD_NO_PAD.decode(text).ok()
}

/// Like [`bytes`], but does not allocate; `None` also if the bytes do not fit into `room`.
fn bytes_into<'a>(text: &[u8], room: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = BASE64_STANDARD_NO_PAD.decode_slice(text, room).ok()?;
    room.get(..length)
}

/// The number of base64 characters for this many bytes.
const fn base64_length(bytes: usize) -> usize {
    (bytes * 8).div_ceil(6)
}
