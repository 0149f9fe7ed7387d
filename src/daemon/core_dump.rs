//! Keeps secrets out of core dumps, and other processes of the same user out of our memory.

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// From here on this process leaves no core dump. What it runs may, with the [limits](crate::daemon::limits::Limits) of
/// before.
pub fn forbid() {
    // Also where a program takes the dumps (`core_pattern`), which the limit does not stop.
    let _ = prctl::set_dumpable(false);
    // Only the limit that can be raised again.
    let _ = getrlimit(Resource::RLIMIT_CORE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_CORE, 0, hard));
}
