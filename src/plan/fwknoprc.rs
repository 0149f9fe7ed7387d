//! Parses .fwknoprc, the file of fwknop's client: named servers with their keys and requests.
//!
//! Unknown and unsupported directives are errors, so that we never send a packet other than fwknop would
//! send. No error message repeats a value: it may be a key.

use std::fmt;
use std::net::IpAddr;

use crate::config::fwknop::{KeyDraft, digest, entry, is_yes, shown_name};
use crate::config::syntax::trim;
use crate::door::digest::Digest;
use crate::door::sequence::Stage;
use crate::door::spa::sealed::Keys;
use crate::door::spa::{DEFAULT_PORT, fields};

/// The stanza with defaults for all others.
const DEFAULT_STANZA: &str = "default";
/// The largest `FW_TIMEOUT` in seconds that fwknop's client accepts and fwknopd does not reject.
const MAX_TIMEOUT: u32 = fields::MAX_TIMEOUT;

/// Why a stanza cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FwknoprcError {
    /// A line, counted from 1, and the problem.
    Line(usize, String),
    /// A problem of the stanza as a whole.
    Stanza(String),
    /// No stanza has this name.
    NoSuchStanza,
}

impl fmt::Display for FwknoprcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FwknoprcError::Line(line, problem) => write!(f, "line {line}: {problem}"),
            FwknoprcError::Stanza(problem) => f.write_str(problem),
            FwknoprcError::NoSuchStanza => f.write_str("there is no stanza of this name"),
        }
    }
}

impl std::error::Error for FwknoprcError {}

/// The address to let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowIp {
    /// The sender of the packet.
    Source,
    /// This address.
    Address(IpAddr),
    /// The address shown by a web page, which this client does not ask.
    Resolve,
}

/// A port translation by the server. A port that is `None` is the requested port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    /// The host to forward to; `None` for the server itself.
    pub host: Option<String>,
    /// The port on that host.
    pub inside: Option<u16>,
    /// The port on the server.
    pub outside: Option<u16>,
}

/// A stanza, with the defaults of `[default]` applied.
#[derive(Clone, Debug)]
pub struct Stanza {
    /// `SPA_SERVER`.
    pub server: Option<String>,
    /// `SPA_SERVER_PORT`, in host byte order; `None` for a random port.
    pub port: Option<u16>,
    /// `SPA_SOURCE_PORT`.
    pub source_port: Option<u16>,
    /// The encryption key and the HMAC key.
    pub keys: Keys,
    /// `DIGEST_TYPE`, the digest inside the packet.
    pub digest: Digest,
    /// `ACCESS`; `None` if the stanza lacks it.
    pub access: Option<Vec<Stage>>,
    /// `ALLOW_IP`; defaults to the packet's source, as fwknop does not save `-s` in its stanzas.
    pub allow: AllowIp,
    /// `FW_TIMEOUT` in seconds; 0 or `None` leaves it to the server.
    pub timeout: Option<u32>,
    /// `SPOOF_USER`.
    pub user: Option<String>,
    /// `TIME_OFFSET`, in seconds.
    pub time_offset: i64,
    /// `NAT_ACCESS`, `NAT_LOCAL` and `NAT_PORT`.
    pub nat: Option<Nat>,
}

/// The names of the stanzas in a file, in order, without `[default]`.
#[must_use]
pub fn names(text: &[u8]) -> Vec<String> {
    lines(text)
        .filter_map(|(_, line)| heading(line))
        .filter(|name| !is_same_name(name, DEFAULT_STANZA))
        .collect()
}

/// Reads a stanza by name, in any case, together with `[default]`.
///
/// # Errors
/// See [`FwknoprcError`].
pub fn stanza(text: &[u8], name: &str) -> Result<Stanza, FwknoprcError> {
    let mut draft = StanzaDraft::default();
    let exists = draft.read(text, DEFAULT_STANZA)?;
    let is_default = is_same_name(name, DEFAULT_STANZA);
    if !(is_default && exists || !is_default && draft.read(text, name)?) {
        return Err(FwknoprcError::NoSuchStanza);
    }
    draft.finish()
}

