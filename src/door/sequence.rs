//! The sequence of knocks that opens a door, and its text form `7000:udp,8000`.

use std::fmt;

use crate::door::knock::{Knock, Protocol};

/// The most stages a written sequence may have.
pub const MAX_STAGES: usize = 32;

/// The most data bytes that an echo request of a sequence may have, so that no usual link fragments it.
pub const MAX_ECHO: u16 = 1400;

/// One knock of a sequence: a protocol and a destination port, or the length of an echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stage {
    /// TCP, UDP or ICMP.
    pub protocol: Protocol,
    /// The destination port, host byte order; of an echo request, the number of data bytes.
    pub port: u16,
}

impl Stage {
    /// The stage that this knock matches.
    #[must_use]
    pub const fn of(knock: &Knock) -> Stage {
        Stage { protocol: knock.protocol, port: knock.port }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.port, self.protocol)
    }
}

/// An error in the text of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SequenceError {
    /// The number, as it was written, is not a port.
    Port(String),
    /// A protocol other than tcp, udp and icmp, as it was written.
    Protocol(String),
    /// The length of an echo request, as it was written, is not a number, or more than [`MAX_ECHO`].
    Echo(String),
    /// More than [`MAX_STAGES`] stages.
    TooMany,
}

impl fmt::Display for SequenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SequenceError::Port(text) => {
                write!(f, "port {text} is invalid: a port is a number from 0 to 65535")
            }
            SequenceError::Protocol(word) => {
                f.write_str("unknown protocol in knock sequence: ")?;
                // Longer text may hold ports of the sequence, which must stay secret.
                if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                    write!(f, "'{word}' is neither tcp, udp nor icmp")
                } else {
                    f.write_str("behind ':' stands tcp, udp or icmp, and then a comma or the end of the line")
                }
            }
            SequenceError::Echo(text) => {
                write!(f, "length {text} of an icmp stage is invalid (0 to {MAX_ECHO} bytes of data)")
            }
            SequenceError::TooMany => {
                write!(f, "too many ports in knock sequence: there may be {MAX_STAGES}")
            }
        }
    }
}

impl std::error::Error for SequenceError {}

/// An ordered list of stages; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sequence(Box<[Stage]>);

impl Sequence {
    /// A sequence of these stages; `None` if there are none.
    #[must_use]
    pub fn new(stages: Vec<Stage>) -> Option<Sequence> {
        if stages.is_empty() { None } else { Some(Sequence(stages.into())) }
    }

    /// Reads the grammar of knockd 0.8: `port[:protocol]`, joined by commas.
    ///
    /// Numbers are read as by C's `atoi`: a word or an empty field is port 0. Numbers out of range are
    /// errors, where knockd 0.8 took them modulo 65536. `length:icmp` is an echo request with that
    /// many data bytes.
    ///
    /// # Errors
    /// The length of an echo request is not a number or above [`MAX_ECHO`], a number is below 0 or above
    /// 65535, a protocol is unknown, or there are more than [`MAX_STAGES`] stages.
    pub fn parse(text: &str) -> Result<Sequence, SequenceError> {
        let mut stages = Vec::new();
        for element in text.split(',') {
            if stages.len() == MAX_STAGES {
                return Err(SequenceError::TooMany);
            }
            let mut fields = element.split(':');
            let port = fields.next().unwrap_or_default().trim_matches(is_blank);
            let word = fields.next().map(|word| word.trim_matches(is_blank));
            let stage = if word.is_some_and(|word| word.eq_ignore_ascii_case("icmp")) {
                let length = echo_length(port).ok_or_else(|| SequenceError::Echo(port.to_owned()))?;
                Stage { protocol: Protocol::Icmp, port: length }
            } else {
                let number = u16::try_from(atoi(port)).map_err(|_| SequenceError::Port(port.to_owned()))?;
                let protocol = match word {
                    None => Protocol::Tcp,
                    Some(word) => {
                        Protocol::with_ports(word).ok_or_else(|| SequenceError::Protocol(word.to_owned()))?
                    }
                };
                Stage { protocol, port: number }
            };
            stages.push(stage);
        }
        Ok(Sequence(stages.into()))
    }

    /// The stages, in order.
    #[must_use]
    pub fn stages(&self) -> &[Stage] {
        &self.0
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, stage) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{stage}")?;
        }
        Ok(())
    }
}

/// Reads the length of an echo request: digits, at most [`MAX_ECHO`].
#[must_use]
pub fn echo_length(text: &str) -> Option<u16> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&length| is_number && length <= MAX_ECHO)
}

/// White space as defined by C's `isspace`.
#[must_use]
pub fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}

/// Reads a number as C's `atoi` does: blanks, a sign, digits, and whatever follows is ignored.
///
/// Saturates where `atoi` overflows.
#[must_use]
pub fn atoi(text: &str) -> i64 {
    let text = text.trim_start_matches(is_blank);
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    let value = digits
        .bytes()
        .take_while(u8::is_ascii_digit)
        .fold(0_i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    if negative { -value } else { value }
}
