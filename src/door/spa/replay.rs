//! Remembers used packets, so that none is used twice.
//!
//! A packet is remembered until it is too old to be accepted. Of the forgotten packets, the latest time is
//! kept: no packet from that time or before is accepted again, even if the clock is set back.

use super::Refusal;
use super::sealed::PacketId;
use crate::sorted;

/// The most packets that are remembered. Only holders of keys can fill it.
pub const MAX_PACKETS: usize = 4096;

/// The packets used at any door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Time (seconds since 1970) and identity of each, sorted.
    packets: Vec<(u64, PacketId)>,
    /// All packets from this time or before count as used.
    floor: Option<u64>,
}

impl Used {
    /// Whether a packet made at `time` was used, or may have been.
    #[must_use]
    pub fn contains(&self, time: u64, id: PacketId) -> bool {
        self.floor.is_some_and(|floor| time <= floor) || self.packets.binary_search(&(time, id)).is_ok()
    }

    /// Records that a packet is used now. Forgets packets older than `max_age` seconds at `unix` (since
    /// 1970).
    ///
    /// # Errors
    /// [`Refusal::Replay`] if it was used before. [`Refusal::Full`] if [`MAX_PACKETS`] packets are remembered:
    /// the packet must not be used then.
    pub fn insert(&mut self, time: u64, id: PacketId, max_age: u32, unix: u64) -> Result<(), Refusal> {
        self.forget(unix.saturating_sub(max_age.into()));
        if self.contains(time, id) {
            return Err(Refusal::Replay);
        }
        if self.packets.len() >= MAX_PACKETS {
            return Err(Refusal::Full);
        }
        sorted::insert(&mut self.packets, (time, id));
        Ok(())
    }

    /// Whether no packet was used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty() && self.floor.is_none()
    }

    /// Forgets the packets from before `oldest`.
    fn forget(&mut self, oldest: u64) {
        let count = self.packets.partition_point(|(time, _)| *time < oldest);
        self.forget_first(count);
    }

    fn forget_first(&mut self, count: usize) {
        self.floor = self.floor.max(self.packets.drain(..count).map(|(time, _)| time).next_back());
    }

    /// The packets that are remembered individually: time and identity.
    pub fn packets(&self) -> impl Iterator<Item = (u64, PacketId)> {
        self.packets.iter().copied()
    }

    /// The time up to which every packet counts as used.
    #[must_use]
    pub fn floor(&self) -> Option<u64> {
        self.floor
    }

    /// Takes over the packets of a state file, or of an earlier configuration.
    pub fn merge(&mut self, packets: impl IntoIterator<Item = (u64, PacketId)>, floor: Option<u64>) {
        self.packets.extend(packets);
        sorted::sort(&mut self.packets);
        self.floor = self.floor.max(floor);
        // Beyond the limit, the oldest packets become part of the floor.
        self.forget_first(self.packets.len().saturating_sub(MAX_PACKETS));
    }
}
