//! The one table of directives: what each is called, where it may stand, and how it is read.
//!
//! The manual page is held against this table by a test.
#![expect(clippy::unnecessary_wraps, reason = "the readers of a table have one signature")]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::rules::{self, ReadRule};
use crate::config::{Draft, Note, Options, Problem, Reading};
use crate::door::knock::Flags;
use crate::door::lock::{Lock, OneTime, OtpLock};
use crate::door::otp::{Digest, MAX_WINDOW, Otp};
use crate::door::sequence::{Sequence, atoi};
use crate::door::spent::Spent;
use crate::door::{Reopen, Template};
use crate::filter::interfaces::Wanted;

/// What `Max_Attempts` may be: a few knockers at once, and what a small machine has memory for.
const ATTEMPTS: std::ops::RangeInclusive<usize> = 16..=1_000_000;

/// Where a directive may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In `[options]`.
    Options,
    /// In any other section.
    Door,
    /// In every section.
    Anywhere,
}

/// Reads the value of a directive.
#[derive(Clone, Copy)]
pub enum Read {
    /// Into the options.
    Option(fn(&mut Options, &[u8], &mut Reading<'_>) -> Result<(), Problem>),
    /// Into the door whose section it stands in.
    Door(fn(&mut Draft, &[u8], &mut Reading<'_>) -> Result<(), Problem>),
    /// Into the rules of a door or, in the options, of all doors.
    Rule(ReadRule),
}

/// One directive.
pub struct Directive {
    /// Its name, as the manual writes it; any case will do in the file.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// Where it may stand.
    pub place: Place,
    /// Whether it is written `name = value`; otherwise it is a word of its own.
    pub has_value: bool,
    pub(crate) read: Read,
}

/// All directives there are.
pub const DIRECTIVES: &[Directive] = &[
    option("LogFile", log_file),
    option("PidFile", pid_file),
    option("Interface", interface),
    option("Include", include),
    option("Wait_Interface", wait_interface),
    option("StateFile", state_file),
    option("On_Start", on_start),
    option("On_Stop", on_stop),
    option("Command_Timeout", default_command_timeout),
    option("Max_Attempts", max_attempts),
    Directive {
        name: "UseSyslog",
        aliases: &[],
        place: Place::Anywhere,
        has_value: false,
        read: Read::Option(use_syslog),
    },
    door("Sequence", &[], sequence),
    door("One_Time_Sequences", &[], one_time_sequences),
    door("OTP", &[], otp),
    door("OTP_Window", &[], otp_window),
    door("OTP_Reuse", &[], otp_reuse),
    door("OTP_Digest", &[], otp_digest),
    door("Seq_Timeout", &["Timeout"], seq_timeout),
    door("TCPFlags", &[], tcp_flags),
    door("Target", &[], target),
    door("Start_Command", &["Command"], start_command),
    door("Start_Command_6", &["Command_6"], start_command_6),
    door("Cmd_Timeout", &[], cmd_timeout),
    door("Stop_Command", &[], stop_command),
    door("Stop_Command_6", &[], stop_command_6),
    door("Command_Timeout", &[], command_timeout),
    door("Reopen", &[], reopen),
    rule("Strict", rules::strict),
    rule("Strict_Except", rules::strict_except),
    rule("Allow_Duplicates", rules::allow_duplicates),
    rule("Allow", rules::allow),
    rule("Deny", rules::deny),
    rule("Cooldown", rules::cooldown),
    rule("UDP_Length", rules::udp_length),
    rule("Repeat", rules::repeat),
    rule("Log_Failures", rules::log_failures),
];

const fn option(
    name: &'static str,
    read: fn(&mut Options, &[u8], &mut Reading<'_>) -> Result<(), Problem>,
) -> Directive {
    Directive { name, aliases: &[], place: Place::Options, has_value: true, read: Read::Option(read) }
}

const fn door(
    name: &'static str,
    aliases: &'static [&'static str],
    read: fn(&mut Draft, &[u8], &mut Reading<'_>) -> Result<(), Problem>,
) -> Directive {
    Directive { name, aliases, place: Place::Door, has_value: true, read: Read::Door(read) }
}

const fn rule(name: &'static str, read: ReadRule) -> Directive {
    Directive { name, aliases: &[], place: Place::Anywhere, has_value: true, read: Read::Rule(read) }
}

/// The directive that this key means here, if there is one.
#[must_use]
pub fn find(key: &[u8], place: Place, has_value: bool) -> Option<&'static Directive> {
    DIRECTIVES.iter().find(|directive| {
        let is_called = |name: &&str| key.eq_ignore_ascii_case(name.as_bytes());
        directive.has_value == has_value
            && (directive.place == place || directive.place == Place::Anywhere)
            && (is_called(&directive.name) || directive.aliases.iter().any(is_called))
    })
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn path(value: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(value))
}

/// An empty path is none, and not the folder.
fn path_if_any(value: &[u8]) -> Option<PathBuf> {
    (!value.is_empty()).then(|| path(value))
}

/// A number as `atoi` reads it, at most what 32 bits hold.
fn number(value: &[u8]) -> i32 {
    let number = atoi(&String::from_utf8_lossy(value));
    i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX })
}

fn log_file(options: &mut Options, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    options.log_file = path_if_any(value);
    reading.understood(format!("config: log file: {}", text(value)));
    Ok(())
}

fn pid_file(options: &mut Options, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    options.pid_file = path_if_any(value);
    reading.understood(format!("config: pid file: {}", text(value)));
    Ok(())
}

fn interface(options: &mut Options, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    if !reading.interface_is_given {
        options.interface = Wanted::parse(&text(value));
        reading.understood(format!("config: interface: {}", text(value)));
    }
    Ok(())
}

/// The files were found before any was parsed: [`crate::config::includes`].
fn include(_: &mut Options, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    reading.understood(format!("config: include: {}", text(value)));
    Ok(())
}

fn wait_interface(options: &mut Options, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    options.wait_interface = Some(yes_or_no("wait_interface", &text(value))?);
    reading.understood(format!("config: wait_interface: {}", text(value)));
    Ok(())
}

fn state_file(options: &mut Options, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    options.state_file = path_if_any(value);
    reading.understood(format!("config: state file: {}", text(value)));
    Ok(())
}

fn on_start(options: &mut Options, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    options.on_start = Some(value.to_vec()).filter(|command| !command.is_empty());
    reading.understood(format!("config: on_start: {}", text(value)));
    Ok(())
}

fn on_stop(options: &mut Options, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    options.on_stop = Some(value.to_vec()).filter(|command| !command.is_empty());
    reading.understood(format!("config: on_stop: {}", text(value)));
    Ok(())
}

fn default_command_timeout(
    options: &mut Options,
    value: &[u8],
    reading: &mut Reading<'_>,
) -> Result<(), Problem> {
    options.command_timeout = Some(seconds("command_timeout", value)?);
    reading.understood(format!("config: command_timeout: {}", text(value)));
    Ok(())
}

fn max_attempts(options: &mut Options, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    let number = text(value).parse().ok().filter(|number| ATTEMPTS.contains(number));
    let refuse = || Problem::Value("max_attempts", text(value), "a number from 16 to 1000000");
    options.max_attempts = Some(number.ok_or_else(refuse)?);
    reading.understood(format!("config: max_attempts: {}", text(value)));
    Ok(())
}

fn use_syslog(options: &mut Options, _: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    options.use_syslog = true;
    reading.understood("config: usesyslog".to_owned());
    Ok(())
}

fn sequence(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    let sequence =
        Sequence::parse(&text(value)).map_err(|error| Problem::Sequence(draft.name.clone(), error))?;
    reading.understood(format!("config: {}: sequence: {sequence}", draft.name));
    set_lock(draft, Lock::Fixed(sequence))
}

fn one_time_sequences(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    let name = draft.name.clone();
    let file = path(value);
    let content = (reading.file)(&file).map_err(|error| Problem::Unreadable(file.clone(), error))?;
    reading.understood(format!("config: {name}: one time sequences file: {}", text(value)));
    let lines = OneTime::read(file.clone(), &content, |error| {
        (reading.note)(Note::LeftOut(Problem::Sequence(name.clone(), error).to_string()));
    });
    let Some(sequence) = lines.first() else { return Err(Problem::Exhausted(name, file)) };
    reading.understood(format!("new sequence for door {name}: {sequence}"));
    reading.understood(format!("config: {name}: sequence: {sequence}"));
    set_lock(draft, Lock::OneTime(Box::new(lines)))
}

/// A door has one lock. Of written sequences the last one counts, as in knockd 0.8; a one-time
/// password stands alone.
fn set_lock(draft: &mut Draft, lock: Lock) -> Result<(), Problem> {
    let is_otp = |lock: &Lock| matches!(lock, Lock::Otp(_));
    if draft.lock.as_ref().is_some_and(|before| is_otp(before) != is_otp(&lock)) {
        return Err(Problem::TwoLocks(draft.name.clone()));
    }
    draft.lock = Some(lock);
    Ok(())
}

fn otp(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    let Some(otp) = Otp::parse(value).map_err(|error| Problem::Otp(draft.name.clone(), error))? else {
        return Err(Problem::NoSequence(draft.name.clone()));
    };
    // Its text has no seed.
    reading.understood(format!("config: {}: otp: {otp}", draft.name));
    let lock = OtpLock { otp, spent: Spent::default(), is_reusable: false };
    set_lock(draft, Lock::Otp(Box::new(lock)))
}

fn otp_window(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    let window = text(value).parse().ok().filter(|&window| window <= MAX_WINDOW);
    let refuse = || Problem::Value("otp_window", text(value), "a number of periods from 0 to 100");
    draft.otp_window = Some(window.ok_or_else(refuse)?);
    reading.understood(format!("config: {}: otp_window: {}", draft.name, text(value)));
    Ok(())
}

fn otp_reuse(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    draft.otp_reuse = Some(yes_or_no("otp_reuse", &text(value))?);
    reading.understood(format!("config: {}: otp_reuse: {}", draft.name, text(value)));
    Ok(())
}

fn otp_digest(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    let refuse = || Problem::Value("otp_digest", text(value), "sha1, sha256 or sha512");
    draft.otp_digest = Some(Digest::from_word(&text(value)).ok_or_else(refuse)?);
    reading.understood(format!("config: {}: otp_digest: {}", draft.name, text(value)));
    Ok(())
}

pub(super) fn yes_or_no(name: &'static str, value: &str) -> Result<bool, Problem> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "on" | "true" | "1" => Ok(true),
        "no" | "off" | "false" | "0" => Ok(false),
        _ => Err(Problem::Value(name, value.to_owned(), "yes or no")),
    }
}

fn seq_timeout(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    draft.seq_timeout = number(value);
    reading.understood(format!("config: {}: seq_timeout: {}", draft.name, draft.seq_timeout));
    Ok(())
}

fn cmd_timeout(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    draft.cmd_timeout = number(value);
    reading.understood(format!("config: {}: cmd_timeout: {}", draft.name, draft.cmd_timeout));
    Ok(())
}

fn command_timeout(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    draft.command_timeout = Some(seconds("command_timeout", value)?);
    reading.understood(format!("config: {}: command_timeout: {}", draft.name, text(value)));
    Ok(())
}

fn reopen(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    let refuse = || Problem::Value("reopen", text(value), "run, extend or ignore");
    draft.reopen = Reopen::from_word(&text(value)).ok_or_else(refuse)?;
    reading.understood(format!("config: {}: reopen: {}", draft.name, text(value)));
    Ok(())
}

fn seconds(name: &'static str, value: &[u8]) -> Result<Duration, Problem> {
    let seconds = text(value).parse::<u32>();
    let refuse = |_| Problem::Value(name, text(value), "a number of seconds, 0 for no limit");
    seconds.map(|seconds| Duration::from_secs(seconds.into())).map_err(refuse)
}

/// Flags add up over the lines of a door; blanks belong to the flag.
fn tcp_flags(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    for word in text(value).split(',') {
        let shown = word.to_ascii_uppercase();
        let (name, is_negated) = word.strip_prefix('!').map_or((word, false), |name| (name, true));
        let known = [Flags::FIN, Flags::SYN, Flags::RST, Flags::PSH, Flags::ACK, Flags::URG];
        match Flags::from_word(name).filter(|flag| known.contains(flag)) {
            None => return Err(Problem::Flag(shown)),
            Some(flag) if is_negated => draft.flags.forbid(flag),
            Some(flag) => draft.flags.require(flag),
        }
        reading.understood(format!("config: tcp flag: {shown}"));
    }
    Ok(())
}

fn target(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    reading.understood(format!("config: {}: target: {}", draft.name, text(value)));
    let address = text(value).parse().map_err(|_| Problem::Target(text(value)))?;
    draft.target = Some(address);
    Ok(())
}

fn start_command(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    draft.start = Some(command(draft, "start_command", value, reading));
    Ok(())
}

fn start_command_6(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    draft.start6 = Some(command(draft, "start_command_6", value, reading));
    Ok(())
}

fn stop_command(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    draft.stop = Some(command(draft, "stop_command", value, reading));
    Ok(())
}

fn stop_command_6(draft: &mut Draft, value: &[u8], reading: &mut Reading<'_>) -> Result<(), Problem> {
    draft.stop6 = Some(command(draft, "stop_command_6", value, reading));
    Ok(())
}

fn command(draft: &Draft, directive: &str, value: &[u8], reading: &mut Reading<'_>) -> Template {
    reading.understood(format!("config: {}: {directive}: {}", draft.name, text(value)));
    Template::new(value)
}
