//! The lock of a door: which sequences open it now, and which are used up.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::door::knock::Protocol;
use crate::door::otp::Otp;
use crate::door::sequence::{Sequence, SequenceError, Stage};
use crate::door::spa::request::SpaLock;
use crate::door::spent::Spent;
use crate::door::tries::Tries;
use crate::octets;
use crate::time::Now;

/// One use of a lock: 0 for a fixed sequence, the fingerprint of the line for a one-time file, the
/// period for a one-time password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Turn(pub u64);

/// Which sequences open a door. The rare variants are boxed, so that thousands of doors stay small.
#[derive(Clone, Debug)]
pub enum Lock {
    /// One sequence that never changes.
    Fixed(Sequence),
    /// The lines of a file; each opens the door once.
    OneTime(Box<OneTime>),
    /// Lists of ports derived from a seed and the time; each opens the door once.
    Otp(Box<OtpLock>),
    /// No sequence: authenticated packets, each of which opens the door once.
    Spa(Box<SpaLock>),
}

/// The lock of a door with one-time passwords.
#[derive(Clone, Debug)]
pub struct OtpLock {
    /// Derives the lists.
    pub otp: Otp,
    /// The lists that have opened the door.
    pub spent: Spent,
    /// A list may be used again while it is accepted (`otp_reuse`).
    pub is_reusable: bool,
    /// Attempts that ended after the first half of a list.
    pub tries: Tries,
    /// After this many tries a source is locked out of the list (`otp_tries`); 0 is no limit.
    pub most_tries: u8,
}

impl OtpLock {
    /// The knocker that a list belongs to; `None` without IP protection, when all knockers share it.
    #[must_use]
    pub fn owner(&self, knocker: IpAddr) -> Option<IpAddr> {
        self.otp.is_protected().then_some(knocker)
    }

    /// Whether this turn is used up; never with `otp_reuse`.
    #[must_use]
    pub fn is_spent(&self, turn: Turn, knocker: IpAddr) -> bool {
        !self.is_reusable && self.spent.contains(turn.0, self.owner(knocker))
    }

    /// Whether this source is locked out of the list of this turn, after too many tries to guess it.
    #[must_use]
    pub fn is_locked_out(&self, turn: Turn, knocker: IpAddr) -> bool {
        self.most_tries > 0 && self.tries.count(turn.0, knocker) >= self.most_tries
    }

    fn is_closed_to(&self, turn: Turn, knocker: IpAddr) -> bool {
        self.is_spent(turn, knocker) || self.is_locked_out(turn, knocker)
    }

    /// Records the end of an attempt that had reached this many stages. If it counts as a try at the second
    /// half of a list, returns the source's number of tries so far.
    fn record_failed_attempt(&mut self, turn: Turn, knocker: IpAddr, reached: usize, now: Now) -> Option<u8> {
        let had_first_half = self.otp.is_protected() && reached >= self.otp.stages() / 2;
        let counts = had_first_half && self.most_tries > 0 && !self.is_closed_to(turn, knocker);
        counts.then(|| self.tries.add(turn.0, knocker, *self.otp.accepted(now.unix).start()))
    }
}

impl Lock {
    /// The fixed sequence, or the next line of the file; `None` if there is none.
    #[must_use]
    pub fn current_sequence(&self) -> Option<&Sequence> {
        match self {
            Lock::Fixed(sequence) => Some(sequence),
            Lock::OneTime(lines) => lines.first(),
            Lock::Otp(_) | Lock::Spa(_) => None,
        }
    }

    /// Whether a sequence that may open the door has an echo request among its stages.
    #[must_use]
    pub fn has_echo(&self) -> bool {
        let has_echo =
            |sequence: &Sequence| sequence.stages().iter().any(|stage| stage.protocol == Protocol::Icmp);
        match self {
            Lock::Fixed(sequence) => has_echo(sequence),
            Lock::OneTime(lines) => lines.lines().any(has_echo),
            Lock::Otp(_) | Lock::Spa(_) => false,
        }
    }

    /// Whether a single knock opens the door now.
    #[must_use]
    pub fn is_one_knock(&self) -> bool {
        match self {
            Lock::Fixed(_) | Lock::OneTime(_) => {
                self.current_sequence().is_some_and(|sequence| sequence.stages().len() == 1)
            }
            Lock::Otp(lock) => lock.otp.stages() == 1,
            Lock::Spa(_) => false,
        }
    }

    /// The first stage of each sequence that opens the door now, with its turn.
    #[must_use]
    pub fn first_stages(&self, now: Now) -> Vec<(Stage, Turn)> {
        match self {
            Lock::Fixed(_) | Lock::OneTime(_) => self
                .current_sequence()
                .and_then(|sequence| Some((*sequence.stages().first()?, self.turn_of(sequence))))
                .into_iter()
                .collect(),
            Lock::Otp(lock) => lock
                .otp
                .accepted(now.unix)
                .filter_map(|period| Some((lock.otp.first_stage(period)?, Turn(period))))
                .collect(),
            Lock::Spa(_) => Vec::new(),
        }
    }

    /// The number of stages of this turn; `None` if the turn does not, or no longer, open the door for this
    /// knocker.
    #[must_use]
    pub fn length(&self, turn: Turn, knocker: IpAddr) -> Option<usize> {
        match self {
            Lock::Otp(lock) => (!lock.is_closed_to(turn, knocker)).then(|| lock.otp.stages()),
            Lock::Fixed(_) | Lock::OneTime(_) => Some(self.sequence(turn)?.stages().len()),
            Lock::Spa(_) => None,
        }
    }

