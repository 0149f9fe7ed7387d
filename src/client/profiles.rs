//! Stage 2: completes the command line by the profile that it names.
//!
//! This module finds the profile files, checks who can access them, and converts a profile to options.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::client::cli::{self, Arguments, OptionKind};
use crate::client::failure::Failure;
use crate::client::{secret, system};
use crate::plan::profile::{self, Profile, Setting};
use crate::reason::reason;

/// Options that supply a sequence; without any of them, a single word names a profile.
const SEQUENCE_OPTIONS: [&str; 5] = ["one-time-sequences", "otp", "otp-file", "config", "stanza"];

/// A command line, completed by the profile that it names.
pub(super) struct CompletedArguments {
    /// The options of the profile, overridden by those of the command line.
    pub(super) arguments: Arguments,
    /// The profile with the host and the sequence; `None` if the command line has them.
    pub(super) profile: Option<FoundProfile>,
    /// The command line alone.
    command_line: Arguments,
}

/// A profile and its file.
pub(super) struct FoundProfile {
    pub(super) profile: Profile,
    pub(super) path: PathBuf,
}

impl CompletedArguments {
    /// The host to knock at.
    pub(super) fn host(&self) -> String {
        match &self.profile {
            Some(found) => found.profile.host().to_owned(),
            None => self.named_host().unwrap_or_default(),
        }
    }

    /// The host, unless it could only be taken from the profile's name.
    pub(super) fn named_host(&self) -> Option<String> {
        match &self.profile {
            Some(found) => found.profile.setting("host")?.value().map(str::to_owned),
            None => self.arguments.words().first().map(|it| it.to_string_lossy().into_owned()),
        }
    }

    /// A setting of the profile: `sequence` or `otp`.
    pub(super) fn setting(&self, key: &str) -> Option<&Setting> {
        self.profile.as_ref()?.profile.setting(key)
    }

    /// The name of an option for an error message: `--ttl`, or `PATH: line 7: ttl` if the profile sets it.
    pub(super) fn option_name(&self, option: &str) -> String {
        match self.location(&[option]) {
            location if location.is_empty() => format!("--{option}"),
            location => format!("{location}{option}"),
        }
    }

    /// `PATH: line 7: ` for the first of these settings that comes from the profile; empty if the command
    /// line overrides all of them.
    pub(super) fn location(&self, settings: &[&str]) -> String {
        let of_profile = settings.iter().filter(|name| !self.command_line.has(name));
        let location = |found: &FoundProfile| {
            let line = of_profile.clone().find_map(|name| found.profile.setting(name))?.line;
            Some(format!("{}: line {line}: ", found.path.display()))
        };
        self.profile.as_ref().and_then(location).unwrap_or_default()
    }
}

/// Completes a command line, given both as words and parsed.
///
/// # Errors
/// The command line has nothing to knock, the profile does not exist, or its file is not safe to use.
pub(super) fn complete(line: &[OsString], arguments: Arguments) -> Result<CompletedArguments, Failure> {
    let words = arguments.words();
    // A stanza names its own host.
    if words.is_empty() && arguments.has("stanza") {
        return Ok(CompletedArguments { command_line: arguments.clone(), arguments, profile: None });
    }
    let Some(name) = words.first().map(|word| word.to_string_lossy()) else {
        return Err(Failure::usage(None));
    };
    if words.len() > 1 || SEQUENCE_OPTIONS.into_iter().any(|name| arguments.has(name)) {
        return Ok(CompletedArguments { command_line: arguments.clone(), arguments, profile: None });
    }
    let Some(found) = find(&name, arguments.has("insecure"))? else {
        let paths: Vec<String> = paths().iter().map(|path| path.display().to_string()).collect();
        let paths = paths.join(" or ");
        let problem = format!("no ports, and no profile '{name}' in {paths}");
        // knock 0.8 took any word for a host and printed the usage; keep that for addresses.
        if name.parse::<IpAddr>().is_ok() {
            return Err(Failure::usage(Some(format!("error: {problem}"))));
        }
        let others: Vec<FoundProfile> =
            all(arguments.has("insecure")).into_iter().filter_map(Result::ok).flatten().collect();
        let nearest = profile::nearest(&name, others.iter().map(|found| &*found.profile.name));
        let hint = nearest.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default();
        return Err(Failure::refused(format_args!("{problem}{hint} (see knock --help)")));
    };
    found.complete(line, arguments)
}

/// The profile files, in order of preference.
fn paths() -> Vec<PathBuf> {
    let (user, system) = system::profile_files();
    user.into_iter().chain([system]).collect()
}

