//! The value of a directive, with a parsing method for each kind of value.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::options::StatusSocket;
use crate::config::problem::Problem;
use crate::door::Template;
use crate::door::knock::Protocol;
use crate::door::open::{OpenedPorts, Sets};
use crate::door::ports::Ports;
use crate::door::rules::{OpenRate, Prefixes, Rate, Repeat};
use crate::door::sequence::{Stage, atoi};
use crate::octets;

/// The text after the `=`, trimmed of blanks. It need not be UTF-8.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    /// The directive's name, for error messages.
    directive: &'static str,
    bytes: &'a [u8],
}

impl<'a> Value<'a> {
    pub(super) fn new(directive: &'static str, bytes: &'a [u8]) -> Value<'a> {
        Value { directive, bytes }
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The value as text, see [`octets`].
    pub(super) fn text(&self) -> Cow<'a, str> {
        octets::text(self.bytes)
    }

    /// Parses the value with `parse`; if that returns `None`, the error names what is `wanted`.
    pub(super) fn parse<T>(
        &self,
        wanted: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Problem> {
        let text = self.text();
        parse(&text).ok_or_else(|| Problem::Value(self.directive, text.into_owned(), wanted))
    }

    pub(super) fn path(&self) -> PathBuf {
        #[cfg(unix)]
        {
            use std::ffi::OsStr;
            use std::os::unix::ffi::OsStrExt;
            PathBuf::from(OsStr::from_bytes(self.bytes))
        }
        // Elsewhere only the client reads a knockd.conf, for the password of a door.
        #[cfg(not(unix))]
        PathBuf::from(self.text().into_owned())
    }

    /// The path; `None` if it is empty.
    pub(super) fn path_if_any(&self) -> Option<PathBuf> {
        (!self.bytes.is_empty()).then(|| self.path())
    }

    /// A path, or the word `none`.
    pub(super) fn status_socket(&self) -> StatusSocket {
        match self.bytes {
            b"" => StatusSocket::BesidePidFile,
            b"none" => StatusSocket::Nowhere,
            _ => StatusSocket::At(self.path()),
        }
    }

    /// The name; `None` if it is empty.
    pub(super) fn name_if_any(&self) -> Option<String> {
        Some(self.text().into_owned()).filter(|name| !name.is_empty())
    }

    /// A command in which `%IP%` is replaced.
    pub(super) fn template(&self) -> Template {
        Template::new(self.bytes)
    }

    /// A command that is run unchanged; `None` if it is empty.
    pub(super) fn command_if_any(&self) -> Option<Vec<u8>> {
        (!self.bytes.is_empty()).then(|| self.bytes.to_vec())
    }

    /// A number, parsed as in knockd 0.8 (see [`atoi`]) and clamped to 32 bits.
    pub(super) fn atoi(&self) -> i32 {
        let number = atoi(&self.text());
        i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
    }

    pub(super) fn yes_or_no(&self) -> Result<bool, Problem> {
        self.parse("yes or no", |text| match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" | "1" => Some(true),
            "no" | "off" | "false" | "0" => Some(false),
            _ => None,
        })
    }

    /// A whole number of seconds; `wanted` describes it in the error.
    pub(super) fn seconds(&self, wanted: &'static str) -> Result<Duration, Problem> {
        self.parse(wanted, |text| Some(Duration::from_secs(text.parse::<u32>().ok()?.into())))
    }

    /// A limit in seconds; 0 means no limit.
    pub(super) fn limit(&self) -> Result<Duration, Problem> {
        self.seconds("a number of seconds, 0 for no limit")
    }

    /// A list like `192.0.2.0/24, 2001:db8::/32`; an address alone is a prefix of full length.
    pub(super) fn prefixes(&self) -> Result<Prefixes, Problem> {
        self.parse("a list of prefixes such as 192.0.2.0/24, 2001:db8::/32", Prefixes::parse)
    }

    /// A list like `tcp/443, udp/443`.
    pub(super) fn services(&self) -> Result<Vec<Stage>, Problem> {
        let service = |item: &str| {
            let (protocol, port) = item.trim().split_once('/')?;
            Some(Stage { protocol: Protocol::from_word(protocol)?, port: port.parse().ok()? })
        };
        self.parse("a list of services such as tcp/443, udp/443", |text| {
            text.split(',').map(service).collect()
        })
    }

    /// `tcp/22, udp/51820, tcp/8000-8010`, or `request`.
    pub(super) fn what_to_open(&self) -> Result<OpenedPorts, Problem> {
        self.parse("a list of ports such as tcp/22, udp/51820, tcp/8000-8010, or request", |text| {
            if text.eq_ignore_ascii_case("request") {
                return Some(OpenedPorts::Requested);
            }
            let mut ports: Vec<Ports> = text.split(',').map(Ports::parse).collect::<Option<_>>()?;
            let mut seen = Vec::new();
            ports.retain(|it| {
                !seen.contains(it) && {
                    seen.push(*it);
                    true
                }
            });
            Some(OpenedPorts::Listed(ports))
        })
    }

    /// A set as in `inet filter knock4 knock6`, added to the sets of earlier lines.
    pub(super) fn add_to_sets(&self, sets: &mut Sets) -> Result<(), Problem> {
        let wanted = "inet TABLE SET4 [SET6], ip TABLE SET4 or ip6 TABLE SET6";
        *sets = self.parse(wanted, |text| sets.clone().with(text))?;
        Ok(())
    }

    /// A number of bits of an address.
    pub(super) fn bits(
        &self,
        wanted: &'static str,
        all: std::ops::RangeInclusive<u8>,
    ) -> Result<u8, Problem> {
        self.parse(wanted, |text| text.parse().ok().filter(|bits| all.contains(bits)))
    }

    /// A range like `40` or `40-60`, both ends included.
    pub(super) fn payload_bytes(&self) -> Result<(u16, u16), Problem> {
        self.parse("a number of payload bytes, or two of them joined by '-'", |text| {
            let (least, most) = text.split_once('-').unwrap_or((text, text));
            let range: (u16, u16) = least.trim().parse().ok().zip(most.trim().parse().ok())?;
            (range.0 <= range.1).then_some(range)
        })
    }

    /// A number up to 65535; 0 means no limit.
    pub(super) fn number_or_no_limit(&self) -> Result<u16, Problem> {
        self.parse("a number up to 65535, 0 for no limit", |text| text.parse().ok())
    }

    /// A rate as in `10/1`: times / seconds; `0` means no limit.
    pub(super) fn open_rate(&self) -> Result<OpenRate, Problem> {
        self.parse("how often in how many seconds, such as 10/1, or 0 for no limit", |text| {
            if text == "0" {
                return Some(OpenRate::Unlimited);
            }
            let (times, seconds) = text.split_once('/')?;
            let (times, seconds): (u32, u32) = times.trim().parse().ok().zip(seconds.trim().parse().ok())?;
            let rate = Rate { times, within: Duration::from_secs(seconds.into()) };
            (times > 0 && seconds > 0).then_some(OpenRate::AtMost(rate))
        })
    }

    /// A rate as in `3 in 20`: times in seconds.
    pub(super) fn repeat(&self) -> Result<Repeat, Problem> {
        self.parse("how often within how many seconds, such as 3 in 20", |text| {
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            let [times, word, seconds] = words.as_slice() else { return None };
            let (times, seconds): (u8, u32) = times.parse().ok().zip(seconds.parse().ok())?;
            let is_good = word.eq_ignore_ascii_case("in") && times > 0 && seconds > 0;
            is_good.then(|| Repeat { times, within: Duration::from_secs(seconds.into()) })
        })
    }
}
