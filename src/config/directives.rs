//! The table of all directives: their names, the sections that may have them, how they are parsed and shown.
//!
//! To add a directive, add a row to its group. The row stores the value in the field that the acting code
//! reads: a field of [`Options`] for a directive of `[options]` only, a field of
//! [`Rules`](crate::door::rules::Rules) for one that doors may have and inherit from `[options]`. Both have
//! defaults, so nothing else has to change here. Tests compare the manual with this table.

use crate::config::draft::{Draft, ReadRule};
use crate::config::options::{LogFormat, Options, Sandbox};
use crate::config::problem::Problem;
use crate::config::readers;
use crate::config::reading::Reading;
use crate::config::spa_readers as spa;
use crate::config::value::Value;
use crate::door::Reopen;
use crate::door::otp::{MAX_WINDOW, digest_from_word};

use Origin::{Ours, V08};
use Shown::{As, ByName, ByReader};

/// The range of `Max_Attempts`. The maximum is what fits into the memory of a small machine.
const ATTEMPTS: std::ops::RangeInclusive<usize> = 16..=1_000_000;

/// One directive.
pub struct Directive {
    /// The name as in the manual; files may write it in any case.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// The sections that may have it.
    pub place: Place,
    /// Whether it takes a value (`name = value`), or is a word alone.
    pub has_value: bool,
    /// The program that introduced it.
    pub origin: Origin,
    pub(super) shown: Shown,
    pub(super) read: Read,
}

/// The sections that may have a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In `[options]`.
    Options,
    /// In any other section.
    Door,
    /// In every section.
    Anywhere,
}

/// The program that introduced a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// knockd 0.8; its meaning must not change.
    V08,
    /// This program.
    Ours,
}

