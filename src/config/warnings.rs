//! Doors that are valid but probably wrong: sentences for `knockd --check`.

use std::collections::HashMap;

use crate::door::Door;
use crate::door::knock::Protocol;
use crate::door::lock::Lock;
use crate::door::sequence::{Sequence, Stage};

/// A one-time file with fewer lines than this gets a warning.
const FEW_LINES: usize = 5;

/// Sentences about these doors.
pub(super) fn about(doors: &[Door]) -> Vec<String> {
    let mut warnings = Vec::new();
    if doors.is_empty() {
        warnings.push("There is no door: nothing will ever be opened.".to_owned());
    }
    for door in doors {
        door_warnings(door, &mut warnings);
    }
    shadowed(doors, &mut warnings);
    warnings
}

fn door_warnings(door: &Door, warnings: &mut Vec<String>) {
    let name = &door.name;
    let has_start = [&door.start, &door.start6].into_iter().flatten().any(|command| !command.is_empty());
    if !has_start && (door.stop.is_some() || door.stop6.is_some()) {
        warnings.push(format!(
            "Door '{name}' has a stop command but no start command: neither will ever be run."
        ));
    }
    let written = door.lock.current_sequence().map(Sequence::stages).unwrap_or_default();
    let length = match &door.lock {
        Lock::Otp(lock) => lock.otp.stages(),
        Lock::Fixed(_) | Lock::OneTime(_) => written.len(),
    };
    if length > 1 && door.seq_timeout <= 0 {
        warnings.push(format!(
            "Door '{name}' can never open: its seq_timeout leaves no time for a second knock."
        ));
    }
    if matches!(door.lock, Lock::OneTime(_))
        && written.iter().any(|stage| stage.port == 0 && stage.protocol != Protocol::Icmp)
    {
        warnings.push(format!(
            "Door '{name}': the next one-time sequence has port 0, which most programs cannot knock at."
        ));
    }
    if let Lock::OneTime(lines) = &door.lock
        && lines.lines().len() < FEW_LINES
    {
        warnings.push(format!(
            "The one-time file of door '{name}' has {} usable {} left ({}).",
            lines.lines().len(),
            if lines.lines().len() == 1 { "line" } else { "lines" },
            lines.path.display()
        ));
    }
}

/// Doors whose whole sequence is the beginning of another door's sequence.
fn shadowed(doors: &[Door], warnings: &mut Vec<String>) {
    let stages = |door: &Door| -> Vec<Stage> {
        door.lock.current_sequence().map(|sequence| sequence.stages().to_vec()).unwrap_or_default()
    };
    let mut whole: HashMap<Vec<Stage>, Vec<&Door>> = HashMap::new();
    for door in doors.iter().filter(|door| door.lock.current_sequence().is_some()) {
        whole.entry(stages(door)).or_default().push(door);
    }
    for longer in doors {
        let all = stages(longer);
        for length in 1..all.len() {
            let found = all.get(..length).and_then(|beginning| whole.get(beginning));
            for shorter in found.into_iter().flatten().filter(|shorter| shorter.target == longer.target) {
                warnings.push(format!(
                    "Door '{}' begins with the whole sequence of door '{}': whoever opens '{}' opens '{}' on the way.",
                    longer.name, shorter.name, longer.name, shorter.name
                ));
            }
        }
    }
}
