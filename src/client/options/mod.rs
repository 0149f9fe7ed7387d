//! Stage 3: parses and checks the values of the command line and the profile.
//!
//! Everything that can be rejected without a look-up is rejected here, with a one-line message that names the
//! option, or the file and line of the profile.

pub mod password;
mod raw;
pub mod single;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::client::failure::Failure;
use crate::client::profiles::CompletedArguments;
use crate::door::knock::Protocol;
use crate::plan::password::ClockOffset;
use crate::plan::{self, Pace, ParseOptions, RequestedStage};

use password::Password;
use single::SinglePacket;
use values::{milliseconds, number, seconds};

pub use raw::Raw;

/// The limit of `--count`; more would be a flood.
const MAX_ROUNDS: u64 = 10_000;
/// The default timeout of `--wait` after each sequence.
const DEFAULT_WAIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The parsed options.
#[derive(Debug)]
pub struct Options {
    pub host: String,
    pub stages: StageSource,
    pub family: Family,
    /// Use UDP for every stage (`-u`).
    pub udp: bool,
    pub verbose: bool,
    /// Accept files that others can read or write (`--insecure`).
    pub insecure: bool,
    pub pace: Pace,
    /// How often to send the whole sequence.
    pub rounds: u64,
    /// The interface to send through (`--interface`); `None` lets the route decide.
    pub interface: Option<String>,
    pub raw: Option<Raw>,
    /// How far the server's clock is ahead of ours, for one-time passwords and single packets.
    pub clock_offset: ClockOffset,
    pub mode: Mode,
    pub wait: Option<WaitOptions>,
    /// The command that replaces this process at the end; empty if there is none.
    pub command: Vec<OsString>,
}

/// The address families to knock over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// The family of the resolver's first address.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// One address of each family.
    Both,
}

/// The mode of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Send the packets.
    Send,
    /// Show every packet without sending it.
    DryRun,
    /// Print the sequence.
    Print,
}

/// The source of the stages.
#[derive(Debug)]
pub enum StageSource {
    /// The command line; messages may repeat the ports.
    CommandLine(Vec<RequestedStage>),
    /// A profile, with the location in its file; messages must not repeat the ports.
    Profile(Vec<RequestedStage>, String),
    /// The next unused line of this one-time file.
    OneTime(PathBuf),
    /// A one-time password, computed from a seed and the time.
    Otp(Box<Password>),
    /// A single packet, built when it is sent.
    SinglePacket(Box<SinglePacket>),
}

/// The port to wait for after the knocks.
#[derive(Debug)]
pub struct WaitOptions {
    /// A port number, or the name of a service.
    pub port: String,
    pub protocol: Protocol,
    pub timeout: Duration,
    /// How often to knock again.
    pub retries: u64,
    /// Whether to connect it to standard input and output.
    pub proxy: bool,
}

impl Options {
    /// Whether standard output carries data (the printed sequence, or the connection of `--proxy`), so that
    /// messages must go elsewhere.
    #[must_use]
    pub fn takes_stdout(&self) -> bool {
        self.mode == Mode::Print || self.wait.as_ref().is_some_and(|wait| wait.proxy)
    }
}

/// Parses the values of the command line and the profile.
///
/// # Errors
/// A value is invalid, or options exclude each other.
pub fn read(input: &CompletedArguments) -> Result<Options, Failure> {
    let arguments = &input.arguments;
    // Checked first, as in knock 0.8.
    let delay = plan::parse_delay(&arguments.text("delay").unwrap_or_default())
        .map_err(|problem| Failure::refused(format_args!("{}{problem}", input.location(&["delay"]))))?;
    let raw = raw::read(input)?;
    let jitter = milliseconds(input, "jitter")?.unwrap_or_default();
    // At most one of them is set: the last one on the command line.
    let families = [("ipv4", Family::V4), ("ipv6", Family::V6), ("both", Family::Both)];
    let family = families.into_iter().find(|(name, _)| arguments.has(name)).map(|(_, family)| family);
    let parse_options = ParseOptions {
        udp: arguments.has("udp"),
        raw: raw.is_some(),
        // knock 0.8 had neither raw packets nor profiles, so no script relies on lenient parsing here.
        strict: raw.is_some() || input.profile.is_some(),
    };
    let wait = wait(input)?;
    let command = arguments.command();
    if !command.is_empty() && wait.as_ref().is_some_and(|wait| wait.proxy) {
        return Err(Failure::refused("--proxy and a command exclude each other"));
    }
    let mode = match (arguments.has("print"), arguments.has("dry-run")) {
        (true, _) => Mode::Print,
        (_, true) => Mode::DryRun,
        _ => Mode::Send,
    };
    let stages = stages(input, parse_options)?;
    let clock_offset = clock_offset(input, &stages)?;
    let host = match &stages {
        StageSource::SinglePacket(single) => single.server.clone(),
        _ => input.host(),
    };
    if matches!(stages, StageSource::SinglePacket(_)) {
        if mode == Mode::Print {
            let problem = "--print shows sequences, and a single packet has none: use --dry-run";
            return Err(Failure::refused(problem));
        }
        if raw.as_ref().is_some_and(|raw| raw.data.is_some()) {
            return Err(Failure::refused(format_args!(
                "{}: a single packet has data of its own",
                input.option_name("data")
            )));
        }
    }
    Ok(Options {
        host,
        stages,
        family: family.unwrap_or_default(),
        udp: parse_options.udp,
        verbose: arguments.has("verbose"),
        insecure: arguments.has("insecure"),
        pace: Pace { delay, jitter },
        rounds: number(input, "count", 1, MAX_ROUNDS)?.unwrap_or(1),
        interface: arguments.text("interface"),
        raw,
        clock_offset,
        mode,
        wait,
        command,
    })
}

