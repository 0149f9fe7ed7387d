//! The doorkeeper's status, and the sockets where it and the watcher are asked for theirs.

use std::io;
use std::time::Duration;

use crate::config::{ConfigError, Problem, StatusSocket};
use crate::daemon::clock::now;
use crate::daemon::doorkeeper::Doorkeeper;
use crate::daemon::error::StartError;
use crate::daemon::messages;
use crate::daemon::status::place::Paths;
use crate::opening::entry::Notice;
use crate::protocol::messages::Order;
use crate::reason::reason;
use crate::status::doorkeeper::{StateFile, write_status};
use crate::status::process_status::ProcessStatus;
use crate::status::table;
use crate::status::writer::{StatusWriter, yes_or_no};
use crate::time::Now;

/// How often, and at which interval, to retry while another daemon that is about to end has the sockets.
const OPEN_RETRIES: u32 = 10;
const OPEN_RETRY_INTERVAL: Duration = Duration::from_secs(1);

impl Doorkeeper {
    /// Opens the sockets that the configuration names, unless they are open already.
    pub(super) fn open_status(&mut self) {
        let path = self.config.options.status_socket(&self.arguments.pid_file);
        if self.status.path == path && self.status.is_open() {
            return;
        }
        self.status.close();
        self.status.path = path;
        self.open_sockets(OPEN_RETRIES);
    }

    fn open_sockets(&mut self, retries_left: u32) {
        let Some(path) = self.status.path.clone() else { return };
        match self.status.open(&Paths::of(&path)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && retries_left > 0 => {
                // They belong to a daemon that is ending, which this one replaces.
                self.status.next_try =
                    Some((now().uptime.saturating_add(OPEN_RETRY_INTERVAL), retries_left - 1));
            }
            Err(error) => {
                let text = format!(
                    "could not make the status socket {}: {}; knockd --status cannot ask this daemon",
                    path.display(),
                    reason(&error)
                );
                // Where the configuration does not ask for the socket, the log stays as with knockd 0.8.
                if self.config.options.status_socket == StatusSocket::BesidePidFile {
                    self.log.say(&text);
                } else {
                    self.log.complain(&text);
                }
            }
        }
    }

    /// Answers status requests.
    pub(super) fn serve_status(&mut self, now: Now) {
        if let Some((_, retries_left)) = self.status.next_try.take_if(|(at, _)| *at <= now.uptime) {
            self.open_sockets(retries_left);
        }
        let mut readers = std::mem::take(&mut self.status.readers);
        readers.serve(now, || self.status_text(now));
        self.status.readers = readers;
        self.status.watcher_readers.continue_writing(now);
        if self.status.watcher_answer.is_none()
            && self.watcher.is_up()
            && self.status.watcher_readers.has_waiting_reader()
        {
            self.ask_watcher();
        }
    }

    /// Tells the watcher to write its status to a file, for status requests. One such request runs at a time.
    fn ask_watcher(&mut self) {
        // Without a memory file the reader waits for a later attempt, or gives up.
        if let Ok(file) = messages::blank()
            && let Ok(copy) = file.try_clone()
        {
            self.watcher.send(Order::Describe, Some(copy));
            self.status.watcher_answer = Some(file);
        }
    }

    /// Sends the status that the watcher has written to the waiting readers.
    pub(super) fn pass_on_description(&mut self, now: Now) {
        let Some(file) = self.status.watcher_answer.take() else { return };
        let text = messages::read_all(&file).unwrap_or_default();
        self.status.watcher_readers.answer(now, || String::from_utf8_lossy(&text).into_owned());
    }

    fn status_text(&self, now: Now) -> String {
        let mut writer = StatusWriter::for_process(std::process::id(), self.status.started, now);
        if let Some(fleet) = &self.fleet {
            writer.add("fleet_connected", yes_or_no(fleet.has_peer()));
        }
        let (path, is_ok) = self.memory.file_status();
        let process = (self.arguments.config.as_path(), self.watcher.pid(), StateFile { path, is_ok });
        let admitted = self.memory.admitted();
        write_status(&mut writer, &self.status.counters, process, (&self.openings, &admitted), now);
        writer.finish()
    }

    /// SIGUSR1: writes the status of both processes to the log.
    pub(super) fn log_status(&mut self) {
        let status = ProcessStatus::parse(self.status_text(now()).as_bytes()).unwrap_or_default();
        self.log.tell(Notice::Status, table::log_lines(&status, false));
        self.watcher.send(Order::Tell, None);
    }

    /// Records the result of a SIGHUP for the status.
    pub(super) fn note_reload(&mut self, error: Option<&StartError>) {
        let unix = now().unix;
        self.status.counters.last_reload = Some((unix, error.map(without_secrets)));
    }
}

/// The message of an error; one that quotes a sequence is shortened.
fn without_secrets(error: &StartError) -> String {
    match error {
        StartError::Config(ConfigError { problem: Problem::Sequence(door, _), line, .. }) => {
            format!("config: section {door}: its sequence is wrong (line {line}); the log says why")
        }
        other => other.to_string(),
    }
}
