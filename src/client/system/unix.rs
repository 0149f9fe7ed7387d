//! Linux, Android, macOS and the BSDs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;

use nix::unistd::{Uid, User, geteuid};

use crate::trust::{self, Fault, FileMetadata, TrustedOwners};

/// The system's profile file.
const SYSTEM_PROFILE_FILE: &str =
    if cfg!(target_os = "freebsd") { "/usr/local/etc/knock.conf" } else { "/etc/knock.conf" };

/// The shell for command lines, and its option.
pub const SHELL: (&str, &str) = ("sh", "-c");

/// The profile files of the user, if there is a home directory, and of the system.
pub fn profile_files() -> (Option<PathBuf>, PathBuf) {
    // The XDG Base Directory Specification requires relative paths to be ignored.
    let folder = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
    (user.map(|folder| folder.join("knock.conf")), PathBuf::from(SYSTEM_PROFILE_FILE))
}

/// The permissions of group and others on an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    mode: u32,
}

impl Access {
    /// Reads the permissions of the open file, as the path could lead to another file by now.
    ///
    /// # Errors
    /// fstat(2) failed.
    pub fn of(file: &File, _: &Path) -> io::Result<Access> {
        Ok(Access { mode: file.metadata()?.mode() & 0o777 })
    }

    /// Whether group or others can read the file.
    pub fn others_can_read(self) -> bool {
        self.mode & 0o044 != 0
    }

    /// Whether group or others have any permission.
    pub fn others_have_access(self) -> bool {
        self.mode & 0o077 != 0
    }

    /// The permissions in words, for a message.
    pub fn description(self) -> String {
        format!("mode {:03o}", self.mode)
    }

    /// A command that removes the permissions of group and others.
    pub fn remedy(path: &Path) -> String {
        format!("chmod 600 {}", path.display())
    }
}

/// Why an open file cannot be trusted; empty if it can.
///
/// # Errors
/// fstat(2) or getcwd(3) failed.
pub fn faults(file: &File, path: &Path) -> io::Result<Vec<Fault>> {
    // Only Linux has this file.
    let uid_map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let owners = TrustedOwners::new(geteuid().as_raw(), &uid_map);
    // The folders of an Android app belong to the system, which keeps other apps out of them.
    let lstat = |path: &Path| fs::symlink_metadata(path).ok().map(|it| file_metadata(path, &it));
    let mut faults =
        if cfg!(target_os = "android") { Vec::new() } else { trust::faults(&absolute(path)?, owners, lstat) };
    // Check the open file too, as the path could lead to another file by now.
    let opened = FileMetadata { target: None, ..file_metadata(path, &file.metadata()?) };
    faults.extend(owners.fault(path, &opened).filter(|_| faults.is_empty()));
    Ok(faults)
}

fn file_metadata(path: &Path, it: &Metadata) -> FileMetadata {
    let target = it.is_symlink().then(|| fs::read_link(path).ok()).flatten();
    FileMetadata { owner: it.uid(), mode: it.mode(), target }
}

/// Whether the path still leads to this open file.
///
/// # Errors
/// fstat(2) or stat(2) failed.
pub fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (ours, there) = (file.metadata()?, fs::metadata(path)?);
    Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino()))
}

/// Opens a file for writing and truncates it; only its owner can read it. Refuses files that another user put
/// at the path.
///
/// # Errors
/// The file cannot be written, belongs to another user, or has another hard link.
pub fn create_private(path: &Path) -> io::Result<File> {
    // O_EXCL does not follow a symbolic link at the end of the path.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let file = OpenOptions::new().write(true).open(path)?;
    if let Some(fault) = faults(&file, path)?.iter().find(|fault| fault.is_owner() && !fault.is_folder()) {
        return Err(io::Error::other(fault.to_string()));
    }
    let opened = file.metadata()?;
    if opened.is_file() {
        if opened.nlink() > 1 {
            return Err(io::Error::other("the file has another name, which would be overwritten too"));
        }
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.set_len(0)?;
    }
    Ok(file)
}

/// Standard input or output as an unbuffered file.
///
/// # Errors
/// The stream is closed.
pub fn duplicate(stream: &impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

/// Replaces this process by the command; returns only if that fails.
pub fn become_command(program: &OsStr, arguments: &[OsString]) -> io::Error {
    Command::new(program).args(arguments).exec()
}

/// The user's name in the user database.
pub fn user_name() -> Option<String> {
    User::from_uid(Uid::current()).ok().flatten().map(|user| user.name)
}

/// The bytes of a command-line argument.
pub fn bytes(word: &OsStr) -> &[u8] {
    word.as_bytes()
}
