//! How many steps of attempts the engine reports: a packet that begins the sequences of a thousand doors makes as
//! many, and the log has no room for them.

/// Counts the steps that are reported, and those above the limit that are not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Steps {
    /// How many more are reported; `None` is no limit.
    room: Option<u32>,
    left_out: u64,
}

impl Steps {
    /// So many are reported from now on.
    pub(super) fn limit(&mut self, room: Option<u32>) {
        self.room = room;
    }

    /// Whether one more is to be reported; otherwise it is counted.
    pub(super) fn admits(&mut self) -> bool {
        match &mut self.room {
            None => true,
            Some(0) => {
                self.left_out = self.left_out.saturating_add(1);
                false
            }
            Some(room) => {
                *room -= 1;
                true
            }
        }
    }

    /// How many were not reported since this was asked last.
    pub(super) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}
