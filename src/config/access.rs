//! Parses access.conf, the file of fwknop's daemon, into the lock of a door: each stanza is an encryption key
//! and an HMAC key with the terms for their use.
//!
//! A stanza that asks for something this daemon does not support is an error: no stanza is followed in part.
//! Every line is explained, so that users who move from fwknop see its effect. Keys are never shown.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::fwknop::{KeyDraft, entry, is_yes, shown_name};
use crate::config::reading::{Note, Reading};
use crate::config::syntax::trim;
use crate::door::rules::Prefixes;
use crate::door::spa::fields;
use crate::door::spa::request::{RequestablePorts, Terms};
use crate::octets;

/// The time in seconds for which fwknopd opens ports by default.
const DEFAULT_TIMEOUT: u32 = 30;
/// fwknopd's default limit in seconds on the time that a packet may ask for.
const DEFAULT_MAX_TIMEOUT: u32 = 300;
/// The deepest nesting of `%include`.
const MAX_DEPTH: u8 = 4;

/// Why an access.conf cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessError {
    /// The file.
    pub file: PathBuf,
    /// The line number, counted from 1; for a fault of a whole stanza, the line of its SOURCE.
    pub line: usize,
    /// What is wrong, in words.
    pub problem: String,
}

/// A stanza while it is parsed.
struct Stanza {
    line: (PathBuf, usize),
    keys: KeyDraft,
    sources: Option<Prefixes>,
    destinations: Option<Prefixes>,
    open: Option<RequestablePorts>,
    restricted: RequestablePorts,
    user: Option<String>,
    requires_source: bool,
    timeout: u32,
    max_timeout: u32,
    expires: Option<u64>,
    /// The stanza names `GnuPG` keys, which are not supported.
    has_gpg: bool,
}

/// A file while it is parsed: its stanzas, and the first error.
struct Access<'r, 'n> {
    reading: &'r mut Reading<'n>,
    stanzas: Vec<Stanza>,
    error: Option<AccessError>,
}

/// Parses an access.conf and the files that it includes.
///
/// # Errors
/// The first error; all of them were reported as notes.
pub fn read(path: &Path, reading: &mut Reading<'_>) -> Result<Vec<Terms>, AccessError> {
    let mut access = Access { reading, stanzas: Vec::new(), error: None };
    access.file(path, (path, 0), 0);
    let stanzas = std::mem::take(&mut access.stanzas);
    if stanzas.is_empty() {
        access.refuse(path, 0, "", "there is no SOURCE, so nobody may open the door");
    }
    let mut terms = Vec::new();
    for stanza in stanzas {
        let (file, line) = stanza.line.clone();
        match stanza.finish() {
            Ok(one) => terms.push(one),
            Err(problem) => access.refuse(&file, line, "the stanza from here on", &problem),
        }
    }
    match access.error {
        Some(error) => Err(error),
        None => Ok(terms),
    }
}

