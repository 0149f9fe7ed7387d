//! What earlier daemons left: doors to close, and what they used up.

use crate::daemon::clock::now;
use crate::daemon::doorkeeper::Doorkeeper;
use crate::daemon::doorkeeper::memory::Found;
use crate::daemon::doorkeeper::process;
use crate::door::lock::Lock;
use crate::octets;
use crate::opening::Phase;
use crate::opening::entry::Notice;
use crate::opening::state::{self, Admitted};

impl Doorkeeper {
    /// Claims the state file that the configuration names, and takes over what is in it.
    pub(super) fn open_memory(&mut self) {
        let files = self.config.options.state_files(&self.arguments.pid_file);
        if let Some(found) = self.memory.open(&files) {
            self.take_over(found);
        }
    }

    /// At a start without a state file nobody knows which one-time lists were used: `OTP_Trust_Start` decides, and the log
    /// says so.
    pub(super) fn judge_lists_of_now(&mut self) {
        if !self.memory.is_without_past() {
            return;
        }
        let now = now();
        let (mut trusted, mut distrusted) = (Vec::new(), Vec::new());
        for door in &mut self.config.doors {
            let Lock::Otp(lock) = &mut door.lock else { continue };
            if lock.is_reusable {
                continue;
            }
            let last = *lock.otp.accepted(now.unix).end();
            if door.rules.distrusts_start {
                lock.spent.raise_floor(last);
                let wait = lock.otp.begins(last.saturating_sub(lock.otp.window.into()).saturating_add(1));
                let wait = wait.saturating_sub(now.unix).as_millis().div_ceil(1000);
                distrusted.push(format!("{} (for {wait} s)", door.name));
            } else {
                trusted.push(door.name.to_string());
            }
        }
        if trusted.is_empty() && distrusted.is_empty() {
            return;
        }
        self.memory.write_soon();
        self.remember(now);
        let none = format!("there was no state file {} at the start", octets::path(self.memory.path()));
        if !trusted.is_empty() {
            let text = format!(
                "{none}: one-time lists of this moment are good, also if they were used before: {}",
                trusted.join(", ")
            );
            self.log.tell(Notice::Note, [text]);
        }
        if !distrusted.is_empty() {
            let text =
                format!("{none}: one-time lists of this moment count as used: {}", distrusted.join(", "));
            self.log.tell(Notice::Note, [text]);
        }
    }

    /// Closes the doors that earlier daemons left open, and keeps what they used up used up.
    pub(super) fn take_over(&mut self, found: Found) {
        self.complain(&found.says);
        found.state.restore_spent(&mut self.config.doors);
        let now = now();
        for (_, (phase, stop)) in found.state.openings {
            let (phase, stop) = state::taken_over(phase, stop, now, process::runs, process::find_start);
            let is_closing = matches!(phase, Phase::Closing(_));
            let how =
                if is_closing { "its stop command still runs" } else { "still open, closing it in its time" };
            self.log.line(&format!("{}: {}: {how}", stop.knocker, stop.door));
            if let Some((job, process)) = self.openings.resume(phase, stop, now) {
                self.commands.adopt(job, process);
            }
        }
        let admitted: Vec<Admitted> = found.state.admitted.into_values().map(|it| *it).collect();
        self.continue_in_kernel(&admitted, now);
        self.remember(now);
    }
}
