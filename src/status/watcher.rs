//! The watcher's half of the status: who is knocking.

use crate::door::Door;
use crate::door::lock::Lock;
use crate::engine::Engine;
use crate::filter::interfaces::State;
use crate::status::facts::{Facts, word};

/// The state of an interface, whether it is captured on or waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Whether packets can be captured on it.
    pub state: State,
    /// Whether its packets arrive through a ring.
    pub has_ring: bool,
    /// How many packets passed the filter and arrived.
    pub packets: u64,
    /// How many more packets passed the filter but were dropped, as the buffer was full.
    pub dropped: u64,
}

/// Adds the watcher's facts to those that both processes report.
pub fn tell(facts: &mut Facts, engine: &Engine, addresses: usize, interfaces: &[Standing]) {
    facts.tell("addresses", addresses);
    facts.tell("attempts", engine.attempts());
    facts.tell("attempts_most", engine.most_attempts());
    facts.tell("pushed_out", engine.tallies().iter().map(|tally| tally.pushed_out).sum::<u64>());
    facts.tell("packets", interfaces.iter().map(|it| it.packets).sum::<u64>());
    for it in interfaces {
        facts.tell("interface", &it.name);
        facts.tell(
            "interface.state",
            match it.state {
                State::Ready => "listening",
                State::NoCarrier => "no carrier",
                State::Down => "down",
                State::Missing => "missing",
            },
        );
        facts.tell("interface.ring", word(it.has_ring));
        facts.tell("interface.packets", it.packets);
        facts.tell("interface.dropped", it.dropped);
    }
    for (door, tally) in engine.doors().iter().zip(engine.tallies()) {
        facts.tell("door", &door.name);
        tell_lock(facts, door);
        facts.tell("door.begun", tally.begun);
        facts.tell("door.failed", tally.failed);
        facts.tell("door.expired", tally.expired);
        facts.tell("door.pushed_out", tally.pushed_out);
        facts.tell("door.ignored", tally.ignored);
        facts.tell("door.wrong_list", tally.wrong_list);
        facts.tell("door.forged", tally.forged);
        facts.tell("door.repeated_packets", tally.repeated_packets);
        facts.tell("door.opened", tally.opened);
        facts.tell_if("door.last_opened", tally.last_opened.map(|time| time.as_secs()));
    }
}

/// The kind of a door's lock, without anything that would help to open it.
fn tell_lock(facts: &mut Facts, door: &Door) {
    let kind = match &door.lock {
        Lock::Fixed(_) => "sequence",
        Lock::OneTime(_) => "one-time",
        Lock::Otp(_) => "otp",
        Lock::Spa(_) => "spa",
    };
    facts.tell("door.kind", kind);
    match &door.lock {
        Lock::OneTime(lines) => facts.tell("door.lines_left", lines.lines().count()),
        Lock::Otp(lock) => facts.tell("door.period_seconds", lock.otp.begins(1).as_secs()),
        Lock::Fixed(_) | Lock::Spa(_) => {}
    }
}
