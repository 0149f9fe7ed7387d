//! Parses a knockd.conf into doors and options.
//!
//! Nothing here opens a file: the caller's [`Reading`] supplies the files that the text names.
//!
//! [`syntax`] splits the text into lines, [`directives`] is the table of all directives, a draft collects the
//! lines of a section, and this file builds a [`Config`] from them.

pub mod access;
pub mod directives;
mod draft;
pub mod fwknop;
mod hint;
mod include;
mod options;
mod problem;
mod readers;
mod reading;
pub mod redact;
mod spa;
mod spa_readers;
pub mod summary;
pub mod syntax;
mod value;
mod warnings;

use std::path::Path;
use std::sync::Arc;

use litemap::LiteMap;

use crate::door::Door;
use crate::door::lock::Lock;
use crate::door::tries::Tries;
use crate::octets::{self, cut};

pub use draft::{DEFAULT_CMD_TIMEOUT, DEFAULT_SEQ_TIMEOUT};
pub use include::includes;
pub use options::{DEFAULT_STATE_FILE, LogFormat, Options, Sandbox, StateFiles, StatusSocket};
pub use problem::{ConfigError, Problem};
pub use reading::{Note, Reading};
pub use warnings::Warning;

use directives::{Place, Read, find};
use draft::Draft;
use syntax::Item;
use value::Value;
use warnings::{Entry, Section};

/// The debug output shows this many bytes of a section's name, as in knockd 0.8.
const SECTION_NAME: usize = 254;
/// The log shows this many bytes of a door's name, as in knockd 0.8.
const DOOR_NAME: usize = 127;

/// A parsed configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The values of `[options]`.
    pub options: Options,
    /// The doors, in the order of the file.
    pub doors: Vec<Door>,
    /// Warnings about lines whose effect is probably not intended.
    written: Vec<Warning>,
}

impl Config {
    /// Parses a configuration of one file.
    ///
    /// # Errors
    /// The first error in the text.
    pub fn parse(text: &[u8], reading: Reading<'_>) -> Result<Config, ConfigError> {
        Config::parse_all(&[(None, text)], reading)
    }

