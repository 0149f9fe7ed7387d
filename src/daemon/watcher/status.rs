//! What the watcher tells of itself: to whoever connects to its socket, and to the log on SIGUSR1.
//!
//! The system calls that this takes once the process runs: accept4, sendto, shutdown and close for the socket, read for
//! the signal (a signalfd that is made before anything else), getsockopt for `PACKET_STATISTICS`.

use crate::daemon::watcher::Watcher;
use crate::protocol::messages::Report;
use crate::status::facts::Facts;
use crate::status::half::Half;
use crate::status::{table, watcher};
use crate::time::Now;

impl Watcher {
    /// Answers whoever asks.
    pub(super) fn answer(&mut self, now: Now) {
        let Watcher { answers, engine, captures, started, .. } = self;
        answers.attend(now, || {
            let mut facts = Facts::of_process(std::process::id(), *started, now);
            watcher::tell(&mut facts, engine, captures.here().len(), &captures.standing());
            facts.end()
        });
    }

    /// Writes what this process knows to the log.
    pub(super) fn tell_log(&mut self, now: Now) {
        let mut facts = Facts::of_process(std::process::id(), self.started, now);
        watcher::tell(&mut facts, &self.engine, self.captures.here().len(), &self.captures.standing());
        let half = Half::read(facts.end().as_bytes()).unwrap_or_default();
        for line in table::log_lines(&half, true) {
            self.link.say(Report::Told(line));
        }
    }
}
