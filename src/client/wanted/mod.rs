//! Stage 3, what is wanted: the words of the command line and of a profile, read as values.
//!
//! Everything that can be refused without asking anybody is refused here, in one line that names the
//! option, or the line of the profile.

pub mod password;
mod raw;
pub mod single;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::client::failure::Failure;
use crate::client::profiles::Completed;
use crate::door::knock::Protocol;
use crate::plan::{self, Asked, Manner, Pace};

use password::Password;
use single::SinglePacket;
use values::{milliseconds, number, seconds};

pub use raw::Raw;

/// More rounds than this are a flood, not a knocking.
const MAX_ROUNDS: u64 = 10_000;
/// How long `--wait` waits for each knocking.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One knocking.
#[derive(Debug)]
pub struct Options {
    pub host: String,
    pub stages: Stages,
    pub family: Family,
    /// Every stage is UDP (`-u`).
    pub udp: bool,
    pub verbose: bool,
    pub pace: Pace,
    /// How often the whole sequence is knocked.
    pub rounds: u64,
    pub raw: Option<Raw>,
    pub purpose: Purpose,
    pub wait: Option<Wait>,
    /// What this process becomes afterwards; nothing if it is empty.
    pub command: Vec<OsString>,
}

/// Which address family to knock over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// Whichever the resolver puts first.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// One address of each.
    Both,
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
    /// Made from a seed and the time.
    Otp(Box<Password>),
    /// A single packet, made when it is sent.
    Single(Box<SinglePacket>),
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

impl Options {
    /// Whether standard output belongs to the printed sequence or to a joined connection, so that no
    /// other line may be written to it.
    #[must_use]
    pub fn takes_stdout(&self) -> bool {
        self.purpose == Purpose::Print || self.wait.as_ref().is_some_and(|wait| wait.proxy)
    }
}

/// Reads what was said as values.
///
/// # Errors
/// A value means nothing, or options exclude each other.
pub fn read(said: &Completed) -> Result<Options, Failure> {
    let typed = &said.typed;
    // Complained of first, in these words, as knock 0.8 does.
    let delay = plan::delay(&typed.text("delay").unwrap_or_default())
        .map_err(|problem| Failure::refused(format_args!("{}{problem}", said.place(&["delay"]))))?;
    let raw = raw::read(said)?;
    let jitter = milliseconds(said, "jitter")?.unwrap_or_default();
    // Each of them switches the others off.
    let families = [("ipv4", Family::V4), ("ipv6", Family::V6), ("both", Family::Both)];
    let family = families.into_iter().find(|(name, _)| typed.switch(name)).map(|(_, family)| family);
    let manner = Manner {
        udp: typed.switch("udp"),
        raw: raw.is_some(),
        // knock 0.8 had neither, so no script depends on its lax reading there.
        strict: raw.is_some() || said.profile.is_some(),
    };
    let wait = wait(said)?;
    let command = typed.command();
    if !command.is_empty() && wait.as_ref().is_some_and(|wait| wait.proxy) {
        return Err(Failure::refused("--proxy and a command exclude each other"));
    }
    let purpose = match (typed.switch("print"), typed.switch("dry-run")) {
        (true, _) => Purpose::Print,
        (_, true) => Purpose::DryRun,
        _ => Purpose::Send,
    };
    let stages = stages(said, manner)?;
    let host = match &stages {
        Stages::Single(single) => single.server.clone(),
        _ => said.host(),
    };
    if matches!(stages, Stages::Single(_)) {
        if purpose == Purpose::Print {
            let problem = "--print shows sequences, and a single packet has none: use --dry-run";
            return Err(Failure::refused(problem));
        }
        if raw.as_ref().is_some_and(|raw| raw.data.is_some()) {
            return Err(Failure::refused(format_args!(
                "{}: a single packet has data of its own",
                said.name("data")
            )));
        }
    }
    Ok(Options {
        host,
        stages,
        family: family.unwrap_or_default(),
        udp: manner.udp,
        verbose: typed.switch("verbose"),
        pace: Pace { delay, jitter },
        rounds: number(said, "count", 1, MAX_ROUNDS)?.unwrap_or(1),
        raw,
        purpose,
        wait,
        command,
    })
}

