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
//! its documentation and from packets; it is that of fwknop 2.6. [`fields`] is the text, [`sealed`] is what
//! travels, [`request`] is what a door makes of the text, [`replay`] remembers which packets were used.
//!
//! Taken are packets with an HMAC and in CBC mode only: all that fwknop sends where nobody chose otherwise
//! and that is safe to take.

pub mod fields;
pub mod replay;
pub mod request;
pub mod sealed;

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;

/// Where fwknop's packets go.
pub const DEFAULT_PORT: u16 = 62201;
/// How many seconds the clocks of both ends may be apart, and a packet be on its way.
pub const DEFAULT_MAX_AGE: u32 = 120;
/// The longest encryption key, in bytes; the shortest has one.
pub const MAX_KEY: usize = 32;
/// The longest HMAC key, in bytes; the shortest has one.
pub const MAX_HMAC_KEY: usize = 128;
/// The shortest packet that is looked at, in bytes.
pub const MIN_PACKET: usize = 140;
/// The longest packet that is looked at, in bytes: the longest that the fields allow has 866.
pub const MAX_PACKET: usize = 1100;
/// The first byte of a packet is one of these: the last bits of the underscore of `Salted__` are ones.
pub const FIRST_BYTES: [u8; 4] = *b"+/89";

/// Why a packet is not taken. Says nothing of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No packet has this length, with this HMAC digest.
    Length,
    /// The HMAC is not that of the text, or not base64 as it is written.
    Hmac,
    /// Not base64 as it is written.
    Base64,
    /// The decrypted text does not end in the padding of PKCS#7: another encryption key.
    Padding,
    /// The digest inside is not that of the fields, or not one that is known.
    Digest,
    /// A field is not what it can be; which one.
    Field(&'static str),
    /// Authentic, but it asks for something that is never granted; what.
    Kind(&'static str),
    /// Authentic, but its time is too far from now.
    Age,
    /// Authentic, but used before.
    Replay,
    /// Authentic, but it came before, whatever became of it.
    Again,
    /// Authentic, but so many others are remembered that this one cannot be.
    Full,
    /// Authentic, but not from a user who may open the door.
    User,
    /// Authentic, but not from or not for an address that may open the door.
    Source,
    /// Authentic, but it names no address to let in, and the door wants one named.
    NoSource,
    /// Authentic, but it asks for a port that is not granted.
    Port,
    /// Authentic, but the door does not listen to this address for a while.
    Resting,
    /// The keys are not valid any more.
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
            Refusal::Again => "it came before",
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
    /// Whether it is known that a holder of the keys made the packet.
    #[must_use]
    pub const fn is_authentic(self) -> bool {
        use Refusal::{Base64, Hmac, Length, Padding};
        !matches!(self, Length | Hmac | Base64 | Padding)
    }
}

/// Whether a payload has a length and a first byte that packets have.
#[must_use]
pub fn may_be_single_packet(payload: &[u8]) -> bool {
    (MIN_PACKET..=MAX_PACKET).contains(&payload.len())
        && payload.first().is_some_and(|first| FIRST_BYTES.contains(first))
}

/// Base64 without padding.
fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD_NO_PAD.encode(bytes)
}

/// The bytes of base64, written in the one way that [`base64`] writes them.
fn bytes(text: &[u8]) -> Option<Vec<u8>> {
    BASE64_STANDARD_NO_PAD.decode(text).ok()
}

/// The same without asking for memory; `None` also if they do not fit into `room`.
fn bytes_into<'a>(text: &[u8], room: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = BASE64_STANDARD_NO_PAD.decode_slice(text, room).ok()?;
    room.get(..length)
}

/// How many characters the base64 of so many bytes has.
const fn base64_length(bytes: usize) -> usize {
    (bytes * 8).div_ceil(6)
}
