//! Other processes of this program: the watcher, the resolver, and the daemon behind `-d`.
//!
//! Each is this program run anew, so that it shares no memory with the one that started it; what it
//! is to be it learns from its name, and what it is to do from a socket in place of its standard
//! input.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::prctl;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{self, Pid};

use crate::daemon::messages;
use crate::protocol::confinement::Confinement;

/// The program that runs, whatever became of its file.
const OURSELVES: &str = "/proc/self/exe";

/// The file that is always empty.
pub const NULL: &str = "/dev/null";

/// What a process of this program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Listens for knocks.
    Watcher,
    /// Looks up names for the log.
    Resolver,
    /// Closes doors if the main process cannot.
    Heir,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Role::Watcher => "knockd: watcher",
            Role::Resolver => "knockd: resolver",
            Role::Heir => "knockd: heir",
        }
    }

    /// The role that a process of this name has.
    #[must_use]
    pub fn of(name: &OsString) -> Option<Role> {
        [Role::Watcher, Role::Resolver, Role::Heir].into_iter().find(|role| name == role.name())
    }
}

/// Another process, and our end of the socket to it.
#[derive(Debug)]
pub struct Sibling {
    /// The process.
    pub child: Child,
    /// What it reads as its standard input.
    pub socket: OwnedFd,
}

impl Sibling {
    /// Ends the process, and takes it out of the process table.
    pub fn end(mut self) {
        drop(self.socket);
        let pid = Pid::from_raw(self.child.id().cast_signed());
        // Code that waits for any child of ours may have waited for this one: then its number may be another's by now.
        let is_ours =
            waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT);
        // Without CAP_KILL, one that became another user can only be asked to end, by the socket that is closed now; it is
        // reaped later, with the other children.
        if is_ours.is_ok() && self.child.kill().is_ok() {
            let _ = self.child.wait();
        }
    }
}

/// Starts a process of this program; its standard output and error are ours or, if it is detached,
/// nobody's.
///
/// # Errors
/// What the operating system says.
pub fn start(name: &OsString, arguments: &[OsString], is_detached: bool) -> io::Result<Sibling> {
    let output = || if is_detached { Stdio::null() } else { Stdio::inherit() };
    let (ours, theirs) = messages::pair()?;
    let run = |program: OsString| -> io::Result<Child> {
        Command::new(program)
            .arg0(name)
            .args(arguments)
            .stdin(Stdio::from(theirs.as_fd().try_clone_to_owned()?))
            .stdout(output())
            .stderr(output())
            .spawn()
    };
    let child = run(OURSELVES.into()).or_else(|error| {
        // Without /proc there is the name we were called by.
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        run(std::env::args_os().next().unwrap_or_default())
    })?;
    Ok(Sibling { child, socket: ours })
}

/// Starts a process with this role.
///
/// # Errors
/// What the operating system says.
pub fn start_as(role: Role, arguments: &[OsString], is_detached: bool) -> io::Result<Sibling> {
    start(&role.name().into(), arguments, is_detached)
}

/// Whether there is a `/dev/null` that can be read and written, as commands and processes in the background need.
///
/// # Errors
/// What the operating system says.
pub fn find_null() -> io::Result<()> {
    std::fs::File::options().read(true).write(true).open(NULL).map(drop)
}

/// Starts a process that is to be confined before it reads anything: what of is its last two words. Its standard output
/// and error are nobody's.
///
/// # Errors
/// What the operating system says.
pub fn start_confined(
    role: Role,
    mut arguments: Vec<OsString>,
    confinement: &Confinement,
) -> io::Result<Sibling> {
    arguments.extend(confinement.words().map(OsString::from));
    start_as(role, &arguments, true)
}

/// The words of a process without the last two, and what those say; nothing if they say nothing.
#[must_use]
pub fn split_confinement(mut words: Vec<OsString>) -> Option<(Vec<OsString>, Confinement)> {
    let (sandbox, identity) = (words.pop()?, words.pop()?);
    let confinement = Confinement::of([identity.to_str()?, sandbox.to_str()?])?;
    Some((words, confinement))
}

/// Puts nothing in the place of standard input, so that commands have nothing to read.
///
/// # Errors
/// What the operating system says, say that there is no `/dev/null`.
pub fn empty_stdin() -> io::Result<()> {
    Ok(unistd::dup2_stdin(std::fs::File::open(NULL)?)?)
}

/// The other end, for a process that is to have nothing else: descriptors that the daemon was started with, and that
/// stay open when another program is run, are closed.
///
/// # Errors
/// What the operating system says.
pub fn accept_alone() -> io::Result<OwnedFd> {
    let numbers = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<RawFd> =
        numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|it| *it > 2).collect();
    for number in numbers {
        // The one that the folder was read by is closed already.
        let _ = unistd::close(number);
    }
    accept()
}

/// The other end: takes the socket out of standard input, so that nothing we run inherits it.
///
/// # Errors
/// What the operating system says.
pub fn accept() -> io::Result<OwnedFd> {
    // A program that is run as /proc/self/exe is called "exe" by the system.
    let _ = prctl::set_name(c"knockd");
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    empty_stdin()?;
    Ok(socket)
}
