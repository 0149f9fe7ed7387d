//! The compound fields of messages: doors, texts, openings, and errors.

use std::net::IpAddr;

use crate::door::lock::Turn;
use crate::filter::trouble::{CaptureError, CaptureProblem, Code, Operation};
use crate::opening::event::Opening;
use crate::protocol::bytes::{self, Reader};
use crate::protocol::confinement::{Confined, Outcome};

/// The longest text in a message, in bytes; longer ones are truncated, or sent in pieces.
pub const LONGEST_TEXT: usize = 1024;

/// A message under construction.
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn new(kind: u8) -> Writer {
        Writer(vec![kind])
    }

    pub(crate) fn byte(mut self, byte: u8) -> Writer {
        self.0.push(byte);
        self
    }

    pub(crate) fn array(mut self, bytes: &[u8]) -> Writer {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn word(mut self, word: u32) -> Writer {
        self.0.extend(word.to_le_bytes());
        self
    }

    pub(crate) fn long(mut self, long: u64) -> Writer {
        self.0.extend(long.to_le_bytes());
        self
    }

    /// A door's index in the configuration, which always fits into 32 bits.
    pub(super) fn door(self, door: usize) -> Writer {
        self.word(u32::try_from(door).unwrap_or(u32::MAX))
    }

    pub(super) fn code(self, code: Code) -> Writer {
        self.word(code.0.cast_unsigned())
    }

    pub(crate) fn address(mut self, address: IpAddr) -> Writer {
        bytes::address(&mut self.0, address);
        self
    }

    pub(super) fn text(self, text: &str) -> Writer {
        self.bytes(plain(text).as_bytes())
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Writer {
        self.0.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.0.extend(bytes);
        self
    }

    pub(super) fn opening(self, opening: &Opening) -> Writer {
        self.door(opening.door).long(opening.turn.0).address(opening.knocker)
    }

    pub(super) fn confined(self, confined: &Confined) -> Writer {
        let writer = self.word(confined.user);
        confined.outcomes.iter().fold(writer, |writer, outcome| match outcome {
            Outcome::Unwanted => writer.byte(0),
            Outcome::Done => writer.byte(1),
            Outcome::Otherwise => writer.byte(2),
            Outcome::Failed(code) => writer.byte(3).code(*code),
        })
    }

    pub(super) fn capture(self, error: &CaptureError) -> Writer {
        let writer = self.text(&error.interface);
        match &error.problem {
            CaptureProblem::Missing(names) => writer.byte(0).text(names),
            CaptureProblem::NoDefaultRoute(names) => writer.byte(1).text(names),
            CaptureProblem::Down => writer.byte(2),
            CaptureProblem::Failed(operation, code) => writer.byte(3).operation(*operation).code(*code),
        }
    }

    pub(super) fn operation(self, operation: Operation) -> Writer {
        let place = Operation::ALL.iter().position(|it| *it == operation);
        self.byte(place.and_then(|it| u8::try_from(it).ok()).unwrap_or_default())
    }
}

/// Prepares a text for a message: truncates it to [`LONGEST_TEXT`], and replaces control characters by
/// question marks.
#[must_use]
pub fn plain(text: &str) -> String {
    let text = text.get(..text.floor_char_boundary(LONGEST_TEXT)).unwrap_or(text);
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl<'a> Reader<'a> {
    pub(super) fn door(&mut self) -> Option<usize> {
        usize::try_from(self.word()?).ok()
    }

    pub(super) fn code(&mut self) -> Option<Code> {
        self.word().map(|word| Code(word.cast_signed()))
    }

    pub(super) fn text(&mut self) -> Option<String> {
        self.str().map(str::to_owned)
    }

    pub(crate) fn str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.short_bytes()?).ok()
    }

    /// At most 65,535 bytes, preceded by their length in two bytes.
    pub(super) fn short_bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(u16::from_le_bytes(self.take()?));
        self.slice(length)
    }

    pub(super) fn opening(&mut self) -> Option<Opening> {
        let (door, turn) = (self.door()?, Turn(self.long()?));
        Some(Opening { door, knocker: self.canonical_address()?, turn })
    }

    pub(super) fn confined(&mut self) -> Option<Confined> {
        let mut confined = Confined { user: self.word()?, outcomes: Default::default() };
        for outcome in &mut confined.outcomes {
            *outcome = match self.byte()? {
                0 => Outcome::Unwanted,
                1 => Outcome::Done,
                2 => Outcome::Otherwise,
                3 => Outcome::Failed(self.code()?),
                _ => return None,
            };
        }
        Some(confined)
    }

    pub(super) fn capture(&mut self) -> Option<CaptureError> {
        let interface = self.text()?;
        let problem = match self.byte()? {
            0 => CaptureProblem::Missing(self.text()?),
            1 => CaptureProblem::NoDefaultRoute(self.text()?),
            2 => CaptureProblem::Down,
            3 => CaptureProblem::Failed(self.operation()?, self.code()?),
            _ => return None,
        };
        Some(CaptureError { interface, problem })
    }

    pub(super) fn operation(&mut self) -> Option<Operation> {
        Operation::ALL.get(usize::from(self.byte()?)).copied()
    }
}
