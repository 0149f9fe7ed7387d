//! Writes and flushes the state file of this daemon.

use std::io;
use std::os::fd::BorrowedFd;

use crate::daemon::doorkeeper::disk::{self, Written, folder_of};
use crate::daemon::doorkeeper::flusher::Flusher;
use crate::daemon::doorkeeper::places::{Place, boot};
use crate::opening::journal::{Journal, Operation};

/// The state file of this daemon.
#[derive(Debug)]
pub(super) struct StateFile {
    place: Place,
    boot: String,
    journal: Journal,
    written: Option<Written>,
    /// Started at the first flush.
    flusher: Option<Flusher>,
    /// The result of a flush carried out in this thread because the flusher could not start.
    outcome: Option<io::Result<()>>,
}

/// The progress of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlushProgress {
    /// Everything written before the flush began is on the disk.
    Flushed,
    /// The same, and the flush that completes the change to `PATH` is under way.
    Settling,
}

impl StateFile {
    /// A state file at a place that may have one already: the first write replaces it.
    pub(super) fn new(place: Place) -> StateFile {
        StateFile {
            journal: Journal::new(place.has_new()),
            place,
            boot: boot(),
            written: None,
            flusher: None,
            outcome: None,
        }
    }

    /// The place of the file.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Stops writing, but keeps the lock.
    pub(super) fn into_place(self) -> Place {
        self.place
    }

    /// Writes a change, so that it survives this process, but not yet a power failure: `lines` returns the
    /// lines of the change, `whole` the complete state for this boot.
    ///
    /// # Errors
    /// An error of a file operation; the next change writes the complete state.
    pub(super) fn change(
        &mut self,
        lines: impl FnOnce() -> Vec<u8>,
        whole: impl FnOnce(&str) -> Vec<u8>,
    ) -> io::Result<()> {
        let operations = self.journal.change(lines, || whole(&self.boot));
        self.carry_out(&operations)
    }

    /// Makes the next change write the complete state.
    pub(super) fn begin_anew(&mut self) {
        self.journal.begin_anew();
    }

    /// Begins to flush; with `settles`, `PATH.new` becomes `PATH` afterwards. Returns whether there is
    /// anything to flush. [`StateFile::flush_result`] returns the result.
    pub(super) fn flush(&mut self, settles: bool) -> bool {
        let operations = self.journal.flush(settles);
        self.start_flush(&operations);
        !operations.is_empty()
    }

    /// Whether a flush is under way.
    pub(super) fn is_flushing(&self) -> bool {
        self.journal.is_flushing()
    }

    /// Readable when a flush may have finished.
    pub(super) fn flush_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.flusher.as_ref().filter(|_| self.is_flushing()).map(Flusher::descriptor)
    }

    /// The result of a finished flush; `None` if none has finished.
    ///
    /// # Errors
    /// An error of a file operation; the next change writes the complete state.
    pub(super) fn flush_result(&mut self) -> io::Result<Option<FlushProgress>> {
        let answer = self.outcome.take().or_else(|| self.flusher.as_ref()?.answer());
        answer.map(|outcome| self.after_flush(outcome)).transpose()
    }

    /// Waits until everything is on the disk, in `PATH.new` or, with `settles`, in `PATH`.
    ///
    /// # Errors
    /// An error of a file operation; the next change writes the complete state.
    pub(super) fn flush_now(&mut self, settles: bool) -> io::Result<()> {
        self.wait()?;
        self.flush(settles);
        self.wait()
    }

    /// Waits until no flush is under way.
    fn wait(&mut self) -> io::Result<()> {
        while self.is_flushing() {
            let flusher = self.flusher.as_ref();
            let outcome = self.outcome.take().or_else(|| flusher.map(Flusher::wait));
            self.after_flush(outcome.unwrap_or(Ok(())))?;
        }
        Ok(())
    }

    /// Carries out the operations that follow a finished flush.
    fn after_flush(&mut self, outcome: io::Result<()>) -> io::Result<FlushProgress> {
        if let Err(error) = outcome {
            self.journal.failed();
            return Err(error);
        }
        let (to_flush, immediate): (Vec<_>, Vec<_>) =
            self.journal.landed().into_iter().partition(Operation::waits_for_disk);
        if let Err(error) = self.carry_out(&immediate) {
            self.journal.failed();
            return Err(error);
        }
        self.start_flush(&to_flush);
        Ok(if self.is_flushing() { FlushProgress::Settling } else { FlushProgress::Flushed })
    }

    /// Hands operations that wait for the disk to the flusher.
    fn start_flush(&mut self, to_flush: &[Operation]) {
        let Some(written) = self.written.as_ref().filter(|_| !to_flush.is_empty()) else { return };
        if self.flusher.is_none() {
            // If no thread can be started, say at the process limit, this thread flushes.
            self.flusher = Flusher::start().ok();
        }
        let folder =
            to_flush.contains(&Operation::SyncFolder).then(|| folder_of(self.place.path()).to_owned());
        let is_taken = self.flusher.as_ref().is_some_and(|it| it.flush(written.file.clone(), folder));
        if !is_taken {
            self.flusher = None;
            let mut carry_out = |operation| disk::carry_out(operation, self.place.path(), &mut self.written);
            self.outcome = Some(to_flush.iter().try_for_each(&mut carry_out));
        }
    }

    fn carry_out(&mut self, operations: &[Operation]) -> io::Result<()> {
        for operation in operations {
            if let Err(error) = disk::carry_out(operation, self.place.path(), &mut self.written) {
                self.journal.begin_anew();
                return Err(error);
            }
        }
        Ok(())
    }
}
