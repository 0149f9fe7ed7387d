//! `knock.conf`: targets by name, in the grammar of knockd.conf.
//!
//! A section is a target; its entries are the long options of `knock` by their names, and what
//! stands on the command line otherwise: the host and its sequence. What an option means is not
//! known here.

use std::fmt;

use zeroize::Zeroizing;

use crate::config::syntax::{self, Item};

/// One target.
#[derive(Clone, PartialEq, Eq)]
pub struct Profile {
    /// The name of the section.
    pub name: String,
    /// The line of its heading, from 1.
    pub line: usize,
    /// Its entries, in their order in the file.
    pub settings: Vec<Setting>,
}

/// One entry of a profile.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// The line of the file, from 1.
    pub line: usize,
    /// The key in lower case, with `-` for `_`.
    pub key: String,
    value: Option<Zeroizing<String>>,
}

impl Setting {
    /// What stands behind the `=`; nothing where there is none.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.value.as_ref().map(|value| value.as_str())
    }
}

impl Profile {
    /// The last setting of this key.
    #[must_use]
    pub fn setting(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().rfind(|setting| setting.key == key)
    }

    /// The host to knock at: the one named, else the name of the profile.
    #[must_use]
    pub fn host(&self) -> &str {
        self.setting("host").and_then(Setting::value).unwrap_or(&self.name)
    }
}

/// What is wrong with a profile file. Values appear in no message: they may be secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileError {
    /// The line of the file, from 1.
    pub line: usize,
    /// In words.
    pub problem: &'static str,
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}

impl std::error::Error for ProfileError {}

/// Reads a profile file.
///
/// # Errors
/// Lines before the first section, sections without a name or with the name of an earlier one, lines
/// that are too long or not UTF-8.
pub fn parse(text: &[u8]) -> Result<Vec<Profile>, ProfileError> {
    let mut profiles: Vec<Profile> = Vec::new();
    for (line, item) in syntax::items(text) {
        let refuse = |problem| Err(ProfileError { line, problem });
        let (key, value) = match item {
            Item::TooLong => return refuse("the line is too long"),
            Item::Section(name) => {
                let Ok(name) = str::from_utf8(name) else { return refuse("the name is not UTF-8") };
                if name.is_empty() {
                    return refuse("bad section name");
                }
                if profiles.iter().any(|profile| profile.name == name) {
                    return refuse("there is an earlier section of this name");
                }
                profiles.push(Profile { name: name.to_owned(), line, settings: Vec::new() });
                continue;
            }
            Item::Entry(key, value) => (key, Some(value)),
            Item::Word(key) => (key, None),
        };
        let Some(profile) = profiles.last_mut() else {
            return refuse("all settings must belong to a section");
        };
        let (Ok(key), Ok(value)) = (str::from_utf8(key), value.map(str::from_utf8).transpose()) else {
            return refuse("the line is not UTF-8");
        };
        let key = key.to_ascii_lowercase().replace('_', "-");
        profile.settings.push(Setting {
            line,
            key,
            value: value.map(|value| Zeroizing::new(value.to_owned())),
        });
    }
    Ok(profiles)
}
