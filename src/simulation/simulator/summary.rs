//! The summary of a simulation.

use crate::door::lock::Lock;
use crate::simulation::simulator::Simulator;

impl Simulator {
    /// How many packets there were, and what became of them at each door.
    pub(super) fn summary(&self) -> Vec<String> {
        let plural = |count: u64, word: &str| {
            if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
        };
        let mut lines = vec![format!(
            "{}, {} of interest, {}",
            plural(self.packets, "packet"),
            self.packets_of_interest,
            plural(self.doors_opened, "opening")
        )];
        for ((door, tally), furthest) in
            self.engine.doors().iter().zip(self.engine.tallies()).zip(&self.furthest)
        {
            let stages = match &door.lock {
                Lock::Otp(lock) => Some(lock.otp.stages()),
                lock => lock.current_sequence().map(|sequence| sequence.stages().len()),
            };
            let stages = stages.map(|stages| format!(" of {stages}")).unwrap_or_default();
            lines.push(match &door.lock {
                Lock::Spa(_) => format!(
                    "  {}: {} opened, {} forged, {} sent again",
                    door.name, tally.opened, tally.forged, tally.repeated_packets
                ),
                _ => format!(
                    "  {}: furthest stage {furthest}{stages}; {} begun, {} failed, {} expired, {} ignored, {} opened",
                    door.name, tally.begun, tally.failed, tally.expired, tally.ignored, tally.opened
                ),
            });
        }
        lines
    }
}
