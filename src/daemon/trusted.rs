//! Opens files whose content decides what runs: only root and we may have been able to write them.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, absolute};

use zeroize::Zeroizing;

use crate::trust::{self, Facts, Fault, Owners};

/// A file that is open.
#[derive(Debug)]
pub struct Trusted {
    /// The file.
    pub file: File,
    /// What only the members of a group could have changed; for the caller to judge.
    pub of_groups: Vec<Fault>,
}

impl Trusted {
    /// The content of the file, in one piece of memory where the size is known from the start: a buffer that
    /// grows leaves copies of a secret behind.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn read(&mut self) -> io::Result<Zeroizing<Vec<u8>>> {
        let length = usize::try_from(self.file.metadata()?.len()).unwrap_or(0);
        let mut text = Zeroizing::new(Vec::with_capacity(length.saturating_add(1)));
        self.file.read_to_end(&mut text)?;
        Ok(text)
    }
}

/// Opens a file.
///
/// # Errors
/// What the operating system says, or a [`Fault`] as an error of the kind `Other`: somebody else owns the file
/// or something on the way to it, or everybody can write it.
pub fn open(path: &Path, options: &OpenOptions) -> io::Result<Trusted> {
    let file = options.open(path)?;
    let owners = owners();
    let mut faults = trust::faults(&absolute(path)?, owners, look);
    // Asked of the open file too, so that it cannot be another one by the time it is read.
    let opened = Facts { target: None, ..facts(path, &file.metadata()?) };
    faults.extend(owners.fault(path, &opened).filter(|_| faults.is_empty()));
    match faults.iter().find(|fault| !fault.is_group()) {
        Some(fault) => Err(io::Error::other(fault.to_string())),
        None => Ok(Trusted { file, of_groups: faults }),
    }
}

/// What one name is, for [`trust::faults`].
#[must_use]
pub fn look(path: &Path) -> Option<Facts> {
    fs::symlink_metadata(path).ok().map(|it| facts(path, &it))
}

/// The users whose files count.
#[must_use]
pub fn owners() -> Owners {
    let uid_map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    Owners::new(nix::unistd::geteuid().as_raw(), &uid_map)
}

fn facts(path: &Path, it: &Metadata) -> Facts {
    let target = it.is_symlink().then(|| fs::read_link(path).ok()).flatten();
    Facts { owner: it.uid(), mode: it.mode(), target }
}
