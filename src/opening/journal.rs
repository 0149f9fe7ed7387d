//! How the state is written to disk: which operations on which files, in which order. [`state`](super::state)
//! explains the rules.
//!
//! Pure: it returns the operations as values. The caller carries them out one after the other and reports failures,
//! so a test can kill the daemon between any two of them.

/// An operation on the files of a place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Create `PATH.tmp` with this text, replacing an existing one. Later `Append`s and `Sync`s refer to this file.
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

/// What state the files of a place are in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Journal {
    /// `PATH.new` exists, is complete, and takes further lines.
    is_open: bool,
    /// Its name is on the disk.
    is_named: bool,
}

impl Journal {
    /// Records a change. `lines` returns the lines for the change alone, `whole` a text with the complete state.
    pub fn change(
        &mut self,
        lines: impl FnOnce() -> Vec<u8>,
        whole: impl FnOnce() -> Vec<u8>,
    ) -> Vec<Operation> {
        if self.is_open {
            return vec![Operation::Append(lines())];
        }
        (self.is_open, self.is_named) = (true, false);
        vec![Operation::Write(whole()), Operation::Publish]
    }

    /// Makes the recorded changes survive a power failure too, without waiting for more than that: `PATH.new` stays
    /// as it is and takes further lines.
    pub fn flush(&mut self) -> Vec<Operation> {
        match (self.is_open, std::mem::replace(&mut self.is_named, true)) {
            (false, _) => Vec::new(),
            (true, true) => vec![Operation::Sync],
            (true, false) => vec![Operation::Sync, Operation::SyncFolder],
        }
    }

    /// Makes the recorded changes survive a power failure, and `PATH.new` the next `PATH`.
    pub fn settle(&mut self) -> Vec<Operation> {
        if !std::mem::take(&mut self.is_open) {
            return Vec::new();
        }
        vec![Operation::Sync, Operation::Settle, Operation::SyncFolder]
    }

    /// Makes the next change write the complete state: an operation failed, or more has changed than its lines say.
    pub fn begin_anew(&mut self) {
        self.is_open = false;
    }

    /// Empties a place whose content another place has taken over. The order matters: if `PATH.new` went first, a
    /// kill would leave the older state in `PATH` as the newest one.
    #[must_use]
    pub fn abandon() -> [Operation; 3] {
        [Operation::RemoveSettled, Operation::RemoveNew, Operation::SyncFolder]
    }
}

/// What a starting daemon finds at a place for a state file.
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
