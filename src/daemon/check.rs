//! `--check`: reads the configuration, warns of what looks wrong, shows each door, and listens for nothing.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::summary::{first_program, summary};
use crate::config::{Config, Note};
use crate::daemon::cli::Arguments;
use crate::daemon::core_dump;
use crate::daemon::load::{Loaded, load};
use crate::daemon::log::output;
use crate::octets;

/// The bits that let group or others read a file.
const OTHERS_READ: u32 = 0o044;
/// The bit that lets others write.
const OTHERS_WRITE: u32 = 0o002;
/// The execute bits of a file's mode.
const ANYBODY_RUNS: u32 = 0o111;

/// Checks the configuration. The exit code is 0 if the daemon would accept it, otherwise 1.
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
    // Files with one-time sequences, and fwknop's with keys.
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
    for remark in remarks(&config) {
        output::print(&format!("warning: {remark}\n"));
    }
    let doors = config.doors.len();
    output::print(&format!(
        "{}: ok, {doors} {}\n",
        octets::path(&arguments.config),
        if doors == 1 { "door" } else { "doors" }
    ));
    for door in &config.doors {
        output::print(&format!("{}\n", summary(door)));
    }
    ExitCode::SUCCESS
}

/// Weaknesses that are common in existing configurations, one sentence each.
fn remarks(config: &Config) -> Vec<String> {
    let mut remarks: Vec<String> = config.remarks().iter().map(ToString::to_string).collect();
    for door in &config.doors {
        let commands = [&door.start, &door.start6, &door.stop, &door.stop6];
        let mut programs: Vec<&[u8]> =
            commands.into_iter().flatten().filter_map(|command| first_program(command.bytes())).collect();
        programs.sort_unstable();
        programs.dedup();
        for program in programs.into_iter().filter(|program| !can_be_run(program)) {
            remarks.push(format!(
                "A command of door '{}' begins with a program that is not there, or that nobody can run: {}.",
                door.name,
                octets::text(program)
            ));
        }
    }
    let files = [("pid", &config.options.pid_file), ("state", &config.options.state_file)];
    for (what, path) in files.into_iter().filter_map(|(what, path)| Some((what, path.as_ref()?))) {
        let Some(folder) = path.parent() else { continue };
        if std::fs::metadata(folder).is_ok_and(|it| it.permissions().mode() & OTHERS_WRITE != 0) {
            remarks.push(format!(
                "The {what} file {} is in a folder that everybody can write, so that others can be there first; /run \
                 or /var/lib is better.",
                octets::path(path)
            ));
        }
    }
    remarks
}

/// Whether the daemon's shell would find this program: in the folders of our `PATH`, or in the usual ones of
/// daemons.
fn can_be_run(program: &[u8]) -> bool {
    const FOLDERS: [&str; 6] =
        ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let program = OsStr::from_bytes(program);
    let can_be = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & ANYBODY_RUNS != 0)
    };
    if program.as_bytes().contains(&b'/') {
        return can_be(Path::new(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    folders.into_iter().any(|folder| can_be(&folder.join(program)))
}
