//! Writes JSON (RFC 8259), for the status and the log.

use std::fmt::Write;

use crate::octets;

/// A text as a quoted JSON string. Control characters, quotes and backslashes are escaped; bytes that are not
/// UTF-8 become U+FFFD.
#[must_use]
pub fn string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in octets::lossy(text).chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// An object with these members; the values are JSON already.
#[must_use]
pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let members: Vec<String> =
        members.into_iter().map(|(name, value)| format!("{}:{value}", string(name))).collect();
    format!("{{{}}}", members.join(","))
}

/// An array of these values, which are JSON already.
#[must_use]
pub fn array(values: &[String]) -> String {
    format!("[{}]", values.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_text_holds_stays_inside_its_quotes() {
        assert_eq!(string("a\"b\\c\n\u{1b}[31m\u{7f}é"), r#""a\"b\\c\n\u001b[31m\u007fé""#);
        assert_eq!(object([("a", "1".to_owned()), ("b", array(&[string("x")]))]), r#"{"a":1,"b":["x"]}"#);
    }
}
