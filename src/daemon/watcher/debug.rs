//! Debug output of the watcher (`-D`): sent to the doorkeeper as text, for standard output alone.

use crate::daemon::watcher::Watcher;
use crate::daemon::watcher::expression;
use crate::door::knock::{Knock, Protocol};
use crate::door::sequence::Stage;
use crate::opening::event::Event;
use crate::time::Now;

impl Watcher {
    /// Explains a packet that passed the filter.
    pub(super) fn explain_packet(&mut self, knock: &Knock, link_header: u64, now: Now) {
        if !self.engine.may_be_stage(knock) {
            return;
        }
        let Knock { source, source_port, destination, protocol, port, .. } = knock;
        let (clock, bytes) = (self.zone.to_the_second(now.unix), u64::from(knock.length) + link_header);
        let line = match protocol {
            Protocol::Tcp | Protocol::Udp => {
                format!("{clock}: {protocol}: {source}:{source_port} -> {destination}:{port} {bytes} bytes")
            }
            Protocol::Icmp => {
                format!("{clock}: {protocol}: {source} -> {destination} echo request of {port} {bytes} bytes")
            }
        };
        self.link.explain(&line);
    }

    /// The attempts of a knocker that the next packet may end, each with the knock it waits for.
    pub(super) fn attempts_to_explain(&self, knock: &Knock) -> Vec<(usize, usize, Option<Stage>)> {
        if self.explains { self.engine.progress(knock.source).collect() } else { Vec::new() }
    }

    /// Explains which knock a failed attempt was waiting for, at doors with `Log_Failures`: the log line does
    /// not tell.
    pub(super) fn explain_failures(
        &mut self,
        attempts: &[(usize, usize, Option<Stage>)],
        knock: &Knock,
        events: &[Event],
    ) {
        for event in events {
            let Event::Failed { door, stage, is_logged: true, .. } = event else { continue };
            let is_its = |index: usize| self.engine.doors().get(index).is_some_and(|it| it.name == *door);
            let mut of_door =
                attempts.iter().filter(|(index, reached, _)| reached == stage && is_its(*index));
            if let Some((_, reached, Some(next))) = of_door.next() {
                let line = format!("{door}: stage {} is {next}, but {} came", reached + 1, Stage::of(knock));
                self.link.explain(&line);
            }
        }
    }

    /// Lists the interfaces and addresses, at the start.
    pub(super) fn explain_captures(&mut self) {
        if !self.explains {
            return;
        }
        for interface in self.captures.interfaces() {
            self.link.explain(interface.link_words());
        }
        for address in self.captures.here() {
            if address.is_ipv4() || !self.only_v4 {
                self.link.explain(&format!("local IP: {address}"));
            }
        }
        self.explain_doors();
    }

    /// Lists the filter expressions, at the start and after a reload.
    pub(super) fn explain_doors(&mut self) {
        if self.explains {
            let (doors, here) = (self.engine.doors(), self.captures.here());
            for line in expression::lines(doors, here, self.only_v4) {
                self.link.explain(&line);
            }
        }
    }
}
