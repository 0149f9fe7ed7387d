//! The watcher's part of the status: who is knocking.

use crate::door::Door;
use crate::door::lock::Lock;
use crate::engine::Engine;
use crate::filter::interfaces::State;
use crate::status::writer::{StatusWriter, yes_or_no};

/// The state of an interface, whether it is captured on or waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceStatus {
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

/// Adds the watcher's lines to those that both processes write.
pub fn write_status(
    writer: &mut StatusWriter,
    engine: &Engine,
    addresses: usize,
    interfaces: &[InterfaceStatus],
) {
    writer.add("addresses", addresses);
    writer.add("attempts", engine.attempts());
    writer.add("attempts_most", engine.most_attempts());
    writer.add("pushed_out", engine.tallies().iter().map(|tally| tally.pushed_out).sum::<u64>());
    writer.add("packets", interfaces.iter().map(|it| it.packets).sum::<u64>());
    for it in interfaces {
        writer.add("interface", &it.name);
        writer.add(
            "interface.state",
            match it.state {
                State::Ready => "listening",
                State::NoCarrier => "no carrier",
                State::Down => "down",
                State::Missing => "missing",
            },
        );
        writer.add("interface.ring", yes_or_no(it.has_ring));
        writer.add("interface.packets", it.packets);
        writer.add("interface.dropped", it.dropped);
    }
    for (door, tally) in engine.doors().iter().zip(engine.tallies()) {
        writer.add("door", &door.name);
        write_lock(writer, door);
        writer.add("door.begun", tally.begun);
        writer.add("door.failed", tally.failed);
        writer.add("door.expired", tally.expired);
        writer.add("door.pushed_out", tally.pushed_out);
        writer.add("door.ignored", tally.ignored);
        writer.add("door.wrong_list", tally.wrong_list);
        writer.add("door.forged", tally.forged);
        writer.add("door.repeated_packets", tally.repeated_packets);
        writer.add("door.opened", tally.opened);
        writer.add_some("door.last_opened", tally.last_opened.map(|time| time.as_secs()));
    }
}

/// The kind of a door's lock, without anything that would help to open it.
fn write_lock(writer: &mut StatusWriter, door: &Door) {
    let kind = match &door.lock {
        Lock::Fixed(_) => "sequence",
        Lock::OneTime(_) => "one-time",
        Lock::Otp(_) => "otp",
        Lock::Spa(_) => "spa",
    };
    writer.add("door.kind", kind);
    match &door.lock {
        Lock::OneTime(lines) => writer.add("door.lines_left", lines.lines().count()),
        Lock::Otp(lock) => writer.add("door.period_seconds", lock.otp.begins(1).as_secs()),
        Lock::Fixed(_) | Lock::Spa(_) => {}
    }
}
