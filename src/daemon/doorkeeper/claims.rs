//! Which of the paths that the configuration allows the state file has.
//!
//! [`places`] claims a path; here is which one.

use std::path::PathBuf;

use crate::config::{DEFAULT_STATE_FILE, StateFiles};
use crate::daemon::doorkeeper::places::{self, Claim};
use crate::octets;

/// Claims one of the paths, with this word in the lock file, and what is left at the other one. Returns also which it is.
#[must_use]
pub fn claim(wanted: &StateFiles, word: &str) -> (PathBuf, Claim) {
    if wanted.is_default {
        places::make_folder(&wanted.first);
    }
    if let Some(fault) = places::fault_of_folder(&wanted.first) {
        return claim_elsewhere(wanted, word, &fault.to_string());
    }
    let mut claim = places::claim(&wanted.first, word);
    let Some(instead) = wanted.instead.as_ref() else { return (wanted.first.clone(), claim) };
    if let Some(own) = &claim.own {
        claim.add(places::claim_left(instead, own.path()));
        return (wanted.first.clone(), claim);
    }
    let mut second = places::claim(instead, word);
    second.add(Claim { refusal: None, ..claim });
    (instead.clone(), second)
}

/// The same if others can replace files in the folder: they could bring back an old state, in which what was used is
/// not, so the state is kept where they cannot. Commands of theirs are not run either.
fn claim_elsewhere(wanted: &StateFiles, word: &str, fault: &str) -> (PathBuf, Claim) {
    let elsewhere = match &wanted.instead {
        Some(instead) => instead.clone(),
        None => PathBuf::from(DEFAULT_STATE_FILE),
    };
    places::make_folder(&elsewhere);
    let mut claim = match places::fault_of_folder(&elsewhere) {
        None => places::claim(&elsewhere, word),
        Some(_) => Claim::default(),
    };
    let refusal = format!("{}: {fault}", octets::path(&wanted.first));
    if let Some(own) = &claim.own {
        let own = octets::path(own.path()).into_owned();
        claim.says.push(format!("state file {refusal}; the state is kept in {own}"));
    } else {
        claim.refusal = Some(refusal);
    }
    (elsewhere, claim)
}
