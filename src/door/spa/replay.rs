//! Packets that were used, so that none is used twice.
//!
//! A packet is remembered until it would be too old. Of those that are forgotten the latest time stays: no
//! packet from that time or before is taken again, whatever the clock says later.

use super::Refusal;
use super::sealed::PacketId;
use crate::sorted;

/// The most packets that are remembered. Only holders of keys can fill it.
pub const MOST: usize = 4096;

/// The packets that were used, at whatever door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// When each was made (seconds since 1970), and which it was; sorted.
    packets: Vec<(u64, PacketId)>,
    /// What was made then or before is used.
    floor: Option<u64>,
}

impl Used {
    /// Whether a packet that was made at `time` was used, or may have been.
    #[must_use]
    pub fn contains(&self, time: u64, id: PacketId) -> bool {
        self.floor.is_some_and(|floor| time <= floor) || self.packets.binary_search(&(time, id)).is_ok()
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
        sorted::insert(&mut self.packets, (time, id));
        Ok(())
    }

    /// Whether none is used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty() && self.floor.is_none()
    }

    /// Forgets the packets from before `oldest`, which are too old.
    fn forget(&mut self, oldest: u64) {
        let count = self.packets.partition_point(|(time, _)| *time < oldest);
        self.forget_first(count);
    }

    fn forget_first(&mut self, count: usize) {
        self.floor = self.floor.max(self.packets.drain(..count).map(|(time, _)| time).next_back());
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
        sorted::sort(&mut self.packets);
        self.floor = self.floor.max(floor);
        // More than can be held: the oldest become part of the floor.
        self.forget_first(self.packets.len().saturating_sub(MOST));
    }
}
