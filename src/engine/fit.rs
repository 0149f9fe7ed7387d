//! How a packet fits the attempts known to this gateway, which decides whether the fleet shares it.

use crate::door::Door;
use crate::door::knock::{Knock, Protocol};
use crate::door::lock::Lock;
use crate::door::sequence::Stage;
use crate::engine::Engine;
use crate::engine::attempts::Candidate;
use crate::engine::sharing::{Part, SharedKnock};
use crate::time::Now;

impl Engine {
    /// Whether any door can use this packet, to advance or to fail an attempt.
    #[must_use]
    pub fn may_affect_attempts(&self, knock: &Knock) -> bool {
        let own = self.is_here(knock.destination);
        self.interest.includes(knock, own) || self.interest.includes_hit(knock, own)
    }

    /// Whether a packet may be a later stage of an attempt that is not known to this gateway, because it
    /// neither begins nor continues one here. Derives the one-time lists of a door that can have this stage
    /// only if `may_derive` returns true: that takes microseconds. Anybody can send packets that are compared
    /// with the stages of the other doors as often as they arrive.
    pub fn may_continue_elsewhere(
        &mut self,
        knock: &Knock,
        now: Now,
        may_derive: &mut dyn FnMut() -> bool,
    ) -> bool {
        let own = self.is_here(knock.destination);
        if !self.interest.includes(knock, own) {
            return false;
        }
        self.update_otp_doors(now);
        let attempts = self.candidates_of(knock);
        let is_known = if attempts.is_empty() {
            let mut firsts = std::mem::take(&mut self.firsts);
            self.first_stages.doors_at(Stage::of(knock), knock.destination, own, &mut firsts);
            self.firsts = firsts;
            !self.firsts.is_empty()
        } else {
            attempts.iter().any(|candidate| self.continues(knock, *candidate))
        };
        let mut is_later = |door: &Door| {
            let fits = door.accepts_destination(knock.destination, own) && door.packet_rule().allows(knock);
            fits && door.rules.admit(knock.source) && has_later_stage(&door.lock, knock, now, may_derive)
        };
        !is_known && self.doors.iter().any(&mut is_later)
    }

    /// The stages reached by the furthest attempt of the knock's source, as knocks to share; with `must_fit`,
    /// only attempts that the knock continues are considered. An attempt stores only its stages, so the TCP
    /// flags and the UDP length are set to values that the door accepts.
    #[must_use]
    pub fn stages_reached_as_knocks(&self, knock: &Knock, must_fit: bool) -> Vec<SharedKnock> {
        let mut furthest: Option<Candidate> = None;
        for candidate in self.candidates_of(knock) {
            let is_further = furthest.is_none_or(|it| it.reached <= candidate.reached);
            if is_further && (!must_fit || self.continues(knock, candidate)) {
                furthest = Some(candidate);
            }
        }
        let mut reached = Vec::new();
        let Some((candidate, door)) = furthest.and_then(|it| Some((it, self.door_of(it)?))) else {
            return reached;
        };
        let rule = door.packet_rule();
        for index in 0..usize::from(candidate.reached) {
            let Some(stage) = door.lock.stage(candidate.turn, knock.source, index) else { continue };
            let knock = Knock {
                protocol: stage.protocol,
                port: stage.port,
                flags: (stage.protocol == Protocol::Tcp).then_some(rule.flags.set),
                udp_length: (stage.protocol == Protocol::Udp)
                    .then(|| rule.udp_length.map_or(0, |(least, _)| least)),
                ..*knock
            };
            let (is_first, is_last) = (index == 0, index + 1 == candidate.reached.into());
            reached.push(SharedKnock { knock, part: Part::Before { is_first, is_last }, is_own: false });
        }
        reached
    }

    /// Ends, without events, all attempts of the knock's source at doors that accept its destination.
    pub fn end_attempts_silently(&mut self, knock: &Knock) {
        let mut next = self.attempts.first_of(knock.source);
        while let Some(id) = next {
            next = self.attempts.next_of(id);
            let mut left = Vec::new();
            for candidate in self.attempts.candidates(id) {
                if !self.is_meant(knock, *candidate) {
                    left.push(*candidate);
                }
            }
            self.attempts.keep(id, &left, self.shortest_timeout(&left));
        }
    }

    /// What the attempts of the knock's source may open, at doors that accept its destination.
    fn candidates_of(&self, knock: &Knock) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        let mut next = self.attempts.first_of(knock.source);
        while let Some(id) = next {
            next = self.attempts.next_of(id);
            for candidate in self.attempts.candidates(id) {
                if self.is_meant(knock, *candidate) {
                    candidates.push(*candidate);
                }
            }
        }
        candidates
    }

    fn door_of(&self, candidate: Candidate) -> Option<&Door> {
        self.doors.get(candidate.door as usize)
    }

    /// Whether the door accepts the destination of the knock.
    fn is_meant(&self, knock: &Knock, candidate: Candidate) -> bool {
        let own = self.is_here(knock.destination);
        self.door_of(candidate).is_some_and(|door| door.accepts_destination(knock.destination, own))
    }

    /// Whether the knock is the next stage of the attempt, or a repeat of the last one where duplicates are
    /// allowed.
    fn continues(&self, knock: &Knock, candidate: Candidate) -> bool {
        let Some(door) = self.door_of(candidate) else { return false };
        let reached = usize::from(candidate.reached);
        let is_stage = |index| door.lock.stage(candidate.turn, knock.source, index) == Some(Stage::of(knock));
        is_stage(reached) || door.rules.allows_duplicates && is_stage(reached - 1)
    }
}

/// Whether a sequence that opens this lock now has this knock after its first stage. One-time lists are derived
/// only if `may_derive` returns true.
fn has_later_stage(lock: &Lock, knock: &Knock, now: Now, may_derive: &mut dyn FnMut() -> bool) -> bool {
    let here = Stage::of(knock);
    let has = |stages: &[Stage]| stages.get(1..).is_some_and(|later| later.contains(&here));
    match lock {
        Lock::Fixed(_) | Lock::OneTime(_) => lock.current_sequence().is_some_and(|it| has(it.stages())),
        Lock::Otp(lock) => {
            lock.otp.can_have(here)
                && may_derive()
                && lock.otp.accepted(now.unix).any(|period| has(&lock.otp.list(period, knock.source)))
        }
        Lock::Spa(_) => false,
    }
}
