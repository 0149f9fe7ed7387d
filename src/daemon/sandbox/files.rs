//! Denies access to files: with Landlock or, if the kernel does not have it, with an empty root directory.

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use nix::errno::Errno;
use nix::unistd::mkdtemp;

use crate::daemon::sandbox::confined_process::ConfinedProcess;
use crate::filter::trouble::Code;
use crate::protocol::confinement::Outcome;

/// The newest Landlock ABI that we use; an older kernel restricts the rights that it knows.
const LANDLOCK_ABI: ABI = ABI::V6;

/// Where the C library finds its configuration for looking up names, the sockets of services for it, and its
/// own modules.
const RESOLVER_PATHS: [&str; 8] =
    ["/etc", "/lib", "/lib64", "/usr", "/run", "/var/run", "/nix/store", "/gnu/store"];
/// Often a link into another folder, where the file gets replaced.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Folders in which a short-lived empty folder may be created.
const TEMPORARY_FOLDERS: [&str; 4] = ["/run", "/dev/shm", "/var/run", "/tmp"];

/// Forbids opening files from now on, except those that the resolver needs.
pub(super) fn close(process: &ConfinedProcess<'_>) -> Outcome {
    match restrict(process) {
        Ok(None) => Outcome::Done,
        Ok(Some(why)) => match process {
            ConfinedProcess::Watcher(_) if empty_root().is_ok() => Outcome::Otherwise,
            _ => Outcome::Failed(why),
        },
        Err(error) => Outcome::Failed(Code(*landlock::Errno::from(error))),
    }
}

/// Restricts this process with Landlock. Returns the reason if the kernel cannot do it.
fn restrict(process: &ConfinedProcess<'_>) -> Result<Option<Code>, RulesetError> {
    let ruleset = Ruleset::default().handle_access(AccessFs::from_all(LANDLOCK_ABI))?;
    let ruleset = ruleset.scope(BitFlags::from(Scope::Signal))?;
    let status = match process {
        ConfinedProcess::Watcher(_) => {
            let ruleset = ruleset.handle_access(AccessNet::from_all(LANDLOCK_ABI))?;
            ruleset.scope(BitFlags::from(Scope::AbstractUnixSocket))?.create()?.restrict_self()?
        }
        ConfinedProcess::Resolver => {
            let read = AccessFs::ReadFile | AccessFs::ReadDir;
            let folder = std::fs::canonicalize(RESOLV_CONF).ok();
            let folder = folder.as_deref().and_then(Path::parent).map(PathBuf::from);
            let folders = RESOLVER_PATHS.into_iter().map(PathBuf::from).chain(folder);
            ruleset.create()?.add_rules(path_beneath_rules(folders, read))?.restrict_self()?
        }
    };
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotImplemented) => Some(Code(Errno::ENOSYS as i32)),
        (RulesetStatus::NotEnforced, _) => Some(Code(Errno::EOPNOTSUPP as i32)),
        _ => None,
    })
}

/// Changes the root directory to an empty folder in which nothing can be created, because it has been
/// removed.
fn empty_root() -> io::Result<()> {
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for parent in TEMPORARY_FOLDERS {
        match mkdtemp(&Path::new(parent).join("knockd-XXXXXX")) {
            Ok(folder) => {
                let entered = std::env::set_current_dir(&folder);
                std::fs::remove_dir(&folder)?;
                entered?;
                return std::os::unix::fs::chroot(".");
            }
            Err(errno) => error = errno.into(),
        }
    }
    Err(error)
}
