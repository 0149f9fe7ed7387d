//! Parses command lines as `getopt_long` does: options and other words in any order, long names abbreviated
//! as long as they are unambiguous, values in the same word or in the next one.
//!
//! Each program has a table of [`OptionSpec`]s. Only this module parses with clap; clap's errors are
//! reworded as getopt's, which scripts and people know.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

/// What an option does, and whether it takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionAction {
    /// No value: the option is on or off.
    Switch,
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
pub struct OptionSpec {
    /// The long name, without its two hyphens.
    pub long: &'static str,
    /// The short name, without its hyphen.
    pub short: Option<char>,
    /// What it does, and whether it takes a value.
    pub action: OptionAction,
    /// The first letter is a sufficient abbreviation of the long name, even if other options share it: it was
    /// unambiguous in version 0.8.
    pub has_letter_alias: bool,
    /// Version 0.8 has it.
    pub is_in_0_8: bool,
    /// Left out of the help and of all messages.
    pub is_hidden: bool,
    /// Of the options marked as alternatives, only the last one on the command line counts.
    pub is_alternative: bool,
}

impl OptionSpec {
    /// An option without a value.
    pub const fn switch(long: &'static str) -> OptionSpec {
        OptionSpec::new(long, OptionAction::Switch)
    }

    /// An option with a value.
    pub const fn value(long: &'static str) -> OptionSpec {
        OptionSpec::new(long, OptionAction::Value)
    }

    /// An option with all properties off.
    pub const fn new(long: &'static str, action: OptionAction) -> OptionSpec {
        OptionSpec {
            long,
            short: None,
            action,
            has_letter_alias: false,
            is_in_0_8: false,
            is_hidden: false,
            is_alternative: false,
        }
    }

    /// Sets the short name.
    pub const fn short(self, letter: char) -> OptionSpec {
        OptionSpec { short: Some(letter), ..self }
    }

    /// Makes the first letter a sufficient abbreviation of the long name.
    pub const fn letter_alias(self) -> OptionSpec {
        OptionSpec { has_letter_alias: true, ..self }
    }

    /// Marks it as an option of version 0.8.
    pub const fn in_0_8(self) -> OptionSpec {
        OptionSpec { is_in_0_8: true, ..self }
    }

    /// Leaves it out of the help and of all messages.
    pub const fn hidden(self) -> OptionSpec {
        OptionSpec { is_hidden: true, ..self }
    }

    /// Makes it override the alternatives before it on the command line.
    pub const fn alternative(self) -> OptionSpec {
        OptionSpec { is_alternative: true, ..self }
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
pub enum CommandLineError {
    /// The help was requested.
    Help,
    /// The version was requested.
    Version,
    /// The command line is wrong.
    Invalid(UsageError),
}

/// A mistake in a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError {
    /// The message in getopt's wording.
    pub message: String,
    /// Version 0.8 rejects this too, so its usage follows the message.
    pub is_in_0_8: bool,
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
pub fn command(name: &'static str, options: &[OptionSpec]) -> Command {
    let mut command = Command::new(name)
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        .args_override_self(true);
    for option in options {
        let mut arg = Arg::new(option.long).long(option.long).hide(option.is_hidden);
        if let Some(letter) = option.short {
            arg = arg.short(letter);
        }
        if option.has_letter_alias {
            arg = arg.alias(option.long.get(..1));
        }
        if option.is_alternative {
            let others = options.iter().filter(|other| other.is_alternative && other.long != option.long);
            arg = arg.overrides_with_all(others.map(|other| other.long));
        }
        command = command.arg(match option.action {
            OptionAction::Switch => arg.action(ArgAction::SetTrue),
            OptionAction::Help => arg.action(ArgAction::Help),
            OptionAction::Version => arg.action(ArgAction::Version),
            // getopt takes the next word as the value, whatever it begins with.
            OptionAction::Value => arg.value_parser(value_parser!(OsString)).allow_hyphen_values(true),
            OptionAction::ValueOr(default) => {
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
pub fn read(
    name: &'static str,
    options: &[OptionSpec],
    line: &[OsString],
) -> Result<CommandLine, CommandLineError> {
    let matches = command(name, options).try_get_matches_from(line).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp => CommandLineError::Help,
        ErrorKind::DisplayVersion => CommandLineError::Version,
        _ => CommandLineError::Invalid(getopt_error(&error, options, line)),
    })?;
    let words = |name| matches.get_raw(name).unwrap_or_default().map(OsStr::to_owned).collect();
    Ok(CommandLine { words: words("words"), rest: words("rest"), matches })
}

fn getopt_error(error: &clap::Error, options: &[OptionSpec], line: &[OsString]) -> UsageError {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    // clap shows the value that an option takes; getopt does not.
    let option = argument.split([' ', '=']).next().unwrap_or_default();
    let name = option.strip_prefix("--");
    let last = line.last().map(|word| word.to_string_lossy()).unwrap_or_default();
    let message = match (error.kind(), name) {
        (ErrorKind::UnknownArgument, Some(name)) => unknown_option(name, options),
        (ErrorKind::UnknownArgument, None) => {
            format!("invalid option -- '{}'", argument.trim_start_matches('-'))
        }
        (ErrorKind::TooManyValues, _) => format!("option '{option}' doesn't allow an argument"),
        // Only the value of the last word can be missing.
        _ if last.starts_with("--") => format!("option '{option}' requires an argument"),
        _ => format!("option requires an argument -- '{}'", last.chars().last().unwrap_or('-')),
    };
    let is_new = |name| options.iter().any(|option| option.long == name && !option.is_in_0_8);
    let is_in_0_8 = error.kind() == ErrorKind::UnknownArgument || !name.is_some_and(is_new);
    UsageError { message, is_in_0_8 }
}

/// The message for an unknown long name, which may be an ambiguous abbreviation.
fn unknown_option(name: &str, options: &[OptionSpec]) -> String {
    let is_possible = |option: &&OptionSpec| !option.is_hidden && option.long.starts_with(name);
    let possible: Vec<String> =
        options.iter().filter(is_possible).map(|option| format!(" '--{}'", option.long)).collect();
    if possible.is_empty() {
        format!("unrecognized option '--{name}'")
    } else {
        format!("option '--{name}' is ambiguous; possibilities:{}", possible.concat())
    }
}
