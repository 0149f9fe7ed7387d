//! One-time passwords on the client's side: when to knock, and for which source address.
//!
//! This module reads no clock and resolves no addresses; the caller passes both in.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::syntax::trim;
use crate::door::otp::{Otp, OtpError};
use crate::plan::stun::Stun;

/// Wait for the next period if less than this is left of the current one: sending the knocks may take that
/// long.
const MIN_TIME_LEFT: Duration = Duration::from_secs(1);

/// When to knock, and with the list of which period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnockTime {
    /// How long to wait first.
    pub wait: Duration,
    /// The period whose list to send then.
    pub period: u64,
}

impl KnockTime {
    /// When to knock if the Unix time is `unix`: now, or at the start of the next period if less than a
    /// second of this one is left.
    #[must_use]
    pub fn next(otp: &Otp, unix: Duration) -> KnockTime {
        let period = otp.period(unix);
        let next = period.saturating_add(1);
        let left = otp.begins(next).saturating_sub(unix);
        if left < MIN_TIME_LEFT {
            KnockTime { wait: left, period: next }
        } else {
            KnockTime { wait: Duration::ZERO, period }
        }
    }

    /// Whether the period has begun, no matter how little of it is left.
    #[must_use]
    pub fn has_begun(self, otp: &Otp, unix: Duration) -> bool {
        self.wait.is_zero() || otp.period(unix) == self.period
    }
}

/// How far the server's clock is ahead of this host's, in whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffset(i64);

impl ClockOffset {
    /// The largest offset in either direction: a clock without battery starts in 1970 or 2000.
    pub const MAX: i64 = 100 * 366 * 24 * 60 * 60;

    /// Parses seconds, with or without a sign.
    #[must_use]
    pub fn parse(text: &str) -> Option<ClockOffset> {
        text.parse()
            .ok()
            .filter(|seconds| (-ClockOffset::MAX..=ClockOffset::MAX).contains(seconds))
            .map(ClockOffset)
    }

    /// The server's Unix time if this host's is `unix`.
    #[must_use]
    pub fn correct(self, unix: Duration) -> Duration {
        let offset = Duration::from_secs(self.0.unsigned_abs());
        if self.0 < 0 { unix.saturating_sub(offset) } else { unix.saturating_add(offset) }
    }
}

/// How to determine the source address that the server sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SourceLookup {
    /// The source address of our packets: the spoofed one, or the one of the route.
    #[default]
    Auto,
    /// A fixed address.
    Address(IpAddr),
    /// The address reported by STUN servers.
    Stun(Stun),
    /// The address printed by a command.
    Command(String),
}

impl SourceLookup {
    /// Parses `auto`, an address, `stun:SERVER[:PORT]` with its [confirmation](Stun::parse), or
    /// `command:CMD`.
    #[must_use]
    pub fn parse(text: &str) -> Option<SourceLookup> {
        if text == "auto" {
            return Some(SourceLookup::Auto);
        }
        if let Some(command) = text.strip_prefix("command:") {
            return (!command.trim().is_empty()).then(|| SourceLookup::Command(command.to_owned()));
        }
        if text.starts_with("stun:") {
            return Stun::parse(text).map(SourceLookup::Stun);
        }
        text.parse().ok().map(SourceLookup::Address)
    }
}

/// The address on the first line of a command's output.
#[must_use]
pub fn parse_printed_address(output: &[u8]) -> Option<IpAddr> {
    str::from_utf8(trim(output.split(|&byte| byte == b'\n').next()?)).ok()?.parse().ok()
}

/// The only line of a file that is neither empty nor a comment; `None` if there is none or more than one.
#[must_use]
pub fn only_line(text: &[u8]) -> Option<&[u8]> {
    let mut lines =
        text.split(|&byte| byte == b'\n').map(trim).filter(|line| !matches!(line, [] | [b'#', ..]));
    lines.next().filter(|_| lines.next().is_none())
}

/// An error in the text of a password. No message repeats the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordError {
    /// A field is invalid.
    Field(OtpError),
    /// There are no protocols.
    NoProtocol,
}

impl fmt::Display for PasswordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PasswordError::Field(OtpError::Protection(_)) => {
                f.write_str("otp: the fourth field is neither on nor off")
            }
            PasswordError::Field(OtpError::Protocol(_)) => {
                f.write_str("otp: a protocol is neither tcp nor udp")
            }
            PasswordError::Field(error) => error.fmt(f),
            PasswordError::NoProtocol => OtpError::Missing("a protocol").fmt(f),
        }
    }
}

impl std::error::Error for PasswordError {}

/// Parses `SEED,CHANGE_TIME,BASE,on|off,PROTO[,PROTO ...]`.
///
/// # Errors
/// See [`PasswordError`].
pub fn parse(text: &[u8]) -> Result<Otp, PasswordError> {
    Otp::parse(text).map_err(PasswordError::Field)?.ok_or(PasswordError::NoProtocol)
}
