//! `--check`: reads the configuration, says what looks wrong, and listens for nothing.

use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;

use crate::daemon::cli::Arguments;
use crate::daemon::core_dump;
use crate::daemon::load::{Loaded, load};
use crate::daemon::log::output;
use crate::door::lock::Lock;

/// The bits that let group or others read a file.
const OTHERS_READ: u32 = 0o044;

/// Checks the configuration: 0 if it would be taken, 1 otherwise.
#[must_use]
pub fn main(arguments: &Arguments) -> ExitCode {
    core_dump::forbid();
    output::start(arguments.verbose, arguments.debug);
    let Loaded { config, files, warnings: about_files, .. } = match load(arguments, &mut output::pass_on) {
        Ok(loaded) => loaded,
        Err(error) => {
            output::complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let mut warnings: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
    let one_time = config.doors.iter().filter_map(|door| match &door.lock {
        Lock::OneTime(lines) => Some(&lines.path),
        Lock::Fixed(_) | Lock::Otp(_) => None,
    });
    let files = files.iter().map(|(path, _)| path).filter(|_| config.holds_secrets()).chain(one_time);
    for file in files {
        if std::fs::metadata(file).is_ok_and(|it| it.permissions().mode() & OTHERS_READ != 0) {
            let path = file.display();
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
        arguments.config.display(),
        if doors == 1 { "door" } else { "doors" }
    ));
    ExitCode::SUCCESS
}
