//! Limits how many steps of attempts the engine reports: a packet that begins the sequences of a thousand
//! doors would otherwise cause a thousand log lines.

/// The limit on reported steps, and the number suppressed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Steps {
    /// How many more may be reported; `None` is no limit.
    remaining: Option<u32>,
    suppressed: u64,
}

impl Steps {
    /// Allows `remaining` further reports; `None` is no limit.
    pub(super) fn limit(&mut self, remaining: Option<u32>) {
        self.remaining = remaining;
    }

    /// Whether one more step may be reported; if not, counts it as suppressed.
    pub(super) fn admits(&mut self) -> bool {
        match &mut self.remaining {
            None => true,
            Some(0) => {
                self.suppressed = self.suppressed.saturating_add(1);
                false
            }
            Some(remaining) => {
                *remaining -= 1;
                true
            }
        }
    }

    /// The number of reports suppressed since the last call.
    pub(super) fn take_suppressed(&mut self) -> u64 {
        std::mem::take(&mut self.suppressed)
    }
}
