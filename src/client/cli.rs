//! Stage 1, what was typed: the command line, read the way the `getopt_long` of knock 0.8 read it.
//!
//! clap finds out which word is what, here and nowhere else; its complaints are replaced by getopt's.
//! What the values mean is decided in [`wanted`](super::wanted).

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::client::failure::{Failure, Status};
use crate::client::usage::{USAGE, VERSION};

/// Options with a value that need `--raw`.
pub(super) const RAW_VALUES: [&str; 15] = [
    "flags",
    "source",
    "source-port",
    "ttl",
    "tos",
    "dscp",
    "id",
    "df",
    "seq",
    "ack-seq",
    "window",
    "urgent",
    "mss",
    "data",
    "pcap",
];

/// The options of knock 0.8.
const OLD_OPTIONS: [&str; 7] = ["udp", "delay", "ipv4", "ipv6", "verbose", "version", "help"];

/// A command line. It may contain a seed, so it cannot be printed.
pub(super) enum Line {
    /// `-h`.
    Help,
    /// `-V`.
    Version,
    /// Anything else.
    Typed(Typed),
}

/// Reads a command line, program name first.
///
/// # Errors
/// Unknown options, and options without their value.
pub(super) fn read(line: &[OsString]) -> Result<Line, Failure> {
    let mut command = command();
    match command.try_get_matches_from_mut(line) {
        Ok(matches) => Ok(Line::Typed(Typed(matches))),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp => Ok(Line::Help),
            ErrorKind::DisplayVersion => Ok(Line::Version),
            _ => Err(in_getopt_words(&error, &command, line)),
        },
    }
}

/// A command line, word by word.
#[derive(Clone)]
pub(super) struct Typed(ArgMatches);

impl Typed {
    /// Whether this switch is on.
    pub(super) fn switch(&self, name: &str) -> bool {
        self.0.get_flag(name)
    }

    /// The value of this option.
    pub(super) fn value(&self, name: &str) -> Option<&OsString> {
        self.0.get_one(name)
    }

    /// The value of this option as text; what is not UTF-8 becomes U+FFFD.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// Whether this option was typed at all.
    pub(super) fn given(&self, name: &str) -> bool {
        self.0.value_source(name) == Some(ValueSource::CommandLine)
    }

    /// Whether this is an option, and was typed.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.try_contains_id(name).is_ok() && self.given(name)
    }

    /// The words that are not options: a host and its ports, or a profile.
    ///
    /// A `--` before the first of them only ends the options, as with getopt.
    pub(super) fn words(&self) -> Vec<&OsString> {
        let words = self.many("words");
        if words.is_empty() { self.many("command") } else { words }
    }

    /// The command: what follows a `--` after the first word.
    pub(super) fn command(&self) -> Vec<OsString> {
        let words = self.many("words");
        if words.is_empty() { Vec::new() } else { self.many("command").into_iter().cloned().collect() }
    }

    fn many(&self, name: &str) -> Vec<&OsString> {
        self.0.get_many(name).unwrap_or_default().collect()
    }
}

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: it is on or off.
    Switch,
    /// A value.
    Value,
}

/// What an option takes, if a profile may set it.
pub(super) fn kind(name: &str) -> Option<Kind> {
    let command = command();
    let option = command.get_arguments().find(|option| option.get_long() == Some(name))?;
    match option.get_action() {
        ArgAction::SetTrue if !matches!(name, "list" | "insecure" | "new-seed") => Some(Kind::Switch),
        ArgAction::Set => Some(Kind::Value),
        _ => None,
    }
}

/// The command line as clap sees it; the completions of the shells are made from it.
#[must_use]
pub fn command() -> Command {
    let switch = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    // getopt takes the next word as the value, whatever it begins with.
    let value = |name: &'static str| {
        Arg::new(name).long(name).value_parser(value_parser!(OsString)).allow_hyphen_values(true)
    };
    let words = |name: &'static str| Arg::new(name).num_args(0..).value_parser(value_parser!(OsString));
    let around = ["jitter", "count", "one-time-sequences", "wait", "timeout", "retries", "proxy"];
    let password = ["otp", "otp-file", "otp-digest", "source-ip", "clock-offset", "config", "door"];
    let single = ["fwknoprc", "spa", "allow-ip"];
    // Its value is optional, see below.
    let fields = RAW_VALUES.into_iter().filter(|name| *name != "df");
    Command::new("knock")
        .version(VERSION)
        .override_usage(USAGE)
        .override_help(USAGE)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        .args_override_self(true)
        // The aliases are abbreviations of knock 0.8 that would be ambiguous with the new names.
        .arg(switch("udp").short('u').alias("u"))
        .arg(value("delay").short('d').alias("d"))
        .arg(switch("ipv4").short('4').overrides_with_all(["ipv6", "both"]))
        .arg(switch("ipv6").short('6').overrides_with_all(["ipv4", "both"]))
        .arg(switch("verbose").short('v'))
        .arg(Arg::new("version").long("version").short('V').action(ArgAction::Version))
        .arg(Arg::new("help").long("help").short('h').action(ArgAction::Help))
        .arg(switch("both").overrides_with_all(["ipv4", "ipv6"]))
        .args(around.map(value))
        .args(password.map(value))
        .arg(value("stanza").short('n'))
        .arg(value("interface").short('i'))
        .args(single.map(value))
        .args(["list", "insecure", "dry-run", "print", "new-seed", "raw", "bad-checksum"].map(switch))
        .args(fields.map(value))
        .arg(value("df").num_args(0..=1).require_equals(true).default_missing_value("yes"))
        .arg(words("words"))
        .arg(words("command").last(true))
}

/// The message of `getopt_long` for the same mistake. The usage follows only where it does in knock 0.8, so that it pushes
/// no other message off the screen.
fn in_getopt_words(error: &clap::Error, command: &Command, line: &[OsString]) -> Failure {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let said = match error.kind() {
        ErrorKind::UnknownArgument => match argument.strip_prefix("--") {
            None => format!("invalid option -- '{}'", argument.trim_start_matches('-')),
            Some(name) => unknown_name(name.split('=').next().unwrap_or_default(), command),
        },
        ErrorKind::TooManyValues => format!("option '{argument}' doesn't allow an argument"),
        // Only the value of the last word can be missing.
        _ => match line.last().map(|word| word.to_string_lossy()) {
            Some(word) if word.starts_with("--") => {
                let name = argument.split(' ').next().unwrap_or_default();
                format!("option '{name}' requires an argument")
            }
            Some(word) => format!("option requires an argument -- '{}'", word.chars().last().unwrap_or('-')),
            None => error.kind().to_string(),
        },
    };
    let name = argument.strip_prefix("--").and_then(|name| name.split([' ', '=']).next());
    let is_old =
        error.kind() == ErrorKind::UnknownArgument || name.is_none_or(|name| OLD_OPTIONS.contains(&name));
    let message = format!("knock: {said}");
    if is_old { Failure::usage(Some(message)) } else { Failure::new(Status::Refused, message) }
}

/// The message for a name that is no option; several options may begin with it.
fn unknown_name(name: &str, command: &Command) -> String {
    let candidates: Vec<String> = command
        .get_arguments()
        .filter_map(Arg::get_long)
        .filter(|long| long.starts_with(name))
        .map(|long| format!(" '--{long}'"))
        .collect();
    if candidates.is_empty() {
        format!("unrecognized option '--{name}'")
    } else {
        format!("option '--{name}' is ambiguous; possibilities:{}", candidates.concat())
    }
}