fn is_same_name(name: &str, other: &str) -> bool {
    name.eq_ignore_ascii_case(other)
}

/// The meaningful lines with their numbers, counted from 1. A comment starts in the first column.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let lines = text.split(|&byte| byte == b'\n').enumerate();
    lines.filter_map(|(index, raw)| match raw.first() {
        Some(b'#' | b';') | None => None,
        Some(_) => Some((index + 1, trim(raw))).filter(|(_, line)| !line.is_empty()),
    })
}

/// The name in a line `[name]`; `None` for other lines.
fn heading(line: &[u8]) -> Option<String> {
    let name = line.strip_prefix(b"[")?.strip_suffix(b"]")?;
    Some(String::from_utf8_lossy(trim(name)).into_owned())
}

/// The directives read so far.
#[derive(Default)]
struct StanzaDraft {
    server: Option<String>,
    port: Option<u16>,
    has_random_port: bool,
    source_port: Option<u16>,
    keys: KeyDraft,
    digest: Option<Digest>,
    access: Option<Vec<Stage>>,
    allow: Option<AllowIp>,
    timeout: Option<u32>,
    user: Option<String>,
    time_offset: i64,
    nat: Option<(String, Option<u16>)>,
    is_nat_local: bool,
    nat_port: Option<u16>,
    has_no_hmac: bool,
}

impl StanzaDraft {
    /// Reads the stanza of this name; returns whether it exists.
    fn read(&mut self, text: &[u8], name: &str) -> Result<bool, FwknoprcError> {
        let (mut exists, mut is_in_stanza) = (false, false);
        for (line, content) in lines(text) {
            if let Some(heading) = heading(content) {
                is_in_stanza = is_same_name(&heading, name);
                exists |= is_in_stanza;
            } else if is_in_stanza {
                let (key, value) = entry(content);
                // The value is the first word, without a trailing `;`.
                let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
                let value = value.get(..end).unwrap_or_default();
                let value = value.strip_suffix(b";").unwrap_or(value);
                let key = String::from_utf8_lossy(key);
                let shown = shown_name(&key, value);
                self.read_directive(&key, value)
                    .map_err(|problem| FwknoprcError::Line(line, format!("{shown}: {problem}")))?;
            }
        }
        Ok(exists)
    }

