//! Splits a configuration file into sections and entries with their line numbers.
//!
//! This file knows the grammar only, not the directives. The bytes need not be UTF-8: commands and paths are
//! kept byte for byte.

/// The longest line in bytes, as in knockd 0.8; comments and the blanks at both ends do not count.
pub const MAX_LINE: usize = 4095;

/// One meaningful line, trimmed of blanks at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// `[name]`: blanks inside the brackets belong to the name.
    Section(&'a [u8]),
    /// `key = value`, split at the first `=`, both sides trimmed.
    Entry(&'a [u8], &'a [u8]),
    /// A line without `=`.
    Word(&'a [u8]),
    /// A line of more than [`MAX_LINE`] bytes.
    TooLong,
}

/// Returns the meaningful lines of a file with their line numbers, counted from 1.
///
/// Skips empty lines and lines whose first non-blank byte is `#`. A comment cannot follow a value on the same
/// line.
pub fn items(text: &[u8]) -> impl Iterator<Item = (usize, Item<'_>)> {
    text.split(|&byte| byte == b'\n').enumerate().filter_map(|(index, raw)| {
        let line = trim(raw);
        let item = match line {
            [] | [b'#', ..] => return None,
            _ if line.len() > MAX_LINE => Item::TooLong,
            [b'[', name @ .., b']'] => Item::Section(name),
            _ => match line.iter().position(|&byte| byte == b'=') {
                Some(at) => {
                    let (key, value) = line.split_at(at);
                    Item::Entry(trim(key), trim(value.get(1..).unwrap_or_default()))
                }
                None => Item::Word(line),
            },
        };
        Some((index + 1, item))
    })
}

/// Removes blanks (space, tab, CR, vertical tab, form feed, newline) at both ends.
#[must_use]
pub fn trim(bytes: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c);
    let Some(first) = bytes.iter().position(|byte| !blank(byte)) else { return &[] };
    let last = bytes.iter().rposition(|byte| !blank(byte)).unwrap_or(first);
    bytes.get(first..=last).unwrap_or_default()
}
