//! The sandbox of the processes that read untrusted input: what they give up before they read anything, and
//! in which order.
//!
//! What the system does not let them give up is reported, and the rest is given up anyway: a container, a
//! user namespace or a small kernel may lack one part or another. Nothing here can be undone.

pub mod calls;
pub mod confined_process;
mod files;
mod filter;
mod identity;
mod install;
mod numbers;

use nix::sys::prctl;
use nix::sys::resource::{Resource, rlim_t, setrlimit};
use nix::sys::signal::Signal;

use crate::config::Sandbox;
use crate::daemon::core_dump;
use crate::daemon::sandbox::confined_process::ConfinedProcess;
use crate::protocol::confinement::{Confined, Confinement, Outcome};

/// The largest status file that the watcher may write, in bytes: enough for a hundred thousand doors.
const MAX_STATUS_FILE: rlim_t = 64 << 20;

/// Gives up for good what this process does not need. Returns the outcome of each step.
#[must_use]
pub fn enter(confinement: &Confinement, process: &ConfinedProcess<'_>) -> Confined {
    let is_enabled = confinement.sandbox != Sandbox::No;
    let step = |what: &dyn Fn() -> Outcome| if is_enabled { what() } else { Outcome::Unwanted };
    let privileges = step(&|| Outcome::of(prctl::set_no_new_privs()));
    // Before the capabilities: chroot(2) needs one.
    let files = step(&|| files::close(process));
    let [user, bounding_set, capabilities] = identity::change(confinement.identity);
    // A change of the user resets both.
    core_dump::forbid();
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    if is_enabled {
        // No new process and no large file, even without a system call filter.
        let _ = setrlimit(Resource::RLIMIT_NPROC, 0, 0);
        let _ = setrlimit(Resource::RLIMIT_FSIZE, MAX_STATUS_FILE, MAX_STATUS_FILE);
    }
    let present_user = nix::unistd::geteuid().as_raw();
    let calls = step(&|| filter::install(&calls::of(process)));
    let outcomes = [user, bounding_set, capabilities, privileges, files, calls];
    Confined { user: present_user, outcomes }
}
