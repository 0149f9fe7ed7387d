//! The errors of a configuration, and their messages.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::config::access::AccessError;
use crate::config::syntax;
use crate::door::otp::OtpError;
use crate::door::sequence::SequenceError;
use crate::octets;
use crate::opening::line::exhausted;
use crate::reason::reason;

/// Why a configuration was rejected; its text is the message for the user.
#[derive(Debug)]
pub struct ConfigError {
    /// The included file with the error; `None` for the main file.
    pub file: Option<PathBuf>,
    /// The line of the error, counted from 1.
    pub line: usize,
    /// The error.
    pub problem: Problem,
}

/// An error in a configuration.
#[derive(Debug)]
pub enum Problem {
    /// No such directive in this section; the reason in words.
    Syntax(String),
    /// `[]`.
    SectionName,
    /// A line before the first section; the reason in words.
    OutsideSection(String),
    /// More than [`syntax::MAX_LINE`] bytes.
    TooLong,
    /// An unknown TCP flag, in upper case.
    Flag(String),
    /// A target that is not an address.
    Target(String),
    /// An invalid sequence, with the door's name.
    Sequence(String, SequenceError),
    /// A file that cannot be read.
    Unreadable(PathBuf, io::Error),
    /// A one-time file without a usable line, with the door's name.
    Exhausted(String, PathBuf),
    /// The door of this name has no sequence.
    NoSequence(String),
    /// An invalid one-time password, with the door's name.
    Otp(String, OtpError),
    /// The door of this name has a one-time password and another kind of sequence.
    TwoLocks(String),
    /// A door, by name, has the seed of another one.
    SharedSeed(String, String),
    /// The door of this name has `OTP_…` directives, but no `OTP`.
    NoOtp(String),
    /// A door, by name, whose directives for the firewall contradict each other.
    Open(String, OpenProblem),
    /// An included file, and why it is not readable.
    Include(String, String),
    /// A door, by name, whose single-packet directives are wrong, and why; the text has no key.
    Spa(String, String),
    /// An access.conf with an error.
    Access(AccessError),
    /// A directive, its invalid value, and the values it takes.
    Value(&'static str, String, &'static str),
}

/// Why a door cannot open anything in the firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenProblem {
    /// It has `Open`, but neither a guard nor a set to add addresses to.
    Nowhere,
    /// It has directives that modify `Open`, but no `Open`.
    NothingToOpen,
    /// It would never close, and does not state that this is intended.
    ForEver,
    /// It opens what a packet requests, but its lock takes no packets with requests.
    NothingRequested,
    /// It opens what a packet requests, but the guard must know the ports in advance.
    RequestOfGuard,
}

impl fmt::Display for OpenProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OpenProblem::Nowhere => {
                "open needs a firewall: say guard = yes in [options], or name a set of your own with nft_set"
            }
            OpenProblem::NothingToOpen => {
                "nft_set, open_forever, open_prefix4, open_prefix6 and close_... belong to open, which is missing"
            }
            OpenProblem::ForEver => {
                "open without a cmd_timeout above 0 opens for ever; say open_forever = yes and cmd_timeout = 0 if that is meant"
            }
            OpenProblem::NothingRequested => {
                "open = request is for doors of single packets; name the ports, such as open = tcp/22"
            }
            OpenProblem::RequestOfGuard => {
                "open = request needs nft_set: the guard has to know the ports before anybody knocks"
            }
        })
    }
}

impl fmt::Display for Problem {
    /// The message without file and line, for problems whose message names no line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_problem(self, None, f)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", octets::path(file))?;
        }
        write_problem(&self.problem, Some(self.line), f)
    }
}

/// Writes knockd 0.8's words first, for scripts that look for them; then the reason, the line where those
/// words have none, and what to write instead.
fn write_problem(problem: &Problem, line: Option<usize>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let at = line.unwrap_or_default();
    let behind = line.map(|line| format!(" (line {line})")).unwrap_or_default();
    match problem {
        Problem::Syntax(why) => write!(f, "config: line {at}: syntax error: {why}"),
        Problem::SectionName => write!(f, "config: line {at}: bad section name: write [NAME]"),
        Problem::OutsideSection(why) => {
            write!(f, "config: line {at}: all directives must belong to a section: {why}")
        }
        Problem::TooLong => write!(f, "config: line {at}: longer than {} bytes", syntax::MAX_LINE),
        Problem::Flag(word) => {
            write!(f, "config: line {at}: unrecognized flag \"{word}\": ")?;
            f.write_str(if word.contains('#') {
                "a comment needs a line of its own"
            } else if word.trim() != word {
                "write the flags without blanks, as in syn,!ack"
            } else {
                "write fin, syn, rst, psh, ack or urg, separated by commas"
            })
        }
        Problem::Target(text) => write!(f, "config: line {at}: target \"{text}\" is not an IP address"),
        Problem::Sequence(door, error) => write!(f, "config: section {door}: {error}{behind}"),
        Problem::Unreadable(path, error) => {
            write!(f, "{}: {}", octets::path(path), reason(error))?;
            line.map_or(Ok(()), |line| write!(f, ": one_time_sequences of line {line}"))
        }
        Problem::Exhausted(door, path) => write!(
            f,
            "{}\nconfig: no more sequences left in the one time sequences file {}{behind}",
            exhausted(door),
            octets::path(path)
        ),
        Problem::Otp(door, error) => write!(f, "config: section {door}: {error}{behind}"),
        Problem::TwoLocks(door) => {
            write!(
                f,
                "config: section {door}: more than one of sequence, one_time_sequences, otp and spa{behind}"
            )
        }
        Problem::SharedSeed(door, other) => write!(
            f,
            "config: section {door}: the seed of otp is that of door {other}{behind}: a list that is overheard at one \
             would open the other; take the output of `knock --new-seed` for one of them"
        ),
        Problem::NoOtp(door) => {
            write!(
                f,
                "config: section {door}: otp_window, otp_reuse, otp_tries or otp_digest without otp{behind}"
            )
        }
        Problem::Open(door, problem) => write!(f, "config: section {door}: {problem}{behind}"),
        Problem::Spa(door, problem) => write!(f, "config: section {door}: {problem}{behind}"),
        Problem::Access(AccessError { file, line, problem }) => {
            write!(f, "config: {}: line {line}: {problem}", octets::path(file))
        }
        Problem::Include(what, why) => write!(f, "config: line {at}: include {what}: {why}"),
        Problem::Value(name, value, wanted) => {
            let name = name.to_ascii_lowercase();
            write!(f, "config: line {at}: {name} is {wanted}")?;
            // The value may be a seed in the wrong place.
            if name.starts_with("otp") { Ok(()) } else { write!(f, ", not \"{value}\"") }
        }
        Problem::NoSequence(door) => {
            let instead = of_a_door_without_a_sequence(door);
            write!(f, "error: section '{door}' has an empty knock sequence{behind}: {instead}")
        }
    }
}

/// What to write instead of a door without a sequence, whose section may have been meant as `[options]`.
fn of_a_door_without_a_sequence(name: &str) -> &'static str {
    if is_meant_for_options(name) {
        "[options] is written in lower case and without blanks"
    } else {
        "write Sequence = PORT, PORT, ... or One_Time_Sequences or OTP"
    }
}

/// Whether a door's name looks like a misspelt `[options]`.
pub(super) fn is_meant_for_options(door: &str) -> bool {
    let name = door.trim();
    name.eq_ignore_ascii_case("options") || name.eq_ignore_ascii_case("option")
}

impl std::error::Error for ConfigError {}
