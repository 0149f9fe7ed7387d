//! Formats the status as metrics in the Prometheus text format 0.0.4. No label contains an address.

use std::fmt::Write;

use litemap::LiteMap;

use crate::octets;
use crate::status::process_status::{Item, ProcessStatus};

/// Labels, and a value if it is known.
type Sample = (String, Option<u64>);

/// Metrics under construction.
struct Metrics(String);

impl Metrics {
    /// Writes one metric with its samples.
    fn add(&mut self, name: &str, help: &str, samples: &[Sample]) {
        if samples.iter().any(|(_, value)| value.is_some()) {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
        for (labels, value) in samples {
            if let Some(value) = value {
                let _ = writeln!(self.0, "{name}{labels} {value}");
            }
        }
    }

    /// Writes one metric with a single sample without labels.
    fn add_one(&mut self, name: &str, help: &str, value: Option<u64>) {
        self.add(name, help, &[(String::new(), value)]);
    }
}

/// The outcomes of attempts, and of knocks that began none: the key of the status, and the label.
const OUTCOMES: [(&str, &str); 8] = [
    ("door.opened", "opened"),
    ("door.failed", "failed"),
    ("door.expired", "expired"),
    ("door.pushed_out", "pushed_out"),
    ("door.ignored", "ignored"),
    ("door.wrong_list", "wrong_list"),
    ("door.forged", "forged"),
    ("door.repeated_packets", "repeated_packets"),
];

/// Formats the metrics of both processes. A door has series once something has happened at it.
#[must_use]
pub fn text(watcher: Option<&ProcessStatus>, doorkeeper: Option<&ProcessStatus>) -> String {
    let mut metrics = Metrics(String::new());
    let up = |status: Option<&ProcessStatus>| Some(status.is_some().into());
    metrics.add(
        "knockd_up",
        "Whether this process of knockd answers.",
        &[("{process=\"watcher\"}".into(), up(watcher)), ("{process=\"doorkeeper\"}".into(), up(doorkeeper))],
    );
    let version = watcher.or(doorkeeper).and_then(|status| status.get("version"));
    let labels = label("version", version.unwrap_or_default());
    metrics.add("knockd_build_info", "The version of knockd.", &[(labels, version.map(|_| 1))]);
    if let Some(status) = doorkeeper {
        add_doorkeeper(&mut metrics, status);
    }
    if let Some(status) = watcher {
        add_watcher(&mut metrics, status);
    }
    metrics.0
}

fn add_doorkeeper(metrics: &mut Metrics, status: &ProcessStatus) {
    let number = |key| status.number(key);
    metrics.add_one("knockd_start_time_seconds", "When the daemon started, as Unix time.", number("started"));
    let is_ok = status.get("last_reload_ok").is_none_or(|word| word == "yes");
    metrics.add_one(
        "knockd_last_reload_successful",
        "Whether the configuration was in order when it was read last.",
        Some(is_ok.into()),
    );
    let read = number("last_reload").or(number("config_read"));
    metrics.add_one(
        "knockd_last_reload_timestamp_seconds",
        "When the configuration was read last, as Unix time.",
        read,
    );
    metrics.add_one(
        "knockd_log_lines_left_out_total",
        "Log lines left out because they came too fast.",
        number("log_lines_left_out"),
    );
    metrics.add_one(
        "knockd_watcher_restarts_total",
        "Watchers started in place of one that ended.",
        number("watcher_restarts"),
    );
    let is_connected = status.get("fleet_connected").map(|word| (word == "yes").into());
    metrics.add_one("knockd_fleet_connected", "Whether the program of the fleet is connected.", is_connected);
    metrics.add_one("knockd_commands_running", "Commands that run now.", number("commands_running"));
    metrics.add_one(
        "knockd_commands_killed_total",
        "Commands killed because they took too long.",
        number("commands_killed"),
    );
    // A door that has run a command keeps its series while it is closed.
    let mut open: LiteMap<&str, u64> =
        status.items("door").filter_map(|item| Some((item.get("door")?, 0))).collect();
    for name in status.items("open").filter_map(|item| item.get("open")) {
        *open.entry(name).or_default() += 1;
    }
    let open: Vec<Sample> =
        open.into_iter().map(|(name, count)| (label("door", name), Some(count))).collect();
    metrics.add("knockd_doors_open", "For how many knockers a door is open.", &open);
    for (key, name, help) in [
        ("door.commands_run", "knockd_commands_total", "Commands that were run."),
        ("door.commands_failed", "knockd_commands_failed_total", "Commands that did not end with 0."),
        (
            "door.packets_refused",
            "knockd_packets_refused_total",
            "Single packets made with the keys that opened nothing.",
        ),
    ] {
        metrics.add(name, help, &samples(status, "door", key));
    }
}

fn add_watcher(metrics: &mut Metrics, status: &ProcessStatus) {
    let is_up = |item: Item<'_>| {
        let is_up = item.get("interface.state") == Some("listening");
        Some((label("interface", item.get("interface")?), Some(is_up.into())))
    };
    metrics.add(
        "knockd_interface_up",
        "Whether the interface can be listened on.",
        &status.items("interface").filter_map(is_up).collect::<Vec<Sample>>(),
    );
    metrics.add(
        "knockd_packets_total",
        "Packets that passed the filter.",
        &samples(status, "interface", "interface.packets"),
    );
    metrics.add(
        "knockd_packets_dropped_total",
        "Packets that passed the filter and were lost for want of room.",
        &samples(status, "interface", "interface.dropped"),
    );
    metrics.add_one("knockd_attempts", "Attempts under way.", status.number("attempts"));
    let doors = counts_by_name(
        status,
        "door",
        &["door.begun"].into_iter().chain(OUTCOMES.map(|it| it.0)).collect::<Vec<_>>(),
    );
    let mut begun = Vec::new();
    let mut ended = Vec::new();
    for (name, counts) in doors.into_iter().filter(|(_, counts)| counts.iter().any(|&count| count > 0)) {
        let mut counts = counts.into_iter();
        begun.push((label("door", name), counts.next()));
        ended.extend(OUTCOMES.into_iter().zip(counts).map(|((_, how), count)| {
            (format!("{{door=\"{}\",how=\"{how}\"}}", escape_label(name)), Some(count))
        }));
    }
    metrics.add("knockd_attempts_begun_total", "Attempts that began.", &begun);
    metrics.add(
        "knockd_attempts_ended_total",
        "How attempts, and knocks that could begin none, ended.",
        &ended,
    );
}

/// One sample for each item of a list, labelled with the item's name.
fn samples(status: &ProcessStatus, first: &str, key: &str) -> Vec<Sample> {
    let of = |item: Item<'_>| Some((label(first, item.get(first)?), item.number(key)));
    status.items(first).filter_map(of).collect()
}

/// The counters of each door. Doors of the same name share a series.
fn counts_by_name<'a>(status: &'a ProcessStatus, first: &str, keys: &[&str]) -> LiteMap<&'a str, Vec<u64>> {
    let mut doors: LiteMap<&str, Vec<u64>> = LiteMap::new();
    for item in status.items(first) {
        let Some(name) = item.get(first) else { continue };
        let counts = doors.entry(name).or_insert_with(|| vec![0; keys.len()]);
        for (count, key) in counts.iter_mut().zip(keys) {
            *count += item.number(key).unwrap_or_default();
        }
    }
    doors
}

fn label(name: &str, value: &str) -> String {
    format!("{{{name}=\"{}\"}}", escape_label(value))
}

fn escape_label(value: &str) -> String {
    octets::lossy(value).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