fn clock_offset(input: &CompletedArguments, stages: &StageSource) -> Result<ClockOffset, Failure> {
    let Some(text) = input.arguments.text("clock-offset") else { return Ok(ClockOffset::default()) };
    let name = input.option_name("clock-offset");
    if !matches!(stages, StageSource::Otp(_) | StageSource::SinglePacket(_)) {
        return Err(Failure::refused(format_args!("{name} needs --otp, --otp-file, --config or --stanza")));
    }
    ClockOffset::parse(&text).ok_or_else(|| {
        Failure::refused(format_args!(
            "{name}: '{text}' is not a number of seconds, such as 90 or -90, of at most {}",
            ClockOffset::MAX
        ))
    })
}

fn stages(input: &CompletedArguments, parse_options: ParseOptions) -> Result<StageSource, Failure> {
    let words = input.arguments.words();
    let ports = words.get(1..).unwrap_or_default();
    let has_sequence = !ports.is_empty() || input.setting("sequence").is_some();
    let exclude = |what: &str| {
        let location =
            input.location(&["one-time-sequences", "otp", "otp-file", "config", "stanza", "sequence"]);
        Err(Failure::refused(format_args!("{location}{what} exclude each other")))
    };
    let password = password::read(input)?;
    if let Some(single) = single::read(input)? {
        if has_sequence {
            return exclude("a sequence and a stanza");
        }
        if password.is_some() || input.arguments.has("one-time-sequences") {
            return exclude("a stanza and one-time sequences or passwords");
        }
        return Ok(StageSource::SinglePacket(Box::new(single)));
    }
    if let Some(path) = input.arguments.value("one-time-sequences") {
        if has_sequence {
            return exclude("a sequence and one-time sequences");
        }
        if password.is_some() {
            return exclude("one-time sequences and a one-time password");
        }
        return Ok(StageSource::OneTime(PathBuf::from(path)));
    }
    if let Some(password) = password {
        if has_sequence {
            return exclude("a sequence and a one-time password");
        }
        return Ok(StageSource::Otp(Box::new(password)));
    }
    let Some(found) = &input.profile else {
        let words: Vec<_> = ports.iter().map(|word| word.to_string_lossy()).collect();
        return RequestedStage::parse_words(&words, parse_options)
            .map(StageSource::CommandLine)
            .map_err(Failure::refused);
    };
    let (path, name) = (found.path.display(), &found.profile.name);
    let Some(setting) = input.setting("sequence") else {
        return Err(Failure::refused(format_args!(
            "{path}: line {}: profile '{name}' has neither sequence, one_time_sequences, otp nor stanza",
            found.profile.line
        )));
    };
    let location = format!("{path}: line {}: sequence: ", setting.line);
    match RequestedStage::parse_list(setting.value().unwrap_or_default(), parse_options) {
        Ok(stages) => Ok(StageSource::Profile(stages, location)),
        Err(error) => Err(Failure::refused(format_args!("{location}{}", error.redacted()))),
    }
}

fn wait(input: &CompletedArguments) -> Result<Option<WaitOptions>, Failure> {
    let arguments = &input.arguments;
    let timeout = seconds(input, "timeout")?.unwrap_or(DEFAULT_WAIT_TIMEOUT);
    let retries = number(input, "retries", 0, MAX_ROUNDS)?;
    let (option, proxy) = match (arguments.has("proxy"), arguments.has("wait")) {
        (true, _) => ("proxy", true),
        (false, true) => ("wait", false),
        (false, false) if retries.is_some() => {
            let name = input.option_name("retries");
            return Err(Failure::refused(format_args!("{name} needs --wait or --proxy")));
        }
        (false, false) => return Ok(None),
    };
    let port = arguments.text(option).unwrap_or_default();
    let refuse = |problem: String| Failure::refused(format_args!("{}{problem}", input.location(&[option])));
    let (port, protocol) = match port.split_once('/') {
        None => (port.as_str(), Protocol::Tcp),
        Some((port, word)) => match Protocol::with_ports(word) {
            Some(protocol) if !(proxy && protocol == Protocol::Udp) => (port, protocol),
            _ => return Err(refuse(format!("'{port}/{word}' cannot be awaited"))),
        },
    };
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    if port.is_empty() || is_number && !matches!(port.parse(), Ok(1..=u16::MAX)) {
        return Err(refuse(format!("port '{port}' is not between 1 and 65535")));
    }
    Ok(Some(WaitOptions { port: port.to_owned(), protocol, timeout, retries: retries.unwrap_or(0), proxy }))
}
