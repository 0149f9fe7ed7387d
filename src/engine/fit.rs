//! How a packet fits the attempts known to this gateway, which decides whether the fleet shares it.

use std::net::IpAddr;

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
        self.first_stages.doors_at(Stage::of(knock), knock.destination, own, &mut self.firsts);
        if !self.firsts.is_empty() || self.continued_by(knock).is_some() {
            return false;
        }
        // Some door has this stage, at this destination and for such a packet.
        self.doors.iter().any(|door| has_later_stage(&door.lock, knock, now, may_derive))
    }

    /// The stages reached by the attempt that this knock continues, as knocks to share. An attempt stores only
    /// its stages, so the TCP flags and the UDP length are set to values that the door accepts.
    #[must_use]
    pub fn stages_before(&self, knock: &Knock) -> Vec<SharedKnock> {
        let mut stages = Vec::new();
        let Some((door, Candidate { reached, turn, .. })) = self.continued_by(knock) else { return stages };
        let rule = door.packet_rule();
        for index in 0..reached {
            let Some(stage) = door.lock.stage(turn, knock.source, index.into()) else { continue };
            let Stage { protocol, port } = stage;
            let is_udp = protocol == Protocol::Udp;
            let flags = (protocol == Protocol::Tcp).then_some(rule.flags.set);
            let udp_length = is_udp.then(|| rule.udp_length.map_or(0, |(least, _)| least));
            let knock = Knock { protocol, port, flags, udp_length, ..*knock };
            let part = Part::Before { is_first: index == 0, is_last: index + 1 == reached };
            stages.push(SharedKnock { knock, part, is_own: false });
        }
        stages
    }

    /// Ends all attempts of this source, without events.
    pub fn forget_attempts(&mut self, source: IpAddr) {
        while let Some(id) = self.attempts.first_of(source) {
            self.attempts.remove(id);
        }
    }

    /// An attempt of the knock's source of which the knock is the next stage, or a repeat of the last one where
    /// duplicates are allowed.
    fn continued_by(&self, knock: &Knock) -> Option<(&Door, Candidate)> {
        let own = self.is_here(knock.destination);
        let candidates = self.candidates_of(knock.source);
        for candidate in &candidates {
            let &Candidate { door, reached, turn } = candidate;
            let Some(door) = self.doors.get(door as usize) else { continue };
            let mut index = reached - u8::from(door.rules.allows_duplicates);
            while index <= reached {
                let stage = door.lock.stage(turn, knock.source, index.into());
                if stage == Some(Stage::of(knock)) && door.accepts_destination(knock.destination, own) {
                    return Some((door, *candidate));
                }
                index += 1;
            }
        }
        None
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
