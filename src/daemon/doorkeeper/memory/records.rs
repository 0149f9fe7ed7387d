//! The records of the state file other than openings: cooldowns, doors open in the kernel, used lists and
//! packets.

use std::net::IpAddr;

use crate::daemon::doorkeeper::memory::Memory;
use crate::door::Door;
use crate::door::lock::Turn;
use crate::door::spa::Refusal;
use crate::door::spa::replay::Used;
use crate::door::spa::sealed::PacketId;
use crate::door::tries;
use crate::opening::admission_id::in_order;
use crate::opening::admissions::{Admission, Step};
use crate::opening::record::Record;
use crate::opening::state::{self, Admitted, Cooldown};
use crate::time::Now;

/// Maximum number of cooldowns kept.
const MOST_COOLDOWNS: usize = 1024;

impl Memory {
    /// The cooldowns, latest last.
    pub(in crate::daemon::doorkeeper) fn cooldowns(&self) -> &[Cooldown] {
        &self.cooldowns
    }

    /// Begins the cooldown of a door, if it has one.
    pub(in crate::daemon::doorkeeper) fn cool_down(&mut self, door: &Door, knocker: IpAddr, now: Now) {
        let after = door.rules.cooldown;
        if after.is_zero() {
            return;
        }
        self.cooldowns.retain(|it| it.until > now.uptime && (it.knocker, &it.door) != (knocker, &door.name));
        if self.cooldowns.len() >= MOST_COOLDOWNS {
            self.cooldowns.remove(0);
        }
        let until = now.uptime.saturating_add(after);
        let cooldown = Cooldown { door: door.name.clone(), knocker, after, until };
        self.pending.push(Record::Cooldown(cooldown.clone()));
        self.cooldowns.push(cooldown);
    }

    /// The doors known to be open in the kernel.
    pub(in crate::daemon::doorkeeper) fn admitted(&self) -> Vec<Admitted> {
        in_order(&self.admitted).into_iter().cloned().collect()
    }

    /// Records that a door was opened or closed in the kernel.
    pub(in crate::daemon::doorkeeper) fn note(&mut self, step: Step) {
        match step {
            Step::Admitted(Admission { id, after, until, set_handles, .. }) => {
                let admitted = Admitted { id: id.clone(), after, until, set: set_handles };
                self.pending.push(Record::Admitted(admitted.clone()));
                self.admitted.insert(id, Box::new(admitted));
            }
            Step::Dismissed(id) => {
                if self.admitted.remove(&id).is_some() {
                    self.pending.push(Record::Dismissed(id));
                }
            }
        }
    }

    /// Records that a one-time list is used.
    pub(in crate::daemon::doorkeeper) fn spend(&mut self, door: &Door, turn: Turn, knocker: IpAddr) {
        self.pending.extend(state::spent(door, turn, knocker));
    }

    /// Records the number of attempts of a knocker to guess a one-time list.
    pub(in crate::daemon::doorkeeper) fn note_try(
        &mut self,
        lock: u64,
        turn: Turn,
        knocker: IpAddr,
        count: u8,
    ) {
        self.pending.push(Record::Tried(lock, turn.0, tries::source(knocker), count));
    }

    /// The used single packets.
    pub(in crate::daemon::doorkeeper) fn used(&self) -> &Used {
        &self.used
    }

    /// Records that a single packet is used. Packets expire after `max_age` seconds.
    ///
    /// # Errors
    /// [`Refusal::Replay`] if it was used before, [`Refusal::Full`] if too many packets are remembered.
    pub(in crate::daemon::doorkeeper) fn use_packet(
        &mut self,
        time: u64,
        id: PacketId,
        max_age: u32,
        now: Now,
    ) -> Result<(), Refusal> {
        self.used.insert(time, id, max_age, now.unix.as_secs())?;
        self.pending.push(Record::Packet(time, id));
        Ok(())
    }

    /// Marks single packets made at this time (seconds since 1970) or before as used.
    pub(in crate::daemon::doorkeeper) fn distrust_packets(&mut self, floor: u64) {
        self.used.merge([], Some(floor));
        self.pending.push(Record::PacketFloor(floor));
    }
}
