//! `--list`: all profiles, and the mistakes in them.

use crate::client::failure::Failure;
use crate::client::profiles::{self, FoundProfile};
use crate::client::{options, output};

/// Prints the name, host and file of every profile, but no sequence.
///
/// # Errors
/// All files that cannot be read or, unless `insecure`, that others can access; and the first mistake in each
/// profile.
pub(super) fn show(insecure: bool) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for profiles in profiles::all(insecure) {
        match profiles {
            Ok(profiles) => {
                failures.extend(profiles.into_iter().filter_map(|found| list_profile(found).err()));
            }
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::combined(failures)) }
}

fn list_profile(found: FoundProfile) -> Result<(), Failure> {
    let profile = &found.profile;
    output::print_line(format_args!("{:<15} {:<30} {}", profile.name, profile.host(), found.path.display()));
    options::read(&found.without_command_line()?).map(drop)
}
