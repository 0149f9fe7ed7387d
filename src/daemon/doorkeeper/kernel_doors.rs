//! Opens and closes doors in nftables for the doorkeeper: see
//! [`nftables`](crate::daemon::doorkeeper::nftables).

use std::time::Duration;

use crate::daemon::clock::now;
use crate::daemon::doorkeeper::nftables::{Firewall, LogMessage};
use crate::daemon::doorkeeper::{Doorkeeper, MAX_BATCHES};
use crate::daemon::error::StartError;
use crate::door::ports::Ports;
use crate::opening::admission_id::AdmissionId;
use crate::opening::admissions::Step;
use crate::opening::event::Opening;
use crate::opening::state::Admitted;
use crate::time::Now;

impl Doorkeeper {
    /// Sets up the firewall, if the configuration has doors in it. Returns messages, to be logged once the
    /// daemon listens.
    ///
    /// # Errors
    /// What is missing in the firewall, with the nft lines that add it.
    pub(super) fn start_firewall(&mut self) -> Result<Vec<LogMessage>, StartError> {
        let mut messages = Vec::new();
        let known = self.memory.admitted();
        if Firewall::is_needed(&self.config) {
            let firewall = Firewall::start(&self.config, &known, now(), &mut messages);
            self.firewall = Some(firewall.map_err(StartError::Firewall)?);
        }
        self.note_kernel_doors(&known);
        Ok(messages)
    }

    /// Takes over doors that another daemon opened in the kernel. At the start [`Doorkeeper::start_firewall`]
    /// does this.
    pub(super) fn continue_in_kernel(&mut self, admitted: &[Admitted], now: Now) {
        let Some(firewall) = &mut self.firewall else { return };
        let mut messages = Vec::new();
        firewall.take_over_doors(&self.config, admitted, now, &mut messages);
        self.log_messages(messages, now);
        self.note_kernel_doors(admitted);
    }

    /// Records doors opened and closed in the kernel, and removes those of `known` that are no longer open.
    fn note_kernel_doors(&mut self, known: &[Admitted]) {
        let steps =
            self.firewall.as_mut().map(|firewall| firewall.admissions.take_steps()).unwrap_or_default();
        let is_open = |id: &AdmissionId| self.firewall.as_ref().is_some_and(|it| it.admissions.has(id));
        let over = known.iter().filter(|it| !is_open(&it.id)).map(|it| Step::Dismissed(it.id.clone()));
        let over: Vec<Step> = over.collect();
        for step in steps.into_iter().chain(over) {
            self.memory.note(step);
        }
    }

    /// Adapts the firewall to a new configuration. Missing parts are logged as complaints.
    pub(super) fn reload_firewall(&mut self) {
        let now = now();
        let mut messages = Vec::new();
        match &mut self.firewall {
            Some(firewall) => firewall.reload(&self.config, now, &mut messages),
            None if Firewall::is_needed(&self.config) => match Firewall::open() {
                Ok(mut firewall) => {
                    firewall.reload(&self.config, now, &mut messages);
                    self.firewall = Some(firewall);
                }
                Err(sentence) => messages.push(LogMessage::Complaint(sentence)),
            },
            None => {}
        }
        self.log_messages(messages, now);
        self.note_kernel_doors(&[]);
    }

    /// Opens a door at the next commit, for the ports and the time in `asked` where the door leaves them to
    /// its packets.
    pub(super) fn admit_to_kernel(
        &mut self,
        opening: Opening,
        asked: (&[Ports], Option<Duration>),
        now: Now,
    ) {
        let Some(door) = self.config.doors.get(opening.door).filter(|door| door.open.is_some()) else {
            return;
        };
        let mut messages = Vec::new();
        match &mut self.firewall {
            Some(firewall) => {
                firewall.admit((opening.door, door), opening.knocker, asked, now, &mut messages);
            }
            None => {
                messages.push(LogMessage::Complaint(format!(
                    "{}: could not open: there is no firewall",
                    door.name
                )));
            }
        }
        self.log_messages(messages, now);
    }

    /// Handles reports and opens doors in the kernel in batches while more come: writing the log and the
    /// state after each batch would delay the next knockers.
    pub(super) fn take_openings(&mut self) {
        for _ in 0..MAX_BATCHES {
            self.handle_reports();
            if !self.commit(now()) {
                return;
            }
        }
    }

    /// Opens the doors waiting for the commit, in one transaction; returns whether there were any.
    pub(super) fn commit(&mut self, now: Now) -> bool {
        let Some(firewall) = &mut self.firewall else { return false };
        let mut messages = Vec::new();
        let is_wanted = firewall.commit(now, &mut messages);
        self.log_messages(messages, now);
        is_wanted
    }

    /// Handles changes of the ruleset by others, closed connections and expired doors.
    pub(super) fn attend_to_firewall(&mut self, now: Now) {
        let is_over = self.end_deadline.is_some() && !self.watcher.is_up() && !self.has_left_kernel_doors;
        let Some(firewall) = &mut self.firewall else { return };
        let mut messages = Vec::new();
        firewall.handle_changes(&mut messages);
        firewall.close_disconnected(now, &mut messages);
        firewall.close_due(now, &mut messages);
        if is_over {
            // The watcher has ended, so no more knocks arrive.
            self.has_left_kernel_doors = true;
            firewall.finish(now, &mut messages);
        }
        self.log_messages(messages, now);
        self.note_kernel_doors(&[]);
    }

    /// Logs the messages of the firewall.
    pub(super) fn log_messages(&mut self, messages: Vec<LogMessage>, now: Now) {
        for message in messages {
            match message {
                LogMessage::Event(event) => self.opening_log.write(event, &mut self.log, now),
                LogMessage::Line(text) => self.log.line(&text),
                LogMessage::Complaint(text) => text.lines().for_each(|line| self.log.complain(line)),
            }
        }
    }
}
