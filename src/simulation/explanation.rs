//! Explains why a packet opens nothing, from what the engine knows and the log omits.

use crate::door::Door;
use crate::door::knock::{Knock, Protocol};
use crate::door::lock::Lock;
use crate::door::sequence::Stage;
use crate::engine::Engine;
use crate::engine::tally::Tally;
use crate::opening::event::Event;

/// The state of the engine before the packet.
pub(super) struct StateBefore {
    attempts: Vec<(usize, usize, Option<Stage>)>,
    tallies: Vec<Tally>,
    is_here: bool,
    is_of_interest: bool,
    would_be_of_interest_here: bool,
}

impl StateBefore {
    pub(super) fn of(engine: &Engine, knock: &Knock) -> StateBefore {
        StateBefore {
            attempts: engine.progress(knock.source).collect(),
            tallies: engine.tallies().to_vec(),
            is_here: engine.is_here(knock.destination),
            is_of_interest: engine.may_be_stage(knock),
            would_be_of_interest_here: engine.may_affect_attempts_if_here(knock),
        }
    }
}

/// The explanations for a packet; empty if the log is sufficient.
pub(super) fn explain(before: &StateBefore, engine: &Engine, knock: &Knock, events: &[Event]) -> Vec<String> {
    let got = Stage::of(knock);
    let mut sentences: Vec<String> = Vec::new();
    for event in events {
        match event {
            Event::Failed { door, stage, .. } => {
                let expected = before.attempts.iter().find_map(|&(index, reached, next)| {
                    let is_it =
                        reached == *stage && engine.doors().get(index).is_some_and(|it| it.name == *door);
                    next.filter(|_| is_it)
                });
                let expected = expected.map_or_else(|| "another knock".to_owned(), |stage| stage.to_string());
                sentences.push(format!("{door}: failed: stage {} is {expected}, got {got}", stage + 1));
            }
            Event::Unfit { .. } => sentences.extend(
                event.debug_line().map(|line| format!("flags: {}", line.trim_end_matches(", ignoring..."))),
            ),
            _ => {}
        }
    }
    let counted = engine.doors().iter().zip(engine.tallies()).zip(&before.tallies);
    for ((door, after), earlier) in counted {
        if after.ignored > earlier.ignored {
            sentences.push(format!(
                "{}: ignored: Cooldown, Allow or Deny keeps {} out for now",
                door.name, knock.source
            ));
        }
        if after.wrong_list > earlier.wrong_list {
            sentences.push(format!("{}: this list was used before", door.name));
        }
    }
    if !sentences.is_empty() || !events.is_empty() {
        return sentences;
    }
    sentences.push(if before.is_of_interest && before.attempts.is_empty() {
        format!("{got} begins no sequence, and {} has no attempt under way", knock.source)
    } else if before.is_of_interest {
        format!("{got} is left alone: the attempts of {} are for another address", knock.source)
    } else if before.would_be_of_interest_here && !before.is_here {
        format!("not of interest: {} is no address of this host, nor a Target with {got}", knock.destination)
    } else if let Some(door) = engine.doors().iter().find(|door| has_stage(door, knock)) {
        unmet_rule(door, knock)
    } else {
        format!("not of interest: no door has {got}")
    });
    sentences
}

/// Whether this stage occurs in a sequence that opens the door now.
fn has_stage(door: &Door, knock: &Knock) -> bool {
    match &door.lock {
        Lock::Otp(lock) => lock.otp.can_have(Stage::of(knock)),
        lock => lock.current_sequence().is_some_and(|it| it.stages().contains(&Stage::of(knock))),
    }
}

/// The requirements of a door that a packet with the right port does not meet.
fn unmet_rule(door: &Door, knock: &Knock) -> String {
    let name = &door.name;
    if knock.protocol == Protocol::Udp {
        return format!("not of interest: {name} wants a datagram of another length (UDP_Length)");
    }
    let rule = door.packet_rule().flags;
    let words = Event::Unfit { rule, flags: knock.flags }.debug_line().unwrap_or_default();
    format!("flags: {name}: {}", words.trim_end_matches(", ignoring..."))
}
