//! Finds, signals and waits for processes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, close};

use super::holds_within;

/// How a program ended, and its output.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// The exit code; a program ended by a signal has none.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// One line of the process table.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub session: i32,
    /// As in /proc: R, S, D, T, Z ...
    pub state: char,
    pub name: String,
}

/// The numbers of all processes.
pub fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The process with this number, if there is one.
pub fn find(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = tail.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { pid, parent, session, state, name })
}

/// Whether the process exists and is not a zombie.
pub fn alive(pid: i32) -> bool {
    find(pid).is_some_and(|process| process.state != 'Z')
}

/// All descendants of `root`, zombies included.
pub fn descendants(root: i32) -> Vec<Process> {
    let table: Vec<Process> = all().filter_map(find).collect();
    let mut family = vec![root];
    let mut found = Vec::new();
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        next += 1;
        for process in table.iter().filter(|process| process.parent == parent) {
            family.push(process.pid);
            found.push(process.clone());
        }
    }
    found
}

/// The processor time, in hundredths of a second, that a process has used.
pub fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields = stat.rsplit_once(')').expect("a name in parentheses").1.split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// The inode of the network namespace a process lives in.
pub fn network_of(pid: i32) -> Option<u64> {
    Some(fs::metadata(format!("/proc/{pid}/ns/net")).ok()?.ino())
}

/// The user and the group that a process has.
pub fn identity(pid: i32) -> Option<(u32, u32)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let first = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some((first("Uid:")?, first("Gid:")?))
}

/// Sends a signal; returns whether there was such a process.
pub fn signal(pid: i32, signal: Signal) -> bool {
    kill(Pid::from_raw(pid), signal).is_ok()
}

/// Kills a process.
pub fn end(pid: i32) {
    signal(pid, Signal::SIGKILL);
}

/// Gives this thread a table of descriptors of its own, with no more than standard files in it. A program that another
/// thread starts has all descriptors of the other table until it is executed, and what they refer to is not closed
/// before.
pub fn share_no_descriptors() {
    unshare(CloneFlags::CLONE_FILES).expect("a table of descriptors");
    let open = fs::read_dir("/proc/thread-self/fd").expect("the open descriptors").flatten();
    let open: Vec<i32> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|it| *it > 2) {
        // That of the list itself is closed already.
        let _ = close(descriptor);
    }
}

/// Waits for a child to end; None if that takes longer than `limit`.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let mut status = None;
    holds_within(limit, || {
        status = child.try_wait().expect("waiting for a child");
        status.is_some()
    });
    status
}
