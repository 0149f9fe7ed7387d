//! Shares knocks between gateways, for routers that spread the knocks of one sequence over several of them.
//!
//! The gateway at which a sequence begins has its attempt: it follows the sequence to its end, logs it and
//! opens the door. Each gateway processes the packets that arrive there as it would alone, and then shares those
//! that no attempt there waited for, if they can be a later stage of one elsewhere. A gateway that is told of
//! such a knock applies it to its attempts of that source; it begins none. So a flood of first knocks costs the
//! fleet nothing, and what strangers cause to be shared leaves nothing behind at the other gateways but the source.
//!
//! A knock that begins a sequence may also be a later stage of another one, or of the same. It is shared if other
//! knocks of its source were lately; so are wrong knocks, which end attempts.

use crate::opening::log_limit::RateLimit;
use crate::time::Now;

/// How many sources of shared knocks are remembered: one for each value of the last byte of their addresses.
const PLACES: usize = 256;
/// How many knocks a second one gateway shares.
pub const MOST_SHARED: u32 = 1000;
/// How many packets a second are looked for among the stages of all doors; to derive one-time lists takes
/// microseconds.
const MOST_EXAMINED: u32 = 5000;

/// The state of knock sharing at one gateway.
#[derive(Debug)]
pub(super) struct Sharing {
    /// The sources of the knocks that were shared last, here or elsewhere, as numbers, each at its place; 0 is
    /// none. Empty if no knocks are shared.
    sources: Vec<u128>,
    shared: RateLimit,
    examined: RateLimit,
}

impl Sharing {
    pub(super) fn new(is_enabled: bool) -> Sharing {
        Sharing {
            sources: vec![0; if is_enabled { PLACES } else { 0 }],
            shared: RateLimit::new(MOST_SHARED, MOST_SHARED),
            examined: RateLimit::new(MOST_EXAMINED, MOST_EXAMINED),
        }
    }

    pub(super) fn is_enabled(&self) -> bool {
        !self.sources.is_empty()
    }

    /// The last source that was noted at the place of this one; `None` if no knocks are shared.
    pub(super) fn latest_beside(&mut self, source: u128) -> Option<&mut u128> {
        self.sources.get_mut(usize::from(source.to_le_bytes()[0]))
    }

    /// Notes the source of a knock that is shared; whether any are.
    pub(super) fn note(&mut self, source: u128) -> bool {
        self.latest_beside(source).map(|latest| *latest = source).is_some()
    }

    /// A door was opened for this source.
    pub(super) fn forget(&mut self, source: u128) {
        if let Some(latest) = self.latest_beside(source).filter(|latest| **latest == source) {
            *latest = 0;
        }
    }

    /// Whether one more knock may be shared now.
    pub(super) fn may_share(&mut self, now: Now) -> bool {
        admits(&mut self.shared, now)
    }

    /// Whether one more packet may be looked for among the stages now.
    pub(super) fn may_examine(&mut self, now: Now) -> bool {
        admits(&mut self.examined, now)
    }
}

fn admits(limit: &mut RateLimit, now: Now) -> bool {
    limit.take_suppressed_if_due(now.uptime);
    limit.admits(now.uptime)
}
