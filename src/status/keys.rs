//! The table of all keys of the status. The JSON form is generated from it, and a test compares the manual
//! with it.

/// The type of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A whole number: a count, seconds (`..._seconds`), or a time in seconds since 1970.
    Number,
    /// `yes` or `no`.
    Flag,
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The name of its list in JSON; the first key of a list starts an item.
    pub list: Option<&'static str>,
    /// The key in the daemon's lines.
    pub line: &'static str,
    /// The name in JSON.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
}

use Kind::{Flag, Number, Text};

const fn one(name: &'static str, kind: Kind) -> Key {
    Key { list: None, line: name, name, kind }
}

const fn item(list: &'static str, line: &'static str, name: &'static str, kind: Kind) -> Key {
    Key { list: Some(list), line, name, kind }
}

/// The keys of the watcher.
#[rustfmt::skip]
pub const WATCHER: &[Key] = &[
    one("version", Text),
    one("pid", Number),
    one("started", Number),
    one("up_seconds", Number),
    one("addresses", Number),
    one("attempts", Number),
    one("attempts_most", Number),
    one("pushed_out", Number),
    one("packets", Number),
    item("interfaces", "interface", "name", Text),
    item("interfaces", "interface.state", "state", Text),
    item("interfaces", "interface.ring", "ring", Flag),
    item("interfaces", "interface.packets", "packets", Number),
    item("interfaces", "interface.dropped", "dropped", Number),
    item("doors", "door", "name", Text),
    item("doors", "door.kind", "kind", Text),
    item("doors", "door.lines_left", "lines_left", Number),
    item("doors", "door.period_seconds", "period_seconds", Number),
    item("doors", "door.begun", "begun", Number),
    item("doors", "door.failed", "failed", Number),
    item("doors", "door.expired", "expired", Number),
    item("doors", "door.pushed_out", "pushed_out", Number),
    item("doors", "door.ignored", "ignored", Number),
    item("doors", "door.wrong_list", "wrong_list", Number),
    item("doors", "door.forged", "forged", Number),
    item("doors", "door.repeated_packets", "repeated_packets", Number),
    item("doors", "door.opened", "opened", Number),
    item("doors", "door.last_opened", "last_opened", Number),
];

/// The keys of the doorkeeper.
#[rustfmt::skip]
pub const DOORKEEPER: &[Key] = &[
    one("version", Text),
    one("pid", Number),
    one("started", Number),
    one("up_seconds", Number),
    one("fleet_connected", Flag),
    one("fleet_waiting", Number),
    one("config", Text),
    one("config_read", Number),
    one("last_reload", Number),
    one("last_reload_ok", Flag),
    one("last_reload_error", Text),
    one("log_lines_left_out", Number),
    one("watcher_pid", Number),
    one("watcher_restarts", Number),
    one("watcher_confined", Text),
    one("resolver_confined", Text),
    one("state_file", Text),
    one("state_file_ok", Flag),
    one("commands_run", Number),
    one("commands_failed", Number),
    one("commands_killed", Number),
    one("commands_running", Number),
    item("open", "open", "door", Text),
    item("open", "open.ip", "ip", Text),
    item("open", "open.by", "by", Text),
    item("open", "open.phase", "phase", Text),
    item("open", "open.since", "since", Number),
    item("open", "open.until", "until", Number),
    item("open", "open.seconds_left", "seconds_left", Number),
    item("doors", "door", "name", Text),
    item("doors", "door.commands_run", "commands_run", Number),
    item("doors", "door.commands_failed", "commands_failed", Number),
    item("doors", "door.packets_refused", "packets_refused", Number),
];
