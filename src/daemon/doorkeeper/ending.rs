//! Ends the daemon: stops the watcher, closes every door, and waits for commands.

use std::path::PathBuf;
use std::time::Duration;

use crate::daemon::clock::now;
use crate::daemon::doorkeeper::Doorkeeper;
use crate::daemon::error::StartError;
use crate::daemon::log::output;
use crate::daemon::notify;
use crate::opening::entry::Notice;
use crate::opening::log_limit::{self, Cause};
use crate::protocol::messages::Order;
use crate::time::Now;

/// When the daemon ends, stop commands due within this time run when due, as with knockd 0.8. All others run
/// at once.
const GRACE: Duration = Duration::from_secs(2);
/// The same in the background (`-d`): init scripts wait for a second, and start the next daemon only if no
/// process of this program is left.
const GRACE_IN_BACKGROUND: Duration = Duration::from_millis(500);
/// Time limit for running commands when the daemon ends.
pub(super) const COMMANDS_TIMEOUT: Duration = Duration::from_secs(5);
/// Additional time for stop commands.
const STOP_COMMANDS_EXTRA_TIME: Duration = Duration::from_secs(5);
/// Time limit for the readers of the log at the end.
pub(super) const LOG_DRAIN_TIMEOUT: Duration = Duration::from_millis(250);
/// Time limit for the last messages of the watcher.
const WATCHER_END_TIMEOUT: Duration = Duration::from_millis(250);

impl Doorkeeper {
    /// Runs `On_Stop` once every door is closed.
    pub(super) fn run_on_stop(&mut self, now: Now) {
        let Some(end_deadline) = self.end_deadline else { return };
        if !self.is_time_to_end(end_deadline, now) {
            return;
        }
        if let Some(command) = self.config.options.on_stop.take() {
            let limit = self.config.options.command_timeout.filter(|limit| !limit.is_zero());
            let actions = self.openings.run_for_daemon(command, true, limit, now);
            self.actions.extend(actions);
            self.end_deadline = Some(now.uptime);
        }
    }

    /// While the daemon ends: deadline for its last commands, as uptime.
    pub(super) fn stop_commands_deadline(&self) -> Option<Duration> {
        self.end_deadline.map(|end_deadline| end_deadline + STOP_COMMANDS_EXTRA_TIME)
    }

    pub(super) fn is_done(&self, now: Now) -> bool {
        match self.end_deadline {
            Some(_) if self.config.options.on_stop.is_some() || self.watcher.is_up() => false,
            Some(end_deadline) => self.is_time_to_end(end_deadline, now),
            None => false,
        }
    }

    /// Whether nothing is left to wait for. Stop commands get more time than others; the next daemon runs
    /// those that could not be started by then.
    fn is_time_to_end(&self, end_deadline: Duration, now: Now) -> bool {
        let (is_late, is_over) =
            (end_deadline <= now.uptime, end_deadline + STOP_COMMANDS_EXTRA_TIME <= now.uptime);
        is_over || self.openings.are_idle() || is_late && !self.openings.are_busy()
    }

    /// SIGTERM or SIGINT: stops the watcher, then closes every door. A second signal skips the grace period
    /// and the wait for commands.
    pub(super) fn finish(&mut self) {
        let now = now();
        let is_urgent = self.end_deadline.is_some();
        let grace = if self.arguments.is_launched { GRACE_IN_BACKGROUND } else { GRACE };
        let (grace, timeout) =
            if is_urgent { (Duration::ZERO, Duration::ZERO) } else { (grace, COMMANDS_TIMEOUT) };
        let end_deadline = now.uptime + timeout;
        if !is_urgent {
            notify::stopping();
            self.log.flush();
            self.log.say("waiting for child processes...");
            self.watcher.send(Order::Finish, None);
            self.watcher_deadline = Some(now.uptime + WATCHER_END_TIMEOUT);
            self.memory.announce_leaving();
            self.heir.end();
            self.leave_fleet(now);
        }
        for (door, count) in self.openings.finish(grace, timeout, now) {
            self.log.line(&log_limit::dropped(&door, Cause::End, count));
        }
        self.end_deadline = Some(self.end_deadline.map_or(end_deadline, |earlier| earlier.min(end_deadline)));
    }

    /// Writes the state and the last log lines, and removes the pid file.
    pub(super) fn end(&mut self, pid_file: Option<PathBuf>) -> Result<(), StartError> {
        self.status.close();
        let messages = self.memory.end(&mut self.openings, &self.config.doors, now());
        self.complain(&messages);
        self.opening_log.report_all(&mut self.log);
        self.log.flush();
        output::say("closing...");
        let doors = self.openings.open_doors();
        let result = if doors.is_empty() { Ok(()) } else { Err(StartError::Unfinished(doors)) };
        if let Err(error) = &result {
            self.log.line(&error.to_string());
        }
        self.log.note(Notice::Stop, "shutting down");
        self.log.flush();
        self.log.drain(now().uptime.saturating_add(LOG_DRAIN_TIMEOUT));
        if let Some(path) = pid_file {
            let ours = format!("{}\n", std::process::id());
            if std::fs::read_to_string(&path).is_ok_and(|text| text == ours) {
                let _ = std::fs::remove_file(path);
            }
        }
        result
    }
}
