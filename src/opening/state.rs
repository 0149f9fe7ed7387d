//! What is remembered over the end of a process, whatever its end: doors that stand open, cooldowns,
//! and one-time lists that were used. Values to text and back.
//!
//! The text is lines of words; the first line names the format and the boot it was written in, the
//! last one counts. Each line but the first ends with a sum over itself: a line that was damaged is
//! left out, so that no command is run that is not, byte for byte, one that was written. Words are
//! percent-encoded where they hold a blank or anything that is not printable ASCII.
//!
//! ```text
//! knockd-state 1 BOOT
//! open PHASE DUE-UNIX DUE-UPTIME AFTER LIMIT KNOCKER DOOR COMMAND SUM     (times in milliseconds)
//! cooldown DUE-UNIX DUE-UPTIME AFTER KNOCKER DOOR SUM
//! spent IDENTITY PERIOD OWNER SUM
//! floor IDENTITY PERIOD SUM
//! end LINES SUM
//! ```
//!
//! Uptime cannot be set, but begins anew with each boot. So within a boot it alone counts; after a
//! boot the wall clock does, and one that was set back keeps no door open longer than its own time.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::door::Door;
use crate::door::lock::{Lock, OtpLock};
use crate::door::spent::Spent;
use crate::opening::{Phase, Stop};
use crate::time::Now;

/// What the first line begins with.
const TITLE: &str = "knockd-state 1";
/// How many used lists of a lock that are too old to be accepted are written one by one.
const OLD_LISTS: usize = 16;

/// When, and in which boot of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Both clocks.
    pub now: Now,
    /// What tells this boot from any other; empty if nothing does.
    pub boot: &'a str,
}

/// A door that does not listen to somebody who opened it, until this uptime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cooldown {
    /// The door's name.
    pub door: Arc<str>,
    /// Who.
    pub knocker: IpAddr,
    /// How long it lasts as a whole.
    pub after: Duration,
    /// Its end, as uptime.
    pub until: Duration,
}

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Doors that stand open, to be closed at a time of this boot's uptime.
    pub stops: Vec<Stop>,
    /// Cooldowns that go on.
    pub cooldowns: Vec<Cooldown>,
    /// What is spent of each lock, by its identity.
    pub spent: BTreeMap<u64, Spent>,
    /// The numbers, from 1, of lines that are not in order and were left out.
    pub left_out: Vec<usize>,
    /// The text is all that was written.
    pub is_whole: bool,
}

impl State {
    /// Reads a text.
    #[must_use]
    pub fn read(text: &[u8], moment: Moment<'_>) -> State {
        let mut state = State::default();
        let mut same_boot = false;
        let mut count = 0;
        let lines = text.split_inclusive(|&byte| byte == b'\n');
        for (number, line) in (1..).zip(lines) {
            let line = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
            let understood = match line {
                Some(line) if number == 1 => line.strip_prefix(TITLE).map(|boot| {
                    same_boot = !moment.boot.is_empty() && boot.trim() == moment.boot;
                }),
                Some(line) => summed(line).and_then(|line| {
                    if let Some(lines) = line.strip_prefix("end ") {
                        state.is_whole = lines.parse() == Ok(count) && state.left_out.is_empty();
                        return Some(());
                    }
                    count += 1;
                    state.take(line, moment, same_boot)
                }),
                None => None,
            };
            if understood.is_none() {
                state.left_out.push(number);
                state.is_whole = false;
            }
        }
        state
    }

    fn take(&mut self, line: &str, moment: Moment<'_>, same_boot: bool) -> Option<()> {
        let words: Vec<&str> = line.split(' ').collect();
        match *words.as_slice() {
            ["open", phase, unix, uptime, after, limit, knocker, door, command] => {
                let after = millis(after)?;
                let end = end_of(millis(unix)?, millis(uptime)?, after, moment.now, same_boot);
                let due = match phase {
                    "opening" | "open" => end,
                    // The stop command goes on without whoever started it, but not over a boot.
                    "closing" if same_boot => return Some(()),
                    "closing" => moment.now.uptime,
                    _ => return None,
                };
                self.stops.push(Stop {
                    door: Arc::from(String::from_utf8(decode(door)?).ok()?),
                    knocker: knocker.parse().ok()?,
                    command: decode(command)?,
                    after,
                    limit: if limit == "-" { None } else { Some(millis(limit)?) },
                    due,
                });
            }
            ["cooldown", unix, uptime, after, knocker, door] => {
                let after = millis(after)?;
                self.cooldowns.push(Cooldown {
                    door: Arc::from(String::from_utf8(decode(door)?).ok()?),
                    knocker: knocker.parse().ok()?,
                    after,
                    until: end_of(millis(unix)?, millis(uptime)?, after, moment.now, same_boot),
                });
            }
            ["spent", identity, period, owner] => {
                let owner = if owner == "-" { None } else { Some(owner.parse().ok()?) };
                let period = period.parse().ok()?;
                self.spent.entry(hex(identity)?).or_default().insert(period, owner, 0);
            }
            ["floor", identity, period] => {
                self.spent.entry(hex(identity)?).or_default().raise_floor(period.parse().ok()?);
            }
            _ => return None,
        }
        Some(())
    }

