//! Stage 1: parses the command line as the `getopt_long` of knock 0.8 did.
//!
//! The values are parsed in `options`.

use std::ffi::{OsStr, OsString};

use crate::client::failure::{Failure, Status};
use crate::command_line::{self, Choice, CommandLine, Takes, Unread};

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
pub const OPTIONS: &[Choice] = &[
    Choice::switch("udp").short('u').first().old(),
    Choice::value("delay").short('d').first().old(),
    Choice::switch("ipv4").short('4').alternative().old(),
    Choice::switch("ipv6").short('6').alternative().old(),
    Choice::switch("verbose").short('v').old(),
    Choice::new("version", Takes::Version).short('V').old(),
    Choice::new("help", Takes::Help).short('h').old(),
    Choice::switch("both").alternative(),
    Choice::value("jitter"),
    Choice::value("count"),
    Choice::value("one-time-sequences"),
    Choice::value("wait"),
    Choice::value("timeout"),
    Choice::value("retries"),
    Choice::value("proxy"),
    Choice::value("otp"),
    Choice::value("otp-file"),
    Choice::value("otp-digest"),
    Choice::value("source-ip"),
    Choice::value("clock-offset"),
    Choice::value("config"),
    Choice::value("door"),
    Choice::value("stanza").short('n'),
    Choice::value("interface").short('i'),
    Choice::value("fwknoprc"),
    Choice::value("spa"),
    Choice::value("allow-ip"),
    Choice::switch("list"),
    Choice::switch("insecure"),
    Choice::switch("dry-run"),
    Choice::switch("print"),
    Choice::switch("new-seed"),
    Choice::switch("raw"),
    Choice::switch("bad-checksum"),
    Choice::value("flags"),
    Choice::value("source"),
    Choice::value("source-port"),
    Choice::value("ttl"),
    Choice::value("tos"),
    Choice::value("dscp"),
    Choice::value("id"),
    Choice::value("seq"),
    Choice::value("ack-seq"),
    Choice::value("window"),
    Choice::value("urgent"),
    Choice::value("mss"),
    Choice::value("data"),
    Choice::value("pcap"),
    Choice::new("df", Takes::ValueOr("yes")),
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
        Err(Unread::Help) => Ok(Parsed::Help),
        Err(Unread::Version) => Ok(Parsed::Version),
        Err(Unread::Wrong(mistake)) => {
            // The usage follows only where knock 0.8 printed it; elsewhere it would push the message off the
            // screen.
            let message = format!("knock: {}", mistake.message);
            Err(if mistake.is_old {
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
    match OPTIONS.iter().find(|option| option.long == name)?.takes {
        Takes::Nothing if matches!(name, "list" | "insecure" | "new-seed") => None,
        Takes::Nothing => Some(OptionKind::Switch),
        Takes::Value | Takes::ValueOr(_) => Some(OptionKind::Value),
        Takes::Help | Takes::Version => None,
    }
}
