//! What the user wants: the words of the command line and of a profile, read as values.
//!
//! Everything that can be refused without asking anybody is refused here, in one line that names
//! the offender.

pub mod password;

use std::ffi::OsString;
use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::client::cli::{self, Typed};
use crate::client::failure::Failure;
use crate::client::lookup::resolve::Family;
use crate::client::profiles::{self, Found};
use crate::client::wanted::password::Password;
use crate::door::knock::Protocol;
use crate::plan::shape::{self, Data, Shape, SourcePort};
use crate::plan::{self, Asked, Manner, Pace, decimal};

/// More rounds than this are no knocking but a flood.
const MAX_ROUNDS: u64 = 10_000;
/// The longest time a value in seconds may say: a day.
const MAX_AMOUNT: u32 = 86_400;
/// How long `--wait` waits for each knocking.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One knocking.
#[derive(Debug)]
pub struct Options {
    pub host: String,
    pub stages: Stages,
    pub family: Family,
    pub udp: bool,
    pub verbose: bool,
    pub pace: Pace,
    pub rounds: u64,
    pub raw: Option<Raw>,
    pub purpose: Purpose,
    pub wait: Option<Wait>,
    pub command: Vec<OsString>,
}

/// What is done with the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It is sent.
    Send,
    /// What would be sent is shown, packet by packet.
    DryRun,
    /// It is shown as it is.
    Print,
}

/// Where the sequence comes from.
#[derive(Debug)]
pub enum Stages {
    /// From the command line: words that may be repeated to the user.
    Typed(Vec<Asked>),
    /// From a profile: words that no message repeats.
    Profile(Vec<Asked>),
    /// The next unused line of this file.
    OneTime(PathBuf),
    /// What a seed and the time make.
    Otp(Box<Password>),
}

/// How raw packets are made and where they go.
#[derive(Debug)]
pub struct Raw {
    pub shape: Shape,
    pub data: Option<Data>,
    pub interface: Option<String>,
    pub pcap: Option<PathBuf>,
}

/// What is awaited after the knock.
#[derive(Debug)]
pub struct Wait {
    /// A port number, or the name of a service.
    pub port: String,
    pub protocol: Protocol,
    pub timeout: Duration,
    /// How often to knock again.
    pub retries: u64,
    /// Whether the connection is then joined to standard input and output.
    pub proxy: bool,
}

/// What to do.
pub enum Request {
    /// Show the profiles.
    List {
        /// Even if others may read them.
        insecure: bool,
    },
    /// Knock.
    Knock(Box<Options>),
}

/// Makes sense of a command line; a single word is looked up in the profile files.
///
/// # Errors
/// The line is no knocking, a value means nothing, or a profile file is not to be used.
pub fn read(line: &[OsString], typed: &Typed) -> Result<Request, Failure> {
    let insecure = typed.switch("insecure");
    if typed.switch("list") {
        return Ok(Request::List { insecure });
    }
    let words = typed.words();
    let Some(name) = words.first().map(|word| word.to_string_lossy()) else {
        return Err(Failure::usage(None));
    };
    if words.len() > 1 || typed.given("one-time-sequences") || password::is_asked(typed) {
        return options(typed, None).map(|options| Request::Knock(Box::new(options)));
    }
    let Some(found) = profiles::find(&name, insecure)? else {
        let paths: Vec<String> = profiles::paths().iter().map(|path| path.display().to_string()).collect();
        let paths = paths.join(" or ");
        return Err(Failure::usage(Some(format!("error: no ports, and no profile '{name}' in {paths}"))));
    };
    // The profile stands before the command line, so that the latter has the last word.
    let mut words: Vec<OsString> = line.iter().take(1).cloned().collect();
    words.extend(found.arguments(cli::kind)?);
    words.extend(line.iter().skip(1).cloned());
    match cli::read(&words)? {
        cli::Line::Typed(typed) => {
            options(&typed, Some(&found)).map(|options| Request::Knock(Box::new(options)))
        }
        cli::Line::Help | cli::Line::Version => Err(Failure::usage(None)),
    }
}

