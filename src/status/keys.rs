//! The table of all keys of the status. The JSON form is generated from it, and a test compares the manual
//! with it.

/// The type of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// A text.
    Text,
    /// A whole number: a count, seconds (`..._seconds`), or a time in seconds since 1970.
    Number,
    /// `yes` or `no`.
    Flag,
}

/// One key of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The name of its list in JSON; the first key of a list starts an item.
    pub list: Option<&'static str>,
    /// The key in the daemon's lines.
    pub line: &'static str,
    /// The name in JSON.
    pub name: &'static str,
    /// The type of its value.
    pub value_type: ValueType,
}

use ValueType::{Flag, Number, Text};

const fn single(name: &'static str, value_type: ValueType) -> Key {
    Key { list: None, line: name, name, value_type }
}

const fn in_list(list: &'static str, line: &'static str, name: &'static str, value_type: ValueType) -> Key {
    Key { list: Some(list), line, name, value_type }
}

/// The keys of the watcher.
#[rustfmt::skip]
pub const WATCHER_KEYS: &[Key] = &[
    single("version", Text),
    single("pid", Number),
    single("started", Number),
    single("up_seconds", Number),
    single("addresses", Number),
    single("attempts", Number),
    single("attempts_most", Number),
    single("pushed_out", Number),
    single("packets", Number),
    in_list("interfaces", "interface", "name", Text),
    in_list("interfaces", "interface.state", "state", Text),
    in_list("interfaces", "interface.ring", "ring", Flag),
    in_list("interfaces", "interface.packets", "packets", Number),
    in_list("interfaces", "interface.dropped", "dropped", Number),
    in_list("doors", "door", "name", Text),
    in_list("doors", "door.kind", "kind", Text),
    in_list("doors", "door.lines_left", "lines_left", Number),
    in_list("doors", "door.period_seconds", "period_seconds", Number),
    in_list("doors", "door.begun", "begun", Number),
    in_list("doors", "door.failed", "failed", Number),
    in_list("doors", "door.expired", "expired", Number),
    in_list("doors", "door.pushed_out", "pushed_out", Number),
    in_list("doors", "door.ignored", "ignored", Number),
    in_list("doors", "door.wrong_list", "wrong_list", Number),
    in_list("doors", "door.forged", "forged", Number),
    in_list("doors", "door.repeated_packets", "repeated_packets", Number),
    in_list("doors", "door.opened", "opened", Number),
    in_list("doors", "door.last_opened", "last_opened", Number),
];

/// The keys of the doorkeeper.
#[rustfmt::skip]
pub const DOORKEEPER_KEYS: &[Key] = &[
    single("version", Text),
    single("pid", Number),
    single("started", Number),
    single("up_seconds", Number),
    single("fleet_connected", Flag),
    single("config", Text),
    single("config_read", Number),
    single("last_reload", Number),
    single("last_reload_ok", Flag),
    single("last_reload_error", Text),
    single("log_lines_left_out", Number),
    single("watcher_pid", Number),
    single("watcher_restarts", Number),
    single("watcher_confined", Text),
    single("resolver_confined", Text),
    single("state_file", Text),
    single("state_file_ok", Flag),
    single("commands_run", Number),
    single("commands_failed", Number),
    single("commands_killed", Number),
    single("commands_running", Number),
    in_list("open", "open", "door", Text),
    in_list("open", "open.ip", "ip", Text),
    in_list("open", "open.by", "by", Text),
    in_list("open", "open.phase", "phase", Text),
    in_list("open", "open.since", "since", Number),
    in_list("open", "open.until", "until", Number),
    in_list("open", "open.seconds_left", "seconds_left", Number),
    in_list("doors", "door", "name", Text),
    in_list("doors", "door.commands_run", "commands_run", Number),
    in_list("doors", "door.commands_failed", "commands_failed", Number),
    in_list("doors", "door.packets_refused", "packets_refused", Number),
];
