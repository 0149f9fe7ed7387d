//! The doorkeeper's part of the status: which doors are open, and the outcome of its commands.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use litemap::LiteMap;

use crate::opening::event::Event;
use crate::opening::state::Admitted;
use crate::opening::{Action, Openings, Phase};
use crate::protocol::confinement::Confined;
use crate::status::writer::{StatusWriter, uptime_to_unix, yes_or_no};
use crate::time::Now;

/// The doorkeeper's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoorkeeperCounters {
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
    doors: LiteMap<Arc<str>, DoorCounters>,
}

/// The counters of one door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct DoorCounters {
    commands_run: u64,
    commands_failed: u64,
    packets_refused: u64,
}

impl DoorkeeperCounters {
    /// Counts an action that is about to be carried out.
    pub fn count_action(&mut self, action: &Action) {
        match action {
            Action::Run(job) => self.of_door(&job.door).commands_run += 1,
            Action::Kill(_) => self.commands_killed += 1,
            Action::Tell(event) => self.count_event(event),
        }
    }

    /// Counts an event.
    pub fn count_event(&mut self, event: &Event) {
        match event {
            Event::Unsuccessful { door, .. } => self.of_door(door).commands_failed += 1,
            Event::Refused { door, .. } => self.of_door(door).packets_refused += 1,
            _ => {}
        }
    }

    fn of_door(&mut self, door: &Arc<str>) -> &mut DoorCounters {
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

/// Adds the doorkeeper's lines to those that both processes write.
pub fn write_status(
    writer: &mut StatusWriter,
    counters: &DoorkeeperCounters,
    (config, watcher, file): (&Path, Option<u32>, StateFile<'_>),
    (openings, admitted): (&Openings, &[Admitted]),
    now: Now,
) {
    writer.add("config", config.display());
    writer.add("config_read", counters.config_read.as_secs());
    if let Some((time, error)) = &counters.last_reload {
        writer.add("last_reload", time.as_secs());
        writer.add("last_reload_ok", yes_or_no(error.is_none()));
        writer.add_some("last_reload_error", error.as_ref());
    }
    writer.add("log_lines_left_out", counters.lines_left_out);
    writer.add_some("watcher_pid", watcher);
    writer.add("watcher_restarts", counters.watcher_restarts);
    writer.add_some("watcher_confined", counters.watcher_confined.as_ref());
    writer.add_some("resolver_confined", counters.resolver_confined.as_ref());
    writer.add_some("state_file", file.path.map(Path::display));
    writer.add("state_file_ok", yes_or_no(file.is_ok));
    let sum = |count: fn(&DoorCounters) -> u64| counters.doors.values().map(count).sum::<u64>();
    writer.add("commands_run", sum(|it| it.commands_run));
    writer.add("commands_failed", sum(|it| it.commands_failed));
    writer.add("commands_killed", counters.commands_killed);
    writer.add("commands_running", openings.running());
    write_openings(writer, openings, now);
    for it in admitted {
        writer.add("open", &it.id.door);
        writer.add("open.ip", it.id.knocker);
        writer.add("open.by", "kernel");
        writer.add("open.phase", "open");
        let since = it.until.zip(it.after).and_then(|(until, after)| until.checked_sub(after));
        writer.add_some("open.since", since.map(|since| uptime_to_unix(since, now)));
        write_end(writer, it.until, now);
    }
    for (name, counts) in &counters.doors {
        writer.add("door", name);
        writer.add("door.commands_run", counts.commands_run);
        writer.add("door.commands_failed", counts.commands_failed);
        writer.add("door.packets_refused", counts.packets_refused);
    }
}

fn write_openings(writer: &mut StatusWriter, openings: &Openings, now: Now) {
    for (phase, stop) in openings.standing() {
        let word = match phase {
            Phase::Opening(_) => "opening",
            Phase::Open => "open",
            Phase::Closing(_) => "closing",
        };
        writer.add("open", &stop.door);
        writer.add("open.ip", stop.knocker);
        writer.add("open.by", "command");
        writer.add("open.phase", word);
        if let Phase::Open = phase {
            writer.add_some(
                "open.since",
                stop.due.checked_sub(stop.after).map(|since| uptime_to_unix(since, now)),
            );
            write_end(writer, Some(stop.due), now);
        }
    }
}

fn write_end(writer: &mut StatusWriter, until: Option<Duration>, now: Now) {
    if let Some(until) = until {
        writer.add("open.until", uptime_to_unix(until, now));
        let left = until.saturating_sub(now.uptime).as_millis().div_ceil(1000);
        writer.add("open.seconds_left", left);
    }
}
