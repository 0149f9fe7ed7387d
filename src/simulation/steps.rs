//! Parses lines that describe packets and other events: the language of `tests/corpus/scenarios`.
//!
//! | line | effect |
//! |---|---|
//! | `0.4 SOURCE > DESTINATION tcp PORT FLAGS` | a segment; flags are joined by commas, or `none`, or `cut` for a header cut before them |
//! | `0.4 SOURCE > DESTINATION udp PORT [BYTES]` | a datagram, of one byte by default |
//! | `0.4 SOURCE > DESTINATION icmp LENGTH` | an echo request with LENGTH bytes of data |
//! | `0.4` | the time advances |
//! | `0.4 ended 0: COMMAND` | a command ends with this exit code; `killed 9:` and `not started:` likewise |
//! | `0.4 finish 1 5` | the daemon is asked to end: doors due within 1 s stay open until then, running start commands get 5 s |
//! | `0.4 closed`, `0.4 not closed` | asserts that every stop command has run and ended, or not |
//! | `0.4 struck DOOR: 1,2; 3,4` | a used line was struck; these lines are left in the file, or it is `unreadable` |
//! | `address 10.0.0.1 fd00::1` | this host's addresses from now on |
//! | `clock +30`, `clock -30`, `clock 1700000000` | the wall clock is moved or set, in seconds |
//! | `debug` | the output of `-D` about attempts is shown as well |
//!
//! Times are seconds from the start, with up to nine decimals. The text after `=>` is what the tests expect;
//! it is ignored here, like empty lines and lines that start with `#`.

use std::net::IpAddr;
use std::time::Duration;

use crate::door::knock::{Flags, Knock, Protocol};
use crate::opening::Ending;

/// A parsed line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// This host's addresses.
    Addresses(Vec<IpAddr>),
    /// A change of the wall clock.
    Clock(ClockChange),
    /// Show the output of `-D`.
    Debug,
    /// An event, or an assertion, at this time after the start.
    At(Duration, TimedStep<'a>),
}

/// A change of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockChange {
    /// Moved forward.
    Forward(Duration),
    /// Moved back.
    Back(Duration),
    /// Set to this Unix time.
    Set(Duration),
}

/// What happens at a time after the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimedStep<'a> {
    /// A packet arrives.
    Packet(Knock),
    /// Only the time advances.
    Wait,
    /// This command ends.
    Ended(Ending, &'a str),
    /// The daemon is asked to end.
    Finish {
        /// Doors due within this time stay open until then; all others close at once.
        grace: Duration,
        /// How long to wait for running start commands.
        start_timeout: Duration,
    },
    /// A used line of a door was struck; the lines that are left, or `None` if the file is unreadable.
    Struck(&'a str, Option<String>),
    /// Asserts whether every door is closed by now.
    Closed(bool),
}

impl<'a> Step<'a> {
    /// Strips the expectation from a line; `None` if nothing is left, or for a comment.
    #[must_use]
    pub fn without_expectation(line: &'a str) -> Option<&'a str> {
        let text = line.split_once("=>").map_or(line, |(text, _)| text).trim();
        (!text.is_empty() && !text.starts_with('#')).then_some(text)
    }

    /// Parses the text of a line; `None` if it is not in this language.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Step<'a>> {
        let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        Some(match first {
            "address" => {
                let addresses = rest.split_whitespace().map(|word| word.parse().ok());
                Step::Addresses(addresses.collect::<Option<_>>()?)
            }
            "clock" => Step::Clock(parse_clock_change(rest)?),
            "debug" if rest.is_empty() => Step::Debug,
            time => Step::At(parse_seconds(time)?, parse_timed_step(rest)?),
        })
    }
}

fn parse_clock_change(to: &str) -> Option<ClockChange> {
    let whole = |text: &str| text.parse().ok().map(Duration::from_secs);
    match to.as_bytes().first()? {
        b'+' => to.get(1..).and_then(whole).map(ClockChange::Forward),
        b'-' => to.get(1..).and_then(whole).map(ClockChange::Back),
        _ => whole(to).map(ClockChange::Set),
    }
}

/// Parses seconds with decimals. Avoids floating point, whose code would be a thirtieth of a small program.
fn parse_seconds(text: &str) -> Option<Duration> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || decimals.len() > 9 {
        return None;
    }
    let nanoseconds = format!("{decimals:0<9}").parse().ok()?;
    Some(Duration::new(whole.parse().ok()?, nanoseconds))
}

