//! A knockd.conf, from text to doors.
//!
//! Pure: it opens no file by itself; the one-time sequence files that a text names are read through
//! the [`Reading`] that the caller hands in.

pub mod directives;
mod problem;
pub mod rules;
pub mod syntax;
mod warnings;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::door::knock::FlagRule;
use crate::door::lock::Lock;
use crate::door::otp::Digest;
use crate::door::rules::Rules;
use crate::door::{Door, Reopen, Template};
use crate::engine::MAX_ATTEMPTS;
use crate::filter::interfaces::Wanted;

pub use problem::{ConfigError, Problem};

use directives::{Place, Read, find};
use rules::RulesDraft;
use syntax::Item;

/// Seconds an attempt may take where the configuration is silent.
pub const DEFAULT_SEQ_TIMEOUT: i32 = 25;
/// Seconds a door stays open where the configuration is silent.
pub const DEFAULT_CMD_TIMEOUT: i32 = 10;

/// Bytes of a section's name that the debug output shows, and that the log shows.
const SECTION_NAME: usize = 254;
const DOOR_NAME: usize = 127;

/// What `[options]` says; nothing where it is silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `LogFile`.
    pub log_file: Option<PathBuf>,
    /// `PidFile`.
    pub pid_file: Option<PathBuf>,
    /// `Interface`.
    pub interface: Option<Wanted>,
    /// `Wait_Interface`.
    pub wait_interface: Option<bool>,
    /// `UseSyslog`.
    pub use_syslog: bool,
    /// `StateFile`.
    pub state_file: Option<PathBuf>,
    /// `On_Start`: run when the daemon listens.
    pub on_start: Option<Vec<u8>>,
    /// `On_Stop`: run when it ends in good order.
    pub on_stop: Option<Vec<u8>>,
    /// `Command_Timeout`: how long a command may take.
    pub command_timeout: Option<Duration>,
    /// `Max_Attempts`: how many attempts are remembered.
    pub max_attempts: Option<usize>,
    /// The rules of all doors that have none of their own.
    pub rules: RulesDraft,
}

impl Options {
    /// Where the state file is: beside the pid file, if nothing is said.
    #[must_use]
    pub fn state_file(&self, default_pid_file: &Path) -> PathBuf {
        self.state_file.clone().unwrap_or_else(|| {
            let mut path = self.pid_file.as_deref().unwrap_or(default_pid_file).as_os_str().to_owned();
            path.push(".state");
            path.into()
        })
    }

    /// These in the place of earlier ones (SIGHUP): what the file does not name of the daemon itself
    /// stays as it was, as with knockd 0.8.
    #[must_use]
    pub fn following(self, earlier: &Options) -> Options {
        Options {
            log_file: self.log_file.or_else(|| earlier.log_file.clone()),
            pid_file: self.pid_file.or_else(|| earlier.pid_file.clone()),
            interface: self.interface.or_else(|| earlier.interface.clone()),
            wait_interface: self.wait_interface.or(earlier.wait_interface),
            use_syslog: self.use_syslog || earlier.use_syslog,
            ..self
        }
    }

    /// How many attempts are remembered.
    #[must_use]
    pub fn max_attempts(&self) -> usize {
        self.max_attempts.unwrap_or(MAX_ATTEMPTS)
    }
}

/// A whole configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What `[options]` says.
    pub options: Options,
    /// The doors, in the order of the file.
    pub doors: Vec<Door>,
}

/// Something to tell while a configuration is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// For the debug output: what was understood.
    Understood(String),
    /// For standard error: something was left out.
    LeftOut(String),
}

/// What the parser needs from outside.
pub struct Reading<'a> {
    /// Gives the content of a file.
    pub file: &'a mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
    /// Is told what was understood, line by line.
    pub note: &'a mut dyn FnMut(Note),
    /// The command line names an interface: the file's is passed over without a word.
    pub interface_is_given: bool,
}

impl Reading<'_> {
    pub(crate) fn understood(&mut self, text: String) {
        (self.note)(Note::Understood(text));
    }
}

/// A door that is being read.
#[derive(Debug)]
pub struct Draft {
    pub(crate) name: String,
    pub(crate) file: Option<PathBuf>,
    pub(crate) line: usize,
    pub(crate) lock: Option<Lock>,
    pub(crate) otp_window: Option<u16>,
    pub(crate) otp_reuse: Option<bool>,
    pub(crate) otp_digest: Option<Digest>,
    pub(crate) seq_timeout: i32,
    pub(crate) flags: FlagRule,
    /// What few doors have is boxed: there may be thousands of doors.
    pub(crate) rules: Option<Box<RulesDraft>>,
    pub(crate) target: Option<std::net::IpAddr>,
    pub(crate) start: Option<Template>,
    pub(crate) start6: Option<Template>,
    pub(crate) stop: Option<Template>,
    pub(crate) stop6: Option<Template>,
    pub(crate) cmd_timeout: i32,
    pub(crate) reopen: Reopen,
    /// Seconds; 0 is no limit.
    pub(crate) command_timeout: Option<Duration>,
}

