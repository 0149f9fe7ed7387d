//! The doorkeeper's half of the status: which doors are open, and the outcome of its commands.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;

use crate::opening::event::Event;
use crate::opening::state::Admitted;
use crate::opening::{Action, Openings, Phase};
use crate::protocol::confinement::Confined;
use crate::status::facts::{Facts, unix_of, word};
use crate::time::Now;

/// The doorkeeper's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The time when the configuration in force was read, as Unix time.
    pub config_read: Duration,
    /// The time of the last reload as Unix time, and its error if it failed.
    pub last_reload: Option<(Duration, Option<String>)>,
    /// How many lines the rate limit of the log dropped.
    pub lines_left_out: u64,
    /// How many watchers were started after the first one.
    pub watcher_restarts: u64,
    /// How the watcher is confined.
    pub watcher_confined: Option<Confined>,
    /// How the process that resolves names is confined, if there is one.
    pub resolver_confined: Option<Confined>,
    /// How many commands were killed after their timeout.
    pub commands_killed: u64,
    doors: LiteMap<Arc<str>, Counts>,
}

/// The counters of one door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    commands_run: u64,
    commands_failed: u64,
    packets_refused: u64,
}

impl Ledger {
    /// Counts an action that is about to be carried out.
    pub fn note(&mut self, action: &Action) {
        match action {
            Action::Run(job) => self.counts(&job.door).commands_run += 1,
            Action::Kill(_) => self.commands_killed += 1,
            Action::Tell(event) => self.note_event(event),
        }
    }

    /// Counts an event.
    pub fn note_event(&mut self, event: &Event) {
        match event {
            Event::Unsuccessful { door, .. } => self.counts(door).commands_failed += 1,
            Event::Refused { door, .. } => self.counts(door).packets_refused += 1,
            _ => {}
        }
    }

    fn counts(&mut self, door: &Arc<str>) -> &mut Counts {
        self.doors.entry(door.clone()).or_default()
    }
}

/// The state file, as shown by `--status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateFile<'a> {
    /// Its path; `None` without a state file.
    pub path: Option<&'a Path>,
    /// Whether it is writable.
    pub is_ok: bool,
}

/// Adds the doorkeeper's facts to those that both processes report.
pub fn tell(
    facts: &mut Facts,
    ledger: &Ledger,
    (config, watcher, file): (&Path, Option<u32>, StateFile<'_>),
    (openings, admitted): (&Openings, &[Admitted]),
    now: Now,
) {
    facts.tell("config", config.display());
    facts.tell("config_read", ledger.config_read.as_secs());
    if let Some((time, error)) = &ledger.last_reload {
        facts.tell("last_reload", time.as_secs());
        facts.tell("last_reload_ok", word(error.is_none()));
        facts.tell_if("last_reload_error", error.as_ref());
    }
    facts.tell("log_lines_left_out", ledger.lines_left_out);
    facts.tell_if("watcher_pid", watcher);
    facts.tell("watcher_restarts", ledger.watcher_restarts);
    facts.tell_if("watcher_confined", ledger.watcher_confined.as_ref());
    facts.tell_if("resolver_confined", ledger.resolver_confined.as_ref());
    facts.tell_if("state_file", file.path.map(Path::display));
    facts.tell("state_file_ok", word(file.is_ok));
    let sum = |count: fn(&Counts) -> u64| ledger.doors.values().map(count).sum::<u64>();
    facts.tell("commands_run", sum(|it| it.commands_run));
    facts.tell("commands_failed", sum(|it| it.commands_failed));
    facts.tell("commands_killed", ledger.commands_killed);
    facts.tell("commands_running", openings.running());
    tell_openings(facts, openings, now);
    for it in admitted {
        facts.tell("open", &it.id.door);
        facts.tell("open.ip", it.id.knocker);
        facts.tell("open.by", "kernel");
        facts.tell("open.phase", "open");
        let since = it.until.zip(it.after).and_then(|(until, after)| until.checked_sub(after));
        facts.tell_if("open.since", since.map(|since| unix_of(since, now)));
        tell_end(facts, it.until, now);
    }
    for (name, counts) in &ledger.doors {
        facts.tell("door", name);
        facts.tell("door.commands_run", counts.commands_run);
        facts.tell("door.commands_failed", counts.commands_failed);
        facts.tell("door.packets_refused", counts.packets_refused);
    }
}

fn tell_openings(facts: &mut Facts, openings: &Openings, now: Now) {
    for (phase, stop) in openings.standing() {
        let word = match phase {
            Phase::Opening(_) => "opening",
            Phase::Open => "open",
            Phase::Closing(_) => "closing",
        };
        facts.tell("open", &stop.door);
        facts.tell("open.ip", stop.knocker);
        facts.tell("open.by", "command");
        facts.tell("open.phase", word);
        if let Phase::Open = phase {
            facts.tell_if("open.since", stop.due.checked_sub(stop.after).map(|since| unix_of(since, now)));
            tell_end(facts, Some(stop.due), now);
        }
    }
}

fn tell_end(facts: &mut Facts, until: Option<Duration>, now: Now) {
    if let Some(until) = until {
        facts.tell("open.until", unix_of(until, now));
        let left = until.saturating_sub(now.uptime).as_millis().div_ceil(1000);
        facts.tell("open.seconds_left", left);
    }
}
