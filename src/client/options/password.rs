//! The options for one-time passwords, and the files with their seeds.
//!
//! Seeds are read into memory that is zeroed afterwards, and no message repeats them. (A seed on the command
//! line is nevertheless visible to the shell and in the process list.)

use std::fs::File;
use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use crate::client::failure::Failure;
use crate::client::profiles::CompletedArguments;
use crate::client::system::{self, Access};
use crate::client::{output, secret};
use crate::config::{Config, Reading};
use crate::door::lock::Lock;
use crate::door::otp::{Otp, digest_from_word};
use crate::plan::password::{self, SourceLookup};
use crate::reason::reason;

/// The options that supply a password.
const PASSWORD_OPTIONS: [&str; 3] = ["otp", "otp-file", "config"];

/// A one-time password, and how to determine the source address for its list.
#[derive(Debug)]
pub struct Password {
    pub otp: Otp,
    pub source_lookup: SourceLookup,
}

/// Reads the password given by the command line or the profile; `None` if neither gives one.
///
/// # Errors
/// There is more than one, or the file cannot be read or has no password.
pub fn read(input: &CompletedArguments) -> Result<Option<Password>, Failure> {
    let arguments = &input.arguments;
    let digest = match arguments.text("otp-digest") {
        Some(word) => Some(digest_from_word(&word).ok_or_else(|| {
            let name = input.option_name("otp-digest");
            Failure::refused(format_args!("{name}: '{word}' is not sha1, sha256 or sha512"))
        })?),
        None => None,
    };
    let source_lookup = match arguments.text("source-ip") {
        Some(text) => SourceLookup::parse(&text).ok_or_else(|| {
            let name = input.option_name("source-ip");
            Failure::refused(format_args!(
                "{name}: '{text}' is not auto, an address, 'stun:SERVER stun:SERVER', 'stun:SERVER ADDRESS[/LENGTH]' or command:CMD"
            ))
        })?,
        None => SourceLookup::default(),
    };
    let Some(mut otp) = read_otp(input)? else {
        let useless = ["otp-digest", "source-ip", "door"].into_iter().find(|name| arguments.has(name));
        let Some(option) = useless else { return Ok(None) };
        let needed = if option == "door" { "--config" } else { "--otp, --otp-file or --config" };
        return Err(Failure::refused(format_args!("{} needs {needed}", input.option_name(option))));
    };
    otp.digest = digest.unwrap_or(otp.digest);
    Ok(Some(Password { otp, source_lookup }))
}

fn read_otp(input: &CompletedArguments) -> Result<Option<Otp>, Failure> {
    let arguments = &input.arguments;
    let setting = input.setting("otp");
    let given: Vec<&str> = PASSWORD_OPTIONS.into_iter().filter(|name| arguments.has(name)).collect();
    if given.len() + usize::from(setting.is_some()) > 1 {
        let location = input.location(&PASSWORD_OPTIONS);
        return Err(Failure::refused(format_args!(
            "{location}--otp, --otp-file and --config exclude each other"
        )));
    }
    if arguments.has("door") && !arguments.has("config") {
        return Err(Failure::refused(format_args!("{} needs --config", input.option_name("door"))));
    }
    if let Some(setting) = setting {
        let value = setting.value().unwrap_or_default().as_bytes();
        let refuse = |error| Failure::refused(format_args!("{}{error}", input.location(&["otp"])));
        return password::parse(value).map(Some).map_err(refuse);
    }
    let Some((option, value)) = given.first().and_then(|name| Some((*name, arguments.value(name)?))) else {
        return Ok(None);
    };
    let (path, insecure) = (Path::new(value), arguments.has("insecure"));
    let otp = match (option, arguments.text("door")) {
        ("otp", _) => password::parse(system::bytes(value)).map_err(|error| format!("--{error}")),
        ("otp-file", _) => file_password(path, insecure),
        (_, Some(name)) => door_password(path, &name, insecure),
        (_, None) => {
            return Err(Failure::refused(format_args!("{} needs --door", input.option_name(option))));
        }
    };
    let location = input.location(&[option]);
    otp.map(Some).map_err(|problem| Failure::refused(format_args!("{location}{problem}")))
}

/// Reads the password on the only line of a file.
fn file_password(path: &Path, insecure: bool) -> Result<Otp, String> {
    let shown = path.display();
    let text = read_seed_file(path, insecure)?;
    let Some(line) = password::only_line(&text) else {
        return Err(format!("{shown}: not one line with a one-time password"));
    };
    password::parse(line).map_err(|error| format!("{shown}: {error}"))
}

/// Reads the password of a door in a knockd.conf.
fn door_password(path: &Path, name: &str, insecure: bool) -> Result<Otp, String> {
    let shown = path.display();
    let text = read_seed_file(path, insecure)?;
    // Files of other doors are replaced by this text, which is valid both as a one-time file and as an
    // access.conf.
    let any = b"SOURCE ANY\nKEY 1\nHMAC_KEY 2\n";
    let reading = Reading { file: &mut |_| Ok(any.to_vec()), note: &mut |_| {}, interface_is_given: false };
    let config = Config::parse(&text, reading).map_err(|error| format!("{shown}: {error}"))?;
    match config.doors.into_iter().find(|door| &*door.name == name).map(|door| door.lock) {
        Some(Lock::Otp(lock)) => Ok(lock.otp),
        Some(_) => Err(format!("{shown}: door '{name}' has no otp")),
        None => Err(format!("{shown}: no door '{name}'")),
    }
}

/// Reads a file with a seed. Warns if others can read it; fails if others can write it.
fn read_seed_file(path: &Path, insecure: bool) -> Result<Zeroizing<Vec<u8>>, String> {
    let shown = path.display();
    let failed = |error: io::Error| format!("{shown}: {}", reason(&error));
    let mut file = File::open(path).map_err(failed)?;
    let access = Access::of(&file, path).map_err(failed)?;
    secret::check_writers(&file, path, insecure)?;
    let text = secret::read(&mut file).map_err(failed)?;
    if access.others_can_read() {
        output::print_error(format_args!(
            "warning: {shown} holds the secret of a door and can be read by others; {} keeps it",
            Access::remedy(path)
        ));
    }
    Ok(text)
}