    /// The stage with this index, from 0, of a turn that opens the door for this knocker.
    #[must_use]
    pub fn stage(&self, turn: Turn, knocker: IpAddr, index: usize) -> Option<Stage> {
        match self {
            Lock::Otp(lock) if lock.is_closed_to(turn, knocker) => None,
            Lock::Otp(lock) => lock.otp.stage(turn.0, knocker, index),
            Lock::Fixed(_) | Lock::OneTime(_) => self.sequence(turn)?.stages().get(index).copied(),
            Lock::Spa(_) => None,
        }
    }

    /// The length of a period; zero for locks without periods.
    #[must_use]
    pub fn period(&self) -> Duration {
        match self {
            Lock::Otp(lock) => lock.otp.begins(1),
            Lock::Fixed(_) | Lock::OneTime(_) | Lock::Spa(_) => Duration::ZERO,
        }
    }

    /// Marks a turn as used, so that it does not open the door again; without effect if the turns of
    /// this lock are not [single-use](Lock::is_single_use).
    pub fn spend(&mut self, turn: Turn, knocker: IpAddr, now: Now) {
        match self {
            Lock::Fixed(_) | Lock::Spa(_) => {}
            Lock::OneTime(lines) => lines.spend(turn),
            Lock::Otp(lock) if lock.is_reusable => {}
            Lock::Otp(lock) => {
                let owner = lock.owner(knocker);
                lock.spent.insert(turn.0, owner, *lock.otp.accepted(now.unix).start());
            }
        }
    }

    /// Whether opening the door uses up the list or line.
    #[must_use]
    pub fn is_single_use(&self) -> bool {
        match self {
            Lock::Fixed(_) | Lock::Spa(_) => false,
            Lock::OneTime(_) => true,
            Lock::Otp(lock) => !lock.is_reusable,
        }
    }

    /// Records that an attempt at this turn ended after this many stages without opening the door. If it
    /// counts as a try to guess the rest ([`OtpLock::tries`]), returns the source's number of tries so far,
    /// and whether the source is locked out.
    pub fn record_failed_attempt(
        &mut self,
        turn: Turn,
        knocker: IpAddr,
        reached: usize,
        now: Now,
    ) -> Option<(u8, bool)> {
        let Lock::Otp(lock) = self else { return None };
        let count = lock.record_failed_attempt(turn, knocker, reached, now)?;
        Some((count, lock.is_locked_out(turn, knocker)))
    }

    fn turn_of(&self, sequence: &Sequence) -> Turn {
        match self {
            Lock::OneTime(_) => sequence.turn(),
            Lock::Fixed(_) | Lock::Otp(_) | Lock::Spa(_) => Turn::default(),
        }
    }

    fn sequence(&self, turn: Turn) -> Option<&Sequence> {
        self.current_sequence().filter(|sequence| self.turn_of(sequence) == turn)
    }
}

impl Sequence {
    /// The turn of this sequence as a line of a one-time file: FNV-1a over its stages.
    ///
    /// A hash instead of a line number, so that it still finds the line after the file was edited.
    #[must_use]
    pub fn turn(&self) -> Turn {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for stage in self.stages() {
            let [high, low] = stage.port.to_be_bytes();
            for byte in [stage.protocol.number(true), high, low] {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        Turn(hash)
    }
}

/// The unused sequences of a one-time sequence file.
#[derive(Clone, Debug)]
pub struct OneTime {
    /// The path of the file.
    pub path: PathBuf,
    lines: VecDeque<Sequence>,
}

/// A line of a one-time sequence file that is neither empty nor a comment.
pub struct OneTimeLine {
    /// Bytes from the beginning of the file to the beginning of the line.
    pub offset: usize,
    /// The line, parsed.
    pub sequence: Result<Sequence, SequenceError>,
}

/// The lines of a one-time sequence file that are neither empty nor comments.
pub fn one_time_lines(text: &[u8]) -> impl Iterator<Item = OneTimeLine> {
    let mut offset = 0;
    text.split(|&byte| byte == b'\n').filter_map(move |raw| {
        let start = offset;
        offset += raw.len() + 1;
        match raw.trim_ascii() {
            [] | [b'#', ..] => None,
            line => Some(OneTimeLine { offset: start, sequence: Sequence::parse(&octets::text(line)) }),
        }
    })
}

impl OneTime {
    /// Parses the text of a file; passes the error of each invalid line to `complain` and skips the line.
    pub fn read(path: PathBuf, text: &[u8], mut complain: impl FnMut(SequenceError)) -> OneTime {
        let lines =
            one_time_lines(text).filter_map(|line| line.sequence.map_err(&mut complain).ok()).collect();
        OneTime { path, lines }
    }

    /// The next sequence to be used.
    #[must_use]
    pub fn first(&self) -> Option<&Sequence> {
        self.lines.front()
    }

    /// The unused sequences, in the order of their use.
    #[must_use]
    pub fn lines(&self) -> impl ExactSizeIterator<Item = &Sequence> {
        self.lines.iter()
    }

    fn spend(&mut self, turn: Turn) {
        if self.first().is_some_and(|sequence| sequence.turn() == turn) {
            self.lines.pop_front();
        }
    }
}
