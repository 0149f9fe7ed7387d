//! Opens files that we write, in folders that others may write too: nothing that a stranger put there is written to.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, absolute};

use nix::libc::O_NOFOLLOW;

use crate::daemon::trusted;
use crate::trust;

/// How often a file that comes and goes is tried.
const TRIES: u32 = 8;
/// The bits that let group or others write.
const SHARED: u32 = 0o022;

/// Opens a file for writing. A new one gets the mode `mode`, whatever the umask says; an existing one keeps its
/// own. A symbolic link is followed if it is root's or ours.
///
/// # Errors
/// What the operating system says; of the kind `Other`, what a stranger put in its place.
pub fn open(path: &Path, options: &OpenOptions, flags: i32, mode: u32) -> io::Result<File> {
    for _ in 0..TRIES {
        let mut new = options.clone();
        // It follows no link at the end of the path.
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
    // Root's link may lead to a file that is still to be made.
    existing.create(is_link).mode(mode).custom_flags(if is_link { flags } else { flags | O_NOFOLLOW });
    let file = existing.open(path)?;
    let opened = file.metadata()?;
    let is_foreign = !owners.include(opened.uid());
    // Another name of a file that a stranger may not write.
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

/// Whether others can put files into the folder of this one.
fn is_shared(path: &Path) -> bool {
    let folder = fs::canonicalize(path).ok().and_then(|path| fs::metadata(path.parent()?).ok());
    folder.is_some_and(|it| it.mode() & SHARED != 0 || !trusted::owners().include(it.uid()))
}
