//! Random doors of all kinds. They share a few addresses and ports, so that knocks often match.

use std::fmt::Write;
use std::net::IpAddr;

use arbitrary::Arbitrary;
use knocking::door::knock::{FlagRule, Flags, Protocol};
use knocking::door::sequence::Stage;

/// The most doors of a town.
pub const MOST_DOORS: usize = 5;
/// The most stages of a written sequence, and of the fields of a password.
const MOST_STAGES: usize = 4;
/// The most lines of a one-time file.
const MOST_LINES: usize = 4;

const PORTS: [u16; 6] = [7, 8, 9, 50, 1000, 65535];
const BASES: [u16; 4] = [0, 7, 1000, 65500];
const TIMEOUTS: [i32; 6] = [25, 5, 1, 0, -1, i32::MAX];
const CHANGE_TIMES: [u16; 4] = [1, 30, 60, u16::MAX];
const WINDOWS: [u16; 4] = [1, 0, 2, 100];
const COOLDOWNS: [u32; 4] = [0, 1, 10, u32::MAX];
const REPEATS: [Option<(u8, u32)>; 5] = [None, None, Some((1, 5)), Some((2, 5)), Some((3, u32::MAX))];
const LENGTHS: [Option<(u16, u16)>; 4] = [None, None, Some((1, 1)), Some((0, 9))];
/// Prefixes that doors allow or deny: first none, then lists.
const PREFIXES: [&[&str]; 5] =
    [&[], &[], &["10.1.0.0/31", "10.1.0.2/31"], &["10.1.0.2/32", "fd01::/64"], &["0.0.0.0/0"]];

/// Addresses that this host has, some of the time.
pub const OURS: [&str; 3] = ["10.0.0.1", "fd00::1", "10.0.0.2"];
const TARGETS: [&str; 5] = ["", "", "10.0.0.1", "192.0.2.9", "fd00::9"];
/// Destinations of knocks.
pub const PLACES: [&str; 6] = ["10.0.0.1", "fd00::1", "10.0.0.2", "192.0.2.9", "fd00::9", "10.9.9.9"];
/// Sources of knocks.
pub const KNOCKERS: [&str; 5] = ["10.1.0.1", "10.1.0.2", "10.2.0.1", "fd01::1", "::ffff:10.1.0.1"];

/// The item that a byte chooses.
pub fn one<T: Copy>(of: &[T], by: u8) -> T {
    of[usize::from(by) % of.len()]
}

/// The address that a byte chooses.
pub fn address(of: &[&str], by: u8) -> IpAddr {
    one(of, by).parse().expect("an address")
}

/// A stage on one of the few ports.
pub fn stage(by: u8) -> Stage {
    let protocol = if by & 0x80 == 0 { Protocol::Tcp } else { Protocol::Udp };
    Stage { protocol, port: one(&PORTS, by & 0x7f) }
}

fn stages(of: &[u8]) -> Vec<Stage> {
    let mut stages: Vec<Stage> = of.iter().take(MOST_STAGES).map(|&by| stage(by)).collect();
    if stages.is_empty() {
        stages.push(stage(0));
    }
    stages
}

/// Random doors.
#[derive(Arbitrary, Debug)]
pub struct Town(Vec<Plan>);

#[derive(Arbitrary, Debug)]
struct Plan {
    lock: LockPlan,
    seq_timeout: u8,
    flags: u8,
    target: u8,
    rules: Option<RulesPlan>,
}

#[derive(Arbitrary, Debug)]
enum LockPlan {
    Fixed(Vec<u8>),
    OneTime(Vec<Vec<u8>>),
    Otp { change_time: u8, base: u8, is_protected: bool, protocols: u8, window: u8, is_reusable: bool },
}

#[derive(Arbitrary, Debug)]
struct RulesPlan {
    is_strict: bool,
    except: Option<u8>,
    allows_duplicates: bool,
    allow: u8,
    deny: u8,
    cooldown: u8,
    udp_length: u8,
    repeat: u8,
    logs_failures: bool,
}

/// A door as plain values, from which its section is written.
#[derive(Clone, Debug)]
pub struct Plain {
    /// What opens it.
    pub lock: PlainLock,
    /// Seconds.
    pub seq_timeout: i32,
    /// The TCP flags that a knock must have.
    pub flags: FlagRule,
    /// The destination of knocks, if not this host.
    pub target: Option<IpAddr>,
    /// Any other hit fails the attempt.
    pub is_strict: bool,
    /// Except these.
    pub except: Vec<Stage>,
    /// A repeat of the stage just reached is ignored.
    pub allows_duplicates: bool,
    /// Prefixes that may knock.
    pub allow: Vec<&'static str>,
    /// Prefixes that may not.
    pub deny: Vec<&'static str>,
    /// Seconds.
    pub cooldown: u32,
    /// Minimum and maximum payload bytes of a datagram.
    pub udp_length: Option<(u16, u16)>,
    /// How many completions in how many seconds.
    pub repeat: Option<(u8, u32)>,
    /// Wrong knocks are logged.
    pub logs_failures: bool,
}

/// What opens a door.
#[derive(Clone, Debug)]
pub enum PlainLock {
    /// A sequence.
    Fixed(Vec<Stage>),
    /// The lines of a file.
    OneTime(Vec<Vec<Stage>>),
    /// The text of a password, its window, and whether a list may be used again.
    Otp(String, u16, bool),
}

