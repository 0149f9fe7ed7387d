//! `knock.conf`: profiles in the grammar of knockd.conf.
//!
//! A section is a profile. Its settings are the long options of `knock`, and what otherwise stands on
//! the command line: host and sequence. This module does not know what options there are.

use std::fmt;

use zeroize::Zeroizing;

use crate::config::syntax::{self, Item};

/// One profile.
#[derive(Clone, PartialEq, Eq)]
pub struct Profile {
    /// The name of the section.
    pub name: String,
    /// The line of its heading, from 1.
    pub line: usize,
    /// Its settings, in the order of the file.
    pub settings: Vec<Setting>,
    /// The first mistake in the section; the profile must not be used if there is one.
    pub mistake: Option<ProfileError>,
}

/// One setting of a profile.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// The line of the file, from 1.
    pub line: usize,
    /// The name in lower case, with `-` for `_`.
    pub key: String,
    value: Option<Zeroizing<String>>,
}

impl Setting {
    /// Reads a setting; `None` if it is not UTF-8.
    fn read(line: usize, key: &[u8], value: Option<&[u8]>) -> Option<Setting> {
        let key = str::from_utf8(key).ok()?.to_ascii_lowercase().replace('_', "-");
        let value = value.map(str::from_utf8).transpose().ok()?;
        Some(Setting { line, key, value: value.map(|value| Zeroizing::new(value.to_owned())) })
    }

    /// The text after the `=`, if there is one.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.value.as_ref().map(|value| value.as_str())
    }
}

impl Profile {
    /// The last setting with this name.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().rfind(|setting| setting.key == key)
    }

    /// The host to knock at: the setting `host`, or else the name of the profile.
    #[must_use]
    pub fn host(&self) -> &str {
        self.setting("host").and_then(Setting::value).unwrap_or(&self.name)
    }
}

/// What is wrong with a profile or a whole file. No message repeats a value: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileError {
    /// The line of the file, from 1.
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

/// The name that was probably meant: at most two letters were added, left out, replaced
/// or swapped.
pub fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const MOST: usize = 2;
    let near = names.map(|name| (strsim::osa_distance(typed, name), name));
    near.filter(|(distance, name)| *distance <= MOST && *distance < name.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Reads a profile file. A mistake within one section is recorded in its profile.
///
/// # Errors
/// It is unclear which setting belongs to which section: a line before the first section, a heading
/// without a name or not in UTF-8, a line that is neither a heading, a setting nor a single word.
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
