//! Keeps secrets out of core dumps, and our memory from other processes of the same user. Linux only; a no-op
//! elsewhere.

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

    /// The limit on core dumps at the start of this process.
    static LIMIT: OnceLock<Rlimit> = OnceLock::new();

    /// Disables core dumps of this process.
    pub(in crate::client) fn forbid() {
        // Also covers dumps to a program (`core_pattern`), which ignores the limit.
        let _ = prctl::set_dumpable(false);
        let maximum = LIMIT.get_or_init(|| getrlimit(Resource::Core)).maximum;
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
    }

    /// Runs `start`, which starts a program of the user, under the original limit on core dumps.
    pub(in crate::client) fn lifted<T>(start: impl FnOnce() -> T) -> T {
        if let Some(limit) = LIMIT.get() {
            let _ = setrlimit(Resource::Core, *limit);
        }
        let started = start();
        forbid();
        started
    }
}
