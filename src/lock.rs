//! The lock of a door: which sequences open it now, and what becomes of them when they did.

use std::collections::VecDeque;
use std::path::PathBuf;

use crate::sequence::{Sequence, SequenceError, Stage};

/// One use of a lock: 0 for a fixed sequence, the fingerprint of the line for a one-time file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Turn(pub u64);

/// Which sequences open a door.
#[derive(Clone, Debug)]
pub enum Lock {
    /// One sequence, for ever.
    Fixed(Sequence),
    /// The lines of a file, each of them once.
    OneTime(OneTime),
}

impl Lock {
    /// What opens the door now, with the turn each of them is.
    pub fn current(&self) -> impl Iterator<Item = (Turn, &Sequence)> {
        match self {
            Lock::Fixed(sequence) => Some((Turn::default(), sequence)),
            Lock::OneTime(lines) => lines.first().map(|sequence| (sequence.turn(), sequence)),
        }
        .into_iter()
    }

    /// The stage with this index, from 0, of a turn that is still good.
    #[must_use]
    pub fn stage(&self, turn: Turn, index: usize) -> Option<Stage> {
        let (_, sequence) = self.current().find(|(current, _)| *current == turn)?;
        sequence.stages().get(index).copied()
    }

    /// A turn that opened the door opens it no more. Says whether that changed anything.
    pub fn spend(&mut self, turn: Turn) -> bool {
        match self {
            Lock::Fixed(_) => false,
            Lock::OneTime(lines) => lines.spend(turn),
        }
    }
}

impl Sequence {
    /// What this sequence is called as a turn of a one-time file: FNV-1a over its stages.
    ///
    /// Not the place in the file, so that a line is found again after the file was edited.
    #[must_use]
    pub fn turn(&self) -> Turn {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for stage in self.stages() {
            let [high, low] = stage.port.to_be_bytes();
            for byte in [stage.protocol.number(), high, low] {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        Turn(hash)
    }
}

/// What a one-time sequence file has left.
#[derive(Clone, Debug)]
pub struct OneTime {
    /// Where the file is.
    pub path: PathBuf,
    lines: VecDeque<Sequence>,
}

/// A line of a one-time sequence file that is neither empty nor a comment.
pub struct OneTimeLine {
    /// Bytes from the beginning of the file to the beginning of the line.
    pub offset: usize,
    /// What it says.
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
            line => {
                Some(OneTimeLine { offset: start, sequence: Sequence::parse(&String::from_utf8_lossy(line)) })
            }
        }
    })
}

impl OneTime {
    /// Reads the text of a file; lines that are no sequence are handed to `complain` and left out.
    pub fn read(path: PathBuf, text: &[u8], mut complain: impl FnMut(SequenceError)) -> OneTime {
        let lines =
            one_time_lines(text).filter_map(|line| line.sequence.map_err(&mut complain).ok()).collect();
        OneTime { path, lines }
    }

    /// The sequence that is next to be used.
    #[must_use]
    pub fn first(&self) -> Option<&Sequence> {
        self.lines.front()
    }

    /// What is left, in the order it will be used.
    #[must_use]
    pub fn lines(&self) -> impl ExactSizeIterator<Item = &Sequence> {
        self.lines.iter()
    }

    fn spend(&mut self, turn: Turn) -> bool {
        let ours = self.first().is_some_and(|sequence| sequence.turn() == turn);
        if ours {
            self.lines.pop_front();
        }
        ours
    }
}
