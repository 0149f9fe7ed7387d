//! Shares knocks between gateways, for routers that spread the knocks of one sequence over several of them.
//!
//! All members read the same log of shared knocks and process it in order. A knock that begins an attempt
//! stays on the gateway where it arrived, so a flood of first knocks costs the fleet nothing. A knock that
//! can only be a later stage of an attempt unknown to this gateway is shared, and with it every further knock
//! of its source until a door opens or the source is silent for as long as an attempt may take. A member with
//! an attempt that this knock continues shares the stages reached so far, marked [`Part::Before`]. All
//! members then restart the attempt: they replay those stages, and after them the knocks of that source
//! shared in the meantime.
//!
//! The member at which the completing knock arrived opens the door; the others only update their attempts. So
//! each knock is logged once, where it arrived.

use std::net::IpAddr;
use std::time::Duration;

use crate::door::Door;
use crate::door::knock::Knock;
use crate::engine::Engine;
use crate::opening::event::Event;
use crate::opening::log_limit::RateLimit;
use crate::time::Now;

/// How many sources are shared at once; a new source replaces the one silent for longest.
pub const MOST_SOURCES: usize = 1024;
/// How many knocks a second one gateway shares.
pub const MOST_SHARED: u32 = 1000;
/// How many times a second the one-time lists of a door are derived to find a knock in them, which takes
/// microseconds.
const MOST_DERIVATIONS: u32 = 5000;
/// How many knocks are kept per source.
const MOST_KEPT: usize = 32;

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

/// A source whose knocks are shared.
#[derive(Debug)]
struct Source {
    address: IpAddr,
    /// The uptime until which its knocks are shared.
    until: Duration,
    /// Its knocks, in the order of the log.
    kept: Vec<Kept>,
}

/// A shared knock, kept so that it can be replayed after stages reached at another gateway.
#[derive(Clone, Copy, Debug)]
struct Kept {
    knock: Knock,
    /// It arrived at this gateway.
    is_own: bool,
    /// The uptime of its arrival.
    came: Duration,
}

/// The state of knock sharing at one gateway.
#[derive(Debug)]
pub struct Sharing {
    /// The fleet shares knocks.
    pub is_enabled: bool,
    /// In the order of their addresses.
    sources: Vec<Source>,
    rate: RateLimit,
    derivations: RateLimit,
}

impl Default for Sharing {
    fn default() -> Sharing {
        Sharing {
            is_enabled: false,
            sources: Vec::new(),
            rate: RateLimit::new(MOST_SHARED, MOST_SHARED),
            derivations: RateLimit::new(MOST_DERIVATIONS, MOST_DERIVATIONS),
        }
    }
}

impl Sharing {
    /// Turns knock sharing on or off, and forgets all shared sources.
    pub fn set_enabled(&mut self, is_enabled: bool) {
        self.sources = Vec::new();
        self.is_enabled = is_enabled;
    }

    /// The knocks to share because of a packet that arrived at this gateway. If there are any, the engine
    /// processes the packet when it comes back from the log ([`Sharing::observe_shared`]), otherwise the
    /// caller passes it to the engine now.
    pub fn knocks_to_share(&mut self, engine: &mut Engine, knock: &Knock, now: Now) -> Vec<SharedKnock> {
        if !self.is_enabled {
            return Vec::new();
        }
        let is_shared = self.is_shared(knock, now);
        let is_meant = if is_shared {
            engine.may_affect_attempts(knock)
        } else {
            engine.may_continue_elsewhere(knock, now, &mut || admits(&mut self.derivations, now))
        };
        if !is_meant || !admits(&mut self.rate, now) {
            return Vec::new();
        }
        let mut shared = if is_shared { Vec::new() } else { engine.stages_reached_as_knocks(knock, false) };
        shared.push(SharedKnock { knock: *knock, part: Part::Now, is_own: false });
        self.source(engine, knock, now);
        shared
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
        if !self.is_enabled || !engine.may_affect_attempts(knock) {
            return Vec::new();
        }
        let (is_now, begins, is_last) = match *part {
            Part::Now => (true, !self.is_shared(knock, now), false),
            Part::Before { is_first, is_last } => (false, is_first, is_last),
        };
        let before = if is_now && begins { engine.stages_reached_as_knocks(knock, true) } else { Vec::new() };
        if begins {
            engine.end_attempts_silently(knock);
        }
        let this = Kept { knock: *knock, is_own: is_now && *is_own, came: now.uptime };
        let Some(Source { kept, .. }) = self.source(engine, knock, now) else { return before };
        let mut knocks = vec![this];
        if is_last {
            knocks.extend_from_slice(kept);
        }
        let mut has_opened = false;
        for it in knocks {
            let (first, steps) = (events.len(), engine.steps);
            engine.observe(&it.knock, now, events);
            let came = events.get(first..).unwrap_or_default();
            has_opened |= came.iter().any(|event| matches!(event, Event::Opened { .. }));
            if !it.is_own {
                events.truncate(first);
                engine.steps = steps;
            }
        }
        if is_now {
            if kept.len() >= MOST_KEPT {
                kept.remove(0);
            }
            kept.push(this);
        }
        if has_opened && let Ok(place) = self.place(knock.source) {
            self.sources.remove(place);
        }
        before
    }

    /// The index of a source, or the index at which to insert it.
    fn place(&self, source: IpAddr) -> Result<usize, usize> {
        self.sources.binary_search_by(|it| it.address.cmp(&source))
    }

    /// Whether the knocks of this source are shared.
    fn is_shared(&self, knock: &Knock, now: Now) -> bool {
        let place = self.place(knock.source).ok();
        place.and_then(|place| self.sources.get(place)).is_some_and(|it| it.until > now.uptime)
    }

    /// The entry of the knock's source, whose knocks are shared for the longest `seq_timeout` from now on.
    fn source(&mut self, engine: &Engine, knock: &Knock, now: Now) -> Option<&mut Source> {
        let address = knock.source;
        if self.sources.len() >= MOST_SOURCES && self.place(address).is_err() {
            let mut oldest = (Duration::MAX, 0);
            for (place, it) in self.sources.iter().enumerate() {
                oldest = oldest.min((it.until, place));
            }
            self.sources.remove(oldest.1);
        }
        let longest = engine.doors().iter().map(Door::seq_timeout).max().unwrap_or_default();
        let until = now.uptime.saturating_add(longest);
        let place = self.place(address).unwrap_or_else(|place| {
            self.sources.insert(place, Source { address, until, kept: Vec::new() });
            place
        });
        let source = self.sources.get_mut(place)?;
        // A new knock extends the source's time, not that of its earlier knocks.
        source.kept.retain(|it| it.came.saturating_add(longest) > now.uptime);
        source.until = until;
        Some(source)
    }
}

fn admits(limit: &mut RateLimit, now: Now) -> bool {
    limit.take_suppressed_if_due(now.uptime);
    limit.admits(now.uptime)
}
