//! The watcher's status: for readers of the status socket, through the doorkeeper, and for the log on
//! SIGUSR1.
//!
//! It is written into a memfd with `pwrite(2)`, since the watcher may send nothing but messages.

use std::os::fd::OwnedFd;

use crate::daemon::messages;
use crate::daemon::watcher::Watcher;
use crate::protocol::messages::Report;
use crate::status::process_status::ProcessStatus;
use crate::status::writer::StatusWriter;
use crate::status::{table, watcher};
use crate::time::Now;

impl Watcher {
    /// Writes the status into a memfd.
    pub(super) fn describe(&mut self, file: OwnedFd, now: Now) {
        let status = self.status(now);
        // If a write fails the text is incomplete, which the reader notices.
        let _ = messages::write_all(file, status.as_bytes());
        self.link.described();
    }

    /// Writes the status to the log.
    pub(super) fn tell_log(&mut self, now: Now) {
        let status = ProcessStatus::parse(self.status(now).as_bytes()).unwrap_or_default();
        for line in table::log_lines(&status, true) {
            self.link.say(Report::Told(line));
        }
    }

    /// The status as text.
    fn status(&mut self, now: Now) -> String {
        let mut writer = StatusWriter::for_process(std::process::id(), self.started, now);
        let here = self.captures.here().len();
        watcher::write_status(&mut writer, &self.engine, here, &self.captures.interface_statuses());
        writer.finish()
    }
}
