//! Checks single packets: the doorkeeper has the encryption keys and the list of used packets.

use std::net::IpAddr;

use crate::daemon::doorkeeper::Doorkeeper;
use crate::daemon::doorkeeper::fleet_socket::Knocked;
use crate::door::Door;
use crate::door::lock::{Lock, Turn};
use crate::door::spa::request::Arrival;
use crate::engine::single_packets::{Refused, UsedPacket, grant};
use crate::fleet::message::ASK;
use crate::opening::event::{Event, Opening};
use crate::protocol::messages::SinglePacket;
use crate::time::Now;

impl Doorkeeper {
    /// Checks a packet that passed the HMAC of a door in the watcher. It is used up before its door opens.
    pub(super) fn check_single_packet(&mut self, single: &SinglePacket, now: Now) {
        let SinglePacket { door, sender, destination, packet } = single;
        let arrival = Arrival { sender: *sender, destination: *destination, unix: now.unix.as_secs() };
        let cooldowns = self.memory.cooldowns();
        let is_resting = |door: &Door, knocker: IpAddr| {
            cooldowns.iter().any(|it| it.until > now.uptime && it.knocker == knocker && it.door == door.name)
        };
        let granted = grant(&self.config.doors, self.memory.used(), *door, arrival, packet, &is_resting);
        let granted = granted.and_then(|granted| {
            let max_age = self.longest_age();
            let used = self.memory.use_packet(granted.time, granted.id, max_age, now);
            used.map(|()| granted).map_err(|why| Refused { door: *door, why, used_up: None })
        });
        match granted {
            Ok(granted) => {
                let knocked = Knocked {
                    opening: granted.opening(),
                    packet: Some(granted.id),
                    granted: Some(Box::new(granted)),
                };
                self.open_once(knocked, now);
            }
            Err(Refused { door, why, used_up }) if why.is_authentic() => {
                if let Some(packet) = used_up {
                    self.use_up_packet(packet, *sender, now);
                }
                let Some(name) = self.config.doors.get(door).map(|door| door.name.clone()) else { return };
                let event = Event::Refused { door: name, knocker: *sender, why };
                self.status.counters.count_event(&event);
                if self.refusal_log_limit.admits(now.uptime) {
                    self.log.event(event, now);
                }
            }
            // An intact watcher does not pass these on.
            Err(_) => {}
        }
    }

    /// Uses up a packet that opens nothing, here and in the fleet.
    fn use_up_packet(&mut self, packet: UsedPacket, sender: IpAddr, now: Now) {
        // If the list is full, the packet may become valid again when there is room. Only holders of keys can
        // fill the list.
        if self.memory.use_packet(packet.time, packet.id, self.longest_age(), now).is_ok() {
            self.remember(now);
            let UsedPacket { door, time, id } = packet;
            let opening = Opening { door, knocker: sender, turn: Turn(time) };
            self.tell(ASK, &Knocked { packet: Some(id), ..Knocked::of(opening) }, None, now);
        }
    }

    /// The greatest age in seconds at which any door accepts a packet; used packets are remembered that long.
    pub(super) fn longest_age(&self) -> u32 {
        let ages = self.config.doors.iter().filter_map(|door| match &door.lock {
            Lock::Spa(lock) => Some(lock.max_age),
            Lock::Fixed(_) | Lock::OneTime(_) | Lock::Otp(_) => None,
        });
        ages.max().unwrap_or_default()
    }
}