impl Access<'_, '_> {
    /// Parses one file; `named` is the file and line that include it.
    fn file(&mut self, path: &Path, named: (&Path, usize), depth: u8) {
        let text = match (self.reading.file)(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) => {
                let why = crate::reason::reason(&error);
                return self.refuse(
                    named.0,
                    named.1,
                    "",
                    &format!("cannot read {}: {why}", octets::path(path)),
                );
            }
        };
        for (index, raw) in text.split(|&byte| byte == b'\n').enumerate() {
            let (line, raw) = (index + 1, trim(raw));
            if matches!(raw, [] | [b'#' | b';', ..]) {
                continue;
            }
            let (name, value) = entry(raw);
            let name = octets::text(name).into_owned();
            match name.as_str() {
                "%include" if depth < MAX_DEPTH => {
                    let included = PathBuf::from(octets::text(value).as_ref());
                    self.explain(path, line, &name, "the lines of that file");
                    self.file(&included, (path, line), depth + 1);
                }
                "%include" => self.refuse(path, line, &name, "files include each other too deep"),
                _ if name.starts_with('%') => {
                    self.refuse(
                        path,
                        line,
                        shown_name(&name, value),
                        "is not supported: name each file with %include",
                    );
                }
                "SOURCE" => match prefixes(value) {
                    Ok(sources) => {
                        let whose = if sources.is_some() { "these addresses" } else { "every address" };
                        self.explain(
                            path,
                            line,
                            &name,
                            &format!("packets from {whose}, with the keys that follow"),
                        );
                        self.stanzas.push(Stanza::new((path.to_owned(), line), sources));
                    }
                    Err(problem) => {
                        self.refuse(path, line, &name, problem);
                        self.stanzas.push(Stanza::new((path.to_owned(), line), None));
                    }
                },
                _ => self.line(path, line, &name, value),
            }
        }
    }

    /// Parses a line inside a stanza.
    fn line(&mut self, path: &Path, line: usize, name: &str, value: &[u8]) {
        let Some(stanza) = self.stanzas.last_mut() else {
            return self.refuse(path, line, shown_name(name, value), "stands before the first SOURCE");
        };
        let shown = shown_name(name, value);
        match stanza.read(name, value) {
            Ok(said) => self.explain(path, line, shown, &said),
            Err(problem) => self.refuse(path, line, shown, &problem),
        }
    }

    fn explain(&mut self, path: &Path, line: usize, name: &str, said: &str) {
        (self.reading.note)(Note::Explained(format!("{}: line {line}: {name}: {said}", octets::path(path))));
    }

    fn refuse(&mut self, path: &Path, line: usize, name: &str, problem: &str) {
        let problem = if name.is_empty() { problem.to_owned() } else { format!("{name}: {problem}") };
        (self.reading.note)(Note::Explained(format!(
            "{}: line {line}: refused: {problem}",
            octets::path(path)
        )));
        self.error.get_or_insert(AccessError { file: path.to_owned(), line, problem });
    }
}

impl Stanza {
    fn new(line: (PathBuf, usize), sources: Option<Prefixes>) -> Stanza {
        Stanza {
            line,
            keys: KeyDraft::default(),
            sources,
            destinations: None,
            open: None,
            restricted: RequestablePorts::default(),
            user: None,
            requires_source: false,
            timeout: DEFAULT_TIMEOUT,
            max_timeout: DEFAULT_MAX_TIMEOUT,
            expires: None,
            has_gpg: false,
        }
    }

