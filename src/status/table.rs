//! Formats the status for people: as a table, and as lines for the log.

use std::fmt::Write;
use std::time::Duration;

use crate::status::process_status::{Item, ProcessStatus};

/// Additional input for the table.
pub struct TableContext<'a> {
    /// Formats a Unix time as local time, to the minute.
    pub format_time: &'a dyn Fn(u64) -> String,
    /// Whether the configuration file changed after it was read.
    pub config_has_changed: bool,
}

/// Formats the table.
#[must_use]
pub fn text(
    watcher: Option<&ProcessStatus>,
    doorkeeper: Option<&ProcessStatus>,
    context: &TableContext<'_>,
) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", heading(watcher, doorkeeper));
    if let Some(status) = doorkeeper {
        let _ = writeln!(text, "  config     {}", config(status, context));
        for (process, key) in [("watcher", "watcher_confined"), ("resolver", "resolver_confined")] {
            if let Some(confined) = status.get(key) {
                let _ = writeln!(text, "  confined   {process}: {confined}");
            }
        }
    }
    match watcher {
        Some(status) => {
            let _ = writeln!(text, "  listening  {}", listening(status));
            let _ = writeln!(text, "  attempts   {}", attempts(status));
        }
        None => text.push_str("  listening  the watcher does not answer\n"),
    }
    match doorkeeper {
        Some(status) => {
            let _ = writeln!(text, "  commands   {}", commands(status));
            let _ = writeln!(text, "  state      {}", state(status));
            if let Some(is_connected) = status.get("fleet_connected") {
                let _ = writeln!(text, "  fleet      connected: {is_connected}");
            }
        }
        None => text.push_str("  commands   the doorkeeper does not answer\n"),
    }
    if let Some(lines) =
        doorkeeper.and_then(|status| status.number("log_lines_left_out")).filter(|it| *it > 0)
    {
        let _ = writeln!(text, "  log        {lines} lines left out, they came too fast");
    }
    text.push('\n');
    text.push_str(&doors(watcher, doorkeeper, context));
    text
}

fn heading(watcher: Option<&ProcessStatus>, doorkeeper: Option<&ProcessStatus>) -> String {
    let status = doorkeeper.or(watcher);
    let version = status.and_then(|status| status.get("version")).unwrap_or("?");
    let up = status.and_then(|status| status.number("up_seconds")).map(format_uptime).unwrap_or_default();
    let pid = |status: Option<&ProcessStatus>| {
        status.and_then(|status| status.get("pid")).unwrap_or("?").to_owned()
    };
    format!("knockd {version}, up {up}, pid {} (watcher {})", pid(doorkeeper), pid(watcher))
}

fn config(status: &ProcessStatus, context: &TableContext<'_>) -> String {
    let time = |key| status.number(key).map(context.format_time).unwrap_or_default();
    let mut text = format!("{}, read {}", status.get("config").unwrap_or("?"), time("config_read"));
    if let Some(error) = status.get("last_reload_error") {
        let _ = write!(text, "; refused {}: {error}", time("last_reload"));
    } else if context.config_has_changed {
        text.push_str("; changed since then (SIGHUP reads it)");
    }
    text
}

fn listening(status: &ProcessStatus) -> String {
    let one = |item: Item<'_>| {
        let name = item.get("interface").unwrap_or("?").to_owned();
        match item.get("interface.state") {
            Some("listening") if item.get("interface.ring") == Some("yes") => name + " (ring)",
            Some("listening") => name,
            state => format!("{name} (waiting: {})", state.unwrap_or("?")),
        }
    };
    let names: Vec<String> = status.items("interface").map(one).collect();
    let dropped: u64 = status.items("interface").filter_map(|item| item.number("interface.dropped")).sum();
    format!(
        "{}; {} packets, {dropped} dropped; {} own addresses",
        names.join(", "),
        status.number("packets").unwrap_or_default(),
        status.number("addresses").unwrap_or_default()
    )
}

fn attempts(status: &ProcessStatus) -> String {
    let number = |key| status.number(key).unwrap_or_default();
    let (current, maximum, pushed_out) = (number("attempts"), number("attempts_most"), number("pushed_out"));
    format!("{current} under way, {maximum} at most, {pushed_out} pushed out")
}

fn commands(status: &ProcessStatus) -> String {
    let number = |key| status.number(key).unwrap_or_default();
    format!(
        "{} run, {} failed, {} killed, {} running",
        number("commands_run"),
        number("commands_failed"),
        number("commands_killed"),
        number("commands_running")
    )
}

fn state(status: &ProcessStatus) -> String {
    match status.get("state_file") {
        Some(path) if status.get("state_file_ok") == Some("yes") => format!("{path}, in order"),
        Some(path) => format!("{path}, cannot be written"),
        None => "no state file: doors stay open if the daemon is killed".to_owned(),
    }
}

/// The columns after the door's name.
const COLUMNS: [&str; 7] = ["kind", "begun", "failed", "expired", "refused", "opened", "last"];