fn parse_timed_step(what: &str) -> Option<TimedStep<'_>> {
    if what.is_empty() {
        return Some(TimedStep::Wait);
    }
    if what.contains('>') {
        return parse_knock(what).map(TimedStep::Packet);
    }
    if let Some(times) = what.strip_prefix("finish ") {
        let (grace, start_timeout) = times.split_once(' ')?;
        return Some(TimedStep::Finish {
            grace: parse_seconds(grace)?,
            start_timeout: parse_seconds(start_timeout)?,
        });
    }
    if let Some((door, left)) = what.strip_prefix("struck ").and_then(|rest| rest.split_once(':')) {
        let left = left.trim();
        return Some(TimedStep::Struck(door, (left != "unreadable").then(|| left.replace(';', "\n"))));
    }
    if let Some((how, command)) = what.split_once(':') {
        let ending = match how.split_once(' ')? {
            ("ended", code) => Ending::Exited(code.parse().ok()?),
            ("killed", signal) => Ending::Killed(signal.parse().ok()?),
            ("not", "started") => Ending::NotStarted,
            _ => return None,
        };
        return Some(TimedStep::Ended(ending, command.trim()));
    }
    match what {
        "closed" => Some(TimedStep::Closed(true)),
        "not closed" => Some(TimedStep::Closed(false)),
        _ => None,
    }
}

fn parse_knock(text: &str) -> Option<Knock> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [source, ">", destination, protocol, port, flags @ ..] = words.as_slice() else { return None };
    let protocol = Protocol::from_word(protocol)?;
    let udp_length = match (protocol, flags) {
        (Protocol::Udp, []) => Some(1),
        (Protocol::Udp, [length]) => Some(length.parse().ok()?),
        _ => None,
    };
    let flags = match (protocol, flags) {
        (Protocol::Udp, [] | [_]) | (Protocol::Icmp, []) | (Protocol::Tcp, ["cut"]) => None,
        (Protocol::Tcp, ["none"]) => Some(Flags::NONE),
        (Protocol::Tcp, [names]) => {
            let flags: Option<Vec<Flags>> = names.split(',').map(Flags::from_word).collect();
            Some(flags?.into_iter().fold(Flags::NONE, Flags::union))
        }
        _ => return None,
    };
    Some(Knock {
        source: source.parse().ok()?,
        source_port: 40_000,
        destination: destination.parse().ok()?,
        protocol,
        port: port.parse().ok()?,
        flags,
        udp_length,
        length: 40,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_exact() {
        let read = |text| Step::parse(text);
        assert_eq!(read("0.4"), Some(Step::At(Duration::from_millis(400), TimedStep::Wait)));
        assert_eq!(read("25"), Some(Step::At(Duration::from_secs(25), TimedStep::Wait)));
        assert_eq!(read("1.000000001"), Some(Step::At(Duration::new(1, 1), TimedStep::Wait)));
        for text in ["1.0000000001", "1e3", ".5", "1.", "-1", "nan", "18446744073709551616"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_step_is_none() {
        for text in
            ["x", "1 a > b tcp 1 syn", "1 10.0.0.1 > 10.0.0.2 tcp 1", "1 ended: x", "clock", "clock +"]
        {
            assert_eq!(Step::parse(text), None, "{text}");
        }
        assert_eq!(Step::without_expectation("  # 1"), None);
        assert_eq!(Step::without_expectation("1  closed  => whatever"), Some("1  closed"));
    }
}
