//! What the client sends, and when: stages as they are written, then as packets in order and in time.

pub mod fwknoprc;
pub mod password;
pub mod ping;
pub mod profile;
pub mod shape;
pub mod spa;
pub mod stun;
pub mod stun_message;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::door::knock::{Flags, Protocol};
use crate::door::sequence::{MAX_ECHO, Stage, echo_length};
use crate::packet::describe::flag_names;

/// One stage as it was written: `port[:protocol[:flags]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The port as it was written, for messages.
    pub text: String,
    /// The port number (of a ping, the number of data bytes), or that a service has to be looked up.
    pub port: Port,
    /// TCP, UDP or ICMP.
    pub protocol: Protocol,
    /// The TCP flags this stage names; without raw packets only SYN is possible.
    pub flags: Option<Flags>,
}

/// A port as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// A number, in host byte order.
    Number(u16),
    /// The name of a service.
    Service,
}

/// What is wrong with a stage, with the text as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskedError {
    /// A number out of range, or nothing at all.
    Port(String),
    /// A length that a ping cannot have.
    Echo(String),
    /// A protocol other than tcp, udp and icmp, if [`Manner::strict`].
    Protocol(String),
    /// An unknown TCP flag.
    Flags(String),
    /// Flags on a stage that is not sent as a raw packet.
    Raw(String),
    /// Flags on a stage of UDP or ICMP.
    NotTcp(String),
    /// A protocol behind a slash and another one behind a colon.
    TwoProtocols(String),
}

impl AskedError {
    /// The message without the text, for sequences that must stay secret.
    #[must_use]
    pub const fn discreet(&self) -> &'static str {
        match self {
            AskedError::Port(_) => "a port is not between 0 and 65535",
            AskedError::Echo(_) => "the length of an icmp stage is not between 0 and 1400",
            AskedError::Protocol(_) => "a protocol is neither tcp, udp nor icmp",
            AskedError::Flags(_) => "a TCP flag is unknown",
            AskedError::Raw(_) => "TCP flags in a stage need raw packets (--raw)",
            AskedError::NotTcp(_) => "UDP and ICMP have no TCP flags",
            AskedError::TwoProtocols(_) => "a port has two protocols",
        }
    }
}

impl fmt::Display for AskedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskedError::Port(text) => write!(f, "port '{text}' is not between 0 and 65535"),
            AskedError::Echo(text) => {
                write!(f, "'{text}:icmp': the length of an echo request is not between 0 and {MAX_ECHO}")
            }
            AskedError::Protocol(text) => write!(f, "protocol '{text}' is neither tcp, udp nor icmp"),
            AskedError::Flags(text) => {
                write!(f, "'{text}' is not a list of TCP flags; known are none")?;
                Flags::NAMES.iter().try_for_each(|(name, _)| write!(f, " {name}"))?;
                f.write_str(", joined by +")
            }
            AskedError::Raw(text) => write!(f, "the TCP flags in '{text}' need --raw"),
            AskedError::NotTcp(text) => write!(f, "'{text}' is not TCP, so it has no TCP flags"),
            AskedError::TwoProtocols(text) => {
                write!(f, "'{text}' has two protocols: write one of them, as in 7000:udp")
            }
        }
    }
}

impl std::error::Error for AskedError {}

/// How stages are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Every stage but those of ICMP is UDP, whatever it says (`-u`).
    pub udp: bool,
    /// The packets are raw, so stages may name flags.
    pub raw: bool,
    /// Only `tcp`, `udp` and `icmp` are accepted, in any case. Otherwise every protocol but a lower-case
    /// `udp` or `icmp` is TCP, as in knock 0.8 (which had no `icmp`).
    pub strict: bool,
}