fn doors(
    watcher: Option<&ProcessStatus>,
    doorkeeper: Option<&ProcessStatus>,
    context: &TableContext<'_>,
) -> String {
    let title = |title: &str| title.to_owned();
    let mut rows: Vec<[String; 9]> = Vec::new();
    let mut head: Vec<String> = std::iter::once("door").chain(COLUMNS).map(title).collect();
    head.push("open for".to_owned());
    rows.extend(<[String; 9]>::try_from(head));
    let mut shown: Vec<&str> = Vec::new();
    for item in watcher.into_iter().flat_map(|status| status.items("door")) {
        let name = item.get("door").unwrap_or("?");
        // Show the openings of doors with the same name only once.
        let open = if shown.contains(&name) { Vec::new() } else { open_for(name, doorkeeper) };
        shown.push(name);
        let number = |key| item.number(key).unwrap_or_default();
        let refused = number("door.ignored")
            + number("door.wrong_list")
            + number("door.forged")
            + number("door.repeated_packets");
        let last = item.number("door.last_opened").map_or_else(|| "-".to_owned(), context.format_time);
        let count = |key| number(key).to_string();
        let mut open = open.into_iter();
        rows.push([
            name.to_owned(),
            kind(item),
            count("door.begun"),
            count("door.failed"),
            count("door.expired"),
            refused.to_string(),
            count("door.opened"),
            last,
            open.next().unwrap_or_else(|| "-".to_owned()),
        ]);
        rows.extend(open.map(continuation_row));
    }
    // Doors that are still open, but are no longer in the configuration, or all of them if the watcher did
    // not answer.
    let names: Vec<&str> = doorkeeper
        .into_iter()
        .flat_map(|status| status.items("open"))
        .filter_map(|item| item.get("open"))
        .collect();
    for name in names {
        if !shown.contains(&name) {
            shown.push(name);
            rows.extend(open_for(name, doorkeeper).into_iter().map(|open| {
                let mut row = continuation_row(open);
                name.clone_into(&mut row[0]);
                row
            }));
        }
    }
    align_columns(&rows)
}

fn continuation_row(open: String) -> [String; 9] {
    let mut row: [String; 9] = Default::default();
    row[8] = open;
    row
}

fn kind(item: Item<'_>) -> String {
    let kind = item.get("door.kind").unwrap_or("?");
    match (item.get("door.lines_left"), item.get("door.period_seconds")) {
        (Some("0"), _) => format!("{kind}, used up"),
        (Some(lines), _) => format!("{kind}, {lines} left"),
        (None, Some(seconds)) => format!("{kind} {seconds} s"),
        (None, None) => kind.to_owned(),
    }
}

/// Who a door is open for, and for how long.
fn open_for(name: &str, doorkeeper: Option<&ProcessStatus>) -> Vec<String> {
    let items = doorkeeper.into_iter().flat_map(|status| status.items("open"));
    let of_door = items.filter(|item| item.get("open") == Some(name));
    let words = |item: Item<'_>| {
        let how = match (item.get("open.phase"), item.number("open.seconds_left")) {
            (Some("opening"), _) => "its start command runs".to_owned(),
            (Some("closing"), _) => "its stop command runs".to_owned(),
            (_, Some(seconds)) => format!("{seconds} s left"),
            (_, None) => "until closed by hand".to_owned(),
        };
        format!("{} ({how})", item.get("open.ip").unwrap_or("?"))
    };
    of_door.map(words).collect()
}

/// Aligns the columns; numbers are right-aligned.
fn align_columns(rows: &[[String; 9]]) -> String {
    let mut widths = [0; 9];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((at, cell), width) in row.iter().enumerate().zip(widths) {
            let _ = match at {
                2..=6 => write!(line, "{cell:>width$}  "),
                _ => write!(line, "{cell:<width$}  "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Formats the status of one process as lines for the log: its general state, and each door with events.
#[must_use]
pub fn log_lines(status: &ProcessStatus, is_watcher: bool) -> Vec<String> {
    let up = status.number("up_seconds").map(format_uptime).unwrap_or_default();
    let pid = status.get("pid").unwrap_or("?");
    if !is_watcher {
        let mut lines = vec![format!(
            "status: doorkeeper {pid} up {up}, commands: {}, state file: {}",
            commands(status),
            state(status)
        )];
        lines.extend(status.get("fleet_connected").map(|it| format!("status: fleet connected: {it}")));
        if let Some(error) = status.get("last_reload_error") {
            lines.push(format!("status: the last reload was refused: {error}"));
        }
        let mut names: Vec<&str> = status.items("open").filter_map(|item| item.get("open")).collect();
        names.dedup();
        let open = |name: &str| -> Vec<String> {
            open_for(name, Some(status))
                .into_iter()
                .map(|it| format!("status: door {name} open for {it}"))
                .collect()
        };
        let mut seen: Vec<&str> = Vec::new();
        for name in names {
            if !seen.contains(&name) {
                seen.push(name);
                lines.extend(open(name));
            }
        }
        return lines;
    }
    let mut lines = vec![format!(
        "status: watcher {pid} up {up}, listening: {}, attempts: {}",
        listening(status),
        attempts(status)
    )];
    let counts = ["begun", "failed", "expired", "pushed_out", "ignored", "wrong_list", "forged", "opened"];
    for item in status.items("door") {
        let counted: Vec<String> = counts
            .iter()
            .filter_map(|&name| Some((name, item.number(&format!("door.{name}"))?)))
            .filter(|it| it.1 > 0)
            .map(|(name, count)| format!("{count} {}", name.replace('_', " ")))
            .collect();
        if !counted.is_empty() {
            lines.push(format!("status: door {}: {}", item.get("door").unwrap_or("?"), counted.join(", ")));
        }
    }
    lines
}

/// `3 days 4:05`, `4:05:06`.
fn format_uptime(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, Duration::from_secs(seconds % 86_400).as_secs());
    let (hours, minutes, seconds) = (rest / 3600, rest / 60 % 60, rest % 60);
    match days {
        0 => format!("{hours}:{minutes:02}:{seconds:02}"),
        1 => format!("1 day {hours}:{minutes:02}"),
        days => format!("{days} days {hours}:{minutes:02}"),
    }
}