    /// Parses an entry and returns an explanation of its effect.
    fn read(&mut self, name: &str, value: &[u8]) -> Result<String, String> {
        if let Some(outcome) = self.keys.read(name, value) {
            outcome?;
            let key = match name {
                "HMAC_DIGEST_TYPE" => "the digest of the HMAC",
                "HMAC_KEY" | "HMAC_KEY_BASE64" => "the key of the HMAC (not shown)",
                _ => "the encryption key (not shown)",
            };
            return Ok(key.to_owned());
        }
        let text = octets::text(value);
        Ok(match name {
            "DESTINATION" => {
                self.destinations = prefixes(value)?;
                if self.destinations.is_some() {
                    "packets to these addresses"
                } else {
                    "packets to every address"
                }
                .to_owned()
            }
            "OPEN_PORTS" => {
                self.open = Some(grants(&text)?);
                format!("may ask for {text}")
            }
            "RESTRICT_PORTS" => {
                self.restricted = grants(&text)?;
                format!("may not ask for {text}")
            }
            "REQUIRE_USERNAME" => {
                self.user = Some(text.as_ref().to_owned());
                "only packets of this user".to_owned()
            }
            "REQUIRE_SOURCE_ADDRESS" => {
                self.requires_source = is_yes(value);
                if self.requires_source {
                    "a packet must name the address to let in"
                } else {
                    "no is the default"
                }
                .to_owned()
            }
            "FW_ACCESS_TIMEOUT" => {
                self.timeout = seconds(&text)?;
                format!("open for {} s, unless the packet says otherwise", self.timeout)
            }
            "MAX_FW_TIMEOUT" => {
                self.max_timeout = seconds(&text)?;
                format!("open for {} s at most", self.max_timeout)
            }
            "ACCESS_EXPIRE" => {
                self.expires = Some(date(&text).ok_or("is not a date as MM/DD/YYYY")?);
                "nothing is taken from that day on (midnight UTC)".to_owned()
            }
            "ACCESS_EXPIRE_EPOCH" => {
                self.expires = Some(text.parse().map_err(|_| "is not a number of seconds")?);
                "nothing is taken from that second on".to_owned()
            }
            "ENCRYPTION_MODE" if !text.eq_ignore_ascii_case("CBC") => {
                return Err("only CBC, fwknop's default, is supported".to_owned());
            }
            "ENCRYPTION_MODE" => "as always".to_owned(),
            "ENABLE_CMD_EXEC" if is_yes(value) => {
                return Err("a packet never brings a command of its own: \
                            give each command a door with a Start_Command"
                    .to_owned());
            }
            "ENABLE_CMD_EXEC" => "no, as always".to_owned(),
            _ if name.starts_with("CMD_CYCLE_") => {
                return Err("the door's Start_Command, Stop_Command and Cmd_Timeout take its place: \
                            they run once for each port"
                    .to_owned());
            }
            "FORCE_NAT" | "FORCE_SNAT" | "FORCE_MASQUERADE" | "FORWARD_ALL" | "DISABLE_DNAT" => {
                return Err(
                    "address translation is not supported: the door's Start_Command can do it".to_owned()
                );
            }
            _ if name.starts_with("GPG_") => {
                self.has_gpg = true;
                "passed over: GnuPG packets are not taken".to_owned()
            }
            _ if name.starts_with("CMD_EXEC_") || name.starts_with("CMD_SUDO_") => {
                "passed over: packets bring no commands".to_owned()
            }
            _ => "not known, passed over as fwknopd does".to_owned(),
        })
    }

    fn finish(self) -> Result<Terms, String> {
        if self.has_gpg && !self.keys.has_key() {
            return Err(
                "GnuPG packets are not supported: give it a KEY_BASE64 and an HMAC_KEY_BASE64".to_owned()
            );
        }
        Ok(Terms {
            keys: self.keys.finish()?,
            open: self.open.unwrap_or_else(RequestablePorts::everything),
            restricted: self.restricted,
            users: self.user.map(|user| vec![user]),
            requires_source: self.requires_source,
            sources: self.sources,
            destinations: self.destinations,
            timeout: Some(self.timeout),
            max_timeout: Some(self.max_timeout),
            expires: self.expires,
        })
    }
}

/// Parses a list of addresses; `None` stands for all addresses (`ANY`).
fn prefixes(value: &[u8]) -> Result<Option<Prefixes>, &'static str> {
    let text = str::from_utf8(value).map_err(|_| "is not text")?;
    if text.eq_ignore_ascii_case("ANY") {
        return Ok(None);
    }
    Prefixes::parse(text).map(Some).ok_or("is neither ANY nor a list of addresses and prefixes")
}

/// Parses a list of ports as fwknop writes them, with or without blanks; fwknop has no ranges.
fn grants(text: &str) -> Result<RequestablePorts, &'static str> {
    let list: Vec<&str> = text.split(',').map(str::trim).collect();
    let ports = fields::ports(&list.join(",").to_ascii_lowercase());
    let ports = ports.ok_or("is not a list of ports such as tcp/22, udp/53 (fwknop has no ranges)")?;
    Ok(ports.into_iter().collect())
}

fn seconds(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "is not a number of seconds")
}

/// Converts `MM/DD/YYYY` to seconds since 1970-01-01, at midnight UTC.
fn date(text: &str) -> Option<u64> {
    let mut parts = text.split('/').map(str::parse::<u64>);
    let (month, day, year) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    if parts.next().is_some()
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || !(1970..=9999).contains(&year)
    {
        return None;
    }
    // Count years from March, so that a leap day is the last day of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day;
    // 1 January 1970 in this count.
    days.checked_sub(719_469)?.checked_mul(86_400)
}
