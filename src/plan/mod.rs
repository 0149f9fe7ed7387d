//! What the client sends: parses stages, and arranges knocks in order with pauses in between.

pub mod fwknoprc;
pub mod packet_template;
pub mod password;
pub mod ping;
pub mod profile;
pub mod spa;
pub mod stun;
pub mod stun_message;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::door::knock::{Flags, Protocol};
use crate::door::sequence::{MAX_ECHO, Stage, echo_length};
use crate::packet::describe::flag_names;

/// A stage as requested: `port[:protocol[:flags]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedStage {
    /// The port as the user wrote it, for messages.
    pub text: String,
    /// The port number (for a ping, the number of data bytes), or a service to look up.
    pub port: Port,
    /// TCP, UDP or ICMP.
    pub protocol: Protocol,
    /// The stage's own TCP flags; only possible with raw packets.
    pub flags: Option<Flags>,
}

/// The port of a requested stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// A number, in host byte order.
    Number(u16),
    /// The name of a service.
    Service,
}

/// An error in a stage, with the offending text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StageError {
    /// A number out of range, or an empty port.
    Port(String),
    /// An invalid length of a ping.
    EchoLength(String),
    /// A protocol other than tcp, udp and icmp, if [`ParseOptions::strict`].
    Protocol(String),
    /// An unknown TCP flag.
    Flags(String),
    /// Flags on a stage that is not a raw packet.
    FlagsNeedRaw(String),
    /// Flags on a UDP or ICMP stage.
    FlagsNeedTcp(String),
    /// A protocol after a slash, and another one after a colon.
    TwoProtocols(String),
}

impl StageError {
    /// The message without the offending text, for sequences that must stay secret.
    #[must_use]
    pub const fn redacted(&self) -> &'static str {
        match self {
            StageError::Port(_) => "a port is not between 0 and 65535",
            StageError::EchoLength(_) => "the length of an icmp stage is not between 0 and 1400",
            StageError::Protocol(_) => "a protocol is neither tcp, udp nor icmp",
            StageError::Flags(_) => "a TCP flag is unknown",
            StageError::FlagsNeedRaw(_) => "TCP flags in a stage need raw packets (--raw)",
            StageError::FlagsNeedTcp(_) => "UDP and ICMP have no TCP flags",
            StageError::TwoProtocols(_) => "a port has two protocols",
        }
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StageError::Port(text) => write!(f, "port '{text}' is not between 0 and 65535"),
            StageError::EchoLength(text) => {
                write!(f, "'{text}:icmp': the length of an echo request is not between 0 and {MAX_ECHO}")
            }
            StageError::Protocol(text) => write!(f, "protocol '{text}' is neither tcp, udp nor icmp"),
            StageError::Flags(text) => {
                write!(f, "'{text}' is not a list of TCP flags; known are none")?;
                Flags::NAMES.iter().try_for_each(|(name, _)| write!(f, " {name}"))?;
                f.write_str(", joined by +")
            }
            StageError::FlagsNeedRaw(text) => write!(f, "the TCP flags in '{text}' need --raw"),
            StageError::FlagsNeedTcp(text) => write!(f, "'{text}' is not TCP, so it has no TCP flags"),
            StageError::TwoProtocols(text) => {
                write!(f, "'{text}' has two protocols: write one of them, as in 7000:udp")
            }
        }
    }
}

impl std::error::Error for StageError {}

/// How to parse stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParseOptions {
    /// Send every stage except ICMP over UDP (`-u`), whatever its protocol.
    pub udp: bool,
    /// Packets are raw, so stages may have flags.
    pub raw: bool,
    /// Accept only `tcp`, `udp` and `icmp`, in any case. Otherwise anything but a lower-case `udp` or `icmp`
    /// means TCP, as in knock 0.8 (which had no `icmp`).
    pub strict: bool,
}

