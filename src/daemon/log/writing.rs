//! Writes an entry of the log to its destinations, as text or JSON: standard output, the log file, the journal
//! and syslog.

use crate::config::LogFormat;
use crate::daemon::clock::{in_utc, now};
use crate::daemon::log::Log;
use crate::daemon::log::output::{complain, say, says};
use crate::opening::entry::{LogEntry, Notice};
use crate::opening::event::Event;
use crate::time::Now;

impl Log {
    pub(super) fn write_event(&mut self, event: &Event, host: Option<&str>, since: Now) {
        let Some(entry) = LogEntry::of(event, host) else { return };
        if event.is_a_complaint() {
            complain(&entry.text);
        } else if says() {
            say(&self.shown(&entry, since));
        }
        self.write(&entry, event.is_followed_by_a_blank(), since);
    }

    /// The entry in the form that `-v` prints.
    pub(super) fn shown(&self, entry: &LogEntry, at: Now) -> String {
        match self.format {
            LogFormat::Text => entry.text.clone(),
            LogFormat::Json => entry.json(&in_utc(at.unix)),
        }
    }

    pub(super) fn write(&mut self, entry: &LogEntry, blank: bool, at: Now) {
        self.write_to_file(entry, blank, at);
        self.write_to_system(entry, at);
    }

    fn write_to_file(&mut self, entry: &LogEntry, blank: bool, at: Now) {
        let Some(file) = &mut self.file else { return };
        match self.format {
            LogFormat::Text => {
                let (stamp, end) = (self.zone.to_the_minute(at.unix), if blank { "\n\n" } else { "\n" });
                let line = format!("[{stamp}] {}{end}", entry.text);
                file.add(&line, |text| format!("[{stamp}] {text}"), at);
            }
            LogFormat::Json => {
                let time = in_utc(at.unix);
                let line = format!("{}\n", entry.json(&time));
                file.add(&line, |text| LogEntry::of_notice(Notice::LeftOut, text).json(&time), at);
            }
        }
    }

    /// Writes an entry to the journal, or else to syslog, if one of them is wanted.
    pub(super) fn write_to_system(&mut self, entry: &LogEntry, at: Now) {
        if self.journal.is_open() && self.journal.write(&entry.journal()).is_ok() || !self.syslog.is_open() {
            return;
        }
        if let Some(words) = self.syslog.write(&self.zone.for_syslog(at.unix), &entry.text) {
            complain(&words);
            self.write_to_file(&LogEntry::of_notice(Notice::Trouble, &words), false, now());
        }
    }
}
