//! The lines of a state file: values to text and back. [`state`](super::state) explains the file as a whole.
//!
//! A line is words separated by blanks. The last word is a checksum over the rest: a damaged line is
//! detected, so that every command run from the file is byte for byte the one that was written. Blanks,
//! percent signs and everything but printable ASCII are percent-encoded.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::door::ports::Ports;
use crate::door::spa::fields::{Service, is_user, ports};
use crate::door::spa::sealed::PacketId;
use crate::opening::admission_id::AdmissionId;
use crate::opening::standing::{Access, Change, Key, Phase, Process, Stop};
use crate::time::Now;

/// A point in time, and the boot of the machine it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Both clocks.
    pub now: Now,
    /// The kernel's boot id; empty if it is not known.
    pub boot: &'a str,
}

/// A door ignores a knocker who opened it until this uptime (`Cooldown`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cooldown {
    /// The door's name.
    pub door: Arc<str>,
    /// The address that opened the door.
    pub knocker: IpAddr,
    /// The whole duration of the cooldown.
    pub after: Duration,
    /// When it ends, as uptime.
    pub until: Duration,
}

/// A door that the kernel holds open (`Open`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The door, the knocker and the ports.
    pub id: AdmissionId,
    /// How long a knock opens the door; `None`: until closed by hand.
    pub after: Option<Duration>,
    /// When the kernel closes it, as uptime; `None`: never.
    pub until: Option<Duration>,
    /// The kernel's handles of the user's table and set that hold the element. A set that was deleted and
    /// made again has other handles.
    pub set: Option<(u64, u64)>,
}

/// The content of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A door stands open. A later line with the same key replaces this one.
    Open(Phase, Stop),
    /// The opening with this key is closed.
    Closed(Key),
    /// A cooldown is running.
    Cooldown(Cooldown),
    /// A door is open in the kernel. A later line of the same door, knocker and ports replaces this one.
    Admitted(Admitted),
    /// The kernel no longer holds this door open.
    Dismissed(AdmissionId),
    /// A one-time list is used: its lock (see `Otp::identity`), its period, and the address it belongs to if
    /// each knocker has lists of their own.
    Spent(u64, u64, Option<IpAddr>),
    /// All lists of this lock for this period and earlier ones are used.
    Floor(u64, u64),
    /// Attempts ended between the halves of a list of this lock: its period, their source, and how many there
    /// were so far.
    Tried(u64, u64, IpAddr, u8),
    /// A single packet is used: its time stamp (seconds since 1970) and its identity.
    Packet(u64, PacketId),
    /// All single packets with this time stamp or an earlier one count as used.
    PacketFloor(u64),
    /// This many lines, between the first line and this one, are the complete state at the time the file was
    /// created; later lines are changes since.
    End(usize),
}

impl From<Change> for Record {
    fn from(change: Change) -> Record {
        match change {
            Change::Stands(phase, stop) => Record::Open(phase, stop),
            Change::Closed(key) => Record::Closed(key),
        }
    }
}

/// The context in which the times and processes of a line are read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// When the line is read.
    pub now: Now,
    /// The line was written since the last boot of the machine.
    pub same_boot: bool,
}

impl Record {
    /// The line, with its checksum and its end.
    #[must_use]
    pub fn line(&self, now: Now) -> String {
        let mut line = match self {
            Record::Open(phase, stop) => open_line(*phase, stop, now),
            Record::Closed(key) => format!("closed {}", word_of(*key)),
            Record::Cooldown(Cooldown { door, knocker, after, until }) => {
                format!("cooldown {} {knocker} {}", times(*until, *after, now), encode(door.as_bytes()))
            }
            Record::Admitted(it) => admitted_line(it, now),
            Record::Dismissed(id) => format!("dismissed {}", words_of(id)),
            Record::Spent(lock, period, owner) => {
                let owner = owner.map_or("-".to_owned(), |owner| owner.to_string());
                format!("spent {lock:016x} {period} {owner}")
            }
            Record::Floor(lock, period) => format!("floor {lock:016x} {period}"),
            Record::Tried(lock, period, source, count) => {
                format!("tried {lock:016x} {period} {source} {count}")
            }
            Record::Packet(time, PacketId(id)) => format!("packet {time} {:032x}", u128::from_be_bytes(*id)),
            Record::PacketFloor(time) => format!("packet-floor {time}"),
            Record::End(lines) => format!("end {lines}"),
        };
        seal(&mut line);
        line
    }