    fn read_directive(&mut self, name: &str, value: &[u8]) -> Result<(), &'static str> {
        if let Some(outcome) = self.keys.read(name, value) {
            return outcome;
        }
        let text = String::from_utf8_lossy(value);
        let port = || text.parse().ok().filter(|&port| port > 0).ok_or("is not a port from 1 to 65535");
        match name {
            "SPA_SERVER" => self.server = Some(text.into_owned()),
            "SPA_SERVER_PORT" => self.port = Some(port()?),
            "RAND_PORT" => self.has_random_port = is_yes(value),
            "SPA_SOURCE_PORT" => self.source_port = Some(port()?),
            "ACCESS" => {
                self.access =
                    Some(fields::ports(&text).ok_or("is not a list of ports such as tcp/22,udp/53")?);
            }
            "ALLOW_IP" => {
                self.allow = Some(match text.to_ascii_lowercase().as_str() {
                    "source" => AllowIp::Source,
                    "resolve" => AllowIp::Resolve,
                    address => AllowIp::Address(
                        address.parse().map_err(|_| "is neither an address, nor 'source', nor 'resolve'")?,
                    ),
                });
            }
            "FW_TIMEOUT" => {
                let seconds = text.parse().ok().filter(|&seconds: &u32| seconds <= MAX_TIMEOUT);
                self.timeout = Some(seconds.ok_or("is not a number of seconds from 0 to 65536")?);
            }
            "SPOOF_USER" if fields::is_user(&text) => self.user = Some(text.into_owned()),
            "SPOOF_USER" => return Err("has characters that fwknopd refuses, or more than 48"),
            "TIME_OFFSET" => {
                self.time_offset =
                    text.parse().map_err(|_| "is not a number of seconds (plain or with a minus)")?;
            }
            "DIGEST_TYPE" => self.digest = Some(digest(value)?),
            "USE_HMAC" => self.has_no_hmac = !is_yes(value),
            "NAT_ACCESS" => {
                let host_and_port =
                    fields::nat_access(&text).map(|(host, port)| (host.to_owned(), Some(port)));
                let is_host = !text.is_empty() && !text.contains([',', ':']);
                self.nat = Some(
                    host_and_port
                        .or_else(|| is_host.then(|| (text.clone().into_owned(), None)))
                        .ok_or("is not HOST, HOST:PORT or HOST,PORT")?,
                );
            }
            "NAT_LOCAL" => self.is_nat_local = is_yes(value),
            "NAT_PORT" => self.nat_port = Some(port()?),
            "ENCRYPTION_MODE" if text.eq_ignore_ascii_case("CBC") => {}
            "ENCRYPTION_MODE" => return Err("only CBC, fwknop's default, is supported"),
            "SPA_SERVER_PROTO" if text.eq_ignore_ascii_case("udp") => {}
            "SPA_SERVER_PROTO" => return Err("only udp, fwknop's default, is supported"),
            "RESOLVE_IP_HTTPS" | "RESOLVE_HTTP_ONLY" if is_yes(value) => {
                self.allow.get_or_insert(AllowIp::Resolve);
            }
            "USE_GPG" | "USE_GPG_AGENT" if is_yes(value) => return Err("GnuPG is not supported"),
            "KEY_FILE" | "GET_KEY" | "GET_HMAC_KEY" => {
                return Err("a file of keys is not supported: write KEY_BASE64 and HMAC_KEY_BASE64");
            }
            "NAT_RAND_PORT" if is_yes(value) => return Err("is not supported: choose a port with NAT_PORT"),
            "SPOOF_SOURCE_IP" => return Err("is not supported: use --raw with --source"),
            "RESOLVE_IP_HTTPS"
            | "RESOLVE_HTTP_ONLY"
            | "RESOLVE_URL"
            | "NAT_RAND_PORT"
            | "VERBOSE"
            | "NO_SAVE_ARGS"
            | "HTTP_USER_AGENT"
            | "USE_WGET_USER_AGENT"
            | "WGET_CMD" => {}
            _ if name.starts_with("GPG_") || name.starts_with("USE_GPG") => {}
            _ => return Err("is not known"),
        }
        Ok(())
    }

    fn finish(self) -> Result<Stanza, FwknoprcError> {
        let refuse = |problem: &str| Err(FwknoprcError::Stanza(problem.to_owned()));
        if self.has_no_hmac {
            return refuse("USE_HMAC is N, and packets without an HMAC are not supported");
        }
        let keys = self.keys.finish().map_err(FwknoprcError::Stanza)?;
        let nat = match (self.nat, self.is_nat_local, self.nat_port) {
            (None, false, None) => None,
            (None, false, Some(_)) => return refuse("NAT_PORT needs NAT_ACCESS or NAT_LOCAL"),
            (_, true, None) => return refuse("NAT_LOCAL needs NAT_PORT"),
            (_, true, outside) => Some(Nat { host: None, inside: None, outside }),
            (Some((_, Some(_))), false, Some(_)) => {
                return refuse("NAT_ACCESS names a port, and NAT_PORT another");
            }
            (Some((host, inside)), false, outside) => Some(Nat { host: Some(host), inside, outside }),
        };
        let port = if self.has_random_port { None } else { Some(self.port.unwrap_or(DEFAULT_PORT)) };
        Ok(Stanza {
            server: self.server,
            port,
            source_port: self.source_port,
            keys,
            digest: self.digest.unwrap_or(Digest::Sha256),
            access: self.access,
            allow: self.allow.unwrap_or(AllowIp::Source),
            timeout: self.timeout,
            user: self.user,
            time_offset: self.time_offset,
            nat,
        })
    }
}
