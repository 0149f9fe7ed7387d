//! Which knocks are shared with other gateways, and what becomes of those that arrived there: see
//! [`sharing`](crate::engine::sharing).

use crate::door::knock::Knock;
use crate::door::lock::Lock;
use crate::door::sequence::Stage;
use crate::engine::Engine;
use crate::engine::sharing::Sharing;
use crate::opening::event::Event;
use crate::time::Now;

impl Engine {
    /// Whether to share knocks; not at first.
    pub fn share_knocks(&mut self, is_enabled: bool) {
        self.sharing = Sharing::new(is_enabled);
    }

    /// Whether knocks are shared.
    #[must_use]
    pub fn shares_knocks(&self) -> bool {
        self.sharing.is_enabled()
    }

    /// Whether to share a packet that arrived here, and that is left over, as [`Engine::observe`] said.
    pub fn may_share(&mut self, knock: &Knock, now: Now) -> bool {
        let is_noted = self.sharing.is_noted(knock.source, now);
        (is_noted || !self.may_begin(knock))
            && self.sharing.may_examine(now)
            && (is_noted || self.may_continue(knock, now))
            && self.sharing.note(knock.source, now)
    }

    /// Processes a knock that arrived at another gateway, and appends the resulting events to `events`.
    pub fn observe_elsewhere(&mut self, knock: &Knock, now: Now, events: &mut Vec<Event>) {
        if self.sharing.note(knock.source, now) && self.attempts.first_of(knock.source).is_some() {
            self.observe_from(false, knock, now, events);
        }
    }

    /// Whether a packet may begin an attempt here.
    fn may_begin(&mut self, knock: &Knock) -> bool {
        let own = self.is_here(knock.destination);
        self.first_stages.doors_at(Stage::of(knock), knock.destination, own, &mut self.firsts);
        !self.firsts.is_empty()
    }

    /// Whether a packet may be a later stage of an attempt elsewhere.
    fn may_continue(&self, knock: &Knock, now: Now) -> bool {
        self.doors.iter().any(|door| {
            has_later_stage(&door.lock, knock, now)
                && door.packet_rule().allows(knock)
                && door.rules.admit(knock.source)
        })
    }
}

/// Whether a sequence that opens this lock now has this knock after its first stage.
fn has_later_stage(lock: &Lock, knock: &Knock, now: Now) -> bool {
    let here = Stage::of(knock);
    let has = |stages: &[Stage]| stages.get(1..).is_some_and(|later| later.contains(&here));
    match lock {
        Lock::Fixed(_) | Lock::OneTime(_) => lock.current_sequence().is_some_and(|it| has(it.stages())),
        Lock::Otp(lock) => {
            lock.otp.can_have(here)
                && lock.otp.accepted(now.unix).any(|period| has(&lock.otp.list(period, knock.source)))
        }
        Lock::Spa(_) => false,
    }
}
