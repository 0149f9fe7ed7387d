//! Keeps secrets out of core dumps, and other processes of the same user out of our memory. On Linux: elsewhere
//! nothing is done.

#[cfg(target_os = "linux")]
pub(super) use linux::{forbid, lifted};

#[cfg(not(target_os = "linux"))]
pub(super) fn forbid() {}

#[cfg(not(target_os = "linux"))]
pub(super) fn lifted<T>(start: impl FnOnce() -> T) -> T {
    start()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::OnceLock;

    use nix::sys::prctl;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// The limit on core dumps that this process was started with.
    static LIMIT: OnceLock<Rlimit> = OnceLock::new();

    /// From here on this process leaves no core dump.
    pub(in crate::client) fn forbid() {
        // Also where a program takes the dumps (`core_pattern`), which the limit does not stop.
        let _ = prctl::set_dumpable(false);
        let maximum = LIMIT.get_or_init(|| getrlimit(Resource::Core)).maximum;
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
    }

    /// Starts a program of the user's with the limit that we were started with.
    pub(in crate::client) fn lifted<T>(start: impl FnOnce() -> T) -> T {
        if let Some(limit) = LIMIT.get() {
            let _ = setrlimit(Resource::Core, *limit);
        }
        let started = start();
        forbid();
        started
    }
}
