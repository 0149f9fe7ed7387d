//! The syntax that fwknop's two files share (access.conf of its daemon, .fwknoprc of its client): lines of a
//! name and a value, keys, and yes or no.
//!
//! Derived from fwknop's manual pages and the observed behaviour of its programs. No error message repeats a
//! value: it may be a key.

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use zeroize::Zeroizing;

use crate::config::syntax::trim;
use crate::door::digest::Digest;
use crate::door::spa::sealed::Keys;

/// The placeholder for keys in fwknop's example file.
const PLACEHOLDER: &[u8] = b"__CHANGEME__";

/// Splits a line `NAME VALUE`, which has blanks or colons in between and may end with a `;`.
///
/// The name ends before the first blank or colon. The value is the rest, trimmed of blanks.
#[must_use]
pub fn entry(line: &[u8]) -> (&[u8], &[u8]) {
    let is_between = |byte: &u8| matches!(byte, b' ' | b'\t' | b':');
    let line = trim(line);
    let line = trim(line.strip_suffix(b";").unwrap_or(line));
    let end = line.iter().position(is_between).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let begin = rest.iter().position(|byte| !is_between(byte)).unwrap_or(rest.len());
    (name, rest.get(begin..).unwrap_or_default())
}

/// The name of an entry for a message, if it looks like one of fwknop's names and has a value. Any other line
/// may be a key without its name, so it is not shown.
#[must_use]
pub fn shown_name<'a>(name: &'a str, value: &[u8]) -> &'a str {
    let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"_%".contains(&byte);
    if !value.is_empty() && name.bytes().all(is_name) { name } else { "this line" }
}

/// Whether a value means yes; like fwknop, this compares the first letter only.
#[must_use]
pub fn is_yes(value: &[u8]) -> bool {
    value.first().is_some_and(|first| first.eq_ignore_ascii_case(&b'y'))
}

/// Reads a key that is written literally.
///
/// # Errors
/// It is the placeholder of fwknop's example.
pub fn plain_key(value: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    if value == PLACEHOLDER {
        return Err("__CHANGEME__ is no key: make one with 'fwknop --key-gen'");
    }
    Ok(Zeroizing::new(value.to_vec()))
}

/// Decodes a key in base64, with or without padding.
///
/// # Errors
/// It is not base64, or it is the placeholder of fwknop's example.
pub fn base64_key(value: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    plain_key(value)?;
    let digits = str::from_utf8(value).map_err(|_| "the key is not base64")?.trim_end_matches('=');
    BASE64_STANDARD_NO_PAD.decode(digits).map(Zeroizing::new).map_err(|_| "the key is not base64")
}

/// Parses the name of a digest, for the HMAC or for the digest inside a packet.
///
/// # Errors
/// The name is unknown, or SHA-3.
pub fn digest(value: &[u8]) -> Result<Digest, &'static str> {
    let word = String::from_utf8_lossy(value);
    Digest::from_word(&word)
        .ok_or("the digest is not MD5, SHA1, SHA256, SHA384 or SHA512 (SHA-3 is not supported)")
}

/// The keys of a stanza while it is parsed.
#[derive(Clone, Default)]
pub struct KeyDraft {
    key: Option<Zeroizing<Vec<u8>>>,
    key_base64: Option<Zeroizing<Vec<u8>>>,
    hmac_key: Option<Zeroizing<Vec<u8>>>,
    hmac_key_base64: Option<Zeroizing<Vec<u8>>>,
    hmac_digest: Option<Digest>,
}

impl KeyDraft {
    /// Parses an entry with a key or the digest of the HMAC; `None` for any other entry.
    pub fn read(&mut self, name: &str, value: &[u8]) -> Option<Result<(), &'static str>> {
        let (place, key) = match name {
            "KEY" => (&mut self.key, plain_key(value)),
            "KEY_BASE64" => (&mut self.key_base64, base64_key(value)),
            "HMAC_KEY" => (&mut self.hmac_key, plain_key(value)),
            "HMAC_KEY_BASE64" => (&mut self.hmac_key_base64, base64_key(value)),
            "HMAC_DIGEST_TYPE" => {
                return Some(digest(value).map(|digest| self.hmac_digest = Some(digest)));
            }
            _ => return None,
        };
        Some(key.map(|key| *place = Some(key)))
    }

    /// Whether the stanza has an encryption key.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.key.is_some() || self.key_base64.is_some()
    }

    /// Both keys. If a key is given both literally and in base64, the literal one is used.
    ///
    /// # Errors
    /// A key is missing, empty or too long.
    pub fn finish(&self) -> Result<Keys, String> {
        let key =
            self.key.as_ref().or(self.key_base64.as_ref()).ok_or("there is neither KEY nor KEY_BASE64")?;
        let hmac_key = self.hmac_key.as_ref().or(self.hmac_key_base64.as_ref()).ok_or(
            "there is neither HMAC_KEY nor HMAC_KEY_BASE64, and packets without an HMAC are not supported: \
             make one with 'fwknop --key-gen', for both ends",
        )?;
        Keys::new(key, hmac_key, self.hmac_digest.unwrap_or(Digest::Sha256))
            .map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_fwknop_splits_them() {
        for (line, name, value) in [
            ("SOURCE ANY", "SOURCE", "ANY"),
            ("SOURCE\t10.0.0.0/8, 192.0.2.1;", "SOURCE", "10.0.0.0/8, 192.0.2.1"),
            ("  KEY: a b # c ;\r", "KEY", "a b # c"),
            ("KEY:", "KEY", ""),
            ("KEY", "KEY", ""),
            ("", "", ""),
        ] {
            assert_eq!(entry(line.as_bytes()), (name.as_bytes(), value.as_bytes()), "{line}");
        }
    }
}