/// How the debug output (-D) shows a directive.
pub(super) enum Shown {
    /// `config: DOOR: NAME: VALUE`, the name in lower case; without `DOOR: ` in `[options]`.
    ByName,
    /// The same, with other words for the name.
    As(&'static str),
    /// The reader writes the line.
    ByReader,
}

/// The function that parses the value of a directive.
#[derive(Clone, Copy)]
pub(super) enum Read {
    /// Stores it in the options.
    Option(ReadOption),
    /// Stores it in the door of the section.
    Door(ReadDoor),
    /// Stores it in the rules of the door or, in `[options]`, of all doors.
    Rule(ReadRule),
}

type ReadOption = fn(&mut Options, &Value<'_>, &mut Reading<'_>) -> Result<(), Problem>;
type ReadDoor = fn(&mut Draft<'_>, &Value<'_>, &mut Reading<'_>) -> Result<(), Problem>;

/// The table for scripts: for each name a line `PLACE NAME` in lower case, with ` flag` appended if it takes
/// no value. PLACE is `options`, `door` or `both`.
#[must_use]
pub fn listing() -> String {
    let mut text = String::new();
    for directive in DIRECTIVES {
        let place = match directive.place {
            Place::Options => "options",
            Place::Door => "door",
            Place::Anywhere => "both",
        };
        let kind = if directive.has_value { "" } else { " flag" };
        for name in [directive.name].iter().chain(directive.aliases) {
            for part in [place, " ", &name.to_lowercase(), kind, "\n"] {
                text += part;
            }
        }
    }
    text
}

/// All directives, one row each, grouped by subject.
#[rustfmt::skip]
pub const DIRECTIVES: &[Directive] = &[
    // Sequences, and which packets are knocks.
    door("Sequence", &[], V08, ByReader, readers::sequence),
    door("One_Time_Sequences", &[], V08, ByReader, readers::one_time_sequences),
    door("Seq_Timeout", &["Timeout"], V08, ByReader, readers::seq_timeout),
    door("TCPFlags", &[], V08, ByReader, readers::tcp_flags),
    door("Target", &[], V08, ByReader, readers::target),
    rule("Strict", &[], Ours, |rules, value| put(&mut rules.is_strict, value.yes_or_no()?)),
    rule("Strict_Except", &[], Ours, |rules, value| put(&mut rules.strict_except, value.services()?)),
    word("AllowDuplicates", Ours, |options, _, _| put(&mut options.rules.allows_duplicates, true)),
    rule("Allow_Duplicates", &[], Ours, |rules, value| put(&mut rules.allows_duplicates, value.yes_or_no()?)),
    rule("UDP_Length", &[], Ours, |rules, value| put(&mut rules.udp_length, Some(value.payload_bytes()?))),
    rule("Repeat", &[], Ours, |rules, value| put(&mut rules.repeat, Some(value.repeat()?))),

    // Who may knock.
    rule("Allow", &[], Ours, |rules, value| put(&mut rules.allow, Some(value.prefixes()?))),
    rule("Deny", &[], Ours, |rules, value| put(&mut rules.deny, value.prefixes()?)),

    // One-time passwords.
    door("OTP", &[], Ours, ByReader, readers::otp),
    door("OTP_Window", &[], Ours, ByName, |draft, value, _| put(&mut draft.otp.window, Some(otp_window(value)?))),
    door("OTP_Reuse", &[], Ours, ByName, |draft, value, _| put(&mut draft.otp.reuse, Some(value.yes_or_no()?))),
    door("OTP_Tries", &[], Ours, ByName, |draft, value, _| put(&mut draft.otp.tries, Some(value.parse("a number of tries from 0, which is no limit, to 255", |text| text.parse().ok())?))),
    rule("OTP_Trust_Start", &[], Ours, |rules, value| put(&mut rules.distrusts_start, !value.yes_or_no()?)),
    door("OTP_Digest", &[], Ours, ByName, |draft, value, _| put(&mut draft.otp.digest, Some(value.parse("sha1, sha256 or sha512", digest_from_word)?))),

    // Single packets.
    door("SPA", &[], Ours, ByReader, spa::file),
    door("SPA_Port", &[], Ours, ByReader, spa::port),
    door("SPA_Max_Age", &[], Ours, ByReader, spa::max_age),
    door("SPA_Key", &[], Ours, ByReader, spa::key),
    door("SPA_Key_Base64", &[], Ours, ByReader, spa::key_base64),
    door("SPA_HMAC_Key", &[], Ours, ByReader, spa::hmac_key),
    door("SPA_HMAC_Key_Base64", &[], Ours, ByReader, spa::hmac_key_base64),
    door("SPA_HMAC_Digest", &[], Ours, ByReader, spa::hmac_digest),
    door("SPA_Open", &[], Ours, ByReader, spa::open),
    door("SPA_User", &[], Ours, ByReader, spa::users),
    door("SPA_Require_Source", &[], Ours, ByReader, spa::require_source),
    door("SPA_Max_Timeout", &[], Ours, ByReader, spa::max_timeout),

    // Commands.
    door("Start_Command", &["Command"], V08, ByName, |draft, value, _| put(&mut draft.start, Some(value.template()))),
    door("Start_Command_6", &["Command_6"], V08, ByName, |draft, value, _| put(&mut draft.start6, Some(value.template()))),
    door("Stop_Command", &[], V08, ByName, |draft, value, _| put(&mut draft.stop, Some(value.template()))),
    door("Stop_Command_6", &[], V08, ByName, |draft, value, _| put(&mut draft.stop6, Some(value.template()))),
    option("On_Start", &[], Ours, ByName, |options, value, _| put(&mut options.on_start, value.command_if_any())),
    option("On_Stop", &[], Ours, ByName, |options, value, _| put(&mut options.on_stop, value.command_if_any())),
    option("Command_Timeout", &[], Ours, ByName, |options, value, _| put(&mut options.command_timeout, Some(value.limit()?))),
    door("Command_Timeout", &[], Ours, ByName, |draft, value, _| put(&mut draft.command_timeout, Some(value.limit()?))),

    // How long a door stays open, and what it opens in the firewall.
    door("Cmd_Timeout", &[], V08, ByReader, readers::cmd_timeout),
    door("Reopen", &[], Ours, ByName, |draft, value, _| put(&mut draft.reopen, value.parse("run, extend or ignore", Reopen::from_word)?)),

    door("Open", &[], Ours, ByName, |draft, value, _| put(&mut draft.open, Some(value.what_to_open()?))),
    door("Open_Forever", &[], Ours, ByName, |draft, value, _| put(&mut draft.is_open_for_ever, value.yes_or_no()?)),
    rule("Nft_Set", &[], Ours, |rules, value| value.add_to_sets(&mut rules.open.sets)),
    rule("Open_Prefix4", &[], Ours, |rules, value| put(&mut rules.open.prefixes.0, value.bits("a number of bits from 8 to 32", 8..=32)?)),
    rule("Open_Prefix6", &[], Ours, |rules, value| put(&mut rules.open.prefixes.1, value.bits("a number of bits from 32 to 128", 32..=128)?)),
    rule("Close_On_Stop", &[], Ours, |rules, value| put(&mut rules.open.closes_on_stop, value.yes_or_no()?)),
    rule("Close_Established", &[], Ours, |rules, value| put(&mut rules.open.closes_established, value.yes_or_no()?)),
    rule("Close_On_Disconnect", &[], Ours, |rules, value| put(&mut rules.open.closes_on_disconnect, value.yes_or_no()?)),
    option("Guard", &[], Ours, ByName, |options, value, _| put(&mut options.guard, value.yes_or_no()?)),
    option("Guard_Except", &[], Ours, ByName, |options, value, _| put(&mut options.guard_except, value.prefixes()?)),

    // Limits.
    option("Max_Commands", &[], Ours, ByName, |options, value, _| put(&mut options.max_commands, Some(value.number_or_no_limit()?))),
    door("Max_Commands", &[], Ours, ByName, |draft, value, _| put(&mut draft.max_commands, Some(value.number_or_no_limit()?))),
    rule("Open_Rate", &[], Ours, |rules, value| put(&mut rules.open_rate, value.open_rate()?)),
    option("Max_Attempts", &[], Ours, ByName, |options, value, _| put(&mut options.max_attempts, Some(max_attempts(value)?))),
    rule("Cooldown", &["Seq_Cooldown"], Ours, |rules, value| put(&mut rules.cooldown, value.seconds("a number of seconds")?)),

    // Privileges.
    option("User", &[], Ours, ByName, |options, value, _| put(&mut options.user, value.name_if_any())),
    option("Sandbox", &[], Ours, ByName, |options, value, _| put(&mut options.sandbox, value.parse("yes, require or no", Sandbox::from_word)?)),

    // Interfaces.
    option("Interface", &[], V08, ByReader, readers::interface),
    option("Wait_Interface", &[], Ours, ByName, |options, value, _| put(&mut options.wait_interface, Some(value.yes_or_no()?))),

    // Files. The caller resolved `Include` before parsing: see `includes`.
    option("Include", &[], Ours, ByName, |_, _, _| Ok(())),
    option("PidFile", &[], V08, As("pid file"), |options, value, _| put(&mut options.pid_file, value.path_if_any())),
    option("StateFile", &[], Ours, As("state file"), |options, value, _| put(&mut options.state_file, value.path_if_any())),

    // Several gateways that open together.
    option("Fleet_Socket", &[], Ours, ByName, |options, value, _| put(&mut options.fleet_socket, value.path_if_any())),
    option("Fleet_Share", &[], Ours, ByName, |options, value, _| put(&mut options.shares_knocks, value.parse("openings or knocks", is_knocks)?)),
    rule("Fleet_Spent", &[], Ours, |rules, value| put(&mut rules.needs_fleet, value.parse("open or closed", is_closed)?)),

    // Log and status.
    option("StatusSocket", &[], Ours, As("status socket"), |options, value, _| put(&mut options.status_socket, value.status_socket())),
    option("LogFile", &[], V08, As("log file"), |options, value, _| put(&mut options.log_file, value.path_if_any())),
    word("UseSyslog", V08, readers::use_syslog),
    word("UseJournal", Ours, readers::use_journal),
    option("Log_Format", &[], Ours, ByName, |options, value, _| put(&mut options.log_format, value.parse("text or json", LogFormat::from_word)?)),
    rule("Log_Failures", &[], Ours, |rules, value| put(&mut rules.logs_failures, value.yes_or_no()?)),
];

impl Directive {
    /// The name and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// Whether sections of this kind may have it.
    #[must_use]
    pub fn may_stand_in(&self, place: Place) -> bool {
        self.place == place || self.place == Place::Anywhere
    }

    /// The line of debug output; `None` if the reader wrote one itself. `door` is the name of the door,
    /// `None` in `[options]`.
    pub(super) fn line(&self, door: Option<&str>, value: &Value<'_>) -> Option<String> {
        let name = match self.shown {
            ByName => self.name.to_ascii_lowercase(),
            As(words) => words.to_owned(),
            ByReader => return None,
        };
        let door = door.map(|door| format!("{door}: ")).unwrap_or_default();
        Some(format!("config: {door}{name}: {}", value.text()))
    }
}

/// Finds a directive by name or alias among those that this kind of section may have.
#[must_use]
pub fn find(key: &[u8], place: Place, has_value: bool) -> Option<&'static Directive> {
    DIRECTIVES.iter().find(|directive| {
        directive.has_value == has_value
            && directive.may_stand_in(place)
            && directive.names().any(|name| key.eq_ignore_ascii_case(name.as_bytes()))
    })
}

/// A directive of `[options]`.
const fn option(
    name: &'static str,
    aliases: &'static [&'static str],
    origin: Origin,
    shown: Shown,
    read: ReadOption,
) -> Directive {
    let read = Read::Option(read);
    Directive { name, aliases, place: Place::Options, has_value: true, origin, shown, read }
}

