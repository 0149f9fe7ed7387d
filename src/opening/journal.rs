//! How the state gets to the disk: which operations on which files, in which order. The rules that they follow
//! are told in [`state`](super::state).
//!
//! Nothing is done here: whoever has the files carries the operations out, one after the other, and says if one
//! failed. So a test can stop between any two.

/// Something to do with the files of a place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Make `PATH.tmp` with this text, in place of one that is there. It is the file that is written from now on.
    Write(Vec<u8>),
    /// Rename `PATH.tmp` to `PATH.new`, in place of one that is there.
    Publish,
    /// Put these lines behind what the file has that is written.
    Append(Vec<u8>),
    /// Wait until that file is on the disk.
    Sync,
    /// Rename `PATH.new` to `PATH`, in place of one that is there.
    Settle,
    /// Wait until the names are on the disk.
    SyncFolder,
    /// Remove `PATH`, if it is there.
    RemoveSettled,
    /// Remove `PATH.new`, if it is there.
    RemoveNew,
}

/// How far the files of a place are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Journal {
    /// `PATH.new` is there, has everything, and can be written on.
    is_open: bool,
}

impl Journal {
    /// Something changed: `lines` makes the lines that say what, `whole` a text that says everything.
    pub fn change(
        &mut self,
        lines: impl FnOnce() -> Vec<u8>,
        whole: impl FnOnce() -> Vec<u8>,
    ) -> Vec<Operation> {
        if self.is_open {
            return vec![Operation::Append(lines())];
        }
        self.is_open = true;
        vec![Operation::Write(whole()), Operation::Publish]
    }

    /// What changed is to outlive the power too.
    pub fn settle(&mut self) -> Vec<Operation> {
        if !std::mem::take(&mut self.is_open) {
            return Vec::new();
        }
        vec![Operation::Sync, Operation::Settle, Operation::SyncFolder]
    }

    /// The next change writes everything anew: one of the operations failed, or more is new than lines say.
    pub fn begin_anew(&mut self) {
        self.is_open = false;
    }

    /// What was in a place is in another one now, and so is to be nowhere else. In this order: without `PATH.new`
    /// what is in `PATH` would be the newest state again.
    #[must_use]
    pub fn abandon() -> [Operation; 3] {
        [Operation::RemoveSettled, Operation::RemoveNew, Operation::SyncFolder]
    }
}

/// What a daemon that begins finds where a state file could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Nobody had it; we hold it now.
    Free,
    /// A daemon that lives has it.
    Taken,
    /// Nothing can be kept there.
    Unfit,
}

/// Which places a daemon takes, by their index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Where it keeps its own state.
    pub own: Option<usize>,
    /// What daemons left there that are gone is its own from now on.
    pub left: Vec<usize>,
}

/// Chooses among the places, in their order.
#[must_use]
pub fn choose(places: &[Place]) -> Choice {
    let mut free =
        places.iter().enumerate().filter(|(_, place)| **place == Place::Free).map(|(index, _)| index);
    Choice { own: free.next(), left: free.collect() }
}
