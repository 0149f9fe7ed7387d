//! Runs commands: `/bin/sh -c COMMAND`, each in its own session.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use litemap::LiteMap;
use nix::errno::Errno;
use nix::libc::POSIX_SPAWN_SETSID;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, WaitOptions, pidfd_open, pidfd_send_signal};

use crate::daemon::doorkeeper::process;
use crate::daemon::limits::Limits;
use crate::daemon::notify::is_for_commands;
use crate::octets;
use crate::opening::{Ending, Job, JobId, Process};
use crate::time::Now;

/// The shell that runs commands.
const SHELL: &str = "/bin/sh";

/// How often to poll commands that are not our children.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The running commands.
#[derive(Debug)]
pub struct Commands {
    /// The resource limits that we were started with, for the commands.
    limits: Limits,
    environment: Vec<CString>,
    /// Our children, not reaped yet, so their PIDs cannot be reused.
    running: LiteMap<Pid, JobId>,
    /// Commands that an earlier daemon started.
    adopted: Vec<(Process, JobId)>,
}

impl Commands {
    /// Commands get these limits and the environment of this process, except for the variables that we set
    /// (`KNOCKD_...`).
    #[must_use]
    pub fn new(limits: Limits) -> Commands {
        let inherited = std::env::vars_os().filter(|(name, _)| is_for_commands(name));
        let environment = inherited.filter_map(|(name, value)| {
            let mut pair = name.into_vec();
            pair.push(b'=');
            pair.extend(value.into_vec());
            CString::new(pair).ok()
        });
        Commands { limits, environment: environment.collect(), running: LiteMap::new(), adopted: Vec::new() }
    }

    /// Watches a command that an earlier daemon started.
    pub fn adopt(&mut self, job: JobId, process: Process) {
        self.adopted.push((process, job));
    }

    /// When to call [`Commands::reap`] even if no child has ended, as uptime.
    #[must_use]
    pub fn next_poll(&self, now: Now) -> Option<Duration> {
        (!self.adopted.is_empty()).then(|| now.uptime.saturating_add(POLL_INTERVAL))
    }

    /// Starts a command, and returns its process; `None` if it cannot be identified. The command inherits our
    /// standard files; our standard input is empty.
    ///
    /// # Errors
    /// `EINVAL` if the command contains a NUL byte, or an error of `posix_spawn(3)`.
    pub fn start(&mut self, job: &Job) -> nix::Result<Option<Process>> {
        let command = CString::new(&*job.command).map_err(|_| Errno::EINVAL)?;
        let mut environment = self.environment.clone();
        let own = job
            .variables
            .iter()
            .filter_map(|(name, value)| CString::new(octets::bytes(&format!("{name}={value}"))).ok());
        environment.extend(own);
        let arguments = [c"sh", c"-c", &command];
        let files = PosixSpawnFileActions::init()?;
        let mut attributes = PosixSpawnAttr::init()?;
        // nix has no POSIX_SPAWN_SETSID yet.
        attributes.set_flags(
            PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF
                | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
                | PosixSpawnFlags::from_bits_retain(POSIX_SPAWN_SETSID.into()),
        )?;
        // Rust ignores SIGPIPE, and ignored signals stay ignored across exec.
        let mut broken_pipe = SigSet::empty();
        broken_pipe.add(Signal::SIGPIPE);
        attributes.set_sigdefault(&broken_pipe)?;
        attributes.set_sigmask(&SigSet::empty())?;
        let spawn = || posix_spawn(SHELL, &files, &attributes, &arguments, &environment);
        let pid = self.limits.apply_to(spawn)?;
        self.running.insert(pid, job.id);
        Ok(process::identify(pid.as_raw()))
    }

    /// Kills a command with its whole session: all processes that it started, except those in sessions of
    /// their own.
    pub fn kill(&self, job: JobId) {
        if let Some((&leader, _)) = self.running.iter().find(|(_, running)| **running == job) {
            kill_session(leader);
        }
        let Some(&(process, _)) = self.adopted.iter().find(|(_, running)| *running == job) else { return };
        let Some(pid) = rustix::process::Pid::from_raw(process.pid) else { return };
        // Opened before the check: a pidfd keeps referring to the same process even if the PID is reused.
        // Kernels before 5.3 have none.
        let file = pidfd_open(pid, PidfdFlags::empty());
        if process::runs(process) {
            kill_session(Pid::from_raw(process.pid));
            let _ = file.and_then(|file| pidfd_send_signal(file, rustix::process::Signal::KILL));
        }
    }

    /// Returns a command that has ended; call it until it returns `None`.
    pub fn reap(&mut self) -> Option<(JobId, Ending)> {
        loop {
            // Not nix's waitpid: it knows no real-time signals, and loses a child that one of them killed.
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let ending = match (status.exit_status(), status.terminating_signal()) {
                        (Some(code), _) => Ending::Exited(code),
                        (None, Some(signal)) => Ending::Killed(signal),
                        (None, None) => continue,
                    };
                    if let Some(job) = self.running.remove(&Pid::from_raw(pid.as_raw_nonzero().get())) {
                        return Some((job, ending));
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                _ => break,
            }
        }
        let gone = self.adopted.iter().position(|(process, _)| !process::runs(*process))?;
        Some((self.adopted.swap_remove(gone).1, Ending::Unseen))
    }
}

/// Kills a session leader and all processes of its session.
fn kill_session(leader: Pid) {
    let _ = killpg(leader, Signal::SIGKILL);
    for pid in members(leader) {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

/// The processes of a session other than its leader: a shell with job control puts them into process groups
/// of their own.
fn members(leader: Pid) -> Vec<Pid> {
    let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    pids.filter(|&pid| pid != leader && nix::unistd::getsid(Some(pid)) == Ok(leader)).collect()
}
