//! Carries out the operations of a [`Journal`](crate::opening::journal::Journal) on the files of a place.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::libc::O_NOFOLLOW;

use crate::opening::journal::Operation;

/// The mode of the files we create.
pub(super) const MODE: u32 = 0o600;

/// The file being written, and the length of its valid content.
#[derive(Debug)]
pub(super) struct Written {
    /// Shared with the thread that flushes it.
    pub(super) file: Arc<File>,
    length: u64,
}

/// Carries out one operation on the place at this path.
pub(super) fn carry_out(operation: &Operation, path: &Path, written: &mut Option<Written>) -> io::Result<()> {
    let with_suffix = |suffix| with_suffix(path, suffix);
    match operation {
        Operation::Write(text) => {
            *written = None;
            remove(&with_suffix(".tmp"))?;
            let mut made = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(MODE)
                .custom_flags(O_NOFOLLOW)
                .open(with_suffix(".tmp"))?;
            // Restores bits that the umask cleared.
            made.set_permissions(Permissions::from_mode(MODE))?;
            made.write_all(text)?;
            *written = Some(Written { file: Arc::new(made), length: text.len() as u64 });
            Ok(())
        }
        Operation::Publish => fs::rename(with_suffix(".tmp"), with_suffix(".new")),
        Operation::Append(lines) => {
            let Some(Written { file, length }) = written else { return Err(io::ErrorKind::NotFound.into()) };
            if let Err(error) = (&**file).write_all(lines) {
                // Half a line would corrupt the next one.
                let _ = file.set_len(*length);
                return Err(error);
            }
            *length += lines.len() as u64;
            Ok(())
        }
        Operation::Sync => written.as_ref().map_or(Ok(()), |written| written.file.sync_all()),
        Operation::Settle => fs::rename(with_suffix(".new"), path),
        Operation::SyncFolder => File::open(folder_of(path))?.sync_all(),
        // We never create a directory, so this is not ours.
        Operation::RemoveSettled if path.is_dir() => Ok(()),
        Operation::RemoveSettled => remove(path),
        Operation::RemoveNew => remove(&with_suffix(".new")),
    }
}

/// The folder of a file.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes a file if it exists.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Appends a suffix to a path: another file of the place, or another place.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
