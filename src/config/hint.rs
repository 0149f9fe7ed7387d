//! Explains syntax errors and suggests a correction, in the part of the message that follows knockd 0.8's
//! words.

use crate::config::directives::{DIRECTIVES, Directive, Place};
use crate::config::problem::is_meant_for_options;
use crate::octets;

/// The longest part of a word, in bytes, that a message repeats.
const SHOWN: usize = 40;

/// Replaces a word that must not be shown.
const HIDDEN: &str = "...";

const SECTION: &str = "a section is [NAME] alone in its line, without a comment";
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Directives of other programs and of patched versions of knockd, with their replacements.
const FOREIGN: &[(&str, &str)] = &[
    ("AllowDuplicates", "it stands alone here, or with a value as Allow_Duplicates = yes"),
    ("Include_Dir", "write Include = DIR/*.conf in [options]"),
    (
        "Sequence_File",
        "write the sequence as Sequence = ..., in a file of its own that is included if need be",
    ),
    ("IPSet", "write Start_Command = ipset -exist add SET %IP%"),
    ("IPSet_Timeout", "write Start_Command = ipset -exist add SET %IP% timeout SECONDS"),
    ("Key", "write OTP = SEED, CHANGE_TIME, BASE, on|off, PROTOCOL, ..."),
    ("Cmd_Timeout_6", "Cmd_Timeout counts for IPv6 too"),
    ("Seq_Timeout_6", "Seq_Timeout counts for IPv6 too"),
    ("Sequence_6", "Sequence counts for IPv6 too"),
];

/// The position of a line.
pub(super) struct Context<'a> {
    /// The kind of its section.
    pub(super) place: Place,
    /// The name of the door; `None` in `[options]`.
    pub(super) door: Option<&'a str>,
    /// The previous line ends with a backslash.
    pub(super) continues: bool,
}

/// Explains why a line is not a directive here; `value` is the text after the `=`, if it has one.
pub(super) fn reason(key: &[u8], value: Option<&[u8]>, context: &Context<'_>) -> String {
    let Context { place, door, continues } = *context;
    let text = octets::text(key);
    let word = first_word(&text);
    let shown = shown(word);
    if continues {
        return "the line before ends with \\, but a line cannot be continued".to_owned();
    }
    if text.starts_with('[') {
        return SECTION.to_owned();
    }
    if text.starts_with("//") || text.starts_with(';') || text.starts_with("/*") {
        return "a comment begins with #".to_owned();
    }
    if text.is_empty() {
        return "there is nothing before the =".to_owned();
    }
    // The words after the first may be secret, e.g. a sequence whose `=` is missing.
    let is_one_word = word.len() == text.len();
    let foreign = FOREIGN.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
    let is_all = is_one_word || value.is_some() || shown == HIDDEN;
    let written = || if is_all { shown.clone() } else { format!("{shown} ...") };
    match known(if value.is_some() { &text } else { word }) {
        Some(directive) if !directive.may_stand_in(place) => {
            let case = if door.is_some_and(is_meant_for_options) { ", written like that" } else { "" };
            belongs(directive) + case
        }
        Some(directive) if directive.has_value && value.is_none() => {
            format!("'{}' lacks its =: write {} = VALUE", written(), directive.name)
        }
        Some(directive) if directive.name == "AllowDuplicates" => {
            format!("'{shown}' stands alone here; with a value it is Allow_Duplicates = yes")
        }
        Some(directive) => format!("'{}' stands alone, without a value or a comment", directive.name),
        None => match (foreign, nearest(&text)) {
            (Some((name, instead)), _) => format!("'{name}' is not a directive here: {instead}"),
            (None, Some(near)) => {
                format!("'{}' is not a directive; the nearest is {}", written(), near.name)
            }
            (None, None) if value.is_none() => {
                format!("'{}' is neither a directive nor a comment, which begins with #", written())
            }
            (None, None) => format!("'{}' is not a directive", written()),
        },
    }
}

/// Explains what is wrong with a line before the first section.
pub(super) fn outside(key: &[u8]) -> String {
    let text = octets::text(key);
    if text.starts_with(BYTE_ORDER_MARK) {
        return "the file begins with a byte order mark (EF BB BF), which an editor put there".to_owned();
    }
    if text.starts_with('[') {
        return SECTION.to_owned();
    }
    format!("'{}' stands before the first one, such as [options]", shown(first_word(&text)))
}

fn belongs(directive: &Directive) -> String {
    match directive.place {
        Place::Options => format!("{} belongs in [options]", directive.name),
        Place::Door | Place::Anywhere => format!("{} belongs in the section of a door", directive.name),
    }
}

/// The text up to the first blank or colon.
fn first_word(text: &str) -> &str {
    text.split(|character: char| character.is_whitespace() || character == ':').next().unwrap_or_default()
}

/// The word, shortened if it is long, provided that it looks like a directive. Any other word may be a seed
/// or a key whose name is missing.
fn shown(word: &str) -> String {
    let is_digit_of_name = |at: usize| word.get(..at).is_some_and(|before| before.ends_with('_'));
    let is_name = word.char_indices().all(|(at, it)| {
        it.is_alphabetic() || matches!(it, '_' | '-') || it.is_ascii_digit() && is_digit_of_name(at)
    });
    if !is_name {
        return HIDDEN.to_owned();
    }
    let cut = word.get(..word.floor_char_boundary(SHOWN)).unwrap_or(word);
    let mut shown = cut.to_owned();
    if cut.len() < word.len() {
        shown.push_str("...");
    }
    shown
}

/// Strips the characters that people omit or add, such as `_`.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

fn known(name: &str) -> Option<&'static Directive> {
    DIRECTIVES.iter().find(|directive| directive.names().any(|it| it.eq_ignore_ascii_case(name)))
}

/// The directive with the smallest edit distance, if it is at most a third of the name.
fn nearest(name: &str) -> Option<&'static Directive> {
    let name = plain(name);
    let most = (name.len() / 3).max(1);
    let distance = |directive: &Directive| {
        directive.names().map(|it| strsim::osa_distance(&plain(it), &name)).min().unwrap_or(usize::MAX)
    };
    let near = DIRECTIVES.iter().map(|directive| (distance(directive), directive));
    let (distance, directive) = near.min_by_key(|(distance, _)| *distance)?;
    (name.len() > 2 && distance <= most).then_some(directive)
}