fn options(typed: &Typed, profile: Option<&Found>) -> Result<Options, Failure> {
    // Complained of first, in these words, as knock 0.8 does.
    let delay = plan::delay(&text(typed, "delay").unwrap_or_default()).map_err(Failure::refused)?;
    let raw = if typed.switch("raw") { Some(raw(typed)?) } else { None };
    if raw.is_none() {
        let stray = cli::RAW_VALUES.into_iter().find(|name| typed.given(name));
        if let Some(name) = stray.or(typed.switch("bad-checksum").then_some("bad-checksum")) {
            return Err(Failure::refused(format_args!("--{name} needs --raw")));
        }
    }
    let jitter = match text(typed, "jitter") {
        Some(text) => milliseconds("jitter", &text)?,
        None => Duration::ZERO,
    };
    // Each of them switches the others off.
    let families = [("ipv4", Family::V4), ("ipv6", Family::V6), ("both", Family::Both)];
    let family = families.into_iter().find(|(name, _)| typed.switch(name)).map(|(_, family)| family);
    let manner = Manner {
        udp: typed.switch("udp"),
        raw: raw.is_some(),
        // Nobody's scripts depend on how 0.8 read these.
        strict: raw.is_some() || profile.is_some(),
    };
    let words = typed.words();
    let host = match profile {
        Some(found) => found.profile.host().to_owned(),
        None => words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let wait = wait(typed)?;
    let command = typed.command();
    if !command.is_empty() && wait.as_ref().is_some_and(|wait| wait.proxy) {
        return Err(Failure::refused("--proxy and a command exclude each other"));
    }
    Ok(Options {
        host,
        stages: stages(typed, &words, profile, manner)?,
        family: family.unwrap_or_default(),
        udp: manner.udp,
        verbose: typed.switch("verbose"),
        pace: Pace { delay, jitter },
        rounds: number(typed, "count", 1, MAX_ROUNDS)?.unwrap_or(1),
        raw,
        purpose: match (typed.switch("print"), typed.switch("dry-run")) {
            (true, _) => Purpose::Print,
            (_, true) => Purpose::DryRun,
            _ => Purpose::Send,
        },
        wait,
        command,
    })
}

fn stages(
    typed: &Typed,
    words: &[&OsString],
    profile: Option<&Found>,
    manner: Manner,
) -> Result<Stages, Failure> {
    let ports = words.get(1..).unwrap_or_default();
    let has = |key| profile.is_some_and(|found| found.profile.setting(key).is_some());
    let has_sequence = !ports.is_empty() || has("sequence");
    let password = password::read(typed, profile)?;
    if let Some(path) = typed.value("one-time-sequences") {
        if has_sequence {
            return Err(Failure::refused("a sequence and one-time sequences exclude each other"));
        }
        if password.is_some() {
            return Err(Failure::refused("one-time sequences and a one-time password exclude each other"));
        }
        return Ok(Stages::OneTime(PathBuf::from(path)));
    }
    if let Some(password) = password {
        if has_sequence {
            return Err(Failure::refused("a sequence and a one-time password exclude each other"));
        }
        return Ok(Stages::Otp(Box::new(password)));
    }
    let Some(found) = profile else {
        let asked = ports.iter().map(|word| Asked::parse(&word.to_string_lossy(), manner));
        return asked.collect::<Result<_, _>>().map(Stages::Typed).map_err(Failure::refused);
    };
    let (path, name) = (found.path.display(), &found.profile.name);
    let Some(setting) = found.profile.setting("sequence") else {
        return Err(Failure::refused(format_args!(
            "{path}: profile '{name}' has neither sequence, one_time_sequences nor otp"
        )));
    };
    Asked::parse_list(setting.value().unwrap_or_default(), manner).map(Stages::Profile).map_err(|error| {
        Failure::refused(format_args!("{path}: line {}: sequence: {}", setting.line, error.discreet()))
    })
}

fn wait(typed: &Typed) -> Result<Option<Wait>, Failure> {
    let timeout = match text(typed, "timeout") {
        Some(text) => seconds("timeout", &text)?,
        None => TIMEOUT,
    };
    let retries = number(typed, "retries", 0, MAX_ROUNDS)?;
    let (port, proxy) = match (text(typed, "proxy"), text(typed, "wait")) {
        (Some(port), _) => (port, true),
        (None, Some(port)) => (port, false),
        (None, None) if retries.is_some() => {
            return Err(Failure::refused("--retries needs --wait or --proxy"));
        }
        (None, None) => return Ok(None),
    };
    let (port, protocol) = match port.split_once('/') {
        None => (port.as_str(), Protocol::Tcp),
        Some((port, word)) => match Protocol::from_word(word) {
            Some(protocol) if !(proxy && protocol == Protocol::Udp) => (port, protocol),
            _ => return Err(Failure::refused(format_args!("'{port}/{word}' cannot be awaited"))),
        },
    };
    if port.is_empty()
        || port.bytes().all(|byte| byte.is_ascii_digit()) && !matches!(port.parse(), Ok(1..=u16::MAX))
    {
        return Err(Failure::refused(format_args!("port '{port}' is not between 1 and 65535")));
    }
    Ok(Some(Wait { port: port.to_owned(), protocol, timeout, retries: retries.unwrap_or(0), proxy }))
}

fn raw(typed: &Typed) -> Result<Raw, Failure> {
    let mut shape = Shape { bad_checksum: typed.switch("bad-checksum"), ..Shape::default() };
    if let Some(text) = text(typed, "flags") {
        shape.flags = plan::flags(&text).map_err(Failure::refused)?;
    }
    if let Some(text) = text(typed, "source") {
        let address: IpAddr = text
            .parse()
            .map_err(|_| Failure::refused(format_args!("--source: '{text}' is no IP address")))?;
        shape.source = Some(address);
    }
    shape.source_port = match text(typed, "source-port").as_deref() {
        Some("random") => SourcePort::Random,
        Some(_) => number(typed, "source-port", 0, u16::MAX)?.map(SourcePort::Fixed).unwrap_or_default(),
        None => SourcePort::Ephemeral,
    };
    if typed.given("tos") && typed.given("dscp") {
        return Err(Failure::refused("--tos and --dscp exclude each other"));
    }
    shape.tos = match number(typed, "dscp", 0, 63_u8)? {
        Some(dscp) => dscp << 2,
        None => number(typed, "tos", 0, u8::MAX)?.unwrap_or(0),
    };
    shape.ttl = number(typed, "ttl", 0, u8::MAX)?.unwrap_or(shape.ttl);
    shape.id = number(typed, "id", 0, u16::MAX)?;
    shape.dont_fragment = match text(typed, "df").as_deref() {
        None | Some("yes" | "true" | "on" | "1") => true,
        Some("no" | "false" | "off" | "0") => false,
        Some(text) => return Err(Failure::refused(format_args!("--df: '{text}' is neither yes nor no"))),
    };
    shape.sequence = number(typed, "seq", 0, u32::MAX)?;
    shape.acknowledgment = number(typed, "ack-seq", 0, u32::MAX)?.unwrap_or(0);
    shape.window = number(typed, "window", 0, u16::MAX)?;
    shape.urgent = number(typed, "urgent", 0, u16::MAX)?.unwrap_or(0);
    shape.mss = number(typed, "mss", 0, u16::MAX)?;
    let data = match typed.value("data") {
        Some(data) => Some(
            shape::data(data.as_encoded_bytes())
                .map_err(|problem| Failure::refused(format_args!("--data: {problem}")))?,
        ),
        None => None,
    };
    Ok(Raw { shape, data, interface: text(typed, "interface"), pcap: typed.value("pcap").map(PathBuf::from) })
}

/// The value of an option as text.
pub fn text(typed: &Typed, name: &str) -> Option<String> {
    typed.value(name).map(|value| value.to_string_lossy().into_owned())
}

/// A whole number within bounds, decimal or hexadecimal with `0x`.
fn number<N>(typed: &Typed, name: &str, least: N, most: N) -> Result<Option<N>, Failure>
where
    N: TryFrom<u64> + PartialOrd + Display + Copy,
{
    let Some(text) = text(typed, name) else { return Ok(None) };
    let digits = text.strip_prefix("0x").map(|hex| u64::from_str_radix(hex, 16));
    let number = digits.unwrap_or_else(|| text.parse()).ok().and_then(|number| N::try_from(number).ok());
    match number {
        Some(number) if number >= least && number <= most => Ok(Some(number)),
        _ => Err(Failure::refused(format_args!("--{name}: '{text}' is not between {least} and {most}"))),
    }
}

fn milliseconds(name: &str, text: &str) -> Result<Duration, Failure> {
    amount(name, text, "milliseconds", Duration::from_millis(1))
}

fn seconds(name: &str, text: &str) -> Result<Duration, Failure> {
    amount(name, text, "seconds", Duration::from_secs(1))
}

/// A number with or without a fraction, and no more than there are seconds in a day.
fn amount(name: &str, text: &str, units: &str, unit: Duration) -> Result<Duration, Failure> {
    decimal(text, unit).filter(|&amount| amount <= unit * MAX_AMOUNT).ok_or_else(|| {
        Failure::refused(format_args!("--{name}: '{text}' is not between 0 and {MAX_AMOUNT} {units}"))
    })
}
