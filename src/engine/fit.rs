//! How a packet fits the attempts known to this gateway, which decides whether the fleet shares it.

use crate::door::Door;
use crate::door::knock::{Knock, Protocol};
use crate::door::lock::Lock;
use crate::door::sequence::Stage;
use crate::engine::Engine;
use crate::time::Now;

/// How a packet fits the attempts known to this gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// No door can use it.
    Stray,
    /// It begins or continues an attempt here, or is of no use to other gateways either.
    Here,
    /// It may be a later stage of an attempt that is not known here.
    Elsewhere,
}

impl Engine {
    /// Whether any door can use this packet, to advance or to fail an attempt.
    #[must_use]
    pub fn may_affect_attempts(&self, knock: &Knock) -> bool {
        let own = self.is_here(knock.destination);
        self.interest.includes(knock, own) || self.interest.includes_hit(knock, own)
    }

    /// Classifies a packet. Compares it with the stages of all doors only if `may_look` returns true.
    pub fn fit(&mut self, knock: &Knock, now: Now, may_look: impl FnOnce() -> bool) -> Fit {
        let own = self.is_here(knock.destination);
        if !self.interest.includes(knock, own) {
            return if self.interest.includes_hit(knock, own) { Fit::Here } else { Fit::Stray };
        }
        self.update_otp_doors(now);
        let has_attempt = self.candidates_of(knock).next().is_some();
        let is_known = if has_attempt {
            self.candidates_of(knock).any(|(_, _, is_next)| is_next)
        } else {
            let mut firsts = std::mem::take(&mut self.firsts);
            self.first_stages.doors_at(Stage::of(knock), knock.destination, own, &mut firsts);
            let is_first = !firsts.is_empty();
            self.firsts = firsts;
            is_first
        };
        let is_later = |door: &Door| {
            let fits = door.accepts_destination(knock.destination, own) && door.packet_rule().allows(knock);
            fits && door.rules.admit(knock.source) && has_later_stage(&door.lock, knock, now)
        };
        if is_known || !may_look() || !self.doors.iter().any(is_later) { Fit::Here } else { Fit::Elsewhere }
    }

    /// The attempts of the knock's source at doors that accept its destination: the door, the stages reached,
    /// and whether the knock is the next stage, or a repeat of the last one where duplicates are allowed.
    fn candidates_of(&self, knock: &Knock) -> impl Iterator<Item = (&Door, Vec<Stage>, bool)> {
        let own = self.is_here(knock.destination);
        let ids =
            std::iter::successors(self.attempts.first_of(knock.source), |&id| self.attempts.next_of(id));
        let candidates = ids.flat_map(|id| self.attempts.candidates(id));
        candidates.filter_map(move |candidate| {
            let door = self.doors.get(candidate.door as usize)?;
            if !door.accepts_destination(knock.destination, own) {
                return None;
            }
            let stage = |index| door.lock.stage(candidate.turn, knock.source, index);
            let reached = usize::from(candidate.reached);
            let here = Some(Stage::of(knock));
            let is_next =
                stage(reached) == here || door.rules.allows_duplicates && stage(reached - 1) == here;
            Some((door, (0..reached).filter_map(stage).collect(), is_next))
        })
    }

    /// The stages reached by the furthest attempt of the knock's source, as knocks; with `must_fit`, only
    /// attempts that the knock continues are considered. An attempt stores only its stages, so the TCP flags
    /// and the UDP length are set to values that the door accepts.
    #[must_use]
    pub fn stages_reached_as_knocks(&self, knock: &Knock, must_fit: bool) -> Vec<Knock> {
        let found = self.candidates_of(knock).filter(|(_, _, is_next)| *is_next || !must_fit);
        let Some((door, stages, _)) = found.max_by_key(|(_, stages, _)| stages.len()) else {
            return Vec::new();
        };
        let rule = door.packet_rule();
        let like = |stage: Stage| Knock {
            protocol: stage.protocol,
            port: stage.port,
            flags: (stage.protocol == Protocol::Tcp).then_some(rule.flags.set),
            udp_length: (stage.protocol == Protocol::Udp)
                .then(|| rule.udp_length.map_or(0, |(least, _)| least)),
            ..*knock
        };
        stages.into_iter().map(like).collect()
    }

    /// Ends, without events, all attempts of the knock's source at doors that accept its destination.
    pub fn end_attempts_silently(&mut self, knock: &Knock) {
        let own = self.is_here(knock.destination);
        let mut next = self.attempts.first_of(knock.source);
        while let Some(id) = next {
            next = self.attempts.next_of(id);
            let doors = &self.doors;
            let is_other = |door: u32| {
                let door = doors.get(door as usize);
                door.is_some_and(|door| !door.accepts_destination(knock.destination, own))
            };
            let left: Vec<_> =
                self.attempts.candidates(id).iter().copied().filter(|it| is_other(it.door)).collect();
            self.attempts.keep(id, &left, self.shortest_timeout(&left));
        }
    }
}

/// Whether a sequence that opens this lock now has this knock after its first stage.
fn has_later_stage(lock: &Lock, knock: &Knock, now: Now) -> bool {
    let has = |stages: &[Stage]| stages.iter().skip(1).any(|stage| *stage == Stage::of(knock));
    match lock {
        Lock::Fixed(_) | Lock::OneTime(_) => lock.current_sequence().is_some_and(|it| has(it.stages())),
        Lock::Otp(lock) => {
            // Check the range first: deriving lists takes microseconds.
            let is_in =
                |(protocol, low, high)| protocol == knock.protocol && (low..=high).contains(&knock.port);
            lock.otp.ranges().any(is_in)
                && lock.otp.accepted(now.unix).any(|period| has(&lock.otp.list(period, knock.source)))
        }
        Lock::Spa(_) => false,
    }
}
