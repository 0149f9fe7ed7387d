//! The profile files: where they are, who may read them, what stands in them.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::client::failure::Failure;
use crate::client::output;
use crate::client::wanted::password;
use crate::plan::profile::{self, Profile};
use crate::reason::reason;

/// The profiles of the whole system.
const SYSTEM: &str = "/etc/knock.conf";

/// A profile and the file it stands in.
pub(super) struct Found {
    pub(super) profile: Profile,
    pub(super) path: PathBuf,
}

/// The files in which profiles are looked for, first one first.
pub(super) fn paths() -> Vec<PathBuf> {
    // Relative paths are to be ignored (XDG Base Directory Specification).
    let folder = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let own = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
    own.map(|folder| folder.join("knock.conf")).into_iter().chain([PathBuf::from(SYSTEM)]).collect()
}

/// The profile of this name, if there is one; the user's own file comes first.
///
/// # Errors
/// A file cannot be read, is not private (unless `insecure`), or is not a profile file.
pub(super) fn find(name: &str, insecure: bool) -> Result<Option<Found>, Failure> {
    for path in paths() {
        let found = read(&path, insecure)?.into_iter().find(|profile| profile.name == name);
        if let Some(profile) = found {
            return Ok(Some(Found { profile, path }));
        }
    }
    Ok(None)
}

/// Shows every profile: its name, its host, its file. The sequences stay where they are.
///
/// # Errors
/// As [`find`].
pub(super) fn list(insecure: bool) -> Result<(), Failure> {
    for path in paths() {
        for profile in read(&path, insecure)? {
            output::say(format_args!("{:<15} {:<30} {}", profile.name, profile.host(), path.display()));
        }
    }
    Ok(())
}

/// The profiles of one file; none if it does not exist, or is the system's and not for us.
fn read(path: &Path, insecure: bool) -> Result<Vec<Profile>, Failure> {
    let shown = path.display();
    let failed = |error: io::Error| Failure::refused(format_args!("{shown}: {}", reason(&error)));
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path == Path::new(SYSTEM) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    // Asked of the open file, so that it cannot be another one by the time it is read.
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 && !insecure {
        return Err(Failure::refused(format_args!(
            "{shown}: others may use this file (mode {mode:03o}), and it holds secrets; \
             chmod 600 {shown}, or use --insecure"
        )));
    }
    let text = password::secret(&mut file).map_err(failed)?;
    profile::parse(&text).map_err(|error| Failure::refused(format_args!("{shown}: {error}")))
}

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: it is on or off.
    Switch,
    /// A value.
    Value,
}

impl Found {
    /// The profile as words of a command line, in its own order. `kind` knows the options.
    ///
    /// # Errors
    /// A key that is no option, a value where none belongs, none where one does.
    pub(super) fn arguments(&self, kind: impl Fn(&str) -> Option<Kind>) -> Result<Vec<OsString>, Failure> {
        let mut arguments = Vec::new();
        for setting in &self.profile.settings {
            let key = setting.key.as_str();
            if matches!(key, "host" | "sequence" | "otp") {
                continue;
            }
            let refuse = |problem: &str| {
                let (path, line) = (self.path.display(), setting.line);
                Err(Failure::refused(format_args!("{path}: line {line}: {problem}")))
            };
            match (kind(key), setting.value()) {
                (None, _) => return refuse(&format!("unknown setting '{key}'")),
                (Some(Kind::Value), None) => return refuse(&format!("'{key}' needs a value")),
                (Some(Kind::Value), Some(value)) => arguments.push(format!("--{key}={value}").into()),
                (Some(Kind::Switch), None | Some("yes" | "true" | "on" | "1")) => {
                    arguments.push(format!("--{key}").into());
                }
                (Some(Kind::Switch), Some("no" | "false" | "off" | "0")) => {
                    arguments.retain(|argument| *argument != *format!("--{key}"));
                }
                (Some(Kind::Switch), Some(_)) => return refuse(&format!("'{key}' is yes or no")),
            }
        }
        Ok(arguments)
    }
}
