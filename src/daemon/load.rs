//! Reads the configuration and the files it names.

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use crate::config::{Config, Note, Reading};
use crate::daemon::error::StartError;
use crate::daemon::one_time;

/// A configuration, and what tells it from any other.
#[derive(Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// Of all bytes that were read: two processes with the same one have read the same.
    pub fingerprint: u64,
}

/// Reads the configuration in this file.
///
/// # Errors
/// Why it cannot be read, or is refused.
pub fn load(path: &Path, interface_is_given: bool, note: &mut dyn FnMut(Note)) -> Result<Loaded, StartError> {
    // A folder is an empty configuration to knockd 0.8, and hardly ever what was meant.
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
        let text = one_time::read(path)?;
        hasher.write(&text);
        Ok(text)
    };
    let config = Config::parse(&text, Reading { file: &mut file, note, interface_is_given })
        .map_err(StartError::Config)?;
    Ok(Loaded { config, fingerprint: hasher.finish() })
}
