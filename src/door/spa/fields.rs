//! The text inside a packet, and its fields.
//!
//! Each field is checked here as far as every receiver checks it, with fwknopd's bounds or narrower ones.
//! [`request`](super::request) decides whether a door grants the request.

use std::fmt;
use std::net::IpAddr;

use super::{Refusal, base64, bytes};
use crate::door::digest::Digest;
use crate::door::knock::Protocol;
use crate::door::sequence::Stage;

/// Decimal digits of the random value.
pub const RANDOM_DIGITS: usize = 16;
/// The longest name of a user, in bytes (64 characters of base64).
pub const MAX_USER: usize = 48;
/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 255;
/// The most seconds that fwknopd lets a packet ask for.
pub const MAX_TIMEOUT: u32 = 65_536;
/// The version that fwknop 2.6 writes. Receivers do not compare it.
pub const VERSION: &str = "3.0.0";

/// The type of a request: the digit in the fifth field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To run a command (0).
    Command,
    /// Access to ports (1).
    Access,
    /// Access to a port that is translated to another host (2).
    Nat,
    /// Access for a time that the packet names (3).
    TimedAccess,
    /// Translated access for a time (4).
    TimedNat,
    /// Access to a port that is translated to one of the host itself (5).
    LocalNat,
    /// The same for a time (6).
    TimedLocalNat,
}

impl Kind {
    const ALL: [Kind; 7] = [
        Kind::Command,
        Kind::Access,
        Kind::Nat,
        Kind::TimedAccess,
        Kind::TimedNat,
        Kind::LocalNat,
        Kind::TimedLocalNat,
    ];

    /// The kind of access with and without a translation, with and without a time.
    #[must_use]
    pub const fn of_access(nat: Option<NatPlace>, has_timeout: bool) -> Kind {
        match (nat, has_timeout) {
            (None, false) => Kind::Access,
            (None, true) => Kind::TimedAccess,
            (Some(NatPlace::Elsewhere), false) => Kind::Nat,
            (Some(NatPlace::Elsewhere), true) => Kind::TimedNat,
            (Some(NatPlace::Here), false) => Kind::LocalNat,
            (Some(NatPlace::Here), true) => Kind::TimedLocalNat,
        }
    }

    const fn has_nat(self) -> bool {
        matches!(self, Kind::Nat | Kind::TimedNat | Kind::LocalNat | Kind::TimedLocalNat)
    }

    const fn has_timeout(self) -> bool {
        matches!(self, Kind::TimedAccess | Kind::TimedNat | Kind::TimedLocalNat)
    }
}

/// Where a translated port leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatPlace {
    /// To another host.
    Elsewhere,
    /// To another port of the receiver.
    Here,
}

/// The text of a packet, field by field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// [`RANDOM_DIGITS`] decimal digits, so that no two packets are alike.
    pub random: String,
    /// The name of the sender, as the packet claims.
    pub user: String,
    /// When it was made, in seconds since 1970.
    pub time: u64,
    /// The version of the format.
    pub version: String,
    /// The type of the request.
    pub kind: Kind,
    /// The address to let in, and the access requested.
    pub message: Message,
    /// `HOST,PORT`: where a translated port leads.
    pub nat: Option<String>,
    /// Server authentication, which no client writes any more.
    pub auth: Option<Vec<u8>>,
    /// For how many seconds to grant access.
    pub timeout: Option<u32>,
    /// The hash function of the digest after the text.
    pub digest: Digest,
}

/// The message of a packet: the address to let in, and the access requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The address to let in; an unspecified one (`0.0.0.0`, `::`) stands for the sender's.
    pub address: IpAddr,
    /// The access requested.
    pub access: RequestedAccess,
}

/// The access that a message requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedAccess {
    /// These ports, in the order of the packet; at least one.
    Ports(Vec<Stage>),
    /// This command.
    Command(Vec<u8>),
}

