//! Runs commands: `/bin/sh -c COMMAND`, each in a session of its own.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::libc::POSIX_SPAWN_SETSID;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::daemon::notify::is_for_commands;
use crate::opening::{Ending, Job, JobId};

/// The shell that commands are for.
const SHELL: &str = "/bin/sh";

/// The commands that run.
#[derive(Debug)]
pub struct Commands {
    environment: Vec<CString>,
    running: HashMap<Pid, JobId>,
}

impl Commands {
    /// Commands get the environment of this process, but for what is ours to tell (`KNOCKD_...`).
    #[must_use]
    pub fn new() -> Commands {
        let inherited = std::env::vars_os().filter(|(name, _)| is_for_commands(name));
        let environment = inherited.filter_map(|(name, value)| {
            let mut pair = name.into_vec();
            pair.push(b'=');
            pair.extend(value.into_vec());
            CString::new(pair).ok()
        });
        Commands { environment: environment.collect(), running: HashMap::new() }
    }

    /// Starts a command. Its standard files are ours; ours for input is empty.
    ///
    /// # Errors
    /// Why it could not be started.
    pub fn start(&mut self, job: &Job) -> nix::Result<()> {
        let command = CString::new(&*job.command).map_err(|_| Errno::EINVAL)?;
        let mut environment = self.environment.clone();
        let own =
            job.variables.iter().filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok());
        environment.extend(own);
        let arguments = [c"sh", c"-c", &command];
        let files = PosixSpawnFileActions::init()?;
        let mut attributes = PosixSpawnAttr::init()?;
        // nix has no name for SETSID yet.
        attributes.set_flags(
            PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF
                | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK
                | PosixSpawnFlags::from_bits_retain(POSIX_SPAWN_SETSID.into()),
        )?;
        // Rust ignores SIGPIPE, and what is ignored stays so across exec.
        let mut broken_pipe = SigSet::empty();
        broken_pipe.add(Signal::SIGPIPE);
        attributes.set_sigdefault(&broken_pipe)?;
        attributes.set_sigmask(&SigSet::empty())?;
        let pid = posix_spawn(SHELL, &files, &attributes, &arguments, &environment)?;
        self.running.insert(pid, job.id);
        Ok(())
    }

    /// Kills a command with its whole session: whatever it started, and did not put into a session
    /// of its own.
    pub fn kill(&self, job: JobId) {
        let Some((&leader, _)) = self.running.iter().find(|(_, running)| **running == job) else { return };
        // It is our child and was not reaped yet, so the number is still its own.
        let _ = killpg(leader, Signal::SIGKILL);
        for pid in members(leader) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    /// A command that ended, if one did; call it until there is none.
    pub fn reap(&mut self) -> Option<(JobId, Ending)> {
        loop {
            let (pid, ending) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Ending::Exited(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Ending::Killed(signal as i32)),
                Err(Errno::EINTR) => continue,
                // nix takes the status of a child that a real-time signal killed, and keeps it.
                Err(Errno::EINVAL) => (self.vanished()?, Ending::Killed(0)),
                _ => return None,
            };
            if let Some(job) = self.running.remove(&pid) {
                return Some((job, ending));
            }
        }
    }

    /// A command of ours that is no child any more.
    fn vanished(&self) -> Option<Pid> {
        let is_gone = |pid: &&Pid| waitpid(Some(**pid), Some(WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT));
        self.running.keys().find(|pid| is_gone(pid) == Err(Errno::ECHILD)).copied()
    }
}

/// The processes of a session that are in other groups than its leader: those that a shell with job
/// control makes.
fn members(leader: Pid) -> Vec<Pid> {
    let folders = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    pids.filter(|&pid| pid != leader && nix::unistd::getsid(Some(pid)) == Ok(leader)).collect()
}