impl RequestedStage {
    /// Parses one stage.
    ///
    /// # Errors
    /// See [`StageError`].
    pub fn parse(word: &str, options: ParseOptions) -> Result<RequestedStage, StageError> {
        let mut fields = word.splitn(3, ':');
        let text = fields.next().unwrap_or_default();
        // 7000/udp, the notation of many guides and firewalls.
        let (text, protocol_after_slash) = match text.split_once('/') {
            Some((port, protocol)) if Protocol::with_ports(protocol).is_some() => (port, Some(protocol)),
            _ => (text, None),
        };
        let protocol = fields.next();
        if protocol.is_some() && protocol_after_slash.is_some() {
            return Err(StageError::TwoProtocols(word.to_owned()));
        }
        let flags = fields.next();
        let lower = protocol_after_slash.map(str::to_ascii_lowercase);
        let protocol = lower.as_deref().or(protocol).unwrap_or_default();
        let is_icmp = if options.strict { protocol.eq_ignore_ascii_case("icmp") } else { protocol == "icmp" };
        let port = if is_icmp {
            Port::Number(echo_length(text).ok_or_else(|| StageError::EchoLength(text.to_owned()))?)
        } else if is_number(text) {
            Port::Number(text.parse().map_err(|_| StageError::Port(text.to_owned()))?)
        } else {
            Port::Service
        };
        let protocol = if is_icmp {
            Protocol::Icmp
        } else if options.udp {
            Protocol::Udp
        } else if options.strict && !protocol.is_empty() {
            Protocol::from_word(protocol).ok_or_else(|| StageError::Protocol(protocol.to_owned()))?
        } else if protocol == "udp" {
            Protocol::Udp
        } else {
            Protocol::Tcp
        };
        let flags = match flags {
            None => None,
            Some(_) if !options.raw => return Err(StageError::FlagsNeedRaw(word.to_owned())),
            Some(_) if protocol != Protocol::Tcp => return Err(StageError::FlagsNeedTcp(word.to_owned())),
            Some(names) => Some(parse_flags(names)?),
        };
        Ok(RequestedStage { text: text.to_owned(), port, protocol, flags })
    }

    /// Parses the stages of a profile, separated by commas as in knockd.conf.
    ///
    /// # Errors
    /// See [`StageError`].
    pub fn parse_list(list: &str, options: ParseOptions) -> Result<Vec<RequestedStage>, StageError> {
        list.split(',').map(|word| RequestedStage::parse(word.trim(), options)).collect()
    }

    /// Parses the words of a command line. Each has one or more stages separated by commas, and may end with
    /// a comma, as in `7000, 8000`.
    ///
    /// # Errors
    /// See [`StageError`].
    pub fn parse_words(
        words: &[impl AsRef<str>],
        options: ParseOptions,
    ) -> Result<Vec<RequestedStage>, StageError> {
        let lists = words.iter().map(AsRef::as_ref).map(|word: &str| match word.strip_suffix(',') {
            Some(list) if !list.is_empty() => list,
            _ => word,
        });
        let stages = lists.map(|list| RequestedStage::parse_list(list, options));
        stages.collect::<Result<Vec<_>, _>>().map(|stages| stages.concat())
    }
}

/// Parses TCP flags: names joined by `+`, or `none`.
///
/// # Errors
/// An unknown flag.
pub fn parse_flags(names: &str) -> Result<Flags, StageError> {
    if names.eq_ignore_ascii_case("none") {
        return Ok(Flags::NONE);
    }
    names.split('+').try_fold(Flags::NONE, |all, name| {
        Flags::from_word(name).map(|flag| all.union(flag)).ok_or_else(|| StageError::Flags(names.to_owned()))
    })
}

/// Whether the resolver would parse a word as a number. True for the empty word, which the resolver takes for
/// 0, so that it is rejected.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    text.is_empty() || !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses the value of `--delay`: milliseconds, which may have a fraction; a word counts as 0, as in knock
/// 0.8.
///
/// # Errors
/// A negative number.
pub fn parse_delay(text: &str) -> Result<Duration, String> {
    const MILLISECOND: Duration = Duration::from_millis(1);
    let text = text.trim_start();
    let (is_negative, amount) = match text.strip_prefix(['+', '-']) {
        Some(amount) => (text.starts_with('-'), amount),
        None => (false, text),
    };
    let end = amount.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(amount.len());
    let amount = amount.get(..end).unwrap_or_default();
    let whole = amount.split('.').next().unwrap_or_default();
    let delay =
        parse_decimal(amount, MILLISECOND).or_else(|| parse_decimal(whole, MILLISECOND)).unwrap_or_default();
    if is_negative && !delay.is_zero() {
        return Err("delay cannot be negative".to_owned());
    }
    Ok(delay)
}

