//! Opens files for writing in folders that other users may write to, and refuses what a stranger put there.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, absolute};

use nix::libc::O_NOFOLLOW;

use crate::daemon::trusted;
use crate::trust;

/// How often to retry while a file keeps appearing and disappearing.
const MAX_TRIES: u32 = 8;
/// The mode bits that let group or others write.
const OTHERS_WRITE: u32 = 0o022;

/// Opens a file for writing. A new one gets the mode `mode` whatever the umask is; an existing one keeps its
/// mode. A symbolic link is followed if root or we own it.
///
/// # Errors
/// Any error of the system calls; of the kind `Other`, a sentence about what a stranger put at the path.
pub fn open(path: &Path, options: &OpenOptions, flags: i32, mode: u32) -> io::Result<File> {
    for _ in 0..MAX_TRIES {
        let mut new = options.clone();
        // `O_CREAT | O_EXCL` follows no symbolic link.
        match new.create_new(true).mode(mode).custom_flags(flags).open(path) {
            Ok(file) => {
                file.set_permissions(Permissions::from_mode(mode))?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        match open_existing(path, options, flags, mode) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    Err(io::Error::other("it is removed again and again"))
}

fn open_existing(path: &Path, options: &OpenOptions, flags: i32, mode: u32) -> io::Result<File> {
    let owners = trusted::owners();
    let faults = trust::faults(&absolute(path)?, owners, trusted::look);
    if let Some(link) = faults.iter().find(|fault| fault.is_link()) {
        return Err(io::Error::other(format!("{link}")));
    }
    let is_link = fs::symlink_metadata(path)?.is_symlink();
    let mut existing = options.clone();
    // A link of root's may point to a file that does not exist yet.
    existing.create(is_link).mode(mode).custom_flags(if is_link { flags } else { flags | O_NOFOLLOW });
    let file = existing.open(path)?;
    let opened = file.metadata()?;
    let is_foreign = !owners.include(opened.uid());
    // A hard link to a file that a stranger may not write.
    let is_linked = opened.is_file() && opened.nlink() > 1;
    if (is_foreign || is_linked) && !opened.file_type().is_char_device() && is_shared(path) {
        let what = if is_foreign {
            format!("it belongs to user {}", opened.uid())
        } else {
            "it has another name".to_owned()
        };
        return Err(io::Error::other(format!("{what}, in a folder that others can write")));
    }
    Ok(file)
}

/// Whether other users can create files in the folder of this path.
fn is_shared(path: &Path) -> bool {
    let folder = fs::canonicalize(path).ok().and_then(|path| fs::metadata(path.parent()?).ok());
    folder.is_some_and(|it| it.mode() & OTHERS_WRITE != 0 || !trusted::owners().include(it.uid()))
}