/// Finds a profile by name; the user's own file takes precedence.
fn find(name: &str, insecure: bool) -> Result<Option<FoundProfile>, Failure> {
    for path in paths() {
        let mut named = read(&path, insecure)?.into_iter().filter(|found| found.profile.name == name);
        if let Some(found) = named.next() {
            // The parser marks a second section of the same name as a mistake; report that rather than guess
            // which one is meant.
            named.try_for_each(|other| other.check())?;
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// All profiles, file by file.
pub(super) fn all(insecure: bool) -> Vec<Result<Vec<FoundProfile>, Failure>> {
    paths().iter().map(|path| read(path, insecure)).collect()
}

/// Reads the profiles of one file; none if it does not exist, or if it is the system's file and not readable
/// by us.
fn read(path: &Path, insecure: bool) -> Result<Vec<FoundProfile>, Failure> {
    let shown = path.display();
    let failed = |error: io::Error| Failure::refused(format_args!("{shown}: {}", reason(&error)));
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied && path == system::profile_files().1 =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let text = secret::read_private(&mut file, path, insecure)?;
    let profiles =
        profile::parse(&text).map_err(|error| Failure::refused(format_args!("{shown}: {error}")))?;
    Ok(profiles.into_iter().map(|profile| FoundProfile { profile, path: path.to_owned() }).collect())
}

impl FoundProfile {
    /// The profile with an empty command line.
    ///
    /// # Errors
    /// Its section has a mistake.
    pub(super) fn without_command_line(self) -> Result<CompletedArguments, Failure> {
        let line = [OsString::from("knock")];
        match cli::read(&line)? {
            cli::Parsed::Arguments(arguments) => self.complete(&line, arguments),
            cli::Parsed::Help | cli::Parsed::Version => Err(Failure::usage(None)),
        }
    }

    /// Reports the first mistake in the profile's section, if any.
    fn check(&self) -> Result<(), Failure> {
        let path = self.path.display();
        let refuse = |error| Failure::refused(format_args!("{path}: {error}"));
        self.profile.mistake.as_ref().map_or(Ok(()), |error| Err(refuse(error)))
    }

    /// The options of the profile, overridden by a command line.
    fn complete(self, line: &[OsString], command_line: Arguments) -> Result<CompletedArguments, Failure> {
        let mut words: Vec<OsString> = line.iter().take(1).cloned().collect();
        words.extend(self.options()?);
        words.extend(line.iter().skip(1).cloned());
        match cli::read(&words)? {
            cli::Parsed::Arguments(arguments) => {
                Ok(CompletedArguments { arguments, profile: Some(self), command_line })
            }
            cli::Parsed::Help | cli::Parsed::Version => Err(Failure::usage(None)),
        }
    }

    /// The settings as words of a command line, in the order of the file.
    ///
    /// # Errors
    /// An unknown key, a value for a switch, or a missing value.
    fn options(&self) -> Result<Vec<OsString>, Failure> {
        self.check()?;
        let mut options = Vec::new();
        for setting in &self.profile.settings {
            let key = setting.key.as_str();
            let refuse = |problem: &str| {
                let (path, line) = (self.path.display(), setting.line);
                Err(Failure::refused(format_args!("{path}: line {line}: {problem}")))
            };
            // These three are not passed as options: they stay in memory that is zeroed on drop.
            let stays_in_profile = matches!(key, "host" | "sequence" | "otp");
            let kind = if stays_in_profile { Some(OptionKind::Value) } else { cli::profile_option_kind(key) };
            match (kind, setting.value()) {
                // A key that does not look like an option may be a seed whose name is missing; do not show
                // it.
                (None, Some(_)) if key.bytes().all(|byte| byte == b'-' || byte.is_ascii_lowercase()) => {
                    return refuse(&format!("unknown setting '{key}'"));
                }
                (None, _) => return refuse("unknown setting"),
                (Some(OptionKind::Value), None) => return refuse(&format!("'{key}' needs a value")),
                (Some(OptionKind::Value), Some(_)) if stays_in_profile => {}
                (Some(OptionKind::Value), Some(value)) => options.push(format!("--{key}={value}").into()),
                (Some(OptionKind::Switch), None | Some("yes" | "true" | "on" | "1")) => {
                    options.push(format!("--{key}").into());
                }
                (Some(OptionKind::Switch), Some("no" | "false" | "off" | "0")) => {
                    options.retain(|option| *option != *format!("--{key}"));
                }
                (Some(OptionKind::Switch), Some(_)) => return refuse(&format!("'{key}' is yes or no")),
            }
        }
        Ok(options)
    }
}