/// Parses a decimal number of units, which may have a fraction; `None` if it is not one. Saturates at the
/// longest duration, and truncates fractions of a nanosecond.
#[must_use]
pub fn parse_decimal(text: &str, unit: Duration) -> Option<Duration> {
    const NANOSECONDS: u128 = 1_000_000_000;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all = || whole.bytes().chain(fraction.bytes());
    if all().next().is_none() || !all().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = |text: &str| text.bytes().map(|digit| u128::from(digit - b'0')).collect::<Vec<u128>>();
    let whole = digits(whole).iter().fold(0_u128, |sum, digit| sum.saturating_mul(10).saturating_add(*digit));
    let mut nanoseconds = whole.saturating_mul(unit.as_nanos());
    let mut digit_unit = unit.as_nanos();
    for digit in digits(fraction) {
        digit_unit /= 10;
        nanoseconds = nanoseconds.saturating_add(digit * digit_unit);
    }
    let rest = u32::try_from(nanoseconds % NANOSECONDS).ok()?;
    Some(
        u64::try_from(nanoseconds / NANOSECONDS)
            .map_or(Duration::MAX, |seconds| Duration::new(seconds, rest)),
    )
}

/// Formats a duration in milliseconds, with as many decimals as needed.
#[must_use]
pub fn format_milliseconds(duration: Duration) -> String {
    let fraction = format!("{:06}", duration.subsec_nanos() % 1_000_000);
    let text = format!("{}.{}", duration.as_millis(), fraction.trim_end_matches('0'));
    text.trim_end_matches('.').to_owned()
}

/// The pause between two stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// The minimum.
    pub delay: Duration,
    /// The maximum of a random additional time.
    pub jitter: Duration,
}

impl Pace {
    /// The pause after one stage, from a random number.
    #[must_use]
    pub fn pause(self, random: u64) -> Duration {
        let span = u64::try_from(self.jitter.as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        self.delay.saturating_add(Duration::from_nanos(random % span))
    }
}

/// A stage with a known port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedStage {
    /// Protocol and port.
    pub stage: Stage,
    /// The stage's own TCP flags.
    pub flags: Option<Flags>,
    /// The port as the user wrote it.
    pub text: String,
}

impl From<Stage> for ResolvedStage {
    fn from(stage: Stage) -> ResolvedStage {
        ResolvedStage { stage, flags: None, text: stage.port.to_string() }
    }
}

/// A sequence and the address to send it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressedSequence {
    /// The destination address; its port is ignored.
    pub address: SocketAddr,
    /// The stages, in order.
    pub stages: Vec<ResolvedStage>,
    /// The address that a single packet asks to let in; the unspecified address stands for the packet's
    /// source.
    pub allow_ip: Option<IpAddr>,
}

impl fmt::Display for AddressedSequence {
    /// The stages in the form of the command line: `port:protocol`, with the stage's own flags if it has any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, ResolvedStage { stage, flags, .. }) in self.stages.iter().enumerate() {
            write!(f, "{}{stage}", if i > 0 { " " } else { "" })?;
            if let Some(flags) = flags {
                write!(f, ":{}", flag_names(*flags))?;
            }
        }
        Ok(())
    }
}

/// A knock to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedKnock {
    /// The stage.
    pub resolved: ResolvedStage,
    /// The destination address and port.
    pub destination: SocketAddr,
    /// The address that a single packet asks to let in.
    pub allow_ip: Option<IpAddr>,
    /// The pause after the knock.
    pub pause: Duration,
}

/// Plans one round: each stage to each address, with a pause after each stage.
///
/// The pause also follows the last stage, as in knock 0.8: scripts rely on the door being open by then.
pub fn plan_round(
    sequences: &[AddressedSequence],
    pace: Pace,
    random: &mut dyn FnMut() -> u64,
) -> Vec<PlannedKnock> {
    let longest = sequences.iter().map(|sequence| sequence.stages.len()).max().unwrap_or(0);
    let mut planned = Vec::with_capacity(longest * sequences.len());
    for index in 0..longest {
        for sequence in sequences {
            let Some(resolved) = sequence.stages.get(index).cloned() else { continue };
            let mut destination = sequence.address;
            destination.set_port(resolved.stage.port);
            planned.push(PlannedKnock {
                resolved,
                destination,
                allow_ip: sequence.allow_ip,
                pause: Duration::ZERO,
            });
        }
        if let Some(last) = planned.last_mut() {
            last.pause = pace.pause(random());
        }
    }
    planned
}
