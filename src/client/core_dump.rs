//! Keeps secrets out of core dumps, and our memory from other processes of the same user. Linux only; a no-op
//! elsewhere.

#[cfg(target_os = "linux")]
pub(super) use linux::{disable, with_original_limit};

#[cfg(not(target_os = "linux"))]
pub(super) fn disable() {}

#[cfg(not(target_os = "linux"))]
pub(super) fn with_original_limit<T>(start: impl FnOnce() -> T) -> T {
    start()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::OnceLock;

    use nix::sys::prctl;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// The limit on core dumps at the start of this process.
    static ORIGINAL_LIMIT: OnceLock<Rlimit> = OnceLock::new();

    /// Disables core dumps of this process.
    pub(in crate::client) fn disable() {
        // Also covers dumps to a program (`core_pattern`), which ignores the limit.
        let _ = prctl::set_dumpable(false);
        let maximum = ORIGINAL_LIMIT.get_or_init(|| getrlimit(Resource::Core)).maximum;
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
    }

    /// Runs `start`, which starts a program of the user, under the original limit on core dumps.
    pub(in crate::client) fn with_original_limit<T>(start: impl FnOnce() -> T) -> T {
        if let Some(limit) = ORIGINAL_LIMIT.get() {
            let _ = setrlimit(Resource::Core, *limit);
        }
        let started = start();
        disable();
        started
    }
}
