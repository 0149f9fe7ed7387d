//! Finds the `Include` directives of a file. The caller resolves them before any file is parsed.

use crate::config::syntax::{self, Item};

/// The `Include` directives of a file: line number and pattern.
pub fn includes(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut is_in_options = false;
    syntax::items(text).filter_map(move |(line, item)| {
        match item {
            Item::Section(name) => is_in_options = name == b"options",
            Item::Entry(key, value) if is_in_options && key.eq_ignore_ascii_case(b"include") => {
                return Some((line, value));
            }
            Item::Entry(..) | Item::Word(_) | Item::TooLong => {}
        }
        None
    })
}
