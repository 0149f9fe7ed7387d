//! The resource limits that this process was started with (`getrlimit(2)`): commands get them back, even if
//! ours have changed since.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};

/// Limits that an administrator may change while the daemon runs (`prlimit(1)`), or that we change ourselves.
const ALL: [Resource; 4] =
    [Resource::RLIMIT_NOFILE, Resource::RLIMIT_FSIZE, Resource::RLIMIT_NPROC, Resource::RLIMIT_CORE];

/// The soft limits at the time of [`Limits::now`].
#[derive(Clone, Debug)]
pub struct Limits(Vec<(Resource, rlim_t)>);

impl Limits {
    /// The present limits.
    #[must_use]
    pub fn now() -> Limits {
        Limits(ALL.into_iter().filter_map(|it| Some((it, getrlimit(it).ok()?.0))).collect())
    }

    /// Calls `what` under these limits, then restores the present ones.
    pub fn apply_to<T>(&self, what: impl FnOnce() -> T) -> T {
        let changed = self.0.iter().filter_map(|&(resource, was)| {
            let (soft, hard) = getrlimit(resource).ok().filter(|(soft, _)| *soft != was)?;
            // As far as the hard limit allows.
            let wanted = if hard == RLIM_INFINITY { was } else { was.min(hard) };
            setrlimit(resource, wanted, hard).ok()?;
            Some((resource, soft, hard))
        });
        let changed: Vec<_> = changed.collect();
        let result = what();
        for (resource, soft, hard) in changed {
            let _ = setrlimit(resource, soft, hard);
        }
        result
    }
}
