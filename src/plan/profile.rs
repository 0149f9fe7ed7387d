//! Parses `knock.conf`: profiles in the grammar of knockd.conf.
//!
//! A section is a profile. Its settings are the long options of `knock`, and the host and sequence that
//! otherwise appear on the command line. This module does not know the options.

use std::fmt;

use zeroize::Zeroizing;

use crate::config::syntax::{self, Item};

/// One profile.
#[derive(Clone, PartialEq, Eq)]
pub struct Profile {
    /// The name of the section.
    pub name: String,
    /// The line of its heading, counted from 1.
    pub line: usize,
    /// Its settings, in the order of the file.
    pub settings: Vec<Setting>,
    /// The first mistake in the section; a profile with a mistake must not be used.
    pub mistake: Option<ProfileError>,
}

/// One setting of a profile.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// The line number, counted from 1.
    pub line: usize,
    /// The name in lower case, with `-` in place of `_`.
    pub key: String,
    value: Option<Zeroizing<String>>,
}

impl Setting {
    /// Parses a setting; `None` if it is not UTF-8.
    fn read(line: usize, key: &[u8], value: Option<&[u8]>) -> Option<Setting> {
        let key = str::from_utf8(key).ok()?.to_ascii_lowercase().replace('_', "-");
        let value = value.map(str::from_utf8).transpose().ok()?;
        Some(Setting { line, key, value: value.map(|value| Zeroizing::new(value.to_owned())) })
    }

    /// The text after the `=`; `None` for a single word.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.value.as_ref().map(|value| value.as_str())
    }
}

impl Profile {
    /// The last setting of this name.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().rfind(|setting| setting.key == key)
    }

    /// The host to knock at: the setting `host`, or the name of the profile.
    #[must_use]
    pub fn host(&self) -> &str {
        self.setting("host").and_then(Setting::value).unwrap_or(&self.name)
    }
}

/// An error in a profile or a whole file. No message repeats a value: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileError {
    /// The line number, counted from 1.
    pub line: usize,
    /// The message.
    pub problem: &'static str,
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for ProfileError {}

/// The name closest to the typed one: at most two characters added, omitted, replaced or swapped.
pub fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const MAX_DISTANCE: usize = 2;
    let near = names.map(|name| (strsim::osa_distance(typed, name), name));
    near.filter(|(distance, name)| *distance <= MAX_DISTANCE && *distance < name.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Parses a profile file. A mistake inside a section is recorded in its profile.
///
/// # Errors
/// A mistake that makes it unclear which settings belong to which section: a line before the first section, a
/// heading without a name or not in UTF-8, or a line that is neither a heading, a setting nor a single word.
pub fn parse(text: &[u8]) -> Result<Vec<Profile>, ProfileError> {
    let mut profiles: Vec<Profile> = Vec::new();
    for (line, item) in syntax::items(text) {
        let error = |problem| ProfileError { line, problem };
        let (key, value) = match item {
            Item::Section(name) => {
                let name = str::from_utf8(name).map_err(|_| error("the name is not UTF-8"))?;
                if name.is_empty() {
                    return Err(error("bad section name"));
                }
                let is_taken = profiles.iter().any(|profile| profile.name == name);
                let mistake = is_taken.then(|| error("there is an earlier section of this name"));
                profiles.push(Profile { name: name.to_owned(), line, settings: Vec::new(), mistake });
                continue;
            }
            Item::Entry(key, value) => (Ok(key), Some(value)),
            Item::Word(word) if word.iter().any(|byte| is_blank(*byte)) => {
                return Err(error("neither a section nor a setting"));
            }
            Item::Word(key) => (Ok(key), None),
            Item::TooLong => (Err("the line is too long"), None),
        };
        let Some(profile) = profiles.last_mut() else {
            return Err(error("all settings must belong to a section"));
        };
        let setting = key.and_then(|key| Setting::read(line, key, value).ok_or("the line is not UTF-8"));
        match setting {
            Ok(setting) => profile.settings.push(setting),
            Err(problem) => profile.mistake = profile.mistake.take().or(Some(error(problem))),
        }
    }
    Ok(profiles)
}

fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}