impl Asked {
    /// Reads one stage.
    ///
    /// # Errors
    /// See [`AskedError`].
    pub fn parse(word: &str, manner: Manner) -> Result<Asked, AskedError> {
        let mut fields = word.splitn(3, ':');
        let text = fields.next().unwrap_or_default();
        // 7000/udp, as many guides and firewalls write it.
        let (text, behind_slash) = match text.split_once('/') {
            Some((port, protocol)) if Protocol::with_ports(protocol).is_some() => (port, Some(protocol)),
            _ => (text, None),
        };
        let protocol = fields.next();
        if protocol.is_some() && behind_slash.is_some() {
            return Err(AskedError::TwoProtocols(word.to_owned()));
        }
        let flags = fields.next();
        let lower = behind_slash.map(str::to_ascii_lowercase);
        let protocol = lower.as_deref().or(protocol).unwrap_or_default();
        let is_icmp = if manner.strict { protocol.eq_ignore_ascii_case("icmp") } else { protocol == "icmp" };
        let port = if is_icmp {
            Port::Number(echo_length(text).ok_or_else(|| AskedError::Echo(text.to_owned()))?)
        } else if is_number(text) {
            Port::Number(text.parse().map_err(|_| AskedError::Port(text.to_owned()))?)
        } else {
            Port::Service
        };
        let protocol = if is_icmp {
            Protocol::Icmp
        } else if manner.udp {
            Protocol::Udp
        } else if manner.strict && !protocol.is_empty() {
            Protocol::from_word(protocol).ok_or_else(|| AskedError::Protocol(protocol.to_owned()))?
        } else if protocol == "udp" {
            Protocol::Udp
        } else {
            Protocol::Tcp
        };
        let flags = match flags {
            None => None,
            Some(_) if !manner.raw => return Err(AskedError::Raw(word.to_owned())),
            Some(_) if protocol != Protocol::Tcp => return Err(AskedError::NotTcp(word.to_owned())),
            Some(names) => Some(self::flags(names)?),
        };
        Ok(Asked { text: text.to_owned(), port, protocol, flags })
    }

    /// Reads the stages of a profile: separated by commas, as in knockd.conf.
    ///
    /// # Errors
    /// See [`AskedError`].
    pub fn parse_list(list: &str, manner: Manner) -> Result<Vec<Asked>, AskedError> {
        list.split(',').map(|word| Asked::parse(word.trim(), manner)).collect()
    }

    /// Reads the words of a command line: a stage each, or several of them separated by commas. A comma
    /// at the end of a word is a separator too, as in `7000, 8000`.
    ///
    /// # Errors
    /// See [`AskedError`].
    pub fn parse_words(words: &[impl AsRef<str>], manner: Manner) -> Result<Vec<Asked>, AskedError> {
        let lists = words.iter().map(AsRef::as_ref).map(|word: &str| match word.strip_suffix(',') {
            Some(list) if !list.is_empty() => list,
            _ => word,
        });
        let stages = lists.map(|list| Asked::parse_list(list, manner));
        stages.collect::<Result<Vec<_>, _>>().map(|stages| stages.concat())
    }
}

/// Reads TCP flags: their names joined by `+`, or `none`.
///
/// # Errors
/// An unknown flag.
pub fn flags(names: &str) -> Result<Flags, AskedError> {
    if names.eq_ignore_ascii_case("none") {
        return Ok(Flags::NONE);
    }
    names.split('+').try_fold(Flags::NONE, |all, name| {
        Flags::from_word(name).map(|flag| all.union(flag)).ok_or_else(|| AskedError::Flags(names.to_owned()))
    })
}

/// Whether the resolver would read a word as a number. The empty word, which it reads as 0, counts, so
/// that it is refused.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    text.is_empty() || !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The value of `--delay`: milliseconds, with or without a fraction; a word is 0, as in knock 0.8.
///
/// # Errors
/// A negative number.
pub fn delay(text: &str) -> Result<Duration, String> {
    const MILLISECOND: Duration = Duration::from_millis(1);
    let text = text.trim_start();
    let (is_negative, amount) = match text.strip_prefix(['+', '-']) {
        Some(amount) => (text.starts_with('-'), amount),
        None => (false, text),
    };
    let end = amount.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(amount.len());
    let amount = amount.get(..end).unwrap_or_default();
    let whole = amount.split('.').next().unwrap_or_default();
    let delay = decimal(amount, MILLISECOND).or_else(|| decimal(whole, MILLISECOND)).unwrap_or_default();
    if is_negative && !delay.is_zero() {
        return Err("delay cannot be negative".to_owned());
    }
    Ok(delay)
}

