//! The command line, with the manners of the `getopt_long` that knock 0.8 used.
//!
//! clap finds out which word is what; the words of its complaints are replaced by getopt's, and the
//! meaning of values is checked here, so that a refusal names the offender in one line.

use std::ffi::OsString;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::resolve::Family;
use crate::plan::{self, Asked};

/// What `-h` prints, and every refusal of the command line.
pub(super) const USAGE: &str = "\
usage: knock [options] <host> <port[:proto]> [port[:proto]] ...
options:
  -u, --udp            make all ports hits use UDP (default is TCP)
  -d, --delay <t>      wait <t> milliseconds between port hits
  -4, --ipv4           Force usage of IPv4
  -6, --ipv6           Force usage of IPv6
  -v, --verbose        be verbose
  -V, --version        display version
  -h, --help           this help

example:  knock myserver.example.com 123:tcp 456:udp 789:tcp

";

/// What `-V` prints.
pub(super) const VERSION: &str = concat!(
    "knock ",
    env!("CARGO_PKG_VERSION"),
    "\nCopyright (C) 2026 the authors of knockd in Rust; MIT or Apache-2.0\n"
);

/// What the user wants.
#[derive(Debug)]
pub(super) enum Request {
    /// To see how it is used.
    Usage,
    /// To see which version this is.
    Version,
    /// To knock.
    Knock(Options),
}

/// What the user typed for one knocking, checked as far as it can be without asking anybody.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) host: String,
    pub(super) stages: Vec<Asked>,
    pub(super) family: Family,
    pub(super) delay: Duration,
    pub(super) verbose: bool,
}

/// Why a command line is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    /// One line, or nothing where the usage says enough.
    pub(super) message: Option<String>,
    /// Whether the usage is to be shown.
    pub(super) usage: bool,
}

impl Refusal {
    fn of_value(message: String) -> Refusal {
        Refusal { message: Some(message), usage: false }
    }
}

/// Reads a command line, program name first.
///
/// # Errors
/// Unknown options, options without their value, values that mean nothing, no host or no port.
pub(super) fn read(line: &[OsString]) -> Result<Request, Refusal> {
    let mut command = command();
    let matches = match command.try_get_matches_from_mut(line) {
        Ok(matches) => matches,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayHelp => Ok(Request::Usage),
                ErrorKind::DisplayVersion => Ok(Request::Version),
                _ => Err(Refusal { message: Some(in_getopt_words(&error, &command, line)), usage: true }),
            };
        }
    };
    options(&matches).map(Request::Knock)
}

fn options(matches: &ArgMatches) -> Result<Options, Refusal> {
    let delay = plan::delay(&text(matches, "delay").unwrap_or_default()).map_err(Refusal::of_value)?;
    let mut words = matches.get_many::<OsString>("words").unwrap_or_default();
    let (Some(host), 1..) = (words.next(), words.len()) else {
        return Err(Refusal { message: None, usage: true });
    };
    let udp = matches.get_flag("udp");
    let stages = words
        .map(|word| Asked::parse(&word.to_string_lossy(), udp))
        .collect::<Result<_, _>>()
        .map_err(|error| Refusal::of_value(error.to_string()))?;
    let family = match (matches.get_flag("ipv4"), matches.get_flag("ipv6")) {
        (true, _) => Family::V4,
        (_, true) => Family::V6,
        _ => Family::Any,
    };
    let verbose = matches.get_flag("verbose");
    Ok(Options { host: host.to_string_lossy().into_owned(), stages, family, delay, verbose })
}

/// The value of an option as text.
fn text(matches: &ArgMatches, id: &str) -> Option<String> {
    matches.get_one::<OsString>(id).map(|value| value.to_string_lossy().into_owned())
}

fn command() -> Command {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    // getopt takes the next word as the value, whatever it begins with.
    let value = |name: &'static str| {
        Arg::new(name).long(name).value_parser(value_parser!(OsString)).allow_hyphen_values(true)
    };
    Command::new("knock")
        .version(VERSION)
        .override_usage(USAGE)
        .override_help(USAGE)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        .args_override_self(true)
        .args([
            flag("udp").short('u'),
            value("delay").short('d'),
            flag("ipv4").short('4').overrides_with("ipv6"),
            flag("ipv6").short('6').overrides_with("ipv4"),
            flag("verbose").short('v'),
            Arg::new("version").long("version").short('V').action(ArgAction::Version),
            Arg::new("help").long("help").short('h').action(ArgAction::Help),
            Arg::new("words").num_args(0..).value_parser(value_parser!(OsString)),
        ])
}

/// What `getopt_long` says about the same mistake.
fn in_getopt_words(error: &clap::Error, command: &Command, line: &[OsString]) -> String {
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
        // Only the last word can lack its value.
        _ => match line.last().map(|word| word.to_string_lossy()) {
            Some(word) if word.starts_with("--") => format!("option '{word}' requires an argument"),
            Some(word) => format!("option requires an argument -- '{}'", word.chars().last().unwrap_or('-')),
            None => error.kind().to_string(),
        },
    };
    format!("knock: {said}")
}

/// No option has this name; several may begin with it.
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
