//! Checks of the lines of a file: text that is ignored, or parsed as something other than intended.

use crate::config::directives::Directive;
use crate::config::syntax::trim;
use crate::config::value::Value;
use crate::config::warnings::warning::Warning;
use crate::door::knock::Protocol;
use crate::door::sequence::{Sequence, atoi, is_blank};
use crate::octets;

/// A line with its directive.
pub(in crate::config) struct Entry<'a> {
    pub(in crate::config) directive: &'static Directive,
    pub(in crate::config) value: Value<'a>,
    pub(in crate::config) line: usize,
}

/// The lines of one section.
pub(in crate::config) struct Section<'a> {
    /// The name of the door; `None` for `[options]`.
    pub(in crate::config) door: Option<String>,
    pub(in crate::config) entries: Vec<Entry<'a>>,
}

/// A check of the lines of a section.
type Check = fn(&Section<'_>) -> Vec<Warning>;

/// All checks of the lines of a section.
pub(super) const CHECKS: &[Check] =
    &[said_twice, in_quotes, trailing_comment, sequence, number_and_more, cmd_timeout_alone, no_sequence];

/// Directives whose value goes to a shell, which has quotes and comments of its own.
const COMMANDS: &[&str] =
    &["Start_Command", "Start_Command_6", "Stop_Command", "Stop_Command_6", "On_Start", "On_Stop"];
/// Directives whose value is parsed as by C's `atoi`, as in knockd 0.8.
const NUMBERS: &[&str] = &["Seq_Timeout", "Cmd_Timeout"];
/// Directives that have no effect on doors of single packets.
const OF_SEQUENCES: &[&str] =
    &["Seq_Timeout", "TCPFlags", "Strict", "Strict_Except", "Repeat", "Allow_Duplicates", "UDP_Length"];
/// Directives that may occur several times in a section.
const REPEATABLE: &[&str] = &["TCPFlags", "Include", "UseSyslog", "Nft_Set"];

fn no_sequence(section: &Section<'_>) -> Vec<Warning> {
    let is_single = section.entries.iter().any(|entry| entry.directive.name.starts_with("SPA"));
    let of_sequences = section.entries.iter().filter(|entry| is_single && entry.is_one_of(OF_SEQUENCES));
    let warning = |entry: &Entry<'_>| {
        let (name, whose) = (entry.name(), section.whose());
        Warning::new(format!("The {name} {whose} means nothing, because single packets open it"))
    };
    of_sequences.map(warning).collect()
}

impl Section<'_> {
    /// `of door 'ssh'` or `in [options]`.
    fn whose(&self) -> String {
        self.door.as_ref().map_or("in [options]".to_owned(), |door| format!("of door '{door}'"))
    }

    fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.directive.name == name)
    }
}

impl Entry<'_> {
    fn name(&self) -> String {
        self.directive.name.to_ascii_lowercase()
    }

    fn is_one_of(&self, names: &[&str]) -> bool {
        names.contains(&self.directive.name)
    }

    /// The value without a trailing `# comment`, and whether it had one.
    fn without_comment(&self) -> (&[u8], bool) {
        let bytes = self.value.bytes();
        let begins = |at: &usize| {
            let before = at.checked_sub(1).and_then(|before| bytes.get(before));
            bytes.get(*at) == Some(&b'#') && before.is_none_or(u8::is_ascii_whitespace)
        };
        let comment = (0..bytes.len()).find(begins);
        (trim(bytes.get(..comment.unwrap_or(bytes.len())).unwrap_or_default()), comment.is_some())
    }
}

/// Directives that occur twice: the later line replaces the earlier one.
fn said_twice(section: &Section<'_>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (at, entry) in section.entries.iter().enumerate() {
        let again: Vec<String> = section
            .entries
            .iter()
            .filter(|other| other.directive.name == entry.directive.name)
            .map(|other| other.line.to_string())
            .collect();
        let mut before = section.entries.iter().take(at);
        let is_first = !before.any(|other| other.directive.name == entry.directive.name);
        if again.len() < 2 || !is_first || entry.is_one_of(REPEATABLE) {
            continue;
        }
        let what = format!(
            "The {} {} stands {} times (lines {}), and only the last one counts",
            entry.name(),
            section.whose(),
            again.len(),
            again.join(", ")
        );
        let is_command = entry.is_one_of(COMMANDS);
        let is_lock = entry.is_one_of(&["Sequence", "OTP", "One_Time_Sequences"]);
        let warning = if is_command || is_lock { Warning::grave(what) } else { Warning::new(what) };
        warnings.push(if is_command {
            warning.instead("join the commands with ';' or '&&' in one line")
        } else if is_lock {
            warning.instead("make a section of its own for each")
        } else {
            warning.instead("leave the others out")
        });
    }
    warnings
}