    /// Parses a line without its end; `None` if it is damaged.
    #[must_use]
    pub fn read(line: &str, reading: Reading) -> Option<Record> {
        let words: Vec<&str> = unsealed(line)?.split(' ').collect();
        Some(match *words.as_slice() {
            [
                "open",
                key,
                phase,
                process,
                unix,
                uptime,
                after,
                limit,
                knocker,
                door,
                "run",
                command,
                ref rest @ ..,
            ] => {
                let process = if process == "-" { None } else { Some(process_of(process)?) };
                let process = process.filter(|_| reading.same_boot);
                let times = [unix, uptime, after];
                let mut stop = stop_of(key_of(key)?, times, limit, [knocker, door, command], reading)?;
                stop.access = access_of(rest).ok()?;
                match phase {
                    "opening" => Record::Open(Phase::Opening(process), stop),
                    "open" => Record::Open(Phase::Open, stop),
                    "closing" => Record::Open(Phase::Closing(process), stop),
                    _ => return None,
                }
            }
            // Version 1 has no key: the reader of the whole file numbers the line.
            ["open", phase, unix, uptime, after, limit, knocker, door, command] => {
                let key = Key { origin: sum(&format!("{knocker} {door} {command}")), number: 0 };
                let stop = stop_of(key, [unix, uptime, after], limit, [knocker, door, command], reading)?;
                match phase {
                    "opening" => Record::Open(Phase::Opening(None), stop),
                    "open" => Record::Open(Phase::Open, stop),
                    "closing" => Record::Open(Phase::Closing(None), stop),
                    _ => return None,
                }
            }
            ["closed", key] => Record::Closed(key_of(key)?),
            ["cooldown", unix, uptime, after, knocker, door] => {
                let after = millis(after)?;
                Record::Cooldown(Cooldown {
                    door: Arc::from(String::from_utf8(decode(door)?).ok()?),
                    knocker: knocker.parse().ok()?,
                    after,
                    until: end_of(millis(unix)?, millis(uptime)?, after, reading),
                })
            }
            ["admitted", unix, uptime, after, set, knocker, door, ports] => {
                let id = admission_id(knocker, door, ports)?;
                let after = if after == "-" { None } else { Some(millis(after)?) };
                let until = match after {
                    // The kernel lost it at the reboot.
                    _ if !reading.same_boot => Some(Duration::ZERO),
                    Some(after) => Some(end_of(millis(unix)?, millis(uptime)?, after, reading)),
                    None => None,
                };
                let set = if set == "-" { None } else { Some(pair_of(set)?) };
                Record::Admitted(Admitted { id, after, until, set })
            }
            ["dismissed", knocker, door, ports] => Record::Dismissed(admission_id(knocker, door, ports)?),
            ["spent", lock, period, owner] => {
                let owner = if owner == "-" { None } else { Some(owner.parse().ok()?) };
                Record::Spent(hex(lock)?, period.parse().ok()?, owner)
            }
            ["floor", lock, period] => Record::Floor(hex(lock)?, period.parse().ok()?),
            ["tried", lock, period, source, count] => {
                Record::Tried(hex(lock)?, period.parse().ok()?, source.parse().ok()?, count.parse().ok()?)
            }
            ["packet", time, id] => {
                let is_whole = id.len() == 32;
                let id = u128::from_str_radix(id, 16).ok().filter(|_| is_whole)?;
                Record::Packet(time.parse().ok()?, PacketId(id.to_be_bytes()))
            }
            ["packet-floor", time] => Record::PacketFloor(time.parse().ok()?),
            ["end", lines] => Record::End(lines.parse().ok()?),
            _ => return None,
        })
    }
}

fn open_line(phase: Phase, stop: &Stop, now: Now) -> String {
    let (phase, process) = match phase {
        Phase::Opening(process) => ("opening", process),
        Phase::Open => ("open", None),
        Phase::Closing(process) => ("closing", process),
    };
    let access = stop.access.as_ref().map_or_else(String::new, |access| {
        let Access { user, port, seconds } = access.as_ref();
        format!(" for {} {} {seconds}", encode(user.as_bytes()), Service(*port))
    });
    format!(
        "open {} {phase} {} {} {} {} {} run {}{access}",
        word_of(stop.key),
        process.map_or("-".to_owned(), |it| format!("{}:{}", it.pid, it.start)),
        times(stop.due, stop.after, now),
        stop.limit.map_or("-".to_owned(), |limit| limit.as_millis().to_string()),
        stop.knocker,
        encode(stop.door.as_bytes()),
        encode(&stop.command)
    )
}

fn admitted_line(it: &Admitted, now: Now) -> String {
    let times = match (it.until, it.after) {
        (Some(until), Some(after)) => times(until, after, now),
        _ => "- - -".to_owned(),
    };
    let set = it.set.map_or("-".to_owned(), |(table, set)| format!("{table}.{set}"));
    format!("admitted {times} {set} {}", words_of(&it.id))
}

