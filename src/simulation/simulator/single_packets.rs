//! Simulates single packets.

use std::net::IpAddr;
use std::time::Duration;

use crate::door::Door;
use crate::door::knock::Knock;
use crate::door::lock::Turn;
use crate::door::ports::Ports;
use crate::door::sequence::Stage;
use crate::door::spa::request::Arrival;
use crate::door::spa::sealed::UncheckedPacket;
use crate::engine::single_packets::{Granted, Verdict, grant};
use crate::opening::admit::{Where, accesses};
use crate::opening::event::{Event, Opening};
use crate::opening::log_limit::{Cause, dropped};
use crate::simulation::simulator::Simulator;

impl Simulator {
    /// Judges a datagram as the watcher does, and grants its request as the doorkeeper does.
    pub(super) fn single_packet(&mut self, knock: &Knock, packet: &UncheckedPacket) {
        let door = match self.engine.judge_single_packet(knock, packet) {
            Verdict::Stray => return,
            Verdict::Wrong { door, .. } => {
                let name = self.engine.doors().get(door).map(|door| door.name.clone());
                return self.explain(|| {
                    format!("{}: forged: made without the keys of the door", name.unwrap_or_default())
                });
            }
            Verdict::Repeated(door) => {
                let name = self.engine.doors().get(door).map(|door| door.name.clone());
                return self.explain(|| format!("{}: this packet came before", name.unwrap_or_default()));
            }
            Verdict::Passed(door) => door,
        };
        let now = self.now;
        let arrival =
            Arrival { sender: knock.source, destination: knock.destination, unix: now.unix.as_secs() };
        let cooldowns = &self.cooldowns;
        let is_in_cooldown = |door: &Door, who: IpAddr| {
            cooldowns.iter().any(|(name, of, until)| *until > now.uptime && *of == who && *name == door.name)
        };
        match grant(self.engine.doors(), &self.used, door, arrival, packet.payload(), &is_in_cooldown) {
            Ok(Granted { door: index, request, time, id }) => {
                let Some(door) = self.engine.doors().get(index).cloned() else { return };
                // A simulation does not fill this.
                let _ = self.used.insert(time, id, u32::MAX, now.unix.as_secs());
                self.cooldowns.retain(|(_, _, until)| *until > now.uptime);
                if !door.rules.cooldown.is_zero() {
                    let until = now.uptime.saturating_add(door.rules.cooldown);
                    self.cooldowns.push((door.name.clone(), request.address, until));
                }
                if !self.buckets.admit(index, &door, Duration::ZERO, now.uptime) {
                    return self.add_line(&dropped(&door.name, Cause::Rate, 1));
                }
                let accesses = accesses(&door, Some(&request));
                if !self.openings.have_room_for(&door, request.address, &accesses) {
                    return self.add_line(&dropped(&door.name, Cause::Queue, 1));
                }
                let opening = Opening { door: index, knocker: request.address, turn: Turn::default() };
                self.doors_opened += 1;
                self.add_event(&Event::Opened { door: door.name.clone(), opening });
                let port = |&Stage { protocol, port }: &Stage| Ports { protocol, first: port, last: port };
                let requested: Vec<Ports> = request.ports.iter().map(port).collect();
                self.open_in_kernel(&door, request.address, &requested, request.seconds);
                let time = request.seconds.map(|seconds| Duration::from_secs(seconds.into()));
                let actions = self.openings.open(&door, request.address, &accesses, (time, Where::Here), now);
                self.perform(actions);
            }
            Err(refused) => {
                if let Some(packet) = refused.used_up {
                    let _ = self.used.insert(packet.time, packet.id, u32::MAX, now.unix.as_secs());
                }
                let Some(name) = self.engine.doors().get(refused.door).map(|door| door.name.clone()) else {
                    return;
                };
                if refused.why.is_authentic() {
                    self.add_event(&Event::Refused { door: name, knocker: knock.source, why: refused.why });
                } else {
                    self.explain(|| format!("{name}: refused, {}", refused.why));
                }
            }
        }
    }
}
