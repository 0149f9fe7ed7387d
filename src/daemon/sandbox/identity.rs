//! Changes the user, and drops all capabilities.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    set_capabilities,
};

use crate::protocol::confinement::Outcome;

/// Becomes this user with this group alone, and drops all capabilities; does nothing if `identity` is `None`.
/// Returns the outcomes for the user, the bounding set and the capabilities.
pub(super) fn change(identity: Option<(u32, u32)>) -> [Outcome; 3] {
    let Some((user, group)) = identity else { return [Outcome::Unwanted; 3] };
    // In this order: each step needs a privilege that the next one drops.
    let bounding_set = Outcome::of(empty_bounding_set());
    let user = Outcome::of(become_user(Uid::from_raw(user), Gid::from_raw(group)));
    // Even if the user is still root.
    let none = CapabilitySet::empty();
    let capabilities =
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none });
    [user, bounding_set, Outcome::of(capabilities)]
}

fn empty_bounding_set() -> rustix::io::Result<()> {
    let mut result = Ok(());
    for capability in CapabilitySet::all().iter() {
        // Fails for capabilities that this kernel does not know.
        if capability_is_in_bounding_set(capability).unwrap_or(false) {
            result = result.and(remove_capability_from_bounding_set(capability));
        }
    }
    result
}

/// Changes as much as possible, and returns the first error.
fn become_user(user: Uid, group: Gid) -> nix::Result<()> {
    let groups = setgroups(&[]).or_else(|error| {
        // There is no other group to leave.
        if getgroups().is_ok_and(|groups| groups.iter().all(|it| *it == group)) { Ok(()) } else { Err(error) }
    });
    let groups = groups.and(setresgid(group, group, group));
    let user_changed = setresuid(user, user, user);
    let (users, gids) = (getresuid()?, getresgid()?);
    let is_changed = [users.real, users.effective, users.saved] == [user; 3]
        && [gids.real, gids.effective, gids.saved] == [group; 3];
    groups.and(user_changed).and(if is_changed { Ok(()) } else { Err(Errno::EPERM) })
}
