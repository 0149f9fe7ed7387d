//! One-time passwords: where the client finds the seed, and when it knocks.
//!
//! Seeds are read into memory that is zeroed afterwards, and no message repeats them. (One on the
//! command line is in the hands of the shell and of whoever looks at the list of processes.)

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use crate::client::cli::Typed;
use crate::client::failure::Failure;
use crate::client::lookup::source;
use crate::client::profiles::Found;
use crate::client::send::note;
use crate::client::wanted::{Options, text};
use crate::client::{output, written};
use crate::config::{Config, Reading};
use crate::door::lock::Lock;
use crate::door::otp::{Digest, Otp};
use crate::plan::Errand;
use crate::plan::password::{self, Moment, SeenAs};
use crate::reason::reason;

/// More bytes than a configuration has.
const MAX_FILE: u64 = 0x10_0000;
/// The bits that let group or others read a file.
const OTHERS_READ: u32 = 0o044;
/// The clock may be set while we wait for it; after this many waits it is as it is.
const WAITS: u32 = 3;
/// Where a password comes from, as options.
const SOURCES: [&str; 3] = ["otp", "otp-file", "config"];

/// What a seed and the time make.
#[derive(Debug)]
pub struct Password {
    otp: Otp,
    seen_as: SeenAs,
}

/// Whether the command line names a password.
pub fn is_asked(typed: &Typed) -> bool {
    SOURCES.into_iter().any(|name| typed.given(name))
}

/// The password that the command line or the profile names, if they do.
///
/// # Errors
/// More than one, a file that cannot be read, or one that has no password.
pub fn read(typed: &Typed, profile: Option<&Found>) -> Result<Option<Password>, Failure> {
    let digest = match text(typed, "otp-digest") {
        Some(word) => Some(Digest::from_word(&word).ok_or_else(|| {
            Failure::refused(format_args!("--otp-digest: '{word}' is not sha1, sha256 or sha512"))
        })?),
        None => None,
    };
    let seen_as = match text(typed, "source-ip") {
        Some(text) => SeenAs::parse(&text).ok_or_else(|| {
            Failure::refused(format_args!(
                "--source-ip: '{text}' is not auto, an address, stun:SERVER[:PORT] or command:CMD"
            ))
        })?,
        None => SeenAs::default(),
    };
    let Some(mut otp) = chosen(typed, profile)? else {
        return match ["otp-digest", "source-ip", "door"].into_iter().find(|name| typed.given(name)) {
            Some("door") => Err(Failure::refused("--door needs --config")),
            Some(name) => Err(Failure::refused(format_args!("--{name} needs --otp, --otp-file or --config"))),
            None => Ok(None),
        };
    };
    otp.digest = digest.unwrap_or(otp.digest);
    Ok(Some(Password { otp, seen_as }))
}

fn chosen(typed: &Typed, profile: Option<&Found>) -> Result<Option<Otp>, Failure> {
    let setting = profile.and_then(|found| Some((found, found.profile.setting("otp")?)));
    let given: Vec<&str> = SOURCES.into_iter().filter(|name| typed.given(name)).collect();
    if given.len() + usize::from(setting.is_some()) > 1 {
        return Err(Failure::refused("--otp, --otp-file and --config exclude each other"));
    }
    if typed.given("door") && !typed.given("config") {
        return Err(Failure::refused("--door needs --config"));
    }
    if let Some((found, setting)) = setting {
        let (path, line) = (found.path.display(), setting.line);
        let value = setting.value().unwrap_or_default().as_bytes();
        let refuse = |error| Failure::refused(format_args!("{path}: line {line}: {error}"));
        return password::parse(value).map(Some).map_err(refuse);
    }
    let Some((name, value)) = given.first().and_then(|name| Some((*name, typed.value(name)?))) else {
        return Ok(None);
    };
    let path = Path::new(value);
    match name {
        "otp" => password::parse(value.as_bytes())
            .map(Some)
            .map_err(|error| Failure::refused(format_args!("--{error}"))),
        "otp-file" => line(path).map(Some),
        _ => match text(typed, "door") {
            Some(name) => door(path, &name).map(Some),
            None => Err(Failure::refused("--config needs --door")),
        },
    }
}

