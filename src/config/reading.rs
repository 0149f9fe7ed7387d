//! What the parser needs from its caller besides the text.

use std::io;
use std::path::Path;

/// A message while a configuration is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// For the debug output: how a line was understood.
    Understood(String),
    /// For the debug output and `--check`: what becomes of a line of another program's file.
    Explained(String),
    /// For standard error: what was ignored, and why.
    LeftOut(String),
}

/// What the parser needs from its caller.
pub struct Reading<'a> {
    /// Returns the content of a file. The parser zeroes it, as it holds sequences or keys.
    pub file: &'a mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    /// Receives the messages.
    pub note: &'a mut dyn FnMut(Note),
    /// The command line names an interface, so `Interface` is skipped silently.
    pub interface_is_given: bool,
}

impl Reading<'_> {
    pub(super) fn understood(&mut self, text: String) {
        (self.note)(Note::Understood(text));
    }
}
