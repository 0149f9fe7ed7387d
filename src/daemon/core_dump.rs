//! Keeps secrets out of core dumps, and other processes of the same user out of our memory.

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Disables core dumps of this process. Its children may dump core, with the original
/// [limits](crate::daemon::limits::Limits).
pub fn forbid() {
    // Also stops dumps piped to a program (`core_pattern`), which the limit does not.
    let _ = prctl::set_dumpable(false);
    // Only the soft limit, which can be raised again for commands.
    let _ = getrlimit(Resource::RLIMIT_CORE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_CORE, 0, hard));
}
