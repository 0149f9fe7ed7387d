//! Chooses the path of the state file from those that the configuration allows.
//!
//! [`places`] claims the chosen path.

use std::path::{Path, PathBuf};

use crate::config::{DEFAULT_STATE_FILE, StateFiles};
use crate::daemon::doorkeeper::places::{self, Claim};
use crate::octets;

/// Claims one of the paths, with this word in the lock file, and the leftovers at the other one. Also returns
/// the chosen path.
#[must_use]
pub fn claim(paths: &StateFiles, word: &str) -> (PathBuf, Claim) {
    if paths.is_default {
        places::make_folder(&paths.first);
    }
    if let Some(fault) = places::fault_of_folder(&paths.first) {
        return claim_elsewhere(paths, word, &fault.to_string());
    }
    let mut claim = places::claim(&paths.first, word);
    let Some(instead) = paths.instead.as_ref() else { return (paths.first.clone(), claim) };
    if let Some(own) = &claim.own {
        claim.add(places::claim_leftover(instead, own.path()));
        claim.add(places::read_unlockable(instead));
        return (paths.first.clone(), claim);
    }
    let mut second = places::claim(instead, word);
    second.add(Claim { refusal: None, ..claim });
    (instead.clone(), second)
}

/// The same if others can replace files in the folder of the first path: they could restore an old state, in
/// which used lists are valid again, so the state is kept elsewhere. Commands of theirs are not run either.
fn claim_elsewhere(paths: &StateFiles, word: &str, fault: &str) -> (PathBuf, Claim) {
    let elsewhere = elsewhere(paths).to_owned();
    places::make_folder(&elsewhere);
    let mut claim = match places::fault_of_folder(&elsewhere) {
        None => places::claim(&elsewhere, word),
        Some(_) => Claim::default(),
    };
    let refusal = format!("{}: {fault}", octets::path(&paths.first));
    if let Some(own) = &claim.own {
        let own = octets::path(own.path()).into_owned();
        claim.messages.push(format!("state file {refusal}; the state is kept in {own}"));
    } else {
        claim.refusal = Some(refusal);
    }
    (elsewhere, claim)
}

/// The path of the state if the folder of the first path cannot be trusted.
fn elsewhere(paths: &StateFiles) -> &Path {
    paths.instead.as_deref().unwrap_or(Path::new(DEFAULT_STATE_FILE))
}

/// Claims the places of daemons that have ended since this one claimed its place `own` at `path`: at that
/// path, and at the other ones in `paths`.
#[must_use]
pub fn claim_leftover(paths: &StateFiles, path: &Path, own: &Path) -> Claim {
    let mut claim = places::claim_leftover(path, own);
    for other in paths.all().filter(|other| *other != path && places::fault_of_folder(other).is_none()) {
        claim.add(places::claim_leftover(other, own));
    }
    claim
}

/// Whether there is a state file that [`claim`] reads.
#[must_use]
pub fn has_state(paths: &StateFiles) -> bool {
    match places::fault_of_folder(&paths.first) {
        None => paths.all().any(places::has_any),
        Some(_) => places::has_any(elsewhere(paths)),
    }
}
