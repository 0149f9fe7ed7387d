//! Stage 1, what was typed: the command line, read the way the `getopt_long` of knock 0.8 read it.
//!
//! What the values mean is decided in [`wanted`](super::wanted).

use std::ffi::{OsStr, OsString};

use crate::client::failure::{Failure, Status};
use crate::command_line::{self, Choice, CommandLine, Takes, Unread};

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

/// The options; the completions of the shells are made from them.
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
    match command_line::read("knock", OPTIONS, line) {
        Ok(line) => Ok(Line::Typed(Typed(line))),
        Err(Unread::Help) => Ok(Line::Help),
        Err(Unread::Version) => Ok(Line::Version),
        Err(Unread::Wrong(mistake)) => {
            // The usage follows only where it does in knock 0.8, so that it pushes no other message off the screen.
            let message = format!("knock: {}", mistake.message);
            Err(if mistake.is_old {
                Failure::usage(Some(message))
            } else {
                Failure::new(Status::Refused, message)
            })
        }
    }
}

/// A command line, word by word.
#[derive(Clone)]
pub(super) struct Typed(CommandLine);

impl Typed {
    /// Whether this option was typed.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.has(name)
    }

    /// The value of this option.
    pub(super) fn value(&self, name: &str) -> Option<&OsStr> {
        self.0.value(name)
    }

    /// The value of this option as text; what is not UTF-8 becomes U+FFFD.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// The words that are not options: a host and its ports, or a profile.
    ///
    /// A `--` before the first of them only ends the options, as with getopt.
    pub(super) fn words(&self) -> &[OsString] {
        if self.0.words.is_empty() { &self.0.rest } else { &self.0.words }
    }

    /// The command: what follows a `--` after the first word.
    pub(super) fn command(&self) -> Vec<OsString> {
        if self.0.words.is_empty() { Vec::new() } else { self.0.rest.clone() }
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
    match OPTIONS.iter().find(|option| option.long == name)?.takes {
        Takes::Nothing if matches!(name, "list" | "insecure" | "new-seed") => None,
        Takes::Nothing => Some(Kind::Switch),
        Takes::Value | Takes::ValueOr(_) => Some(Kind::Value),
        Takes::Help | Takes::Version => None,
    }
}
