//! Takes over from earlier daemons: doors to close, and lists and packets that were used up.

use std::time::Duration;

use crate::daemon::clock::now;
use crate::daemon::doorkeeper::Doorkeeper;
use crate::daemon::doorkeeper::memory::Found;
use crate::daemon::doorkeeper::process;
use crate::door::lock::Lock;
use crate::octets;
use crate::opening::Phase;
use crate::opening::admission_id::in_order;
use crate::opening::entry::Notice;
use crate::opening::state::{self, Admitted};

impl Doorkeeper {
    /// Claims the state file that the configuration names, and takes over its content.
    pub(super) fn open_memory(&mut self) {
        let files = self.config.options.state_files(&self.arguments.pid_file);
        if let Some(found) = self.memory.open(&files) {
            self.take_over(found);
        }
    }

    /// Without a state file at the start, the used one-time lists and single packets are unknown:
    /// `OTP_Trust_Start` decides whether they are trusted, and the log reports it.
    pub(super) fn apply_otp_trust_start(&mut self) {
        if !self.memory.started_without_state() {
            return;
        }
        let now = now();
        let (mut lists, mut packets) = (TrustReport::default(), TrustReport::default());
        // Used packets are recorded for all doors together, so one floor holds for all.
        let floor = self.config.doors.iter().filter(|door| door.rules.distrusts_start).filter_map(|door| {
            let Lock::Spa(lock) = &door.lock else { return None };
            // A sender's clock may be ahead.
            Some(now.unix.as_secs().saturating_add(lock.max_age.into()))
        });
        let floor = floor.max();
        for door in &mut self.config.doors {
            let distrusts = door.rules.distrusts_start;
            match &mut door.lock {
                Lock::Otp(lock) if !lock.is_reusable => {
                    let last = *lock.otp.accepted(now.unix).end();
                    if distrusts {
                        lock.spent.raise_floor(last);
                    }
                    let wait = lock.otp.begins(last.saturating_sub(lock.otp.window.into()).saturating_add(1));
                    lists.add(&door.name, distrusts.then(|| wait.saturating_sub(now.unix)));
                }
                Lock::Spa(_) => {
                    let wait = floor.map(|floor| Duration::from_secs(floor.saturating_add(1)));
                    packets.add(&door.name, wait.map(|wait| wait.saturating_sub(now.unix)));
                }
                Lock::Fixed(_) | Lock::OneTime(_) | Lock::Otp(_) => {}
            }
        }
        if let Some(floor) = floor {
            self.memory.distrust_packets(floor);
        }
        let path = octets::path(self.memory.path()).into_owned();
        let lines = [lists.lines("one-time lists", &path), packets.lines("single packets", &path)].concat();
        if !lines.is_empty() {
            self.memory.write_soon();
            self.remember(now);
            self.log.tell(Notice::Note, lines);
        }
    }

    /// Takes over the doors that earlier daemons left open, to close them in time, and marks what was used
    /// up.
    pub(super) fn take_over(&mut self, found: Found) {
        self.complain(&found.messages);
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
        let admitted: Vec<Admitted> = in_order(&found.state.admitted).into_iter().cloned().collect();
        self.continue_in_kernel(&admitted, now);
        self.remember(now);
    }
}

/// The doors whose one-time lists or single packets may have been used before.
#[derive(Default)]
struct TrustReport {
    /// Names of doors where they are valid.
    trusted: Vec<String>,
    /// Names of doors where they count as used, each with the time.
    distrusted: Vec<String>,
}

impl TrustReport {
    /// Adds a door whose lists or packets of now are valid, or count as used for the time `wait`.
    fn add(&mut self, door: &str, wait: Option<Duration>) {
        match wait {
            Some(wait) => self.distrusted.push(format!("{door} (for {} s)", wait.as_millis().div_ceil(1000))),
            None => self.trusted.push(door.to_owned()),
        }
    }

    fn lines(&self, what: &str, path: &str) -> Vec<String> {
        let outcomes =
            [("are good, also if they were used before", &self.trusted), ("count as used", &self.distrusted)];
        let with_doors = outcomes.into_iter().filter(|(_, doors)| !doors.is_empty());
        let line = |(outcome, doors): (&str, &Vec<String>)| {
            let doors = doors.join(", ");
            format!("there was no state file {path} at the start: {what} of this moment {outcome}: {doors}")
        };
        with_doors.map(line).collect()
    }
}
