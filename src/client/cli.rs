//! Stage 1: parses the command line as the `getopt_long` of knock 0.8 did.
//!
//! The values are parsed in `options`.

use std::ffi::{OsStr, OsString};

use crate::client::failure::{Failure, Status};
use crate::command_line::{self, CommandLine, CommandLineError, OptionAction, OptionSpec};

/// Options with a value that need `--raw`.
pub(super) const RAW_VALUE_OPTIONS: [&str; 15] = [
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

/// The options. The shell completions are generated from them.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::switch("udp").short('u').letter_alias().in_0_8(),
    OptionSpec::value("delay").short('d').letter_alias().in_0_8(),
    OptionSpec::switch("ipv4").short('4').alternative().in_0_8(),
    OptionSpec::switch("ipv6").short('6').alternative().in_0_8(),
    OptionSpec::switch("verbose").short('v').in_0_8(),
    OptionSpec::new("version", OptionAction::Version).short('V').in_0_8(),
    OptionSpec::new("help", OptionAction::Help).short('h').in_0_8(),
    OptionSpec::switch("both").alternative(),
    OptionSpec::value("jitter"),
    OptionSpec::value("count"),
    OptionSpec::value("one-time-sequences"),
    OptionSpec::value("wait"),
    OptionSpec::value("timeout"),
    OptionSpec::value("retries"),
    OptionSpec::value("proxy"),
    OptionSpec::value("otp"),
    OptionSpec::value("otp-file"),
    OptionSpec::value("otp-digest"),
    OptionSpec::value("source-ip"),
    OptionSpec::value("clock-offset"),
    OptionSpec::value("config"),
    OptionSpec::value("door"),
    OptionSpec::value("stanza").short('n'),
    OptionSpec::value("interface").short('i'),
    OptionSpec::value("fwknoprc"),
    OptionSpec::value("spa"),
    OptionSpec::value("allow-ip"),
    OptionSpec::switch("list"),
    OptionSpec::switch("insecure"),
    OptionSpec::switch("dry-run"),
    OptionSpec::switch("print"),
    OptionSpec::switch("new-seed"),
    OptionSpec::switch("raw"),
    OptionSpec::switch("bad-checksum"),
    OptionSpec::value("flags"),
    OptionSpec::value("source"),
    OptionSpec::value("source-port"),
    OptionSpec::value("ttl"),
    OptionSpec::value("tos"),
    OptionSpec::value("dscp"),
    OptionSpec::value("id"),
    OptionSpec::value("seq"),
    OptionSpec::value("ack-seq"),
    OptionSpec::value("window"),
    OptionSpec::value("urgent"),
    OptionSpec::value("mss"),
    OptionSpec::value("data"),
    OptionSpec::value("pcap"),
    OptionSpec::new("df", OptionAction::ValueOr("yes")),
];

/// A parsed command line. It has no `Debug`: it may contain a seed.
pub(super) enum Parsed {
    /// `-h`.
    Help,
    /// `-V`.
    Version,
    /// Anything else.
    Arguments(Arguments),
}

/// Parses a command line, whose first word is the program's name.
///
/// # Errors
/// Unknown options, and missing values.
pub(super) fn read(line: &[OsString]) -> Result<Parsed, Failure> {
    match command_line::read("knock", OPTIONS, line) {
        Ok(line) => Ok(Parsed::Arguments(Arguments(line))),
        Err(CommandLineError::Help) => Ok(Parsed::Help),
        Err(CommandLineError::Version) => Ok(Parsed::Version),
        Err(CommandLineError::Invalid(mistake)) => {
            // The usage follows only where knock 0.8 printed it; elsewhere it would push the message off the
            // screen.
            let message = format!("knock: {}", mistake.message);
            Err(if mistake.is_in_0_8 {
                Failure::usage(Some(message))
            } else {
                Failure::new(Status::Refused, message)
            })
        }
    }
}

/// The options and words of a command line.
#[derive(Clone)]
pub(super) struct Arguments(CommandLine);

impl Arguments {
    /// Whether this option is on the command line.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.has(name)
    }

    /// The value of this option; `None` if it is absent.
    pub(super) fn value(&self, name: &str) -> Option<&OsStr> {
        self.0.value(name)
    }

    /// The value of this option as text, with U+FFFD for bytes that are not UTF-8.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// The words that are not options: a host and its ports, or a profile.
    ///
    /// A `--` before the first word only ends the options, as with getopt.
    pub(super) fn words(&self) -> &[OsString] {
        if self.0.words.is_empty() { &self.0.rest } else { &self.0.words }
    }

    /// The command: the words after a `--` that follows the first word.
    pub(super) fn command(&self) -> Vec<OsString> {
        if self.0.words.is_empty() { Vec::new() } else { self.0.rest.clone() }
    }
}

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OptionKind {
    /// No value: it is on or off.
    Switch,
    /// A value.
    Value,
}

/// The kind of an option in a profile; `None` if profiles cannot set it.
pub(super) fn profile_option_kind(name: &str) -> Option<OptionKind> {
    match OPTIONS.iter().find(|option| option.long == name)?.action {
        OptionAction::Switch if matches!(name, "list" | "insecure" | "new-seed") => None,
        OptionAction::Switch => Some(OptionKind::Switch),
        OptionAction::Value | OptionAction::ValueOr(_) => Some(OptionKind::Value),
        OptionAction::Help | OptionAction::Version => None,
    }
}
