//! Windows.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::windows::io::AsHandle;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use crate::trust::Fault;

/// The shell that runs a command line, and the option before it.
pub const SHELL: (&str, &str) = ("cmd", "/C");

/// The file of the user's profiles, if there is a home, and that of the system.
pub fn profile_files() -> (Option<PathBuf>, PathBuf) {
    let folder = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let file = |folder: PathBuf| folder.join("knock").join("knock.conf");
    let system = folder("PROGRAMDATA").unwrap_or_else(|| PathBuf::from("C:\\ProgramData"));
    (folder("APPDATA").map(file), file(system))
}

/// What others may do with a file: what is in the folder of the user, Windows keeps from other users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    is_shared: bool,
}

impl Access {
    /// Looks where the file is.
    ///
    /// # Errors
    /// Its path cannot be resolved.
    pub fn of(_: &File, path: &Path) -> io::Result<Access> {
        let home = env::home_dir().map(fs::canonicalize).transpose()?;
        let path = fs::canonicalize(path)?;
        Ok(Access { is_shared: home.is_none_or(|home| !path.starts_with(home)) })
    }

    /// Whether others may read it.
    pub fn others_read(self) -> bool {
        self.is_shared
    }

    /// Whether others may do anything with it.
    pub fn others_use(self) -> bool {
        self.is_shared
    }

    /// In words, for a message.
    pub fn words(self) -> String {
        "it is not in your user folder".to_owned()
    }

    /// What keeps others from it.
    pub fn remedy(_: &Path) -> String {
        "move it into your user folder".to_owned()
    }
}

/// Why an open file cannot be trusted: owners and modes are those of Unix, and [`Access`] looks at the folder.
///
/// # Errors
/// None.
pub fn faults(_: &File, _: &Path) -> io::Result<Vec<Fault>> {
    Ok(Vec::new())
}

/// Whether the path leads to this file: nobody can replace a file that is open.
///
/// # Errors
/// None.
pub fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Opens a file for writing, and empties it. Others may read it where its folder lets them.
///
/// # Errors
/// The file cannot be written.
pub fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).open(path)
}

/// Standard input or output as a file, which is not buffered.
///
/// # Errors
/// The stream is closed.
pub fn duplicate(stream: &impl AsHandle) -> io::Result<File> {
    stream.as_handle().try_clone_to_owned().map(File::from)
}

/// Runs the command and ends with its exit code; returns only if it cannot be run.
pub fn become_command(program: &OsStr, arguments: &[OsString]) -> io::Error {
    match Command::new(program).args(arguments).status() {
        Ok(status) => process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}

/// The name of the user.
pub fn user_name() -> Option<String> {
    env::var_os("USERNAME").map(|name| name.to_string_lossy().into_owned())
}

/// The bytes of a word of the command line.
pub fn bytes(word: &OsStr) -> &[u8] {
    word.as_encoded_bytes()
}