impl Town {
    /// The doors.
    pub fn plain(&self) -> Vec<Plain> {
        self.0.iter().take(MOST_DOORS).enumerate().map(|(index, plan)| plan.plain(index)).collect()
    }
}

impl Plan {
    /// The door with this index.
    fn plain(&self, index: usize) -> Plain {
        let lock = match &self.lock {
            LockPlan::Fixed(bytes) => PlainLock::Fixed(stages(bytes)),
            LockPlan::OneTime(of) => PlainLock::OneTime(lines(of)),
            LockPlan::Otp { change_time, base, is_protected, protocols, window, is_reusable } => {
                let (change_time, base) = (one(&CHANGE_TIMES, *change_time), one(&BASES, *base));
                let protection = if *is_protected { "on" } else { "off" };
                let count = 1 + usize::from(protocols & 3);
                let protocol = |bit: usize| if protocols >> (2 + bit) & 1 == 0 { "tcp" } else { "udp" };
                let protocols: Vec<&str> = (0..count).map(protocol).collect();
                // Each has a seed of its own, or the configuration would be refused.
                let text = format!("seed {index},{change_time},{base},{protection},{}", protocols.join(","));
                PlainLock::Otp(text, one(&WINDOWS, *window), *is_reusable)
            }
        };
        let mut flags = FlagRule::default();
        for (bit, flag) in [(1, Flags::SYN), (2, Flags::ACK), (4, Flags::FIN)] {
            match (self.flags & bit != 0, self.flags & bit << 4 != 0) {
                (true, true) => flags.require(flag),
                (true, false) => flags.forbid(flag),
                (false, _) => {}
            }
        }
        let rules = self.rules.as_ref();
        let by = |of: fn(&RulesPlan) -> u8| rules.map_or(0, of);
        let says = |of: fn(&RulesPlan) -> bool| rules.is_some_and(of);
        Plain {
            lock,
            seq_timeout: one(&TIMEOUTS, self.seq_timeout),
            flags,
            target: one(&TARGETS, self.target).parse().ok(),
            is_strict: says(|it| it.is_strict),
            except: rules.and_then(|it| it.except).map(stage).into_iter().collect(),
            allows_duplicates: says(|it| it.allows_duplicates),
            allow: one(&PREFIXES, by(|it| it.allow)).to_vec(),
            deny: one(&PREFIXES, by(|it| it.deny)).to_vec(),
            cooldown: one(&COOLDOWNS, by(|it| it.cooldown)),
            udp_length: one(&LENGTHS, by(|it| it.udp_length)),
            repeat: one(&REPEATS, by(|it| it.repeat)),
            logs_failures: says(|it| it.logs_failures),
        }
    }
}

/// Lines of a one-time file, at least one.
pub fn lines(of: &[Vec<u8>]) -> Vec<Vec<Stage>> {
    let mut lines: Vec<Vec<Stage>> = of.iter().take(MOST_LINES).map(|bytes| stages(bytes)).collect();
    if lines.is_empty() {
        lines.push(stages(&[]));
    }
    lines
}

/// The text of a one-time file.
pub fn file(lines: &[Vec<Stage>]) -> String {
    lines.iter().map(|line| sequence(line) + "\n").collect()
}

fn sequence(stages: &[Stage]) -> String {
    stages.iter().map(Stage::to_string).collect::<Vec<_>>().join(",")
}

/// The configuration of these doors, which are called `0`, `1` and so on, and the files it names.
pub fn config(doors: &[Plain]) -> (String, Vec<String>) {
    let (mut text, mut files) = (String::new(), Vec::new());
    for (index, door) in doors.iter().enumerate() {
        let _ = writeln!(text, "[{index}]\nseq_timeout = {}", door.seq_timeout);
        let _ = match &door.lock {
            PlainLock::Fixed(stages) => writeln!(text, "sequence = {}", sequence(stages)),
            PlainLock::OneTime(lines) => {
                files.push(file(lines));
                writeln!(text, "one_time_sequences = /{}", files.len() - 1)
            }
            PlainLock::Otp(otp, window, is_reusable) => {
                let reuse = yes(*is_reusable);
                writeln!(text, "otp = {otp}\notp_window = {window}\notp_reuse = {reuse}")
            }
        };
        for (name, flag) in Flags::NAMES {
            if door.flags.mask().contains(flag) {
                let not = if door.flags.clear.contains(flag) { "!" } else { "" };
                let _ = writeln!(text, "tcpflags = {not}{name}");
            }
        }
        let services: Vec<String> =
            door.except.iter().map(|it| format!("{}/{}", it.protocol, it.port)).collect();
        let range = |(low, high)| if low == high { format!("{low}") } else { format!("{low} - {high}") };
        for (name, value) in [
            ("strict", yes(door.is_strict).to_owned()),
            ("strict_except", services.join(", ")),
            ("allow_duplicates", yes(door.allows_duplicates).to_owned()),
            ("allow", door.allow.join(", ")),
            ("deny", door.deny.join(",")),
            ("cooldown", door.cooldown.to_string()),
            ("udp_length", door.udp_length.map_or_else(String::new, range)),
            ("repeat", door.repeat.map_or_else(String::new, |(times, in_)| format!("{times} in {in_}"))),
            ("log_failures", yes(door.logs_failures).to_owned()),
            ("target", door.target.map_or_else(String::new, |target| target.to_string())),
        ] {
            if !value.is_empty() {
                let _ = writeln!(text, "{name} = {value}");
            }
        }
    }
    (text, files)
}

fn yes(it: bool) -> &'static str {
    if it { "yes" } else { "no" }
}
