//! Shares knocks between gateways, for routers that spread the knocks of one sequence over several of them.
//!
//! All members read the same log of shared knocks and process it in order. A knock that begins or continues
//! an attempt stays on the gateway where it arrived, so a flood of first knocks costs the fleet nothing. A
//! knock that can only be a later stage of an attempt unknown to this gateway is shared, and with it every
//! further knock of its source until a door opens or the source is silent for as long as an attempt may take.
//! A member with an attempt that this knock continues shares the stages reached so far, marked
//! [`Part::Before`]. All members then restart the attempt: they replay those stages, and after them the knocks
//! of that source shared in the meantime.
//!
//! The member at which the completing knock arrived opens the door; the others only update their attempts. So
//! each knock is logged once, where it arrived.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use crate::door::Door;
use crate::door::knock::Knock;
use crate::engine::Engine;
use crate::opening::event::Event;
use crate::opening::log_limit::RateLimit;
use crate::time::Now;

/// How many shared knocks are kept, those of all sources together; a new one replaces the oldest.
pub const MOST_KEPT: usize = 2048;
/// How many knocks a second one gateway shares.
pub const MOST_SHARED: u32 = 1000;
/// How many times a second the one-time lists of a door are derived to find a knock in them, which takes
/// microseconds.
const MOST_DERIVATIONS: u32 = 5000;

/// Whether a shared knock is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// It has just arrived.
    Now,
    /// It arrived earlier: a stage that an attempt has reached.
    Before {
        /// The first of the stages that are shared together.
        is_first: bool,
        /// The last of them.
        is_last: bool,
    },
}

/// A shared knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SharedKnock {
    /// The packet, without the fields that only the debug output uses.
    pub knock: Knock,
    /// Whether it has just arrived, or is a stage reached earlier.
    pub part: Part,
    /// This gateway wrote it to the log.
    pub is_own: bool,
}

/// The state of knock sharing at one gateway.
#[derive(Debug)]
pub struct Sharing {
    /// The fleet shares knocks.
    pub is_enabled: bool,
    /// The last knocks of the log, by source, and those of a source in the order of the log; each with the
    /// uptime until which it counts. The knocks of a source are shared while one of them counts.
    kept: Vec<(SharedKnock, Duration)>,
    rate: RateLimit,
    derivations: RateLimit,
}

impl Default for Sharing {
    fn default() -> Sharing {
        Sharing {
            is_enabled: false,
            kept: Vec::new(),
            rate: RateLimit::new(MOST_SHARED, MOST_SHARED),
            derivations: RateLimit::new(MOST_DERIVATIONS, MOST_DERIVATIONS),
        }
    }
}

impl Sharing {
    /// Turns knock sharing on or off, and forgets all shared knocks.
    pub fn set_enabled(&mut self, is_enabled: bool) {
        self.kept.clear();
        self.is_enabled = is_enabled;
    }

    /// Whether to share a packet that arrived at this gateway. The engine then processes it when it comes back
    /// from the log ([`Sharing::observe_shared`]); otherwise the caller passes it to the engine now.
    pub fn admits(&mut self, engine: &mut Engine, knock: &Knock, now: Now) -> bool {
        self.is_enabled
            && if self.is_shared(knock.source, now) {
                engine.may_affect_attempts(knock)
            } else {
                engine.may_continue_elsewhere(knock, now, &mut || admits(&mut self.derivations, now))
            }
            && admits(&mut self.rate, now)
    }

    /// Processes a knock from the log. Appends the resulting events to `events` if the knock arrived at this
    /// gateway; knocks of other gateways only update the engine. Returns the stages to share in response.
    pub fn observe_shared(
        &mut self,
        engine: &mut Engine,
        shared: &SharedKnock,
        now: Now,
        events: &mut Vec<Event>,
    ) -> Vec<SharedKnock> {
        let SharedKnock { knock, part, is_own } = shared;
        let mut before = Vec::new();
        if !self.is_enabled || !engine.may_affect_attempts(knock) {
            return before;
        }
        let is_news = *part == Part::Now && !self.is_shared(knock.source, now);
        if is_news {
            before = engine.stages_before(knock);
        }
        // An attempt at this gateway that its own knock does not continue fails in the usual way.
        if is_news && !is_own || matches!(part, Part::Before { is_first: true, .. }) {
            engine.forget_attempts(knock.source);
        }
        let longest = engine.doors().iter().map(Door::seq_timeout).max().unwrap_or_default();
        if self.kept.len() >= MOST_KEPT {
            let oldest = self.kept.iter().enumerate().min_by_key(|(_, (_, until))| *until);
            let place = oldest.map_or(0, |(place, _)| place);
            self.kept.remove(place);
        }
        let end = self.of_source(knock.source).end;
        self.kept.insert(end, (*shared, now.uptime.saturating_add(longest)));
        let mut has_opened = false;
        let mut observe = |it: &SharedKnock| {
            let (first, steps) = (events.len(), engine.steps);
            engine.observe(&it.knock, now, events);
            let came = events.get(first..).unwrap_or_default();
            has_opened |= came.iter().any(|event| matches!(event, Event::Opened { .. }));
            if !it.is_own || it.part != Part::Now {
                events.truncate(first);
                engine.steps = steps;
            }
        };
        observe(shared);
        let of_source = self.of_source(knock.source);
        let kept = self.kept.get_mut(of_source).unwrap_or_default();
        if matches!(part, Part::Before { is_last: true, .. }) {
            for (it, until) in &*kept {
                if it.part == Part::Now && *until > now.uptime {
                    observe(it);
                }
            }
        }
        if has_opened {
            for (_, until) in kept {
                *until = Duration::ZERO;
            }
        }
        before
    }

    /// Whether the knocks of this source are shared. Every packet of a flood asks for it.
    fn is_shared(&self, source: IpAddr, now: Now) -> bool {
        let newest = self.kept.get(self.of_source(source)).and_then(<[_]>::last);
        newest.is_some_and(|(_, until)| *until > now.uptime)
    }

    /// Where the knocks of this source are kept, or would be.
    fn of_source(&self, source: IpAddr) -> Range<usize> {
        let start = self.kept.partition_point(|(it, _)| it.knock.source < source);
        let kept = self.kept.get(start..).unwrap_or_default();
        start..start + kept.partition_point(|(it, _)| it.knock.source == source)
    }
}

fn admits(limit: &mut RateLimit, now: Now) -> bool {
    limit.take_suppressed_if_due(now.uptime);
    limit.admits(now.uptime)
}