fn stages(said: &Completed, manner: Manner) -> Result<Stages, Failure> {
    let words = said.typed.words();
    let ports = words.get(1..).unwrap_or_default();
    let has_sequence = !ports.is_empty() || said.setting("sequence").is_some();
    let exclude = |what: &str| {
        let place = said.place(&["one-time-sequences", "otp", "otp-file", "config", "stanza", "sequence"]);
        Err(Failure::refused(format_args!("{place}{what} exclude each other")))
    };
    let password = password::read(said)?;
    if let Some(single) = single::read(said)? {
        if has_sequence {
            return exclude("a sequence and a stanza");
        }
        if password.is_some() || said.typed.given("one-time-sequences") {
            return exclude("a stanza and one-time sequences or passwords");
        }
        return Ok(Stages::Single(Box::new(single)));
    }
    if let Some(path) = said.typed.value("one-time-sequences") {
        if has_sequence {
            return exclude("a sequence and one-time sequences");
        }
        if password.is_some() {
            return exclude("one-time sequences and a one-time password");
        }
        return Ok(Stages::OneTime(PathBuf::from(path)));
    }
    if let Some(password) = password {
        if has_sequence {
            return exclude("a sequence and a one-time password");
        }
        return Ok(Stages::Otp(Box::new(password)));
    }
    let Some(found) = &said.profile else {
        let asked = ports.iter().map(|word| Asked::parse(&word.to_string_lossy(), manner));
        return asked.collect::<Result<_, _>>().map(Stages::Typed).map_err(Failure::refused);
    };
    let (path, name) = (found.path.display(), &found.profile.name);
    let Some(setting) = said.setting("sequence") else {
        return Err(Failure::refused(format_args!(
            "{path}: line {}: profile '{name}' has neither sequence, one_time_sequences, otp nor stanza",
            found.profile.line
        )));
    };
    Asked::parse_list(setting.value().unwrap_or_default(), manner).map(Stages::Profile).map_err(|error| {
        Failure::refused(format_args!("{path}: line {}: sequence: {}", setting.line, error.discreet()))
    })
}

fn wait(said: &Completed) -> Result<Option<Wait>, Failure> {
    let typed = &said.typed;
    let timeout = seconds(said, "timeout")?.unwrap_or(TIMEOUT);
    let retries = number(said, "retries", 0, MAX_ROUNDS)?;
    let (option, proxy) = match (typed.given("proxy"), typed.given("wait")) {
        (true, _) => ("proxy", true),
        (false, true) => ("wait", false),
        (false, false) if retries.is_some() => {
            let name = said.name("retries");
            return Err(Failure::refused(format_args!("{name} needs --wait or --proxy")));
        }
        (false, false) => return Ok(None),
    };
    let port = typed.text(option).unwrap_or_default();
    let refuse = |problem: String| Failure::refused(format_args!("{}{problem}", said.place(&[option])));
    let (port, protocol) = match port.split_once('/') {
        None => (port.as_str(), Protocol::Tcp),
        Some((port, word)) => match Protocol::from_word(word) {
            Some(protocol) if !(proxy && protocol == Protocol::Udp) => (port, protocol),
            _ => return Err(refuse(format!("'{port}/{word}' cannot be awaited"))),
        },
    };
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    if port.is_empty() || is_number && !matches!(port.parse(), Ok(1..=u16::MAX)) {
        return Err(refuse(format!("port '{port}' is not between 1 and 65535")));
    }
    Ok(Some(Wait { port: port.to_owned(), protocol, timeout, retries: retries.unwrap_or(0), proxy }))
}