/// `sequence = "7000,8000"`: the quotes are part of the value.
fn in_quotes(section: &Section<'_>) -> Vec<Warning> {
    let quoted = |entry: &&Entry<'_>| {
        let bytes = entry.without_comment().0;
        let [quote @ (b'"' | b'\''), inner @ .., last] = bytes else { return false };
        // A shell removes quotes, but quotes around a whole command make it one word.
        let is_one_word =
            !entry.is_one_of(COMMANDS) || !inner.contains(quote) && inner.iter().any(u8::is_ascii_whitespace);
        quote == last && is_one_word
    };
    let warning = |entry: &Entry<'_>| {
        let why = if entry.is_one_of(COMMANDS) {
            "the shell takes all of it for the name of a program"
        } else {
            "they belong to the value"
        };
        let what = format!("The {} {} stands in quotes, and {why}", entry.name(), section.whose());
        Warning::grave(what).instead("leave the quotes out")
    };
    section.entries.iter().filter(quoted).map(warning).collect()
}

/// `logfile = /var/log/knockd.log # mine`: a comment needs a line of its own.
fn trailing_comment(section: &Section<'_>) -> Vec<Warning> {
    let has_comment = |entry: &&Entry<'_>| {
        // A seed may contain a #, and must not be shown.
        !entry.is_one_of(COMMANDS) && entry.directive.name != "OTP" && entry.without_comment().1
    };
    let warning = |entry: &Entry<'_>| {
        let is_harmless = entry.is_one_of(NUMBERS) || entry.directive.name == "Sequence";
        let what = format!(
            "The {} {} ends with a # comment, which {}",
            entry.name(),
            section.whose(),
            if is_harmless {
                "is passed over only because a number ends there"
            } else {
                "belongs to the value"
            }
        );
        let warning = if is_harmless { Warning::new(what) } else { Warning::grave(what) };
        warning.instead("write the comment into a line of its own")
    };
    section.entries.iter().filter(has_comment).map(warning).collect()
}

/// A sequence that is ignored in part: `7000 8000 9000`, `7000;8000`, `7000-9000`, `7000/udp`.
fn sequence(section: &Section<'_>) -> Vec<Warning> {
    let odd = |entry: &Entry<'_>| -> Option<Warning> {
        let text = octets::text(entry.without_comment().0).into_owned();
        let text = text.trim_matches(['"', '\'']);
        if entry.directive.name != "Sequence" {
            return None;
        }
        let oddity = text.split(',').find_map(oddity_of_a_stage)?;
        let read = Sequence::parse(text).ok()?;
        let meant = meant_sequence(text).filter(|meant| *meant != read.to_string());
        let count = meant.as_deref().map_or(0, |meant| meant.split(',').count());
        let whose = section.whose();
        let what = if count > read.stages().len() {
            let known = read.stages().len();
            format!(
                "The sequence {whose} is read as {known} of its {count} ports, as only commas separate ports"
            )
        } else if meant.is_none() && read.stages().iter().any(|stage| stage.port == 0) {
            format!("A port in the sequence {whose} is not a number, or 0")
        } else {
            format!(
                "A part of the sequence {whose} is not read: a port is a number, and a protocol stands behind ':'"
            )
        };
        let advice = match meant {
            Some(meant) => format!("write sequence = {meant}"),
            None => "write the number of each port, as in 7000, 8000:udp".to_owned(),
        };
        Some(Warning::grave(what).instead(format!("{oddity}: {advice}")))
    };
    section.entries.iter().filter_map(odd).collect()
}

