//! Command lines, read as `getopt_long` reads them: options and words in any order, names that are cut short as long
//! as they stay unambiguous, and a value in the same word or in the next one.
//!
//! Each program has a table of [`Choice`]s. clap reads the words by it, here and nowhere else; its errors get getopt's
//! wording, which scripts and people know.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: it is typed or not.
    Nothing,
    /// Nothing: the help is wanted, and what follows is not read.
    Help,
    /// Nothing: the version is wanted, and what follows is not read.
    Version,
    /// A value, whatever it begins with.
    Value,
    /// A value behind an equals sign; without one, this is its value.
    ValueOr(&'static str),
}

/// An option of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own")]
pub struct Choice {
    /// The name behind two hyphens.
    pub long: &'static str,
    /// The letter behind one hyphen.
    pub short: Option<char>,
    /// What follows it.
    pub takes: Takes,
    /// Its first letter is enough as a name: so it was in version 0.8, before there were others that begin with it.
    pub is_first: bool,
    /// Version 0.8 has it.
    pub is_old: bool,
    /// No help and no message names it.
    pub is_hidden: bool,
    /// Of all options marked like this, only the one that is typed last counts.
    pub is_alternative: bool,
}

impl Choice {
    /// An option that is typed or not.
    pub const fn switch(long: &'static str) -> Choice {
        Choice::new(long, Takes::Nothing)
    }

    /// An option with a value.
    pub const fn value(long: &'static str) -> Choice {
        Choice::new(long, Takes::Value)
    }

    /// An option.
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

    /// With this letter.
    pub const fn short(self, letter: char) -> Choice {
        Choice { short: Some(letter), ..self }
    }

    /// Its first letter is enough as a name.
    pub const fn first(self) -> Choice {
        Choice { is_first: true, ..self }
    }

    /// Version 0.8 has it.
    pub const fn old(self) -> Choice {
        Choice { is_old: true, ..self }
    }

    /// No help and no message names it.
    pub const fn hidden(self) -> Choice {
        Choice { is_hidden: true, ..self }
    }

    /// It replaces other alternatives that were typed before it.
    pub const fn alternative(self) -> Choice {
        Choice { is_alternative: true, ..self }
    }
}

/// A command line. It may contain secrets, so it cannot be printed.
#[derive(Clone)]
pub struct CommandLine {
    matches: ArgMatches,
    /// The words that are not options, up to a `--`.
    pub words: Vec<OsString>,
    /// The words behind the first `--`.
    pub rest: Vec<OsString>,
}

/// Why there is no command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The help is wanted.
    Help,
    /// The version is wanted.
    Version,
    /// It is wrong.
    Wrong(Mistake),
}

/// What is wrong with a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// What getopt says of it.
    pub message: String,
    /// Version 0.8 refuses this too, so that its usage follows the message.
    pub is_old: bool,
}

impl CommandLine {
    /// Whether this is an option, and was typed.
    #[must_use]
    pub fn has(&self, long: &str) -> bool {
        self.matches.try_contains_id(long).is_ok()
            && self.matches.value_source(long) == Some(ValueSource::CommandLine)
    }

    /// The value of this option; of several, the one that was typed last.
    #[must_use]
    pub fn value(&self, long: &str) -> Option<&OsStr> {
        self.matches.get_raw(long)?.next()
    }
}

/// The command line of a program as clap sees it.
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

/// Reads the command line of a program, whose name comes first.
///
/// # Errors
/// [`Unread`] says what else it is.
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

/// The message for a name that is no option; several options may begin with it.
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
