//! What is to be knocked, and when: the stages as they are asked for on a command line.

use std::fmt;
use std::time::Duration;

use crate::knock::Protocol;
use crate::sequence::atoi;

/// One stage as it was asked for: `port[:protocol]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The port as it was typed, for messages.
    pub text: String,
    /// The port: its number, or the service whose number is still to be found.
    pub port: Port,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// A port on a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// A number, host byte order.
    Number(u16),
    /// The name of a service.
    Service,
}

/// What is wrong with a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskedError {
    /// A number that no port has, or nothing at all.
    Port(String),
}

impl fmt::Display for AskedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskedError::Port(text) => write!(f, "error: port '{text}' is not between 0 and 65535"),
        }
    }
}

impl std::error::Error for AskedError {}

impl Asked {
    /// Reads one word of the command line as knock 0.8 did: `udp` in lower case is UDP, every other
    /// word and none is TCP, and `udp` (of `-u`) beats both.
    ///
    /// # Errors
    /// A port that is a number but not one of a port, or empty.
    pub fn parse(word: &str, udp: bool) -> Result<Asked, AskedError> {
        let (text, protocol) = word.split_once(':').unwrap_or((word, ""));
        let port = if is_number(text) {
            Port::Number(text.parse().map_err(|_| AskedError::Port(text.to_owned()))?)
        } else {
            Port::Service
        };
        let protocol = if udp || protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
        Ok(Asked { text: text.to_owned(), port, protocol })
    }
}

/// Whether a word means a number to the resolver; nothing means 0 to it, which nobody means.
fn is_number(text: &str) -> bool {
    text.strip_prefix(['+', '-']).unwrap_or(text).bytes().all(|byte| byte.is_ascii_digit())
}

/// The value of `--delay`: milliseconds, with a fraction; a word is 0, as it was in knock 0.8.
///
/// # Errors
/// A negative one.
pub fn delay(text: &str) -> Result<Duration, String> {
    let number: String = text
        .trim_start()
        .char_indices()
        .take_while(|&(at, c)| c.is_ascii_digit() || c == '.' || (at == 0 && (c == '-' || c == '+')))
        .map(|(_, c)| c)
        .collect();
    let milliseconds = number.parse().unwrap_or_else(|_| i32::try_from(atoi(text)).map_or(0.0, f64::from));
    if milliseconds < 0.0 {
        return Err("error: delay cannot be negative".to_owned());
    }
    Ok(Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or(Duration::MAX))
}
