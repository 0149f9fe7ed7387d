//! Reads the configuration and the files it names.

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use crate::config::{Config, Note, Reading};
use crate::daemon::cli::Arguments;
use crate::daemon::error::StartError;
use crate::daemon::one_time;
use crate::lock::Lock;

/// A configuration, and what tells it from any other.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// Of all bytes that were read: two processes with the same one have read the same.
    pub fingerprint: u64,
}

/// Reads the configuration that the command line names. Relative paths in it are relative to where
/// we were started.
///
/// # Errors
/// Why it cannot be read, or is refused.
pub fn load(arguments: &Arguments, note: &mut dyn FnMut(Note)) -> Result<Loaded, StartError> {
    let path = &arguments.config;
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            note(Note::LeftOut(format!("{}: is a folder, read as an empty file", path.display())));
            Vec::new()
        }
        text => text.map_err(|error| StartError::Unreadable(path.to_owned(), error))?,
    };
    // It may hold seeds.
    let text = Zeroizing::new(text);
    let mut hasher = DefaultHasher::new();
    hasher.write(&text);
    let mut file = |path: &Path| {
        let text = one_time::read(&arguments.folder.join(path))?;
        hasher.write(&text);
        Ok(text)
    };
    let reading = Reading { file: &mut file, note, interface_is_given: arguments.interface.is_some() };
    let mut config = Config::parse(&text, reading).map_err(StartError::Config)?;
    anchor(&mut config, &arguments.folder);
    Ok(Loaded { config, fingerprint: hasher.finish() })
}

fn anchor(config: &mut Config, folder: &Path) {
    let options = &mut config.options;
    for path in [&mut options.log_file, &mut options.pid_file, &mut options.state_file].into_iter().flatten()
    {
        *path = folder.join(&path);
    }
    for door in &mut config.doors {
        if let Lock::OneTime(lines) = &mut door.lock {
            lines.path = folder.join(&lines.path);
        }
    }
}
