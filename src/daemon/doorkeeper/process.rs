//! Identifies processes by PID and start time, so that a reused PID is not mistaken for the same process.

use std::fs;

use nix::unistd::{Pid, getsid};

use crate::opening::{Process, Stop};

/// Field numbers in `/proc/PID/stat`, from 1.
const STATE: usize = 3;
const START: usize = 22;

/// Returns the identity of a process that has not been reaped yet; `None` without /proc.
#[must_use]
pub fn identify(pid: i32) -> Option<Process> {
    let (_, start) = stat(pid)?;
    Some(Process { pid, start })
}

/// Returns whether this process is still running. A zombie is not.
#[must_use]
pub fn runs(process: Process) -> bool {
    stat(process.pid).is_some_and(|(state, start)| start == process.start && !matches!(state, 'Z' | 'X'))
}

/// Finds a running start command of this door and knocker by its environment.
#[must_use]
pub fn find_start(stop: &Stop) -> Option<Process> {
    let wanted = [
        format!("KNOCKD_DOOR={}", stop.door),
        format!("KNOCKD_IP={}", stop.knocker),
        "KNOCKD_EVENT=start".to_owned(),
    ];
    let is_match = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let has = |wanted: &String| environment.split(|&byte| byte == 0).any(|it| it == wanted.as_bytes());
        // The shell leads its session; its children have the same environment, but lead none.
        getsid(Some(Pid::from_raw(*pid))) == Ok(Pid::from_raw(*pid)) && wanted.iter().all(has)
    };
    let folders = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(is_match).and_then(identify).filter(|process| runs(*process))
}

/// The state and the start time, in clock ticks since boot.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain any character.
    let end = text.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(START - STATE - 1)?.parse().ok()?))
}
