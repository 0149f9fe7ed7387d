//! Knocks that several gateways share, where a router spreads the knocks of one sequence over them.
//!
//! All members read the same log of shared knocks, and process it in its order. A knock that begins an attempt stays where
//! it arrived: a flood of them costs the fleet nothing. One that can only be a later stage of an attempt which is not known
//! here is shared, and with it all that its source knocks until a door opens, or nothing came for as long as an attempt may
//! take. A member that has an attempt of that source which this knock continues shares the stages that it has reached, marked as
//! what came before. Then all members begin anew: first those stages, then what was shared of that source in the
//! meantime.
//!
//! A door is opened by the member where the knock arrived that completed the sequence; the others only follow what happens.
//! So each knock is logged once, where it arrived.

use std::net::IpAddr;
use std::time::Duration;

use litemap::LiteMap;

use crate::door::Door;
use crate::door::knock::Knock;
use crate::engine::Engine;
use crate::engine::fit::Fit;
use crate::opening::event::Event;
use crate::opening::log_limit::Flood;
use crate::time::Now;

/// The knocks of how many sources are shared at once; the one that was silent for longest makes room.
pub const MOST_SOURCES: usize = 1024;
/// How many knocks a second are shared by one gateway.
pub const MOST_SHARED: u32 = 1000;
/// For how many knocks a second the stages of all doors are looked at: with one-time passwords that takes microseconds.
const MOST_LOOKS: u32 = 5000;
/// How many knocks of a source are kept.
const MOST_KEPT: usize = 32;

/// What a shared knock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// It arrived now.
    Now,
    /// It arrived before: a stage that an attempt has reached.
    Before {
        /// It is the first one of these.
        is_first: bool,
        /// It is the last one of these.
        is_last: bool,
    },
}

/// A knock that is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SharedKnock {
    /// The packet, without what only the debug output uses.
    pub knock: Knock,
    /// When it arrived.
    pub part: Part,
    /// The log came back to where it was written.
    pub is_own: bool,
}

/// A source whose knocks are shared.
#[derive(Debug, Default)]
struct Source {
    /// Until when, as uptime.
    until: Duration,
    /// Its knocks, in the order of the log.
    kept: Vec<Kept>,
}

/// A shared knock that may be repeated behind stages that were reached elsewhere.
#[derive(Clone, Copy, Debug)]
struct Kept {
    knock: Knock,
    /// It arrived here.
    is_own: bool,
    /// When it came, as uptime.
    came: Duration,
}

/// What is shared, as one gateway knows it.
#[derive(Debug)]
pub struct Sharing {
    /// The fleet passes knocks on.
    pub is_on: bool,
    sources: LiteMap<IpAddr, Source>,
    rate: Flood,
    looks: Flood,
}

impl Default for Sharing {
    fn default() -> Sharing {
        Sharing {
            is_on: false,
            sources: LiteMap::new(),
            rate: Flood::new(MOST_SHARED, MOST_SHARED),
            looks: Flood::new(MOST_LOOKS, MOST_LOOKS),
        }
    }
}

impl Sharing {
    /// The fleet passes knocks on from now on, or does not. Whatever was shared before is over.
    pub fn switch(&mut self, is_on: bool) {
        self.sources = LiteMap::new();
        self.is_on = is_on;
    }

    /// A packet arrived here. Returns what is to be shared: then the engine gets it when it comes back. Otherwise, the
    /// engine is to have it now.
    pub fn arrived(&mut self, engine: &mut Engine, knock: &Knock, now: Now) -> Vec<SharedKnock> {
        if !self.is_on {
            return Vec::new();
        }
        let is_shared = self.sources.get(&knock.source).is_some_and(|it| it.until > now.uptime);
        let is_meant = if is_shared {
            engine.uses(knock)
        } else {
            engine.fit(knock, now, || admits(&mut self.looks, now)) == Fit::Elsewhere
        };
        if !is_meant || !admits(&mut self.rate, now) {
            return Vec::new();
        }
        let before = if is_shared { Vec::new() } else { engine.begun(knock, false) };
        self.source(engine, knock, now);
        with(&before, Some(knock))
    }

    /// A knock came from the log. Appends to `events` what it changed, if it arrived here; of all others, what is
    /// completed is only noted in the engine. Returns what is to be shared because of it.
    pub fn heard(
        &mut self,
        engine: &mut Engine,
        shared: &SharedKnock,
        now: Now,
        events: &mut Vec<Event>,
    ) -> Vec<SharedKnock> {
        let SharedKnock { knock, part, is_own } = shared;
        if !self.is_on || !engine.uses(knock) {
            return Vec::new();
        }
        let is_known = self.sources.get(&knock.source).is_some_and(|it| it.until > now.uptime);
        let mut before = Vec::new();
        if !is_known && *part == Part::Now {
            before = engine.begun(knock, true);
            engine.forget(knock);
        }
        let mut kept = std::mem::take(&mut self.source(engine, knock, now).kept);
        let mut has_opened = false;
        let mut observe = |engine: &mut Engine, knock: &Knock, is_own: bool| {
            let (first, steps) = (events.len(), engine.steps);
            engine.observe(knock, now, events);
            let came = events.get(first..).unwrap_or_default();
            has_opened |= came.iter().any(|event| matches!(event, Event::Opened { .. }));
            if !is_own {
                events.truncate(first);
                engine.steps = steps;
            }
        };
        match *part {
            Part::Now => {
                observe(engine, knock, *is_own);
                kept.push(Kept { knock: *knock, is_own: *is_own, came: now.uptime });
                if kept.len() > MOST_KEPT {
                    kept.remove(0);
                }
            }
            Part::Before { is_first, is_last } => {
                if is_first {
                    engine.forget(knock);
                }
                observe(engine, knock, false);
                if is_last {
                    for it in &kept {
                        observe(engine, &it.knock, it.is_own);
                    }
                }
            }
        }
        if has_opened {
            self.sources.remove(&knock.source);
        } else {
            self.source(engine, knock, now).kept = kept;
        }
        with(&before, None)
    }

    /// The knocks of this source are shared for some time from now on.
    fn source(&mut self, engine: &Engine, knock: &Knock, now: Now) -> &mut Source {
        let source = knock.source;
        if self.sources.len() >= MOST_SOURCES && !self.sources.contains_key(&source) {
            let oldest = self.sources.iter().min_by_key(|(_, it)| it.until).map(|(source, _)| *source);
            oldest.and_then(|oldest| self.sources.remove(&oldest));
        }
        let longest = engine.doors().iter().map(Door::seq_timeout).max().unwrap_or_default();
        let source = self.sources.entry(source).or_default();
        // Each knock makes the time of the source longer, not that of the knocks before it.
        source.kept.retain(|it| it.came.saturating_add(longest) > now.uptime);
        source.until = now.uptime.saturating_add(longest);
        source
    }
}

fn admits(flood: &mut Flood, now: Now) -> bool {
    flood.sum(now.uptime);
    flood.admits(now.uptime)
}

/// Stages that were reached, then a knock that arrived now.
fn with(before: &[Knock], now: Option<&Knock>) -> Vec<SharedKnock> {
    let last = before.len();
    let shared = |knock: &Knock, part| SharedKnock { knock: *knock, part, is_own: false };
    let mut all: Vec<SharedKnock> = (1..)
        .zip(before)
        .map(|(place, knock)| shared(knock, Part::Before { is_first: place == 1, is_last: place == last }))
        .collect();
    all.extend(now.map(|knock| shared(knock, Part::Now)));
    all
}
