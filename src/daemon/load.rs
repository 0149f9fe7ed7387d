//! Reads the configuration and the files it names.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use glob::MatchOptions;
use zeroize::Zeroizing;

use crate::config::{self, Config, ConfigError, Note, Problem, Reading, StatusSocket};
use crate::daemon::cli::Arguments;
use crate::daemon::confinements::Confinements;
use crate::daemon::error::StartError;
use crate::daemon::one_time;
use crate::daemon::trusted::{self, Trusted};
use crate::door::lock::Lock;
use crate::octets;
use crate::protocol::bundle::{Bundle, File};
use crate::reason::reason;

/// A configuration, and the text it was read from.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The files that were read: the main file first, included files after it.
    pub files: Vec<File>,
    /// The one-time sequence files, with their names as in the configuration.
    pub one_time: Vec<File>,
    /// Warnings about others who can write these files.
    pub warnings: Vec<String>,
    /// The confinements of the processes that read untrusted input.
    pub confinements: Confinements,
}

/// Reads the configuration that the command line names. Relative paths in it are relative to the folder we
/// were started in.
///
/// # Errors
/// The configuration cannot be read, or is refused.
pub fn load(arguments: &Arguments, note: &mut dyn FnMut(Note)) -> Result<Loaded, StartError> {
    let (mut files, mut warnings) = (Vec::new(), Vec::new());
    gather(&arguments.config, &mut files, &mut warnings, note)?;
    let mut lists = Vec::new();
    let mut file = |path: &Path| {
        let mut opened = one_time::open(&arguments.folder.join(path))?;
        warnings.extend(about_groups(path, &opened));
        let mut text = opened.read()?;
        lists.push((path.to_owned(), text.clone()));
        Ok(std::mem::take(&mut *text))
    };
    let reading = Reading { file: &mut file, note, interface_is_given: arguments.interface.is_some() };
    let sources: Vec<_> = files
        .iter()
        .map(|(path, text)| ((files.len() > 1).then_some(path.as_path()), text.as_slice()))
        .collect();
    let mut config = Config::parse_all(&sources, reading).map_err(StartError::Config)?;
    anchor(&mut config, &arguments.folder);
    let confinements = Confinements::of(&config.options).map_err(StartError::NoUser)?;
    Ok(Loaded { config, files, one_time: lists, warnings, confinements })
}

/// Reads a file and all files that it includes, recursively; each included file comes after the one that
/// includes it.
fn gather(
    path: &Path,
    files: &mut Vec<File>,
    warnings: &mut Vec<String>,
    note: &mut dyn FnMut(Note),
) -> Result<(), StartError> {
    let unreadable = |error| StartError::Unreadable(path.to_owned(), error);
    let mut opened = trusted::open(path, OpenOptions::new().read(true)).map_err(unreadable)?;
    warnings.extend(about_groups(path, &opened));
    let text = match opened.read() {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory && files.is_empty() => {
            note(Note::LeftOut(format!("{}: is a folder, read as an empty file", octets::path(path))));
            Zeroizing::default()
        }
        text => text.map_err(unreadable)?,
    };
    let file = (!files.is_empty()).then(|| path.to_owned());
    let included: Vec<(usize, Vec<u8>)> =
        config::includes(&text).map(|(line, pattern)| (line, pattern.to_vec())).collect();
    files.push((path.to_owned(), text));
    for (line, pattern) in included {
        let pattern = path.parent().unwrap_or(Path::new("/")).join(OsStr::from_bytes(&pattern));
        let fail = |what: &Path, why: String| {
            let problem = Problem::Include(octets::path(what).into_owned(), why);
            StartError::Config(ConfigError { file: file.clone(), line, problem })
        };
        for included in matches(&pattern).map_err(|why| fail(&pattern, why))? {
            if files.iter().any(|(path, _)| *path == included) {
                return Err(fail(&included, "is read already".to_owned()));
            }
            let opened = trusted::open(&included, OpenOptions::new().read(true));
            let opened = opened.map_err(|error| fail(&included, reason(&error)))?;
            // knockd 0.8 had no includes, so no existing setup breaks.
            if let Some(fault) = opened.of_groups.first() {
                return Err(fail(&included, fault.to_string()));
            }
            gather(&included, files, warnings, note)?;
        }
    }
    Ok(())
}

/// Warnings about a file that the members of a group can change; knockd 0.8 accepted such files.
fn about_groups(path: &Path, opened: &Trusted) -> Vec<String> {
    let path = octets::path(path);
    let sentence =
        |fault| format!("warning: {path}: {fault}. Its members decide which commands knockd runs.");
    opened.of_groups.iter().map(sentence).collect()
}

/// The files that a pattern matches, sorted by name. A pattern without wildcards names one file, which must
/// exist.
fn matches(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let text = pattern.to_str().ok_or("is not UTF-8")?;
    if !text.contains(['*', '?', '[']) {
        return Ok(vec![pattern.to_owned()]);
    }
    let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::new() };
    let paths = glob::glob_with(text, options).map_err(|error| error.msg.to_owned())?;
    paths.map(|path| path.map_err(|error| reason(error.error()))).collect()
}

/// Parses the configuration in a bundle. Warnings were given by the process that read the files; paths stay
/// as written there.
#[must_use]
pub fn unpack(bundle: &Bundle<'_>) -> Option<Config> {
    let mut file = |path: &Path| {
        let text = bundle.one_time(path).map(<[u8]>::to_vec);
        text.ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    let reading = Reading { file: &mut file, note: &mut |_| {}, interface_is_given: true };
    let places = bundle.files.iter().enumerate();
    let sources: Vec<_> = places.map(|(index, (path, text))| ((index > 0).then_some(*path), *text)).collect();
    Config::parse_all(&sources, reading).ok()
}

fn anchor(config: &mut Config, folder: &Path) {
    let options = &mut config.options;
    let status_socket =
        if let StatusSocket::At(path) = &mut options.status_socket { Some(path) } else { None };
    let files =
        [&mut options.log_file, &mut options.pid_file, &mut options.state_file, &mut options.fleet_socket]
            .into_iter()
            .flatten();
    for path in files.chain(status_socket) {
        *path = folder.join(&path);
    }
    for door in &mut config.doors {
        if let Lock::OneTime(lines) = &mut door.lock {
            lines.path = folder.join(&lines.path);
        }
    }
}
