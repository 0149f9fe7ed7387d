//! Opens files whose content decides which commands run: only root and our own user may be able to write
//! them.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, absolute};

use zeroize::Zeroizing;

use crate::trust::{self, Fault, FileMetadata, TrustedOwners};

/// An open file that passed the checks.
#[derive(Debug)]
pub struct Trusted {
    /// The file.
    pub file: File,
    /// Faults that depend on the members of a group; the caller decides about them.
    pub of_groups: Vec<Fault>,
}

impl Trusted {
    /// Reads the file into one allocation, where its size is known in advance: a growing buffer would leave
    /// copies of secrets in memory.
    ///
    /// # Errors
    /// Errors of reading the file.
    pub fn read(&mut self) -> io::Result<Zeroizing<Vec<u8>>> {
        let length = usize::try_from(self.file.metadata()?.len()).unwrap_or(0);
        let mut text = Zeroizing::new(Vec::with_capacity(length.saturating_add(1)));
        self.file.read_to_end(&mut text)?;
        Ok(text)
    }
}

/// Opens a file and checks who could have changed it.
///
/// # Errors
/// Errors of opening the file, or a [`Fault`] as an error of the kind `Other`: somebody else owns the file or
/// a folder on its path, or everybody can write to one of them.
pub fn open(path: &Path, options: &OpenOptions) -> io::Result<Trusted> {
    let file = options.open(path)?;
    let owners = owners();
    let mut faults = trust::faults(&absolute(path)?, owners, look);
    // The open file is checked too, in case it was replaced in between.
    let opened = FileMetadata { target: None, ..file_metadata(path, &file.metadata()?) };
    faults.extend(owners.fault(path, &opened).filter(|_| faults.is_empty()));
    match faults.iter().find(|fault| !fault.is_group()) {
        Some(fault) => Err(io::Error::other(fault.to_string())),
        None => Ok(Trusted { file, of_groups: faults }),
    }
}

/// The owner and mode of one path component, for [`trust::faults`].
#[must_use]
pub fn look(path: &Path) -> Option<FileMetadata> {
    fs::symlink_metadata(path).ok().map(|it| file_metadata(path, &it))
}

/// The users whose files are trusted.
#[must_use]
pub fn owners() -> TrustedOwners {
    let uid_map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    TrustedOwners::new(nix::unistd::geteuid().as_raw(), &uid_map)
}

fn file_metadata(path: &Path, it: &Metadata) -> FileMetadata {
    let target = it.is_symlink().then(|| fs::read_link(path).ok()).flatten();
    FileMetadata { owner: it.uid(), mode: it.mode(), target }
}
