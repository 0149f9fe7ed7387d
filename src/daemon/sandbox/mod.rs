//! The box of the processes that read what strangers send: what they give up before they read anything, and in which
//! order.
//!
//! Whatever the system does not let them give up is reported, and the rest is given up all the same: a container, a user
//! namespace or a small kernel lacks one thing or another. Nothing here can be taken back.

pub mod calls;
mod files;
mod filter;
mod identity;
mod install;
mod numbers;
pub mod tenant;

use nix::sys::prctl;
use nix::sys::resource::{Resource, rlim_t, setrlimit};
use nix::sys::signal::Signal;

use crate::config::Sandbox;
use crate::daemon::core_dump;
use crate::daemon::sandbox::tenant::Tenant;
use crate::protocol::confinement::{Confined, Confinement, Outcome};

/// The largest status file that the watcher may write, in bytes: enough for a hundred thousand doors.
const LARGEST_FILE: rlim_t = 64 << 20;

/// Gives up what this process does not need, from here to its end, and says what it could not.
#[must_use]
pub fn enter(confinement: &Confinement, tenant: &Tenant<'_>) -> Confined {
    let is_boxed = confinement.sandbox != Sandbox::No;
    let when_boxed = |what: &dyn Fn() -> Outcome| if is_boxed { what() } else { Outcome::Unwanted };
    let privileges = when_boxed(&|| Outcome::of(prctl::set_no_new_privs()));
    // An empty root directory needs a capability.
    let files = when_boxed(&|| files::close(tenant));
    let [user, bounding_set, capabilities] = identity::change(confinement.identity);
    // A change of the user undoes both.
    core_dump::forbid();
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    if is_boxed {
        // No process, and no large file, also where there is no list of system calls.
        let _ = setrlimit(Resource::RLIMIT_NPROC, 0, 0);
        let _ = setrlimit(Resource::RLIMIT_FSIZE, LARGEST_FILE, LARGEST_FILE);
    }
    let present_user = nix::unistd::geteuid().as_raw();
    let calls = when_boxed(&|| filter::install(&calls::of(tenant)));
    let outcomes = [user, bounding_set, capabilities, privileges, files, calls];
    Confined { user: present_user, outcomes }
}
