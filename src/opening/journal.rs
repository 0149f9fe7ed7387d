//! How the state is written to disk: which operations on which files, in which order. [`state`](super::state)
//! explains the rules.
//!
//! Pure: it returns the operations as values. The caller carries them out one after the other and reports
//! failures, so a test can kill the daemon between any two of them. Operations that [wait for the
//! disk](Operation::waits_for_disk) run in the background, one flush at a time, and the caller reports when
//! they [have landed](Journal::landed).

/// An operation on the state files at one path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Create `PATH.tmp` with this text, replacing an existing one. Later `Append`s and `Sync`s refer to this
    /// file.
    Write(Vec<u8>),
    /// Rename `PATH.tmp` to `PATH.new`, replacing an existing one.
    Publish,
    /// Append these lines to the file created last.
    Append(Vec<u8>),
    /// Flush that file to disk (fsync).
    Sync,
    /// Rename `PATH.new` to `PATH`, replacing an existing one.
    Settle,
    /// Flush the directory to disk (fsync).
    SyncFolder,
    /// Remove `PATH`, if it exists.
    RemoveSettled,
    /// Remove `PATH.new`, if it exists.
    RemoveNew,
}

impl Operation {
    /// Whether it blocks while the disk is busy.
    #[must_use]
    pub fn waits_for_disk(&self) -> bool {
        matches!(self, Operation::Sync | Operation::SyncFolder)
    }
}

/// The file that is being flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Flight {
    /// `PATH.new`; if it `settles`, it becomes `PATH` afterwards.
    New { settles: bool },
    /// A file that is not, or is no longer, `PATH.new`.
    Other,
}

/// The condition of the state files at one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Journal {
    /// `PATH.new` exists, is complete, and takes further lines.
    is_open: bool,
    /// Its name is on the disk, or is being flushed.
    is_named: bool,
    /// `PATH.new` exists and takes no more lines: its content may exist nowhere else.
    has_old: bool,
    /// The flush that was begun and has not landed.
    flight: Option<Flight>,
}

impl Journal {
    /// A journal; `has_old` says whether `PATH.new` exists already.
    #[must_use]
    pub fn new(has_old: bool) -> Journal {
        Journal { has_old, ..Journal::default() }
    }

    /// Records a change. `lines` returns the lines for the change alone, `whole` a text with the complete
    /// state.
    pub fn change(
        &mut self,
        lines: impl FnOnce() -> Vec<u8>,
        whole: impl FnOnce() -> Vec<u8>,
    ) -> Vec<Operation> {
        if self.is_open {
            return vec![Operation::Append(lines())];
        }
        (self.is_open, self.is_named) = (true, false);
        if std::mem::take(&mut self.has_old) {
            // A disk may write the name before the bytes: a power failure must not leave an empty file in its
            // place.
            vec![Operation::Write(whole()), Operation::Sync, Operation::Publish]
        } else {
            vec![Operation::Write(whole()), Operation::Publish]
        }
    }

    /// Makes the changes recorded so far survive a power failure too. If it `settles`, `PATH.new` then
    /// becomes `PATH`; otherwise it stays and takes further lines, also during the flush. Does nothing while
    /// another flush is in progress: call again when that has landed.
    pub fn flush(&mut self, settles: bool) -> Vec<Operation> {
        if !self.is_open || self.flight.is_some() {
            return Vec::new();
        }
        self.flight = Some(Flight::New { settles });
        if settles || std::mem::replace(&mut self.is_named, true) {
            vec![Operation::Sync]
        } else {
            vec![Operation::Sync, Operation::SyncFolder]
        }
    }

    /// Records that a flush is complete. Returns the next operations: the rename, which must not happen
    /// before, and a second flush, for the rename and for lines that were appended during the first.
    pub fn landed(&mut self) -> Vec<Operation> {
        let Some(Flight::New { settles: true }) = self.flight.take() else { return Vec::new() };
        (self.is_open, self.flight) = (false, Some(Flight::Other));
        vec![Operation::Settle, Operation::Sync, Operation::SyncFolder]
    }

    /// Whether something is being flushed.
    #[must_use]
    pub fn is_flushing(&self) -> bool {
        self.flight.is_some()
    }

    /// Records that a flush failed: its data counts as lost.
    pub fn failed(&mut self) {
        self.begin_anew();
        self.flight = None;
    }

    /// Makes the next change write the complete state, because an operation failed, or because more has
    /// changed than its lines say.
    pub fn begin_anew(&mut self) {
        self.has_old |= std::mem::take(&mut self.is_open);
        self.flight = self.flight.map(|_| Flight::Other);
    }

    /// Empties a place whose content another place has taken over. The order matters: if `PATH.new` went
    /// first, a kill would leave the older state in `PATH` as the newest one.
    #[must_use]
    pub fn abandon() -> [Operation; 3] {
        [Operation::RemoveSettled, Operation::RemoveNew, Operation::SyncFolder]
    }
}

/// The condition in which a starting daemon finds a place for a state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Not locked by anybody; this daemon has locked it now.
    Free,
    /// Locked by a running daemon.
    Taken,
    /// Unusable: something else is in the way.
    Unfit,
}

/// Which places a starting daemon takes, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The place for its own state.
    pub own: Option<usize>,
    /// Places of daemons that have ended, whose content it takes over.
    pub left: Vec<usize>,
}

/// Takes the first free place for itself, and takes over all other free ones.
#[must_use]
pub fn choose(places: &[Place]) -> Choice {
    let mut free =
        places.iter().enumerate().filter(|(_, place)| **place == Place::Free).map(|(index, _)| index);
    Choice { own: free.next(), left: free.collect() }
}