/// A directive of a door.
const fn door(
    name: &'static str,
    aliases: &'static [&'static str],
    origin: Origin,
    shown: Shown,
    read: ReadDoor,
) -> Directive {
    Directive { name, aliases, place: Place::Door, has_value: true, origin, shown, read: Read::Door(read) }
}

/// A directive of a door or, for all doors, of `[options]`.
const fn rule(
    name: &'static str,
    aliases: &'static [&'static str],
    origin: Origin,
    read: ReadRule,
) -> Directive {
    let (place, read) = (Place::Anywhere, Read::Rule(read));
    Directive { name, aliases, place, has_value: true, origin, shown: ByName, read }
}

/// An option without a value. As in knockd 0.8, it may stand in every section.
const fn word(name: &'static str, origin: Origin, read: ReadOption) -> Directive {
    let (place, read) = (Place::Anywhere, Read::Option(read));
    Directive { name, aliases: &[], place, has_value: false, origin, shown: ByReader, read }
}

/// Stores a value. Most rows end with this.
#[expect(clippy::unnecessary_wraps, reason = "the result of rows, which can fail")]
fn put<T>(field: &mut T, value: T) -> Result<(), Problem> {
    *field = value;
    Ok(())
}

/// Parses `open` or `closed`, in any case; true for `closed`.
fn is_closed(word: &str) -> Option<bool> {
    either(word, ["open", "closed"])
}

/// Parses `openings` or `knocks`, in any case; true for `knocks`.
fn is_knocks(word: &str) -> Option<bool> {
    either(word, ["openings", "knocks"])
}

/// Whether the word is the second of these, in any case; `None` if it is neither.
fn either(word: &str, words: [&str; 2]) -> Option<bool> {
    words.iter().position(|it| it.eq_ignore_ascii_case(word)).map(|place| place == 1)
}

fn otp_window(value: &Value<'_>) -> Result<u16, Problem> {
    value.parse("a number of periods from 0 to 100", |text| {
        text.parse().ok().filter(|&window| window <= MAX_WINDOW)
    })
}

fn max_attempts(value: &Value<'_>) -> Result<usize, Problem> {
    value.parse("a number from 16 to 1000000", |text| {
        text.parse().ok().filter(|number| ATTEMPTS.contains(number))
    })
}