/// A decimal number of units, with or without a fraction; `None` if it is not one. The result saturates
/// at the longest duration, and fractions of a nanosecond are cut off.
#[must_use]
pub fn decimal(text: &str, unit: Duration) -> Option<Duration> {
    const NANOSECONDS: u128 = 1_000_000_000;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all = || whole.bytes().chain(fraction.bytes());
    if all().next().is_none() || !all().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = |text: &str| text.bytes().map(|digit| u128::from(digit - b'0')).collect::<Vec<u128>>();
    let whole = digits(whole).iter().fold(0_u128, |sum, digit| sum.saturating_mul(10).saturating_add(*digit));
    let mut nanoseconds = whole.saturating_mul(unit.as_nanos());
    let mut place = unit.as_nanos();
    for digit in digits(fraction) {
        place /= 10;
        nanoseconds = nanoseconds.saturating_add(digit * place);
    }
    let rest = u32::try_from(nanoseconds % NANOSECONDS).ok()?;
    Some(
        u64::try_from(nanoseconds / NANOSECONDS)
            .map_or(Duration::MAX, |seconds| Duration::new(seconds, rest)),
    )
}

/// A duration in milliseconds, with as many decimals as needed.
#[must_use]
pub fn in_milliseconds(duration: Duration) -> String {
    let fraction = format!("{:06}", duration.subsec_nanos() % 1_000_000);
    let text = format!("{}.{}", duration.as_millis(), fraction.trim_end_matches('0'));
    text.trim_end_matches('.').to_owned()
}

/// The time between two stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// At least this long.
    pub delay: Duration,
    /// Up to this much longer, at random.
    pub jitter: Duration,
}

impl Pace {
    /// The pause after one stage.
    #[must_use]
    pub fn pause(self, random: u64) -> Duration {
        let span = u64::try_from(self.jitter.as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        self.delay.saturating_add(Duration::from_nanos(random % span))
    }
}

/// A stage whose port is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Protocol and port.
    pub stage: Stage,
    /// The TCP flags the stage names.
    pub flags: Option<Flags>,
    /// The port as it was written.
    pub text: String,
}

impl From<Stage> for Resolved {
    fn from(stage: Stage) -> Resolved {
        Resolved { stage, flags: None, text: stage.port.to_string() }
    }
}

/// A sequence, and the address to send it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// The address to knock at; its port is ignored.
    pub address: SocketAddr,
    /// The stages to knock there, in order.
    pub stages: Vec<Resolved>,
    /// Whom single packets ask to let in; an unspecified address stands for the sender's.
    pub allow_ip: Option<IpAddr>,
}

impl fmt::Display for Errand {
    /// The stages in the form of the command line: `port:protocol`, and flags if any are named.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Resolved { stage, flags, .. }) in self.stages.iter().enumerate() {
            write!(f, "{}{stage}", if i > 0 { " " } else { "" })?;
            if let Some(flags) = flags {
                write!(f, ":{}", flag_names(*flags))?;
            }
        }
        Ok(())
    }
}

/// One knock to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The stage.
    pub resolved: Resolved,
    /// Address and port.
    pub destination: SocketAddr,
    /// Whom a single packet asks to let in.
    pub allow_ip: Option<IpAddr>,
    /// How long to wait after it.
    pub pause: Duration,
}

/// One round of the sequences: each stage at each address, and a pause after each stage.
///
/// The pause also follows the last stage, as in knock 0.8: scripts rely on the door being open by then.
pub fn round(errands: &[Errand], pace: Pace, random: &mut dyn FnMut() -> u64) -> Vec<Planned> {
    let longest = errands.iter().map(|errand| errand.stages.len()).max().unwrap_or(0);
    let mut planned = Vec::with_capacity(longest * errands.len());
    for index in 0..longest {
        for errand in errands {
            let Some(resolved) = errand.stages.get(index).cloned() else { continue };
            let mut destination = errand.address;
            destination.set_port(resolved.stage.port);
            planned.push(Planned { resolved, destination, allow_ip: errand.allow_ip, pause: Duration::ZERO });
        }
        if let Some(last) = planned.last_mut() {
            last.pause = pace.pause(random());
        }
    }
    planned
}
