//! What the parser is given besides the text: the files that it names, and somebody to tell.

use std::io;
use std::path::Path;

/// Something to tell while a configuration is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// For the debug output: what was understood.
    Understood(String),
    /// For the debug output and `--check`: what becomes of a line of another program's file.
    Explained(String),
    /// For standard error: something was left out.
    LeftOut(String),
}

/// What the parser needs from outside.
pub struct Reading<'a> {
    /// Returns the content of a file.
    pub file: &'a mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    /// Is told what was understood, line by line.
    pub note: &'a mut dyn FnMut(Note),
    /// The command line names an interface, so `Interface` is skipped silently.
    pub interface_is_given: bool,
}

impl Reading<'_> {
    pub(super) fn understood(&mut self, text: String) {
        (self.note)(Note::Understood(text));
    }
}
