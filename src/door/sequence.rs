//! The sequence of knocks that opens a door, and its text form `7000:udp,8000`.

use std::fmt;

use crate::door::knock::{Knock, Protocol};

/// The most stages a written sequence may have.
pub const MAX_STAGES: usize = 32;

/// One knock of a sequence: a protocol and a destination port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stage {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The destination port, host byte order.
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

/// What is wrong with the text of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SequenceError {
    /// The number, as it was written, is not a port.
    Port(String),
    /// A protocol other than tcp and udp.
    Protocol,
    /// More than [`MAX_STAGES`] stages.
    TooMany,
}

impl fmt::Display for SequenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SequenceError::Port(text) => write!(f, "port {text} is invalid"),
            SequenceError::Protocol => f.write_str("unknown protocol in knock sequence"),
            SequenceError::TooMany => f.write_str("too many ports in knock sequence"),
        }
    }
}

impl std::error::Error for SequenceError {}

/// An ordered list of stages; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
    /// errors, where knockd 0.8 took them modulo 65536.
    ///
    /// # Errors
    /// A number above 65535 or below 0, an unknown protocol, or more than [`MAX_STAGES`] stages.
    pub fn parse(text: &str) -> Result<Sequence, SequenceError> {
        let mut stages = Vec::new();
        for element in text.split(',') {
            if stages.len() == MAX_STAGES {
                return Err(SequenceError::TooMany);
            }
            let mut fields = element.split(':');
            let port = fields.next().unwrap_or_default().trim_matches(is_blank);
            let number = u16::try_from(atoi(port)).map_err(|_| SequenceError::Port(port.to_owned()))?;
            let protocol = match fields.next() {
                None => Protocol::Tcp,
                Some(word) => {
                    Protocol::from_word(word.trim_matches(is_blank)).ok_or(SequenceError::Protocol)?
                }
            };
            stages.push(Stage { protocol, port: number });
        }
        Ok(Sequence(stages.into()))
    }

    /// The stages, first one first.
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
