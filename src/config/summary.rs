//! Describes a door in one line for `--check`: what opens it, and for how long.

use crate::door::Door;
use crate::door::knock::Protocol;
use crate::door::lock::Lock;
use crate::door::rules::Repeat;
use crate::door::sequence::Stage;

/// The description. It includes the sequence, so it is only for those who may read the configuration.
#[must_use]
pub fn summary(door: &Door) -> String {
    let mut parts = vec![what_opens(door)];
    if let Some(Repeat { times, within }) = door.rules.repeat
        && times > 1
    {
        parts.push(format!("{times} times in {} s", within.as_secs()));
    }
    parts.push(how_long(door));
    format!("{}: {}", door.name, parts.join(", "))
}

fn what_opens(door: &Door) -> String {
    match &door.lock {
        Lock::Fixed(sequence) => {
            let stages = sequence.stages();
            let list: Vec<String> = stages.iter().copied().map(stage).collect();
            format!("{} ({})", knocks(stages.len()), list.join(", "))
        }
        Lock::OneTime(lines) => match lines.lines().len() {
            1 => "the last line".to_owned(),
            count => format!("one of {count} lines left"),
        },
        Lock::Otp(lock) => {
            let otp = &lock.otp;
            // All protocols share the same ranges; a range that wraps around has two parts.
            let mut ranges: Vec<String> = Vec::new();
            for (_, first, last) in otp.ranges() {
                let range = format!("{first}-{last}");
                if !ranges.contains(&range) {
                    ranges.push(range);
                }
            }
            let ranges = ranges.join(" and ");
            let seconds = otp.change_time();
            format!("OTP, {} in {ranges}, a new list every {seconds} s", knocks(otp.stages()))
        }
        Lock::Spa(lock) => format!("a single packet to UDP port {}", lock.port),
    }
}

fn knocks(count: usize) -> String {
    if count == 1 { "1 knock".to_owned() } else { format!("{count} knocks") }
}

fn stage(stage: Stage) -> String {
    match stage.protocol {
        Protocol::Icmp => format!("ping of {} bytes", stage.port),
        protocol => format!("{protocol} {}", stage.port),
    }
}

fn how_long(door: &Door) -> String {
    let has_start = [&door.start, &door.start6].into_iter().flatten().any(|command| !command.is_empty());
    let has_stop = has_start && (door.stop.is_some() || door.stop6.is_some());
    let is_for_ever = door.open.as_ref().is_some_and(|open| open.is_for_ever);
    match (&door.open, has_start) {
        (None, false) => "runs nothing".to_owned(),
        (Some(_), _) if is_for_ever => "stays open".to_owned(),
        (None, true) if !has_stop => "stays open".to_owned(),
        _ => format!("open {} s", door.cmd_timeout().as_secs()),
    }
}

/// Builtins and keywords of the shell.
const SHELL_WORDS: &[&str] = &[
    "!", ".", ":", "[", "alias", "break", "case", "cd", "command", "continue", "echo", "eval", "exec",
    "exit", "export", "false", "for", "getopts", "hash", "if", "kill", "printf", "pwd", "read", "readonly",
    "return", "set", "shift", "test", "time", "times", "trap", "true", "type", "ulimit", "umask", "unset",
    "until", "wait", "while",
];

/// The program that a command begins with; `None` for a shell builtin or anything but a plain word.
#[must_use]
pub fn first_program(command: &[u8]) -> Option<&[u8]> {
    let is_plain = |word: &[u8]| {
        word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"/._+-".contains(byte) || !byte.is_ascii())
    };
    let is_name = |word: &[u8]| word.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let is_assignment = |word: &[u8]| {
        let mut parts = word.splitn(2, |&byte| byte == b'=');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        !name.is_empty() && is_name(name) && value.is_some_and(is_plain)
    };
    let mut words = command.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let word = words.find(|word| !is_assignment(word))?;
    // "true;" and similar.
    let end = word.iter().rposition(|byte| !b";&".contains(byte)).map_or(0, |last| last + 1);
    let word = word.get(..end).unwrap_or_default();
    let is_of_shell = SHELL_WORDS.iter().any(|known| known.as_bytes() == word);
    (!word.is_empty() && is_plain(word) && !is_of_shell).then_some(word)
}