impl Draft {
    fn new(name: &str, file: Option<&Path>, line: usize) -> Draft {
        Draft {
            name: cut(name, DOOR_NAME).to_owned(),
            file: file.map(Path::to_owned),
            line,
            lock: None,
            otp_window: None,
            otp_reuse: None,
            otp_digest: None,
            seq_timeout: DEFAULT_SEQ_TIMEOUT,
            flags: FlagRule::default(),
            rules: None,
            target: None,
            start: None,
            start6: None,
            stop: None,
            stop6: None,
            cmd_timeout: DEFAULT_CMD_TIMEOUT,
            reopen: Reopen::default(),
            command_timeout: None,
        }
    }

    /// The door; `rules` are those of all doors, for one that has none of its own.
    fn finish(self, options: &Options, rules: &Arc<Rules>) -> Result<Door, ConfigError> {
        let (file, line) = (self.file, self.line);
        let fail = |problem| ConfigError { file, line, problem };
        let Some(mut lock) = self.lock else { return Err(fail(Problem::NoSequence(self.name))) };
        if let Lock::Otp(lock) = &mut lock {
            lock.otp.window = self.otp_window.unwrap_or(lock.otp.window);
            lock.otp.digest = self.otp_digest.unwrap_or(lock.otp.digest);
            lock.is_reusable = self.otp_reuse.unwrap_or(lock.is_reusable);
        } else if (self.otp_window, self.otp_reuse, self.otp_digest) != (None, None, None) {
            return Err(fail(Problem::NoOtp(self.name)));
        }
        Ok(Door {
            name: Arc::from(self.name),
            lock,
            seq_timeout: self.seq_timeout,
            flags: self.flags,
            rules: self
                .rules
                .map_or_else(|| Arc::clone(rules), |own| Arc::new(own.or(&options.rules).into())),
            target: self.target,
            start: self.start,
            start6: self.start6,
            stop: self.stop,
            stop6: self.stop6,
            cmd_timeout: self.cmd_timeout,
            reopen: self.reopen,
            command_timeout: self
                .command_timeout
                .or(options.command_timeout)
                .filter(|limit| !limit.is_zero()),
        })
    }
}

/// The first `bytes` bytes of a name, or a little less where that would cut a character in two.
fn cut(name: &str, bytes: usize) -> &str {
    name.get(..name.floor_char_boundary(bytes)).unwrap_or(name)
}

impl Config {
    /// Reads a configuration of one file.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &[u8], reading: Reading<'_>) -> Result<Config, ConfigError> {
        Config::parse_all([(None, text)], reading)
    }

    /// Reads a configuration of several files, each of which begins without a section; those that
    /// are included have a name.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse_all<'a>(
        files: impl IntoIterator<Item = (Option<&'a Path>, &'a [u8])>,
        mut reading: Reading<'_>,
    ) -> Result<Config, ConfigError> {
        let mut options = Options::default();
        let mut drafts: Vec<Draft> = Vec::new();
        let mut place = None;
        let lines = files.into_iter().flat_map(|(file, text)| {
            let items = syntax::items(text).enumerate();
            items.map(move |(index, (line, item))| (file, index == 0, line, item))
        });
        for (file, is_first, line, item) in lines {
            place = place.filter(|_| !is_first);
            let at = |problem| ConfigError { file: file.map(Path::to_owned), line, problem };
            let (key, value) = match item {
                Item::TooLong => return Err(at(Problem::TooLong)),
                Item::Section(name) => {
                    let name = String::from_utf8_lossy(name);
                    let shown = cut(&name, SECTION_NAME);
                    reading.understood(format!("config: new section: '{shown}'"));
                    place = Some(match shown {
                        "" => return Err(at(Problem::SectionName)),
                        "options" => Place::Options,
                        door => {
                            drafts.push(Draft::new(door, file, line));
                            Place::Door
                        }
                    });
                    continue;
                }
                Item::Entry(key, value) => (key, Some(value)),
                Item::Word(word) => (word, None),
            };
            let Some(place) = place else { return Err(at(Problem::OutsideSection)) };
            let directive = find(key, place, value.is_some()).ok_or_else(|| at(Problem::Syntax))?;
            let value = value.unwrap_or_default();
            match directive.read {
                Read::Option(read) => read(&mut options, value, &mut reading),
                Read::Door(read) => match drafts.last_mut() {
                    Some(draft) => read(draft, value, &mut reading),
                    None => Err(Problem::Syntax),
                },
                Read::Rule(read) => {
                    let text = String::from_utf8_lossy(value);
                    let (rules, whose) = match (place, drafts.last_mut()) {
                        (Place::Door, Some(draft)) => {
                            (&mut **draft.rules.get_or_insert_default(), format!("{}: ", draft.name))
                        }
                        _ => (&mut options.rules, String::new()),
                    };
                    let name = directive.name.to_ascii_lowercase();
                    read(rules, &text).map(|()| reading.understood(format!("config: {whose}{name}: {text}")))
                }
            }
            .map_err(at)?;
        }
        let rules = Arc::new(options.rules.clone().into());
        let doors = drafts.into_iter().map(|draft| draft.finish(&options, &rules));
        let mut doors = doors.collect::<Result<Vec<_>, _>>()?;
        // They were made where the drafts were, which take more room.
        doors.shrink_to_fit();
        Ok(Config { options, doors })
    }
}

/// What the `[options]` of a file include: the number of the line, and a pattern.
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
