//! Converts bytes that may not be UTF-8 to text and back, without loss.
//!
//! Names, commands and paths of a configuration are bytes, and the log and the debug output write those bytes
//! unchanged, as knockd 0.8 does. Internally they are text: each byte that is not part of a UTF-8 character
//! becomes a stand-in character, U+EF00 plus the byte (U+EF80 to U+EFFF, in the private use area). If the
//! input contains one of these characters itself, each of its UTF-8 bytes becomes a stand-in, so that the
//! conversion is reversible.

use std::borrow::Cow;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::path::Path;

/// The stand-in characters.
const STAND_INS: RangeInclusive<char> = '\u{ef80}'..='\u{efff}';
/// A stand-in is this plus the byte.
const OFFSET: u32 = 0xef00;
/// The first UTF-8 byte of U+E000 to U+EFFF.
const LEAD: u8 = 0xee;

/// Converts bytes to text.
#[must_use]
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&LEAD) => return Cow::Borrowed(text),
        _ => {}
    }
    let mut text = String::with_capacity(bytes.len());
    let stand_in =
        |byte: &u8| char::from_u32(OFFSET + u32::from(*byte)).unwrap_or(char::REPLACEMENT_CHARACTER);
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if STAND_INS.contains(&character) {
                text.extend(character.encode_utf8(&mut [0; 4]).as_bytes().iter().map(stand_in));
            } else {
                text.push(character);
            }
        }
        text.extend(chunk.invalid().iter().map(stand_in));
    }
    Cow::Owned(text)
}

/// Converts a path to text.
#[must_use]
pub fn path(path: &Path) -> Cow<'_, str> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        text(path.as_os_str().as_bytes())
    }
    #[cfg(not(unix))]
    path.to_string_lossy()
}

/// Converts text back to the original bytes.
#[must_use]
pub fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// The text with U+FFFD for each byte that is not UTF-8, for formats that require UTF-8.
#[must_use]
pub fn lossy(text: &str) -> String {
    text.chars().map(|c| if STAND_INS.contains(&c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The bytes of the text for display, with control characters escaped (see [`escaped`]).
#[must_use]
pub fn shown(text: &str) -> Vec<u8> {
    bytes(&escaped(text))
}

/// The text with control characters written as `\x1b`: they could move a terminal's cursor or forge a line of
/// the log. Tabs and newlines stay.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    let is_safe = |character: char| !character.is_ascii_control() || matches!(character, '\t' | '\n');
    if text.chars().all(is_safe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 3);
    for character in text.chars() {
        if is_safe(character) {
            safe.push(character);
        } else {
            let _ = write!(safe, "\\x{:02x}", u32::from(character));
        }
    }
    Cow::Owned(safe)
}

/// The longest start of the text that is at most `most` original bytes long; no character is split.
#[must_use]
pub fn cut(text: &str, most: usize) -> &str {
    let mut length = 0;
    let beyond = text.char_indices().find(|(_, character)| {
        length += if byte_of(*character).is_some() { 1 } else { character.len_utf8() };
        length > most
    });
    beyond.and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

/// The byte of a stand-in; `None` for other characters.
fn byte_of(character: char) -> Option<u8> {
    STAND_INS.contains(&character).then(|| u8::try_from(u32::from(character) - OFFSET).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_finds_its_way_back() {
        let samples: [&[u8]; 7] = [
            b"plain",
            "Tür €".as_bytes(),
            b"T\xfcr",
            b"\xff\xfe\x80",
            "\u{ef80}\u{efff}\u{e000}".as_bytes(),
            b"\xee\xbe",
            b"",
        ];
        for sample in samples {
            assert_eq!(bytes(&text(sample)), sample);
        }
        assert!(matches!(text(b"plain"), Cow::Borrowed(_)));
        assert_ne!(text(b"\xff"), text("\u{efff}".as_bytes()));
    }

    #[test]
    fn control_characters_are_shown_as_numbers() {
        assert_eq!(shown("a\tb\n"), b"a\tb\n");
        assert_eq!(shown(&text(b"\x1b[2J\x7f\xfc\r")), b"\\x1b[2J\\x7f\xfc\\x0d");
    }

    #[test]
    fn cutting_counts_bytes() {
        assert_eq!(cut(&text(b"\xfc\xfc\xfc"), 2), text(b"\xfc\xfc"));
        assert_eq!(cut("aü", 2), "a");
        assert_eq!(cut("aü", 3), "aü");
    }
}
