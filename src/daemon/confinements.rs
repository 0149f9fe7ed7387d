//! The users that the confined processes run as.

use nix::unistd::{Uid, User};

use crate::config::Options;
use crate::protocol::confinement::Confinement;

/// The user of the watcher, unless the configuration names another; nobody if it does not exist.
const WATCHER_USER: &str = "knockd";
/// The user of the resolver. It differs from the watcher's: a process of the same user could interfere with
/// it.
const NOBODY: &str = "nobody";
const ROOT: &str = "root";
/// User and group IDs if the system has no user nobody (the kernel's overflow user).
const OVERFLOW_IDS: (u32, u32) = (65_534, 65_534);

/// The confinements of both processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinements {
    /// The watcher.
    pub watcher: Confinement,
    /// The resolver (`-l`).
    pub resolver: Confinement,
}

impl Confinements {
    /// The confinements that these options ask for.
    ///
    /// # Errors
    /// The name in `User`, if there is no such user.
    pub fn of(options: &Options) -> Result<Confinements, String> {
        let nobody = find(NOBODY).unwrap_or(OVERFLOW_IDS);
        let (watcher, resolver) = match &options.user {
            Some(name) => {
                let root = (name == ROOT).then_some((0, 0));
                let user = find(name).or(root).ok_or_else(|| name.clone())?;
                let is_root = Uid::from_raw(user.0).is_root();
                if is_root { (None, None) } else { (Some(user), Some(nobody)) }
            }
            None => (Some(find(WATCHER_USER).unwrap_or(nobody)), Some(nobody)),
        };
        let confinement = |identity| Confinement { identity, sandbox: options.sandbox };
        Ok(Confinements { watcher: confinement(watcher), resolver: confinement(resolver) })
    }
}

/// The IDs of a user and its primary group.
fn find(name: &str) -> Option<(u32, u32)> {
    let user = User::from_name(name).ok()??;
    Some((user.uid.as_raw(), user.gid.as_raw()))
}
