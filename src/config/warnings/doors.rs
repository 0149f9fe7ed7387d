//! Checks of all doors together.

use std::net::IpAddr;
use std::sync::Arc;

use litemap::LiteMap;

use crate::config::warnings::warning::Warning;
use crate::door::lock::Lock;
use crate::door::sequence::{Sequence, Stage};
use crate::door::{Door, Template};

/// A check of all doors.
type Check = fn(&[Door]) -> Vec<Warning>;

/// All checks of all doors together.
pub(super) const CHECKS: &[Check] = &[no_door, same_name, same_sequence, shadowed, many_keys];

/// More single-packet keys than this at one port cause a warning.
const MANY_KEYS: usize = 10;

/// Words in commands or door names whose effects cancel each other.
const OPPOSITES: &[(&str, &str)] = &[
    ("-A", "-D"),
    ("-I", "-D"),
    ("--append", "--delete"),
    ("--insert", "--delete"),
    ("add", "delete"),
    ("add", "del"),
    ("add", "remove"),
    ("insert", "delete"),
    ("allow", "deny"),
    ("allow", "delete"),
    ("accept", "drop"),
    ("accept", "reject"),
    ("start", "stop"),
    ("enable", "disable"),
    ("up", "down"),
    ("open", "close"),
    ("on", "off"),
];

fn no_door(doors: &[Door]) -> Vec<Warning> {
    let warning = || Warning::new("There is no door: nothing will ever be opened");
    doors.is_empty().then(warning).into_iter().collect()
}

/// A single packet does not identify its key, so a forged one costs an HMAC for each key at its port.
fn many_keys(doors: &[Door]) -> Vec<Warning> {
    let mut keys: LiteMap<(u16, Option<IpAddr>), usize> = LiteMap::new();
    for door in doors {
        if let Lock::Spa(lock) = &door.lock {
            *keys.entry((lock.port, door.target)).or_default() += lock.terms.len();
        }
    }
    let many = keys.into_iter().filter(|(_, keys)| *keys > MANY_KEYS);
    let warning = |((port, _), keys)| {
        Warning::new(format!("{keys} keys are tried for each single packet to UDP port {port}"))
            .instead("give groups of users ports of their own with SPA_Port")
    };
    many.map(warning).collect()
}

fn same_name(doors: &[Door]) -> Vec<Warning> {
    let mut count: LiteMap<&str, usize> = LiteMap::new();
    for door in doors {
        *count.entry(&door.name).or_default() += 1;
    }
    let is_first = |at: usize, name: &Arc<str>| doors.iter().take(at).all(|door| door.name != *name);
    let several = doors.iter().enumerate().filter(|(_, door)| count.get(&*door.name) > Some(&1));
    let first = several.filter(|(at, door)| is_first(*at, &door.name));
    let warning = |(_, door): (usize, &Door)| {
        Warning::new(format!("Several doors are called '{}', and the log cannot tell them apart", door.name))
            .instead("give each section a name of its own")
    };
    first.map(warning).collect()
}

/// Doors with the same sequence.
fn same_sequence(doors: &[Door]) -> Vec<Warning> {
    let mut known: LiteMap<&Sequence, Vec<&Door>> = LiteMap::new();
    let mut warnings = Vec::new();
    for door in doors {
        let Some(sequence) = door.lock.current_sequence() else { continue };
        let alike = known.entry(sequence).or_default();
        let open_together = |other: &&&Door| {
            let same_people = other.rules.allow == door.rules.allow && other.rules.deny == door.rules.deny;
            other.target == door.target && other.flags == door.flags && same_people
        };
        // Prefer a pair whose commands undo each other: that warning is graver.
        let pairs: Vec<&&Door> = alike.iter().filter(open_together).collect();
        let pair = pairs.iter().find(|other| undo_each_other(other, door)).or(pairs.first());
        if let Some(other) = pair {
            let both = format!("Doors '{}' and '{}' have the same sequence", other.name, door.name);
            let advice = "give one of them another sequence";
            warnings.push(if undo_each_other(other, door) {
                Warning::grave(format!("{both}: each knock runs both commands, and one undoes the other"))
                    .instead(format!("{advice}, or make them one door with start_command and stop_command"))
            } else {
                Warning::new(format!("{both}: each knock runs both commands")).instead(advice)
            });
        }
        alike.push(door);
    }
    warnings
}

/// Whether the start commands of two doors seem to undo each other.
fn undo_each_other(one: &Door, other: &Door) -> bool {
    let words = |door: &Door| -> Vec<String> {
        let command = door.start.as_ref().map(Template::bytes).unwrap_or_default();
        let is_between = |character: char| character.is_whitespace() || "/;&|'\"(){}".contains(character);
        String::from_utf8_lossy(command).split(is_between).map(str::to_owned).collect()
    };
    // Options are case-sensitive; `--add-port` counts as `add`.
    let is = |word: &str, wanted: &str| {
        let verb = word.strip_prefix("--").and_then(|word| word.split('-').next());
        word == wanted || !wanted.starts_with('-') && verb.unwrap_or(word).eq_ignore_ascii_case(wanted)
    };
    let has = |words: &[String], wanted: &str, not: &str| {
        words.iter().any(|word| is(word, wanted)) && !words.iter().any(|word| is(word, not))
    };
    let (one_words, other_words) = (words(one), words(other));
    let (one_name, other_name) = (one.name.to_ascii_lowercase(), other.name.to_ascii_lowercase());
    OPPOSITES.iter().any(|&(does, undoes)| {
        let by_words = |one: &[String], other: &[String]| has(one, does, undoes) && has(other, undoes, does);
        let is_word = does.len() > 2 && !does.starts_with('-');
        let by_names = |one: &str, other: &str| is_word && one.contains(does) && other.contains(undoes);
        by_words(&one_words, &other_words)
            || by_words(&other_words, &one_words)
            || by_names(&one_name, &other_name)
            || by_names(&other_name, &one_name)
    })
}

/// Doors whose whole sequence is the beginning of another door's sequence.
fn shadowed(doors: &[Door]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let stages = |door: &Door| -> Vec<Stage> {
        door.lock.current_sequence().map(|sequence| sequence.stages().to_vec()).unwrap_or_default()
    };
    let mut whole: LiteMap<Vec<Stage>, Vec<&Door>> = LiteMap::new();
    for door in doors.iter().filter(|door| door.lock.current_sequence().is_some()) {
        whole.entry(stages(door)).or_default().push(door);
    }
    for longer in doors {
        let all = stages(longer);
        for length in 1..all.len() {
            let found = all.get(..length).and_then(|beginning| whole.get(beginning));
            for shorter in found.into_iter().flatten().filter(|shorter| shorter.target == longer.target) {
                warnings.push(Warning::new(format!(
                    "Door '{}' begins with the whole sequence of door '{}': whoever opens '{}' opens '{}' on the way",
                    longer.name, shorter.name, longer.name, shorter.name
                )));
            }
        }
    }
    warnings
}
