//! Which users the confined processes become.

use nix::unistd::{Uid, User};

use crate::config::Options;
use crate::protocol::confinement::Confinement;

/// The user of the watcher, unless the configuration names another; nobody where there is none of this name.
const OURS: &str = "knockd";
/// The user of the resolver: its own user could not keep it from the watcher.
const NOBODY: &str = "nobody";
const ROOT: &str = "root";
/// User and group where the system has no such user (the kernel's overflow user).
const OVERFLOW: (u32, u32) = (65_534, 65_534);

/// What the confined processes give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confinements {
    /// The watcher.
    pub watcher: Confinement,
    /// The resolver (`-l`).
    pub resolver: Confinement,
}

impl Confinements {
    /// What these options say.
    ///
    /// # Errors
    /// The name of the user that they name, if there is none.
    pub fn of(options: &Options) -> Result<Confinements, String> {
        let nobody = find(NOBODY).unwrap_or(OVERFLOW);
        let (watcher, resolver) = match &options.user {
            Some(name) => {
                let root = (name == ROOT).then_some((0, 0));
                let user = find(name).or(root).ok_or_else(|| name.clone())?;
                let is_root = Uid::from_raw(user.0).is_root();
                if is_root { (None, None) } else { (Some(user), Some(nobody)) }
            }
            None => (Some(find(OURS).unwrap_or(nobody)), Some(nobody)),
        };
        let confinement = |identity| Confinement { identity, sandbox: options.sandbox };
        Ok(Confinements { watcher: confinement(watcher), resolver: confinement(resolver) })
    }
}

/// The numbers of a user and of its group.
fn find(name: &str) -> Option<(u32, u32)> {
    let user = User::from_name(name).ok()??;
    Some((user.uid.as_raw(), user.gid.as_raw()))
}
