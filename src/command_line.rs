//! Parses command lines as `getopt_long` does: options and other words in any order, long names abbreviated
//! as long as they are unambiguous, values in the same word or in the next one.
//!
//! Each program has a table of [`Choice`]s. This is the only module that parses with clap; clap's errors are
//! reworded as getopt's, which scripts and people know.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// No value.
    Nothing,
    /// No value; prints the help, and the rest of the line is not parsed.
    Help,
    /// No value; prints the version, and the rest of the line is not parsed.
    Version,
    /// A value, which may begin with a hyphen.
    Value,
    /// An optional value after an equals sign; this is the default.
    ValueOr(&'static str),
}

/// An option of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::struct_excessive_bools, reason = "the properties are independent")]
pub struct Choice {
    /// The long name, without its two hyphens.
    pub long: &'static str,
    /// The short name, without its hyphen.
    pub short: Option<char>,
    /// Whether it takes a value.
    pub takes: Takes,
    /// The first letter is a sufficient abbreviation of the long name, even if other options share it: it was
    /// unambiguous in version 0.8.
    pub is_first: bool,
    /// Version 0.8 has it.
    pub is_old: bool,
    /// Left out of the help and of all messages.
    pub is_hidden: bool,
    /// Of the options marked as alternatives, only the last one on the command line counts.
    pub is_alternative: bool,
}

impl Choice {
    /// An option without a value.
    pub const fn switch(long: &'static str) -> Choice {
        Choice::new(long, Takes::Nothing)
    }

    /// An option with a value.
    pub const fn value(long: &'static str) -> Choice {
        Choice::new(long, Takes::Value)
    }

    /// An option with all properties off.
    pub const fn new(long: &'static str, takes: Takes) -> Choice {
        Choice {
            long,
            short: None,
            takes,
            is_first: false,
            is_old: false,
            is_hidden: false,
            is_alternative: false,
        }
    }

    /// Sets the short name.
    pub const fn short(self, letter: char) -> Choice {
        Choice { short: Some(letter), ..self }
    }

    /// Makes the first letter a sufficient abbreviation of the long name.
    pub const fn first(self) -> Choice {
        Choice { is_first: true, ..self }
    }

    /// Marks it as an option of version 0.8.
    pub const fn old(self) -> Choice {
        Choice { is_old: true, ..self }
    }

    /// Leaves it out of the help and of all messages.
    pub const fn hidden(self) -> Choice {
        Choice { is_hidden: true, ..self }
    }

    /// Makes it override the alternatives before it on the command line.
    pub const fn alternative(self) -> Choice {
        Choice { is_alternative: true, ..self }
    }
}

/// A parsed command line. It has no `Debug`: it may contain secrets.
#[derive(Clone)]
pub struct CommandLine {
    matches: ArgMatches,
    /// The words that are not options, up to a `--`.
    pub words: Vec<OsString>,
    /// The words after the first `--`.
    pub rest: Vec<OsString>,
}

/// Why [`read`] returns no command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The help was requested.
    Help,
    /// The version was requested.
    Version,
    /// The command line is wrong.
    Wrong(Mistake),
}

/// A mistake in a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The message in getopt's wording.
    pub message: String,
    /// Version 0.8 rejects this too, so its usage follows the message.
    pub is_old: bool,
}

impl CommandLine {
    /// Whether this option exists and is on the command line.
    #[must_use]
    pub fn has(&self, long: &str) -> bool {
        self.matches.try_contains_id(long).is_ok()
            && self.matches.value_source(long) == Some(ValueSource::CommandLine)
    }

    /// The value of this option, the last one if it is given several times.
    #[must_use]
    pub fn value(&self, long: &str) -> Option<&OsStr> {
        self.matches.get_raw(long)?.next()
    }
}

/// The clap command of a program.
#[must_use]
pub fn command(name: &'static str, choices: &[Choice]) -> Command {
    let mut command = Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        .args_override_self(true);
    for choice in choices {
        let mut arg = Arg::new(choice.long).long(choice.long).hide(choice.is_hidden);
        if let Some(letter) = choice.short {
            arg = arg.short(letter);
        }
        if choice.is_first {
            arg = arg.alias(choice.long.get(..1));
        }
        if choice.is_alternative {
            let others = choices.iter().filter(|other| other.is_alternative && other.long != choice.long);
            arg = arg.overrides_with_all(others.map(|other| other.long));
        }
        command = command.arg(match choice.takes {
            Takes::Nothing => arg.action(ArgAction::SetTrue),
            Takes::Help => arg.action(ArgAction::Help),
            Takes::Version => arg.action(ArgAction::Version),
            // getopt takes the next word as the value, whatever it begins with.
            Takes::Value => arg.value_parser(value_parser!(OsString)).allow_hyphen_values(true),
            Takes::ValueOr(default) => {
                let arg = arg.value_parser(value_parser!(OsString)).num_args(0..=1);
                arg.require_equals(true).default_missing_value(default)
            }
        });
    }
    let words = |name: &'static str| Arg::new(name).num_args(0..).value_parser(value_parser!(OsString));
    command.arg(words("words")).arg(words("rest").last(true))
}

/// Parses the command line of a program; its first word is the program's name.
///
/// # Errors
/// A request for the help or the version, or a mistake in the line.
pub fn read(name: &'static str, choices: &[Choice], line: &[OsString]) -> Result<CommandLine, Unread> {
    let matches = command(name, choices).try_get_matches_from(line).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp => Unread::Help,
        ErrorKind::DisplayVersion => Unread::Version,
        _ => Unread::Wrong(in_getopt_words(&error, choices, line)),
    })?;
    let words = |name| matches.get_raw(name).unwrap_or_default().map(OsStr::to_owned).collect();
    Ok(CommandLine { words: words("words"), rest: words("rest"), matches })
}

fn in_getopt_words(error: &clap::Error, choices: &[Choice], line: &[OsString]) -> Mistake {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // clap shows the value that an option takes; getopt does not.
    let option = argument.split([' ', '=']).next().unwrap_or_default();
    let name = option.strip_prefix("--");
    let last = line.last().map(|word| word.to_string_lossy()).unwrap_or_default();
    let message = match (error.kind(), name) {
        (ErrorKind::UnknownArgument, Some(name)) => unknown(name, choices),
        (ErrorKind::UnknownArgument, None) => {
            format!("invalid option -- '{}'", argument.trim_start_matches('-'))
        }
        (ErrorKind::TooManyValues, _) => format!("option '{option}' doesn't allow an argument"),
        // Only the value of the last word can be missing.
        _ if last.starts_with("--") => format!("option '{option}' requires an argument"),
        _ => format!("option requires an argument -- '{}'", last.chars().last().unwrap_or('-')),
    };
    let is_new = |name| choices.iter().any(|choice| choice.long == name && !choice.is_old);
    let is_old = error.kind() == ErrorKind::UnknownArgument || !name.is_some_and(is_new);
    Mistake { message, is_old }
}

/// The message for an unknown long name, which may be an ambiguous abbreviation.
fn unknown(name: &str, choices: &[Choice]) -> String {
    let is_possible = |choice: &&Choice| !choice.is_hidden && choice.long.starts_with(name);
    let possible: Vec<String> =
        choices.iter().filter(is_possible).map(|choice| format!(" '--{}'", choice.long)).collect();
    if possible.is_empty() {
        format!("unrecognized option '--{name}'")
    } else {
        format!("option '--{name}' is ambiguous; possibilities:{}", possible.concat())
    }
}