/// The password on the only line of a file.
fn line(path: &Path) -> Result<Otp, Failure> {
    let shown = path.display();
    let text = file(path)?;
    let Some(line) = password::only_line(&text) else {
        return Err(Failure::refused(format_args!("{shown}: not one line with a one-time password")));
    };
    password::parse(line).map_err(|error| Failure::refused(format_args!("{shown}: {error}")))
}

/// The password of a door, as the daemon's file has it.
fn door(path: &Path, name: &str) -> Result<Otp, Failure> {
    let shown = path.display();
    let text = file(path)?;
    // What other doors have in their one-time files is none of our business, but must be something.
    let reading = Reading { file: &mut |_| Ok(b"1".to_vec()), note: &mut |_| {}, interface_is_given: false };
    let config =
        Config::parse(&text, reading).map_err(|error| Failure::refused(format_args!("{shown}: {error}")))?;
    match config.doors.into_iter().find(|door| &*door.name == name).map(|door| door.lock) {
        Some(Lock::Otp(lock)) => Ok(lock.otp),
        Some(_) => Err(Failure::refused(format_args!("{shown}: door '{name}' has no otp"))),
        None => Err(Failure::refused(format_args!("{shown}: no door '{name}'"))),
    }
}

/// A file with a seed; says so if others can read it.
fn file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let shown = path.display();
    let failed = |error: io::Error| Failure::refused(format_args!("{shown}: {}", reason(&error)));
    let mut file = File::open(path).map_err(failed)?;
    // Asked of the open file, so that it cannot be another one by the time it is read.
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    let text = secret(&mut file).map_err(failed)?;
    if mode & OTHERS_READ != 0 {
        output::complain(format_args!(
            "warning: {shown} holds the secret of a door and can be read by others; chmod 600 {shown} keeps it"
        ));
    }
    Ok(text)
}

/// What a file holds, in one piece of memory that is zeroed when it is dropped.
///
/// # Errors
/// It cannot be read, or is far too long.
pub fn secret(file: &mut File) -> io::Result<Zeroizing<Vec<u8>>> {
    // A buffer that grows leaves copies behind.
    let expected = usize::try_from(file.metadata()?.len().min(MAX_FILE)).unwrap_or(0);
    let mut text = Zeroizing::new(Vec::with_capacity(expected + 4096));
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}

impl Password {
    /// The list for each address, all of one time. May wait for the next period.
    ///
    /// # Errors
    /// It is not known which address a server sees.
    pub fn errands(&self, options: &Options, addresses: &[SocketAddr]) -> Result<Vec<Errand>, Failure> {
        let sources: Vec<Option<IpAddr>> = if self.otp.is_protected() {
            addresses
                .iter()
                .map(|&address| source::towards(address, &self.seen_as, options).map(Some))
                .collect::<Result<_, _>>()?
        } else {
            addresses.iter().map(|_| None).collect()
        };
        let period = self.await_period();
        let mut errands = Vec::with_capacity(addresses.len());
        for (&address, source) in addresses.iter().zip(sources) {
            if options.verbose {
                let seen = source.map_or("any address".to_owned(), |source| source.to_string());
                let left = self.otp.begins(period.saturating_add(1)).saturating_sub(unix()).as_secs();
                note(options, format_args!("one-time password for {seen}, period {period} ({left} s left)"));
            }
            // Without protection the address makes no difference.
            let stages = self.otp.list(period, source.unwrap_or(address.ip()));
            errands.push(Errand { address, stages: written(options, &stages) });
        }
        Ok(errands)
    }

    /// The period to knock in, when it is time to.
    fn await_period(&self) -> u64 {
        let mut moment = Moment::of(&self.otp, unix());
        for _ in 0..WAITS {
            if moment.wait.is_zero() {
                break;
            }
            let is_shown = output::is_watched();
            if is_shown {
                output::progress("\rwaiting for the next period ");
            }
            thread::sleep(moment.wait);
            if is_shown {
                output::progress("\r\x1b[K");
            }
            let now = unix();
            if moment.has_come(&self.otp, now) {
                break;
            }
            moment = Moment::of(&self.otp, now);
        }
        moment.period
    }
}

/// The wall clock, since 1970.
fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
