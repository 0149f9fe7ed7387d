//! A lock file for the process that has the guard, where tables cannot have an owner and outlive it (before
//! Linux 6.9): otherwise two daemons would restore their own tables against each other forever, and
//! `--unguard` would open the ports of a running daemon.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::firewall::refusal::Refusal;

/// How often, and at which interval, to try the lock of a process that has just ended.
const LOCK_TRIES: u32 = 10;
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Locks the guard of this network namespace until the returned file is dropped. `None` if no lock file can
/// be created.
///
/// # Errors
/// [`Refusal::Owned`] if another process holds it.
pub(super) fn lock_guard() -> Result<Option<File>, Refusal> {
    let namespace = fs::metadata("/proc/self/ns/net");
    let path = namespace.map(|it| PathBuf::from(format!("/run/knockd-guard-{}.lock", it.ino())));
    path.map_or(Ok(None), |path| lock_file(&path))
}

fn lock_file(path: &Path) -> Result<Option<File>, Refusal> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK)
        .open(path);
    let Ok(file) = file else { return Ok(None) };
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_RETRY_INTERVAL),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
    Err(Refusal::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::unwrap_used)]
    fn one_process_has_the_guard_until_it_ends() {
        let path = std::env::temp_dir().join(format!("knockd-claim-{}", std::process::id()));
        let first = lock_file(&path);
        assert!(matches!(first, Ok(Some(_))));
        assert!(matches!(lock_file(&path), Err(Refusal::Owned)));
        drop(first);
        assert!(matches!(lock_file(&path), Ok(Some(_))));
        fs::remove_file(&path).unwrap();
        assert!(matches!(lock_file(Path::new("/nonexistent/lock")), Ok(None)));
    }
}