    /// Lists that were spent stay spent on the doors that have the same lock.
    pub fn restore_spent(&self, doors: &mut [Door]) {
        for lock in doors.iter_mut().filter_map(otp_of) {
            let Some(spent) = self.spent.get(&lock.otp.identity()) else { continue };
            if let Some(floor) = spent.floor() {
                lock.spent.raise_floor(floor);
            }
            for (period, owner) in spent.lists() {
                lock.spent.insert(period, owner, 0);
            }
        }
    }
}

/// The text of doors that stand open, of cooldowns, and of what is spent of the locks of these doors.
#[must_use]
pub fn write(
    standing: &[(Phase, &Stop)],
    cooldowns: &[Cooldown],
    doors: &[Door],
    moment: Moment<'_>,
) -> Vec<u8> {
    let mut text = format!("{TITLE} {}\n", moment.boot);
    let mut count = 0;
    let mut add = |line: String| {
        count += 1;
        push(&mut text, &line);
    };
    for (phase, stop) in standing {
        add(line_of(*phase, stop, moment.now));
    }
    for Cooldown { door, knocker, after, until } in cooldowns {
        let times = times(*until, *after, moment.now);
        add(format!("cooldown {times} {knocker} {}", encode(door.as_bytes())));
    }
    for door in doors {
        let Lock::Otp(lock) = &door.lock else { continue };
        let identity = lock.otp.identity();
        let accepted = *lock.otp.accepted(moment.now.unix).start();
        let old = lock.spent.lists().filter(|(period, _)| *period < accepted).count();
        let dropped = old.saturating_sub(OLD_LISTS);
        let floor = lock.spent.floor().max(lock.spent.lists().take(dropped).map(|(period, _)| period).max());
        if let Some(floor) = floor {
            add(format!("floor {identity:016x} {floor}"));
        }
        for (period, owner) in lock.spent.lists().skip(dropped) {
            let owner = owner.map_or("-".to_owned(), |owner| owner.to_string());
            add(format!("spent {identity:016x} {period} {owner}"));
        }
    }
    push(&mut text, &format!("end {count}"));
    text.into_bytes()
}

fn line_of(phase: Phase, stop: &Stop, now: Now) -> String {
    let phase = match phase {
        Phase::Opening => "opening",
        Phase::Open => "open",
        Phase::Closing => "closing",
    };
    format!(
        "open {phase} {} {} {} {} {}",
        times(stop.due, stop.after, now),
        stop.limit.map_or("-".to_owned(), |limit| limit.as_millis().to_string()),
        stop.knocker,
        encode(stop.door.as_bytes()),
        encode(&stop.command)
    )
}

/// An end on both clocks, and how long it may be away.
fn times(end: Duration, after: Duration, now: Now) -> String {
    let left = end.saturating_sub(now.uptime);
    let unix = now.unix.saturating_add(left).saturating_sub(now.uptime.saturating_sub(end));
    // No later than what can be read again.
    let [unix, end, after] =
        [unix, end, after].map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    format!("{unix} {end} {after}")
}

/// When that is, as uptime of the present boot.
fn end_of(unix: Duration, uptime: Duration, after: Duration, now: Now, same_boot: bool) -> Duration {
    if same_boot {
        uptime.min(now.uptime.saturating_add(after))
    } else {
        now.uptime.saturating_add(unix.saturating_sub(now.unix).min(after))
    }
}

fn push(text: &mut String, line: &str) {
    let _ = writeln!(text, "{line} {:016x}", sum(line));
}

/// The line without its sum, if that is right.
fn summed(line: &str) -> Option<&str> {
    let (line, written) = line.rsplit_once(' ')?;
    (hex(written)? == sum(line)).then_some(line)
}

/// FNV-1a: finds damage; whoever can write the file could write a right sum too.
fn sum(line: &str) -> u64 {
    line.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn otp_of(door: &mut Door) -> Option<&mut OtpLock> {
    match &mut door.lock {
        Lock::Otp(lock) => Some(lock),
        Lock::Fixed(_) | Lock::OneTime(_) => None,
    }
}

fn millis(word: &str) -> Option<Duration> {
    word.parse().ok().map(Duration::from_millis)
}

fn hex(word: &str) -> Option<u64> {
    let is_ours = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    u64::from_str_radix(word, 16).ok().filter(|_| word.len() == 16 && word.bytes().all(is_ours))
}

/// A word without blanks; nothing is `%`.
fn encode(bytes: &[u8]) -> String {
    let mut word = String::new();
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'%' {
            word.push(byte.into());
        } else {
            let _ = write!(word, "%{byte:02x}");
        }
    }
    if word.is_empty() { "%".to_owned() } else { word }
}

fn decode(word: &str) -> Option<Vec<u8>> {
    if word == "%" {
        return Some(Vec::new());
    }
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        if first == '%' {
            bytes.push(u8::from_str_radix(rest.get(1..3)?, 16).ok()?);
            rest = rest.get(3..)?;
        } else {
            bytes.push(u8::try_from(first).ok()?);
            rest = rest.get(first.len_utf8()..)?;
        }
    }
    Some(bytes)
}
