//! A link without a link-level header, as tunnels have it.
//!
//! Such a link needs a device that not every machine offers to everybody. Where it cannot be had the test says
//! so and counts as ignored, in plain sight: no namespace can give what the device's permissions refuse.

use libtest_mimic::{Completion, Trial};

use crate::support::packet::{CLIENT, CLIENT6, Packet, tcp, udp};
use crate::support::tun::Tun;
use crate::support::world::World;
use crate::wire::attempts::opened;

const LINK: &str = "knt0";

/// The tests of this module.
pub fn tests() -> Vec<Trial> {
    let name = "wire::tun::knocks_count_without_a_link_header";
    vec![Trial::ignorable_test(name, || Ok(knocks_count_without_a_link_header()))]
}

fn knocks_count_without_a_link_header() -> Completion {
    let world = World::new();
    let tun = world.server.run(|| Tun::new(LINK));
    let tun = match tun {
        Ok(tun) => tun,
        Err(e) => return Completion::ignored_with(format!("/dev/net/tun: {e}; udev gives it mode 0666")),
    };
    world.server.up(LINK);
    world.server.add_address(LINK, "10.88.0.1/24");
    world.server.add_address(LINK, "fd88::1/64");
    let doors = "[d]\nsequence = 1000,2000:udp,3000\ntcpflags = syn\n[end]\nsequence = 65000:udp";
    let daemon = world.knockd(doors).interface(Some(LINK)).without_sync().start();
    let send = |packet: Packet| tun.send(&packet.ip()).unwrap();
    for (source, destination) in [(CLIENT, "10.88.0.1"), (CLIENT6, "fd88::1")] {
        for packet in [tcp(1000), udp(2000), tcp(3001), tcp(3000).flags(0), tcp(3000)] {
            send(packet.from(source).to(destination));
        }
        // An address of another link.
        for packet in [tcp(1000), udp(2000), tcp(3000)] {
            send(packet.from(source));
        }
    }
    send(udp(65000).to("10.88.0.1"));
    let wanted = opened("d", CLIENT, 3) + &opened("d", CLIENT6, 3) + &opened("end", CLIENT, 1);
    daemon.expect_log(&wanted);
    Completion::Completed
}
