//! `--list`: the profiles there are, and what is wrong with them.

use crate::client::failure::Failure;
use crate::client::profiles::{self, Found};
use crate::client::{output, wanted};

/// Shows every profile: its name, its host, its file. The sequences stay where they are.
///
/// # Errors
/// Every file that cannot be read, is not private (unless `insecure`) or is no profile file, and of
/// every profile the first mistake.
pub(super) fn show(insecure: bool) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for profiles in profiles::all(insecure) {
        match profiles {
            Ok(profiles) => failures.extend(profiles.into_iter().filter_map(|found| one(found).err())),
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::all(failures)) }
}

fn one(found: Found) -> Result<(), Failure> {
    let profile = &found.profile;
    output::say(format_args!("{:<15} {:<30} {}", profile.name, profile.host(), found.path.display()));
    wanted::read(&found.alone()?).map(drop)
}
