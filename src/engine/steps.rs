//! Limits how many steps of attempts the engine reports: a packet that begins the sequences of a thousand
//! doors would otherwise cause a thousand log lines.

/// The limit on reported steps, and the number suppressed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Steps {
    /// How many more may be reported; `None` is no limit.
    room: Option<u32>,
    left_out: u64,
}

impl Steps {
    /// Allows `room` further reports; `None` is no limit.
    pub(super) fn limit(&mut self, room: Option<u32>) {
        self.room = room;
    }

    /// Whether one more step may be reported; if not, counts it as suppressed.
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

    /// The number of reports suppressed since the last call.
    pub(super) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}
