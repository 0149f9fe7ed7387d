//! Reads files that contain secrets.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use crate::client::failure::Failure;
use crate::client::system::{self, Access};
use crate::reason::reason;

/// The longest such file in bytes, far more than any configuration needs.
const MAX_FILE_SIZE: u64 = 0x10_0000;

/// Reads a file into a single buffer that is zeroed on drop.
///
/// # Errors
/// The file cannot be read, or is longer than 1 MiB.
pub(super) fn read(file: &mut File) -> io::Result<Zeroizing<Vec<u8>>> {
    // Allocate enough at once: a growing buffer leaves copies behind.
    let expected = usize::try_from(file.metadata()?.len().min(MAX_FILE_SIZE)).unwrap_or(0);
    let mut text = Zeroizing::new(Vec::with_capacity(expected + 4096));
    file.take(MAX_FILE_SIZE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE_SIZE { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

/// Reads a file that only its owner may access, unless `insecure`. Even then it must not belong to another
/// user: its commands would run with our privileges.
///
/// # Errors
/// Others can access the file, or it cannot be read.
pub(super) fn read_private(
    file: &mut File,
    path: &Path,
    insecure: bool,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let shown = path.display();
    let failed = |error: io::Error| Failure::refused(format_args!("{shown}: {}", reason(&error)));
    let access = Access::of(file, path).map_err(failed)?;
    let faults = system::faults(file, path).map_err(failed)?;
    if let Some(fault) = faults.iter().find(|fault| fault.is_owner()) {
        return Err(Failure::refused(format_args!("{shown}: {fault}")));
    }
    if access.others_have_access() && !insecure {
        let (description, remedy) = (access.description(), Access::remedy(path));
        return Err(Failure::refused(format_args!(
            "{shown}: others may use this file ({description}), and it holds secrets; {remedy}, or use --insecure"
        )));
    }
    match faults.first().filter(|_| !insecure) {
        Some(fault) => Err(Failure::refused(format_args!("{shown}: {fault}, or use --insecure"))),
        None => read(file).map_err(failed),
    }
}

/// Checks that only root and we could have written this open file, unless `insecure`.
///
/// # Errors
/// A sentence that says who else can write it, and how to fix that.
pub(super) fn check_writers(file: &File, path: &Path, insecure: bool) -> Result<(), String> {
    let shown = path.display();
    let faults = system::faults(file, path).map_err(|error| format!("{shown}: {}", reason(&error)))?;
    match faults.first().filter(|_| !insecure) {
        Some(fault) => Err(format!("{shown}: {fault}, or use --insecure")),
        None => Ok(()),
    }
}
