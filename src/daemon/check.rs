//! `--check`: reads the configuration, says what looks wrong, and listens for nothing.

use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;

use crate::config::Note;
use crate::daemon::cli::Arguments;
use crate::daemon::core_dump;
use crate::daemon::load::{Loaded, load};
use crate::daemon::log::output;
use crate::octets;

/// The bits that let group or others read a file.
const OTHERS_READ: u32 = 0o044;

/// Checks the configuration: 0 if it would be taken, 1 otherwise.
#[must_use]
pub fn main(arguments: &Arguments) -> ExitCode {
    core_dump::forbid();
    output::start(arguments.verbose, arguments.debug);
    let mut note = |note| match note {
        Note::Explained(text) => output::print(&format!("{text}\n")),
        other => output::pass_on(other),
    };
    let Loaded { config, files, one_time, warnings: about_files, .. } = match load(arguments, &mut note) {
        Ok(loaded) => loaded,
        Err(error) => {
            output::complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let mut warnings: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
    // Sequences that are used once, and keys of fwknop.
    let one_time = one_time.iter().map(|(path, _)| arguments.folder.join(path));
    let files = files.iter().map(|(path, _)| path.clone()).filter(|_| config.holds_secrets()).chain(one_time);
    for file in files {
        if std::fs::metadata(&file).is_ok_and(|it| it.permissions().mode() & OTHERS_READ != 0) {
            let path = octets::path(&file);
            warnings.push(format!(
                "{path} holds the secret of a door and can be read by others; chmod 600 {path} keeps it."
            ));
        }
    }
    for warning in &about_files {
        output::complain(warning);
    }
    for warning in &warnings {
        output::complain(&format!("warning: {warning}"));
    }
    let doors = config.doors.len();
    output::print(&format!(
        "{}: ok, {doors} {}\n",
        octets::path(&arguments.config),
        if doors == 1 { "door" } else { "doors" }
    ));
    ExitCode::SUCCESS
}