    /// Parses a configuration of several files. Each file starts outside of any section. Included files have
    /// a path, the first one has none.
    ///
    /// # Errors
    /// The first error in the text.
    pub fn parse_all<'a>(
        files: &[(Option<&'a Path>, &'a [u8])],
        mut reading: Reading<'_>,
    ) -> Result<Config, ConfigError> {
        let mut options = Options::default();
        let mut drafts: Vec<Draft<'a>> = Vec::new();
        let mut place = None;
        let mut section = Section { door: None, entries: Vec::new() };
        let mut written = Vec::new();
        let mut continues = false;
        let lines = files.iter().flat_map(|&(file, text)| {
            let items = syntax::items(text).enumerate();
            items.map(move |(index, (line, item))| (file, index == 0, line, item))
        });
        for (file, is_first, line, item) in lines {
            place = place.filter(|_| !is_first);
            let at = |problem| ConfigError { file: file.map(Path::to_owned), line, problem };
            let (key, value) = match item {
                Item::TooLong => return Err(at(Problem::TooLong)),
                Item::Section(name) => {
                    let name = octets::text(name);
                    let shown = cut(&name, SECTION_NAME);
                    written.extend(warnings::about_section(&section));
                    section.entries.clear();
                    section.door = (shown != "options").then(|| cut(shown, DOOR_NAME).to_owned());
                    reading.understood(format!("config: new section: '{shown}'"));
                    place = Some(match shown {
                        "" => return Err(at(Problem::SectionName)),
                        "options" => Place::Options,
                        door => {
                            drafts.push(Draft::new(cut(door, DOOR_NAME), file, line));
                            Place::Door
                        }
                    });
                    continue;
                }
                Item::Entry(key, value) => (key, Some(value)),
                Item::Word(word) => (word, None),
            };
            let Some(place) = place else { return Err(at(Problem::OutsideSection(hint::outside(key)))) };
            let continues = std::mem::replace(&mut continues, value.unwrap_or(key).ends_with(b"\\"));
            let directive = find(key, place, value.is_some()).ok_or_else(|| {
                let context = hint::Context { place, door: section.door.as_deref(), continues };
                at(Problem::Syntax(hint::reason(key, value, &context)))
            })?;
            let value = Value::new(directive.name, value.unwrap_or_default());
            // In [options], the last draft belongs to an earlier section.
            let mut draft = drafts.last_mut().filter(|_| place == Place::Door);
            match (directive.read, &mut draft) {
                (Read::Option(read), _) => read(&mut options, &value, &mut reading),
                (Read::Door(read), Some(draft)) => read(draft, &value, &mut reading),
                (Read::Door(_), None) => {
                    Err(Problem::Syntax(format!("{} belongs in the section of a door", directive.name)))
                }
                (Read::Rule(read), Some(draft)) => draft.add_rule(read, value),
                (Read::Rule(read), None) => read(&mut options.rules, &value),
            }
            .map_err(at)?;
            section.entries.push(Entry { directive, value, line });
            if let Some(line) = directive.line(draft.map(|draft| draft.name.as_str()), &value) {
                reading.understood(line);
            }
        }
        written.extend(warnings::about_section(&section));
        let all_doors = Arc::new(options.rules.clone());
        let places: Vec<(Option<&Path>, usize)> =
            drafts.iter().map(|draft| (draft.file, draft.line)).collect();
        let doors = drafts.into_iter().map(|draft| draft.finish(&options, &all_doors));
        let mut doors = doors.collect::<Result<Vec<_>, _>>()?;
        // collect() reuses the allocation of the drafts, which are larger than doors.
        doors.shrink_to_fit();
        if let Some((at, problem)) = shared_seed(&doors) {
            let (file, line) = places.get(at).copied().unwrap_or_default();
            return Err(ConfigError { file: file.map(Path::to_owned), line, problem });
        }
        share_tries(&mut doors);
        Ok(Config { options, doors, written })
    }

    /// Warnings about probable mistakes. The daemon starts nevertheless.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = self.written.clone();
        warnings.extend(warnings::about_options(&self.options, &self.doors));
        warnings.extend(warnings::about_doors(&self.doors));
        warnings
    }

    /// Remarks for `--check` only, about doors that are weaker than they could be, as many doors in use are.
    #[must_use]
    pub fn remarks(&self) -> Vec<Warning> {
        warnings::remarks(&self.doors)
    }

    /// Whether the text contains secrets, which is true of every door.
    #[must_use]
    pub fn holds_secrets(&self) -> bool {
        !self.doors.is_empty()
    }
}

/// Divides the memory for guesses of one-time passwords among all doors that have them.
fn share_tries(doors: &mut [Door]) {
    let is_otp = |door: &&Door| matches!(door.lock, Lock::Otp(_));
    let locks = doors.iter().filter(is_otp).count();
    for door in doors {
        if let Lock::Otp(lock) = &mut door.lock {
            lock.tries = Tries::shared_by(locks);
        }
    }
}

/// The first door with the same seed as an earlier door of another name: a list overheard at one would open
/// the other. Doors of the same name count as one door.
fn shared_seed(doors: &[Door]) -> Option<(usize, Problem)> {
    let locks = doors.iter().enumerate().filter_map(|(at, door)| match &door.lock {
        Lock::Otp(lock) => Some((at, &door.name, &lock.otp)),
        Lock::Fixed(_) | Lock::OneTime(_) | Lock::Spa(_) => None,
    });
    let mut known = LiteMap::<_, &Arc<str>>::new();
    for (at, name, otp) in locks {
        let other = *known.entry(otp.seed().fingerprint()).or_insert(name);
        if other != name {
            return Some((at, Problem::SharedSeed(name.to_string(), other.to_string())));
        }
    }
    None
}
