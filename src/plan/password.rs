//! One-time passwords on the client's side: when to knock, and for which source address.
//!
//! This module neither asks the clock nor looks up addresses; it decides from what it is given.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::syntax::trim;
use crate::door::otp::{Otp, OtpError};
use crate::plan::stun::Stun;

/// If less than this is left of a period, wait for the next: sending the knocks may take that long.
const LEAST: Duration = Duration::from_secs(1);

/// When to knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Wait this long first.
    pub wait: Duration,
    /// The period whose list to knock then.
    pub period: u64,
}

impl Moment {
    /// When to knock, if it is `unix` now (since 1970): at once, or at the beginning of the next period
    /// if less than a second of this one is left.
    #[must_use]
    pub fn of(otp: &Otp, unix: Duration) -> Moment {
        let period = otp.period(unix);
        let next = period.saturating_add(1);
        let left = otp.begins(next).saturating_sub(unix);
        if left < LEAST {
            Moment { wait: left, period: next }
        } else {
            Moment { wait: Duration::ZERO, period }
        }
    }

    /// Whether the period has begun, however little of it is left by now.
    #[must_use]
    pub fn has_come(self, otp: &Otp, unix: Duration) -> bool {
        self.wait.is_zero() || otp.period(unix) == self.period
    }
}

/// How far the clock of the server is ahead of this host's, in whole seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffset(i64);

impl ClockOffset {
    /// The largest offset, ahead or behind: a clock that lost its battery begins in 1970 or 2000.
    pub const MAX: i64 = 100 * 366 * 24 * 60 * 60;

    /// Reads seconds, with or without a sign.
    #[must_use]
    pub fn parse(text: &str) -> Option<ClockOffset> {
        text.parse()
            .ok()
            .filter(|seconds| (-ClockOffset::MAX..=ClockOffset::MAX).contains(seconds))
            .map(ClockOffset)
    }

    /// The time by the server's clock, if it is `unix` (since 1970) by this host's.
    #[must_use]
    pub fn correct(self, unix: Duration) -> Duration {
        let by = Duration::from_secs(self.0.unsigned_abs());
        if self.0 < 0 { unix.saturating_sub(by) } else { unix.saturating_add(by) }
    }
}

/// How to find out which source address the server sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SeenAs {
    /// The one that this machine sends from.
    #[default]
    Auto,
    /// This one.
    Address(IpAddr),
    /// The one that STUN servers see.
    Stun(Stun),
    /// The one that this command prints.
    Command(String),
}

impl SeenAs {
    /// Reads `auto`, an address, `stun:SERVER[:PORT]` with what [confirms](Stun::parse) it, or `command:CMD`.
    #[must_use]
    pub fn parse(text: &str) -> Option<SeenAs> {
        if text == "auto" {
            return Some(SeenAs::Auto);
        }
        if let Some(command) = text.strip_prefix("command:") {
            return (!command.trim().is_empty()).then(|| SeenAs::Command(command.to_owned()));
        }
        if text.starts_with("stun:") {
            return Stun::parse(text).map(SeenAs::Stun);
        }
        text.parse().ok().map(SeenAs::Address)
    }
}

/// The address on the first line of a command's output.
#[must_use]
pub fn printed_address(output: &[u8]) -> Option<IpAddr> {
    str::from_utf8(trim(output.split(|&byte| byte == b'\n').next()?)).ok()?.parse().ok()
}

/// The only line of a file that is neither empty nor a comment; `None` if there are more or none.
#[must_use]
pub fn only_line(text: &[u8]) -> Option<&[u8]> {
    let mut lines =
        text.split(|&byte| byte == b'\n').map(trim).filter(|line| !matches!(line, [] | [b'#', ..]));
    lines.next().filter(|_| lines.next().is_none())
}

/// What is wrong with the text of a password. No message repeats the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordError {
    /// A field is wrong.
    Field(OtpError),
    /// The protocols are missing.
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

/// Reads `SEED,CHANGE_TIME,BASE,on|off,PROTO[,PROTO ...]`.
///
/// # Errors
/// See [`PasswordError`].
pub fn parse(text: &[u8]) -> Result<Otp, PasswordError> {
    Otp::parse(text).map_err(PasswordError::Field)?.ok_or(PasswordError::NoProtocol)
}