/// A knocker, a door and its ports.
fn words_of(id: &AdmissionId) -> String {
    let ports: Vec<String> = id.ports.iter().map(Ports::to_string).collect();
    format!("{} {} {}", id.knocker, encode(id.door.as_bytes()), encode(ports.join(",").as_bytes()))
}

fn admission_id(knocker: &str, door: &str, ports: &str) -> Option<AdmissionId> {
    let ports = if ports == "%" { Some(Vec::new()) } else { ports.split(',').map(Ports::parse).collect() };
    Some(AdmissionId {
        door: Arc::from(String::from_utf8(decode(door)?).ok()?),
        knocker: knocker.parse().ok()?,
        ports: Arc::from(ports?),
    })
}

fn pair_of(word: &str) -> Option<(u64, u64)> {
    let (table, set) = word.split_once('.')?;
    Some((table.parse().ok()?, set.parse().ok()?))
}

fn stop_of(
    key: Key,
    [unix, uptime, after]: [&str; 3],
    limit: &str,
    [knocker, door, command]: [&str; 3],
    reading: Reading,
) -> Option<Stop> {
    let after = millis(after)?;
    Some(Stop {
        key,
        door: Arc::from(String::from_utf8(decode(door)?).ok()?),
        knocker: knocker.parse().ok()?,
        access: None,
        command: decode(command)?,
        after,
        limit: if limit == "-" { None } else { Some(millis(limit)?) },
        due: end_of(millis(unix)?, millis(uptime)?, after, reading),
    })
}

/// Part of a line is damaged.
struct Damaged;

/// `for USER PROTO/PORT SECONDS`, or nothing.
fn access_of(words: &[&str]) -> Result<Option<Box<Access>>, Damaged> {
    let access = |user, port, seconds: &str| {
        let user = String::from_utf8(decode(user)?).ok().filter(|user| is_user(user))?;
        let [port] = *ports(port)?.as_slice() else { return None };
        Some(Box::new(Access { user, port, seconds: seconds.parse().ok()? }))
    };
    match *words {
        [] => Ok(None),
        ["for", user, port, seconds] => access(user, port, seconds).map(Some).ok_or(Damaged),
        _ => Err(Damaged),
    }
}

/// An end on both clocks, and the longest time that may be left until then, in milliseconds.
fn times(end: Duration, after: Duration, now: Now) -> String {
    let left = end.saturating_sub(now.uptime);
    let unix = now.unix.saturating_add(left).saturating_sub(now.uptime.saturating_sub(end));
    // Saturate at the largest value that can be read back.
    let [unix, end, after] =
        [unix, end, after].map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    format!("{unix} {end} {after}")
}

/// The end as uptime of the current boot.
///
/// Uptime cannot be set, but starts at 0 with each boot. So within a boot only uptime counts; after a boot
/// the wall clock counts, and a clock that was set back keeps no door open longer than its full time.
fn end_of(unix: Duration, uptime: Duration, after: Duration, reading: Reading) -> Duration {
    let now = reading.now;
    if reading.same_boot {
        uptime.min(now.uptime.saturating_add(after))
    } else {
        now.uptime.saturating_add(unix.saturating_sub(now.unix).min(after))
    }
}

fn word_of(key: Key) -> String {
    format!("{:016x}.{}", key.origin, key.number)
}

fn key_of(word: &str) -> Option<Key> {
    let (origin, number) = word.split_once('.')?;
    Some(Key { origin: hex(origin)?, number: number.parse().ok().filter(|number| *number > 0)? })
}

/// `PID:START`.
fn process_of(word: &str) -> Option<Process> {
    let (pid, start) = word.split_once(':')?;
    Some(Process { pid: pid.parse().ok().filter(|pid| *pid > 0)?, start: start.parse().ok()? })
}

/// Appends the checksum and the line end.
pub(super) fn seal(line: &mut String) {
    let sum = sum(line);
    let _ = writeln!(line, " {sum:016x}");
}

/// The line without its checksum, if the checksum is correct.
pub(super) fn unsealed(line: &str) -> Option<&str> {
    let (line, written) = line.rsplit_once(' ')?;
    (hex(written)? == sum(line)).then_some(line)
}

/// FNV-1a, 64 bits. It detects damage, not forgery: anyone who can write the file can compute it.
pub(crate) fn sum(line: &str) -> u64 {
    line.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

fn millis(word: &str) -> Option<Duration> {
    word.parse().ok().map(Duration::from_millis)
}

fn hex(word: &str) -> Option<u64> {
    let is_ours = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    u64::from_str_radix(word, 16).ok().filter(|_| word.len() == 16 && word.bytes().all(is_ours))
}

/// Encodes bytes as a word without blanks; no bytes become `%`.
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