/// What is odd about a stage `port[:protocol]`; `None` if nothing is.
fn oddity_of_a_stage(element: &str) -> Option<String> {
    let mut fields = element.split(':').map(|field| field.trim_matches(is_blank));
    let port = fields.next().unwrap_or_default();
    let protocol = fields.next();
    if protocol.is_some_and(|word| word.eq_ignore_ascii_case("icmp")) {
        // A length that is not a number is already an error.
        return None;
    }
    if port.is_empty() {
        return Some("a port is missing and is read as port 0".to_owned());
    }
    match port.parse::<u16>() {
        Ok(0) => Some("most programs cannot knock at port 0".to_owned()),
        Ok(_) if fields.next().is_some() => Some(format!("'{element}' has more than a port and a protocol")),
        Ok(_) => None,
        Err(_) => Some(format!("'{port}' is read as port {}", atoi(port))),
    }
}

/// The probable meaning of a sequence with blanks, semicolons, dashes or arrows between ports, or with
/// `7000/udp` or `udp/7000`.
fn meant_sequence(text: &str) -> Option<String> {
    let mut meant: Vec<String> = Vec::new();
    let separators = |character: char| character.is_whitespace() || ",;->|+&".contains(character);
    for word in text.split(separators).filter(|word| !word.is_empty()) {
        let protocol = |word: &str| Protocol::from_word(word).map(|protocol| protocol.to_string());
        let port = |word: &str| -> Option<String> {
            Some(word.parse::<u16>().ok().filter(|&port| port > 0)?.to_string())
        };
        // "7000 udp".
        if let (Some(protocol), Some(last)) = (protocol(word), meant.last_mut())
            && !last.contains(':')
        {
            *last = format!("{last}:{protocol}");
            continue;
        }
        let fields: Vec<&str> = word.split(['/', ':']).filter(|field| !field.is_empty()).collect();
        meant.push(match fields.as_slice() {
            [only] => port(only)?,
            [one, other] => match (port(one), protocol(other), protocol(one), port(other)) {
                (Some(port), Some(protocol), ..) | (.., Some(protocol), Some(port)) => {
                    format!("{port}:{protocol}")
                }
                (Some(one), _, _, Some(other)) => format!("{one},{other}"),
                _ => return None,
            },
            all => all.iter().map(|&field| port(field)).collect::<Option<Vec<String>>>()?.join(","),
        });
    }
    (!meant.is_empty()).then(|| meant.join(","))
}

/// `cmd_timeout = 1h` is one second.
fn number_and_more(section: &Section<'_>) -> Vec<Warning> {
    let odd = |entry: &Entry<'_>| -> Option<Warning> {
        let text = octets::text(entry.without_comment().0).into_owned();
        let digits = text.trim_start_matches(['-', '+']);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !entry.is_one_of(NUMBERS) || is_number {
            return None;
        }
        let number = atoi(&text);
        let tail = digits.trim_start_matches(|character: char| character.is_ascii_digit()).trim();
        let unit = match tail.to_ascii_lowercase().as_str() {
            "s" | "sec" | "secs" | "second" | "seconds" => Some(1),
            "m" | "min" | "mins" | "minute" | "minutes" => Some(60),
            "h" | "hr" | "hrs" | "hour" | "hours" => Some(60 * 60),
            "d" | "day" | "days" => Some(24 * 60 * 60),
            _ => None,
        };
        let seconds = if number == 1 { "second" } else { "seconds" };
        let what = format!(
            "The {} {} means {number} {seconds}, as it is a number of seconds and what follows is not read",
            entry.name(),
            section.whose()
        );
        let is_harmless = unit == Some(1) && number > 0;
        let warning = if is_harmless { Warning::new(what) } else { Warning::grave(what) };
        Some(match unit.map(|unit| number.saturating_mul(unit)) {
            Some(seconds) if number > 0 => warning.instead(format!("write {} = {seconds}", entry.name())),
            _ => warning.instead("write the number of seconds alone"),
        })
    };
    section.entries.iter().filter_map(odd).collect()
}

/// A guide claims that `cmd_timeout` closes the door by itself. Many files have it without relying on that,
/// so this warning is not grave.
fn cmd_timeout_alone(section: &Section<'_>) -> Vec<Warning> {
    let closes = ["Stop_Command", "Stop_Command_6", "Open"].into_iter().any(|name| section.has(name));
    let warning = || {
        let what = format!("The cmd_timeout {} closes nothing, as there is no stop_command", section.whose());
        Warning::new(what).instead("write the command that closes the door as stop_command")
    };
    (section.has("Cmd_Timeout") && !closes).then(warning).into_iter().collect()
}
