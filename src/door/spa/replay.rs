//! Packets that were used, so that none is used twice.
//!
//! A packet is remembered until it would be too old. Of those that are forgotten the latest time stays: no
//! packet from that time or before is taken again, whatever the clock says later.

use std::collections::BTreeSet;

use super::Refusal;
use super::sealed::PacketId;

/// The most packets that are remembered. Only holders of keys can fill it.
pub const MOST: usize = 4096;

/// The packets that were used, at whatever door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// When each was made (seconds since 1970), and which it was.
    packets: BTreeSet<(u64, PacketId)>,
    /// What was made then or before is used.
    floor: Option<u64>,
}

impl Used {
    /// Whether a packet that was made at `time` was used, or may have been.
    #[must_use]
    pub fn contains(&self, time: u64, id: PacketId) -> bool {
        self.floor.is_some_and(|floor| time <= floor) || self.packets.contains(&(time, id))
    }

    /// A packet is used now. Those that are too old are forgotten: older than `max_age` seconds at `unix`
    /// (since 1970).
    ///
    /// # Errors
    /// [`Refusal::Replay`] if it was used before, [`Refusal::Full`] if [`MOST`] packets are remembered: it
    /// cannot be used then.
    pub fn insert(&mut self, time: u64, id: PacketId, max_age: u32, unix: u64) -> Result<(), Refusal> {
        self.forget(unix.saturating_sub(max_age.into()));
        if self.contains(time, id) {
            return Err(Refusal::Replay);
        }
        if self.packets.len() >= MOST {
            return Err(Refusal::Full);
        }
        self.packets.insert((time, id));
        Ok(())
    }

    /// Whether none is used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty() && self.floor.is_none()
    }

    /// Forgets the packets from before `oldest`, which are too old.
    fn forget(&mut self, oldest: u64) {
        while let Some(&(time, _)) = self.packets.first()
            && time < oldest
        {
            self.packets.pop_first();
            self.floor = self.floor.max(Some(time));
        }
    }

    /// The packets that are remembered one by one: when each was made, and which it was.
    pub fn packets(&self) -> impl Iterator<Item = (u64, PacketId)> {
        self.packets.iter().copied()
    }

    /// The time up to which every packet counts as used.
    #[must_use]
    pub fn floor(&self) -> Option<u64> {
        self.floor
    }

    /// Takes over what was remembered elsewhere, in a state file or by the door of an earlier configuration.
    pub fn merge(&mut self, packets: impl IntoIterator<Item = (u64, PacketId)>, floor: Option<u64>) {
        self.packets.extend(packets);
        self.floor = self.floor.max(floor);
        // More than can be held: the oldest become part of the floor.
        while self.packets.len() > MOST
            && let Some((time, _)) = self.packets.pop_first()
        {
            self.floor = self.floor.max(Some(time));
        }
    }
}
