//! Starts the other processes of this program: watcher, resolver, heir, and the daemon behind `-d`.
//!
//! Each executes this program again, so it shares no memory with the one that started it. Its name tells its
//! role, and a socket in place of standard input carries its work.

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

/// The running program, even if its file was replaced.
const OURSELVES: &str = "/proc/self/exe";

/// The file that is always empty.
pub const NULL: &str = "/dev/null";

/// The role of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Listens for knocks.
    Watcher,
    /// Looks up names for the log.
    Resolver,
    /// Closes doors if the main process is killed.
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

/// Another process of this program, and our end of the socket to it.
#[derive(Debug)]
pub struct Sibling {
    /// The process.
    pub child: Child,
    /// Our end of the socket that is its standard input.
    pub socket: OwnedFd,
}

impl Sibling {
    /// Ends the process, and reaps it.
    pub fn end(mut self) {
        drop(self.socket);
        let pid = Pid::from_raw(self.child.id().cast_signed());
        // Code that waits for any child may have reaped this one; its pid may then belong to another process.
        let is_ours =
            waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT);
        // Without CAP_KILL a process that changed its user cannot be killed, only asked to end by closing the
        // socket; it is reaped later, with the other children.
        if is_ours.is_ok() && self.child.kill().is_ok() {
            let _ = self.child.wait();
        }
    }
}

/// Starts a process of this program. It shares our standard output and error; if detached, they are
/// /dev/null.
///
/// # Errors
/// Any error of starting a process, e.g. too many open files.
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
        // Without /proc, the name that this process was called by is used.
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
/// Any error of starting a process, e.g. too many open files.
pub fn start_as(role: Role, arguments: &[OsString], is_detached: bool) -> io::Result<Sibling> {
    start(&role.name().into(), arguments, is_detached)
}

/// Checks that `/dev/null` can be read and written, as commands and background processes need.
///
/// # Errors
/// Any error of starting a process, e.g. too many open files.
pub fn find_null() -> io::Result<()> {
    std::fs::File::options().read(true).write(true).open(NULL).map(drop)
}

/// Starts a process that confines itself before it reads anything; the last two words of its command line say
/// how. Its standard output and error are /dev/null.
///
/// # Errors
/// Any error of starting a process, e.g. too many open files.
pub fn start_confined(
    role: Role,
    mut arguments: Vec<OsString>,
    confinement: &Confinement,
) -> io::Result<Sibling> {
    arguments.extend(confinement.words().map(OsString::from));
    start_as(role, &arguments, true)
}

/// Splits the confinement off the command line of such a process; `None` if the last two words are none.
#[must_use]
pub fn split_confinement(mut words: Vec<OsString>) -> Option<(Vec<OsString>, Confinement)> {
    let (sandbox, identity) = (words.pop()?, words.pop()?);
    let confinement = Confinement::of([identity.to_str()?, sandbox.to_str()?])?;
    Some((words, confinement))
}

/// Replaces standard input by /dev/null, so that commands have nothing to read.
///
/// # Errors
/// Any error of the system calls, e.g. a missing `/dev/null`.
pub fn empty_stdin() -> io::Result<()> {
    Ok(unistd::dup2_stdin(std::fs::File::open(NULL)?)?)
}

/// Accepts the socket like [`accept`], for a process that must have no other descriptor: closes those that
/// the daemon inherited without close-on-exec.
///
/// # Errors
/// Any error of starting a process, e.g. too many open files.
pub fn accept_alone() -> io::Result<OwnedFd> {
    let numbers = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<RawFd> =
        numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|it| *it > 2).collect();
    for number in numbers {
        // The descriptor of the folder itself is closed already.
        let _ = unistd::close(number);
    }
    accept()
}

/// Takes the socket to the doorkeeper out of standard input, so that no other program inherits it.
///
/// # Errors
/// Any error of starting a process, e.g. too many open files.
pub fn accept() -> io::Result<OwnedFd> {
    // Executed through /proc/self/exe, the process would be named "exe".
    let _ = prctl::set_name(c"knockd");
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    empty_stdin()?;
    Ok(socket)
}
