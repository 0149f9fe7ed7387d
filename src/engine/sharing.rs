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

use std::net::IpAddr;

use crate::engine::number::number;
use crate::opening::log_limit::RateLimit;
use crate::time::Now;

/// How many sources of shared knocks are remembered: one for each value of the last byte of their addresses.
const PLACES: usize = 256;
/// How long a source is remembered after its last shared knock, in seconds.
const LATELY: u64 = 30;
/// How many packets a second are examined at most, and so shared: the one-time lists are derived for each, which takes
/// microseconds, and the log of the fleet must hold what all members share within seconds.
pub const MOST_EXAMINED: u32 = 2000;

/// The state of knock sharing at one gateway.
#[derive(Debug)]
pub(super) struct Sharing {
    /// The sources of the knocks that were shared last, here or elsewhere, as numbers, each at its place, with the
    /// uptime in seconds. Empty if no knocks are shared.
    sources: Vec<(u128, u64)>,
    examined: RateLimit,
}

impl Sharing {
    pub(super) fn new(is_enabled: bool) -> Sharing {
        Sharing {
            sources: vec![(0, 0); if is_enabled { PLACES } else { 0 }],
            examined: RateLimit::new(MOST_EXAMINED, MOST_EXAMINED),
        }
    }

    pub(super) fn is_enabled(&self) -> bool {
        !self.sources.is_empty()
    }

    /// A source as a number, and the last one that was noted at its place; `None` if no knocks are shared.
    #[inline(never)]
    fn place_of(&mut self, source: IpAddr) -> Option<(u128, &mut (u128, u64))> {
        let source = number(source);
        let latest = self.sources.get_mut(usize::from(source.to_le_bytes()[0]))?;
        Some((source, latest))
    }

    /// Whether this source was noted lately, and no other one at its place.
    pub(super) fn is_noted(&mut self, source: IpAddr, now: Now) -> bool {
        self.place_of(source)
            .is_some_and(|(source, latest)| latest.0 == source && latest.1 + LATELY >= now.uptime.as_secs())
    }

    /// Notes the source of a knock that is shared; whether any are.
    pub(super) fn note(&mut self, source: IpAddr, now: Now) -> bool {
        self.place_of(source).map(|(source, latest)| *latest = (source, now.uptime.as_secs())).is_some()
    }

    /// Whether one more packet may be examined now.
    pub(super) fn may_examine(&mut self, now: Now) -> bool {
        self.examined.take_suppressed_if_due(now.uptime);
        self.examined.admits(now.uptime)
    }
}
