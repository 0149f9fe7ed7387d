//! The text of a state file, see [`state`](super::state) for the files.
//!
//! ```text
//! knockd-state 2 BOOT SUM
//! open KEY PHASE PROCESS DUE-UNIX DUE-UPTIME AFTER LIMIT KNOCKER DOOR run COMMAND [for USER PORT SECONDS] SUM
//!                          (times in milliseconds; SECONDS is what a single packet asked for)
//! cooldown DUE-UNIX DUE-UPTIME AFTER KNOCKER DOOR SUM
//! admitted UNTIL-UNIX UNTIL-UPTIME AFTER SET KNOCKER DOOR PORTS SUM   (a door that the kernel opened)
//! dismissed KNOCKER DOOR PORTS SUM                                    (cancels that line)
//! spent LOCK PERIOD OWNER SUM
//! floor LOCK PERIOD SUM
//! tried LOCK PERIOD SOURCE COUNT SUM  (attempts that ended between the halves of a list)
//! packet TIME ID SUM       (a single packet that was used)
//! packet-floor TIME SUM    (all with this time stamp or an earlier one are used)
//! end LINES SUM            (the LINES lines above are the complete state; later lines are changes)
//! open KEY ...             (replaces the line with this key)
//! closed KEY SUM           (cancels the line with this key)
//! ```
//!
//! PHASE is `opening`, `open` or `closing`; PROCESS is the start or stop command that runs, as `PID:START`
//! (see [`Process`](super::standing::Process)), or `-`. A damaged line is ignored, the others count. If `PATH.new` is incomplete, it is
//! read together with `PATH`: closing a door twice is better than leaving it open.
//!
//! Files of version 1 (`knockd-state 1 BOOT`) are still read. They have no keys, no processes and no lines
//! after the `end` line.

use litemap::LiteMap;

use crate::door::Door;
use crate::door::lock::Lock;
use crate::door::spa::replay::Used;
use crate::opening::admission_id::{ByAdmission, in_order};
use crate::opening::record::{Admitted, Cooldown, Moment, Reading, Record, seal, unsealed};
use crate::opening::standing::{Phase, Stop};

/// The beginning of the first line, in the current and the previous version.
const TITLE: &str = "knockd-state 2 ";
const TITLE_1: &str = "knockd-state 1";
/// The number of used lists per lock that are written one by one although they are too old to be accepted.
const OLD_LISTS: usize = 16;
/// The number of damaged lines that are named one by one.
const NAMED: usize = 5;

/// Damaged lines that were ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// The numbers of the first few, from 1.
    pub lines: Vec<usize>,
    /// How many more there are.
    pub more: usize,
}

impl Damage {
    fn add(&mut self, line: usize) {
        if self.lines.len() < NAMED {
            self.lines.push(line);
        } else {
            self.more += 1;
        }
    }

    /// Whether no line is damaged.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.lines.is_empty()
    }

    /// The sentences for the log.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        let one = self.lines.iter().map(|line| format!("line {line} is not in order and is left out"));
        let sum =
            (self.more > 0).then(|| format!("{} more lines are not in order and are left out", self.more));
        one.chain(sum)
    }
}

/// The content of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    pub(super) records: Vec<Record>,
    /// The damaged lines.
    pub damage: Damage,
    /// It has its `end` line, so the state in it is complete.
    pub is_whole: bool,
}

impl Text {
    /// Parses a file.
    #[must_use]
    pub fn read(text: &[u8], moment: Moment<'_>) -> Text {
        let mut read = Text::default();
        let mut reading = Reading { now: moment.now, same_boot: false };
        let is_this = |boot: &str| !moment.boot.is_empty() && boot.trim() == moment.boot;
        let mut last_numbers: LiteMap<u64, u64> = LiteMap::new();
        for (number, line) in (1..).zip(text.split_inclusive(|&byte| byte == b'\n')) {
            let line = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
            if number == 1
                && let Some(boot) = line.and_then(boot_of)
            {
                reading.same_boot = is_this(boot);
                continue;
            }
            match line.and_then(|line| Record::read(line, reading)) {
                Some(Record::End(lines)) => read.is_whole |= lines + 2 == number,
                Some(Record::Open(phase, mut stop)) => {
                    if stop.key.number == 0 {
                        // Version 1: the same knocker may have opened the same door several times.
                        let last = last_numbers.entry(stop.key.origin).or_default();
                        *last += 1;
                        stop.key.number = *last;
                    }
                    read.records.push(Record::Open(phase, stop));
                }
                Some(record) => read.records.push(record),
                None => read.damage.add(number),
            }
        }
        read
    }
}

/// The boot id in the first line.
fn boot_of(line: &str) -> Option<&str> {
    let boot = unsealed(line).and_then(|line| line.strip_prefix(TITLE));
    boot.or_else(|| line.strip_prefix(TITLE_1))
}

/// The complete text of a state file: open doors, cooldowns, doors open in the kernel, and the used lists of
/// `doors`.
#[must_use]
pub fn write(
    standing: &[(Phase, &Stop)],
    cooldowns: &[Cooldown],
    admitted: &ByAdmission<Admitted>,
    doors: &[Door],
    used: &Used,
    moment: Moment<'_>,
) -> Vec<u8> {
    let mut text = format!("{TITLE}{}", moment.boot);
    seal(&mut text);
    let mut count = 0;
    let mut add = |record: &Record| {
        count += 1;
        text += &record.line(moment.now);
    };
    for (phase, stop) in standing {
        add(&Record::Open(*phase, (*stop).clone()));
    }
    for cooldown in cooldowns {
        add(&Record::Cooldown(cooldown.clone()));
    }
    for it in in_order(admitted) {
        add(&Record::Admitted(it.clone()));
    }
    for door in doors {
        let Lock::Otp(lock) = &door.lock else { continue };
        let identity = lock.otp.identity();
        let accepted = *lock.otp.accepted(moment.now.unix).start();
        let old = lock.spent.lists().filter(|(period, _)| *period < accepted).count();
        let dropped = old.saturating_sub(OLD_LISTS);
        let floor = lock.spent.floor().max(lock.spent.lists().take(dropped).map(|(period, _)| period).max());
        if let Some(floor) = floor {
            add(&Record::Floor(identity, floor));
        }
        for (period, owner) in lock.spent.lists().skip(dropped) {
            add(&Record::Spent(identity, period, owner));
        }
        let mut tries: Vec<_> = lock.tries.iter().filter(|(period, ..)| *period >= accepted).collect();
        tries.sort_unstable();
        for (period, source, count) in tries {
            add(&Record::Tried(identity, period, source, count));
        }
    }
    if let Some(floor) = used.floor() {
        add(&Record::PacketFloor(floor));
    }
    for (time, id) in used.packets() {
        add(&Record::Packet(time, id));
    }
    text += &Record::End(count).line(moment.now);
    text.into_bytes()
}
