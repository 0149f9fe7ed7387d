//! Windows.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::io::AsHandle;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use crate::trust::Fault;

/// The shell for command lines, and its option.
pub const SHELL: (&str, &str) = ("cmd", "/C");

/// The profile files of the user, if there is a home directory, and of the system.
pub fn profile_files() -> (Option<PathBuf>, PathBuf) {
    let folder = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let file = |folder: PathBuf| folder.join("knock").join("knock.conf");
    let system = folder("PROGRAMDATA").unwrap_or_else(|| PathBuf::from("C:\\ProgramData"));
    (folder("APPDATA").map(file), file(system))
}

/// The permissions of others on a file. Windows keeps other users out of a user's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    is_shared: bool,
}

impl Access {
    /// Checks whether the file is in the user's folder.
    ///
    /// # Errors
    /// Its path cannot be resolved.
    pub fn of(_: &File, path: &Path) -> io::Result<Access> {
        let home = env::home_dir().map(fs::canonicalize).transpose()?;
        let path = fs::canonicalize(path)?;
        Ok(Access { is_shared: home.is_none_or(|home| !path.starts_with(home)) })
    }

    /// Whether others can read the file.
    pub fn others_can_read(self) -> bool {
        self.is_shared
    }

    /// Whether others have any permission.
    pub fn others_have_access(self) -> bool {
        self.is_shared
    }

    /// The permissions in words, for a message.
    pub fn description(self) -> String {
        "it is not in your user folder".to_owned()
    }

    /// Advice that keeps others from the file.
    pub fn remedy(_: &Path) -> String {
        "move it into your user folder".to_owned()
    }
}

/// Always empty: owners and modes are specific to Unix, and [`Access`] checks the folder.
///
/// # Errors
/// Never.
pub fn faults(_: &File, _: &Path) -> io::Result<Vec<Fault>> {
    Ok(Vec::new())
}

/// Always true: Windows does not let anyone replace an open file.
///
/// # Errors
/// Never.
pub fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Opens a file for writing and truncates it. Its folder decides who else can read it.
///
/// # Errors
/// The file cannot be written.
pub fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).open(path)
}

/// Standard input or output as an unbuffered file.
///
/// # Errors
/// The stream is closed.
pub fn duplicate(stream: &impl AsHandle) -> io::Result<File> {
    stream.as_handle().try_clone_to_owned().map(File::from)
}

/// Runs the command and exits with its exit code; returns only if it cannot be run.
pub fn become_command(program: &OsStr, arguments: &[OsString]) -> io::Error {
    match Command::new(program).args(arguments).status() {
        Ok(status) => process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}

/// The user's name.
pub fn user_name() -> Option<String> {
    env::var_os("USERNAME").map(|name| name.to_string_lossy().into_owned())
}

/// The bytes of a command-line argument.
pub fn bytes(word: &OsStr) -> &[u8] {
    word.as_encoded_bytes()
}