impl Fields {
    /// The text to encrypt: the fields and their digest.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{}:{}:{}:{}:{}:{}",
            self.random,
            base64(self.user.as_bytes()),
            self.time,
            self.version,
            self.kind as u8,
            base64(&self.message.to_bytes())
        );
        let nat = self.nat.as_deref().map(|nat| base64(nat.as_bytes()));
        let auth = self.auth.as_deref().map(base64);
        let timeout = self.timeout.map(|seconds| seconds.to_string());
        for field in [nat, auth, timeout].into_iter().flatten() {
            text.push(':');
            text.push_str(&field);
        }
        let digest = base64(&self.digest.of(text.as_bytes()));
        text + ":" + &digest
    }

    /// Parses decrypted text.
    ///
    /// # Errors
    /// The digest does not match, or a field is malformed.
    pub fn parse(text: &[u8]) -> Result<Fields, Refusal> {
        let text = str::from_utf8(text).map_err(|_| Refusal::Digest)?;
        let (body, digest) = text.rsplit_once(':').ok_or(Refusal::Digest)?;
        let hash = bytes(digest.as_bytes()).ok_or(Refusal::Digest)?;
        let digest = Digest::ALL
            .into_iter()
            .find(|digest| digest.bytes() == hash.len() && digest.of(body.as_bytes()) == hash)
            .ok_or(Refusal::Digest)?;
        Fields::parse_body(body, digest)
    }

    /// Parses the fields before the digest.
    ///
    /// # Errors
    /// The first malformed field.
    pub fn parse_body(body: &str, digest: Digest) -> Result<Fields, Refusal> {
        let mut parts = body.split(':');
        let mut next = |name| parts.next().ok_or(Refusal::Field(name));
        let random = next("random value")?.to_owned();
        if random.len() != RANDOM_DIGITS || !is_digits(&random) {
            return Err(Refusal::Field("random value"));
        }
        let user = user(next("user")?).ok_or(Refusal::Field("user"))?;
        let time = number(next("time")?).ok_or(Refusal::Field("time"))?;
        let version = next("version")?.to_owned();
        if !is_version(&version) {
            return Err(Refusal::Field("version"));
        }
        let kind = number(next("type")?).and_then(|number| usize::try_from(number).ok());
        let kind = *kind.and_then(|kind| Kind::ALL.get(kind)).ok_or(Refusal::Field("type"))?;
        let message = bytes(next("message")?.as_bytes()).ok_or(Refusal::Field("message"))?;
        let message = Message::parse(&message, kind)?;
        let mut rest: Vec<&str> = parts.collect();
        let timeout = if kind.has_timeout() {
            let seconds = rest.pop().and_then(number).and_then(|seconds| u32::try_from(seconds).ok());
            Some(seconds.filter(|&seconds| seconds <= MAX_TIMEOUT).ok_or(Refusal::Field("timeout"))?)
        } else {
            None
        };
        let mut rest = rest.into_iter();
        let nat = if kind.has_nat() {
            Some(rest.next().and_then(nat).ok_or(Refusal::Field("nat access"))?)
        } else {
            None
        };
        let auth = match rest.next() {
            Some(auth) => Some(bytes(auth.as_bytes()).ok_or(Refusal::Field("server auth"))?),
            None => None,
        };
        if rest.next().is_some() {
            return Err(Refusal::Field("after the last"));
        }
        Ok(Fields { random, user, time, version, kind, message, nat, auth, timeout, digest })
    }
}

impl Message {
    fn to_bytes(&self) -> Vec<u8> {
        let mut text = self.address.to_string().into_bytes();
        match &self.access {
            RequestedAccess::Ports(ports) => {
                for port in ports {
                    text.extend_from_slice(format!(",{}", Service(*port)).as_bytes());
                }
            }
            RequestedAccess::Command(command) => {
                text.push(b',');
                text.extend_from_slice(command);
            }
        }
        text
    }

    fn parse(message: &[u8], kind: Kind) -> Result<Message, Refusal> {
        if message.is_empty() || message.len() > MAX_MESSAGE {
            return Err(Refusal::Field("message"));
        }
        let comma = message.iter().position(|&byte| byte == b',').unwrap_or(message.len());
        let (address, rest) = message.split_at(comma);
        let rest = rest.get(1..).unwrap_or_default();
        let address = str::from_utf8(address).ok().and_then(|address| address.parse().ok());
        let address = address.ok_or(Refusal::Field("address"))?;
        if kind == Kind::Command {
            if rest.is_empty() {
                return Err(Refusal::Field("command"));
            }
            return Ok(Message { address, access: RequestedAccess::Command(rest.to_vec()) });
        }
        let ports = str::from_utf8(rest).ok().and_then(ports).ok_or(Refusal::Field("port"))?;
        Ok(Message { address, access: RequestedAccess::Ports(ports) })
    }
}

/// A port as fwknop writes it: `tcp/22`.
#[derive(Clone, Copy, Debug)]
pub struct Service(pub Stage);

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.protocol, self.0.port)
    }
}

/// Reads ports as fwknop writes them: `tcp/22,udp/51820`, in lower case and without blanks.
#[must_use]
pub fn ports(list: &str) -> Option<Vec<Stage>> {
    let port = |item: &str| {
        let (protocol, port) = item.split_once('/')?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        };
        if port.len() > 5 || !is_digits(port) {
            return None;
        }
        let port = port.parse().ok().filter(|&port| port != 0)?;
        Some(Stage { protocol, port })
    };
    list.split(',').map(port).collect()
}

/// Whether fwknopd accepts this user name, and the name cannot mislead in a log or a shell.
#[must_use]
pub fn is_user(name: &str) -> bool {
    let is_allowed = |byte: u8| matches!(byte, b' '..=b'~') && !b"\"*+,/:;<=>?[\\]|".contains(&byte);
    !name.is_empty() && name.len() <= MAX_USER && name.bytes().all(is_allowed)
}

/// Reads `HOST,PORT`, or `HOST:PORT` as on a command line.
#[must_use]
pub fn nat_access(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once([',', ':'])?;
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    if host.is_empty() || !host.bytes().all(is_allowed) || port.len() > 5 || !is_digits(port) {
        return None;
    }
    Some((host, port.parse().ok().filter(|&port| port != 0)?))
}

fn nat(field: &str) -> Option<String> {
    let text = String::from_utf8(bytes(field.as_bytes())?).ok()?;
    nat_access(&text)
        .is_some_and(|(host, _)| text.get(host.len()..).is_some_and(|rest| rest.starts_with(',')))
        .then_some(text)
}

fn user(field: &str) -> Option<String> {
    String::from_utf8(bytes(field.as_bytes())?).ok().filter(|name| is_user(name))
}

/// Up to ten decimal digits.
fn number(field: &str) -> Option<u64> {
    if field.len() > 10 || !is_digits(field) { None } else { field.parse().ok() }
}

/// Numbers joined by dots.
fn is_version(field: &str) -> bool {
    field.len() <= 10 && field.split('.').all(is_digits)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
