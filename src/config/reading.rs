//! The parser's callbacks.

use std::io;
use std::path::Path;

/// A message of the parser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// For the debug output: the parsed form of a line.
    Understood(String),
    /// For the debug output and `--check`: the effect of a line in another program's file.
    Explained(String),
    /// For standard error: something that was ignored, and why.
    LeftOut(String),
}

/// The parser's callbacks and settings.
pub struct Reading<'a> {
    /// Returns the content of a file. The parser zeroes it, as it holds sequences or keys.
    pub file: &'a mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    /// Receives the messages.
    pub note: &'a mut dyn FnMut(Note),
    /// The command line names an interface, so `Interface` is ignored silently.
    pub interface_is_given: bool,
}

impl Reading<'_> {
    pub(super) fn understood(&mut self, text: String) {
        (self.note)(Note::Understood(text));
    }
}
