//! What the watcher says with `-D` beside the log.

use crate::daemon::log::output;
use crate::daemon::watcher::Watcher;
use crate::daemon::watcher::expression;
use crate::door::knock::Knock;
use crate::time::Now;

impl Watcher {
    /// A packet that is of interest.
    pub(super) fn explain(&self, knock: &Knock, link_header: u64, now: Now) {
        if self.engine.is_of_interest(knock) {
            output::explain(&format!(
                "{}: {}: {}:{} -> {}:{} {} bytes",
                self.log.clock(now),
                knock.protocol,
                knock.source,
                knock.source_port,
                knock.destination,
                knock.port,
                u64::from(knock.length) + link_header
            ));
        }
    }

    /// Where it listens, at the start.
    pub(super) fn explain_captures(&self) {
        if !output::explains() {
            return;
        }
        for interface in self.captures.interfaces() {
            output::explain(interface.link_words());
        }
        for address in self.captures.here() {
            if address.is_ipv4() || !self.arguments.only_v4 {
                output::explain(&format!("local IP: {address}"));
            }
        }
        self.explain_doors();
    }

    /// What it listens for, at the start and after a reload.
    pub(super) fn explain_doors(&self) {
        if output::explains() {
            let (doors, here) = (self.engine.doors(), self.captures.here());
            for line in expression::lines(doors, here, self.arguments.only_v4) {
                output::explain(&line);
            }
        }
    }
}
