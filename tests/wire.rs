//! Real packets to the real daemon: attempts, resets, doors opened.

use crate::support::packet::{CLIENT, tcp, udp};
use crate::support::world::World;

trials![opens, syncs_wait_for_all_packets_before];

const DOOR: &str = "[d]\nsequence = 1000,2000,3000\n";

/// The log lines of a door opened by `stages` right knocks.
fn opened(door: &str, source: &str, stages: usize) -> String {
    let stages = (1..=stages).map(|n| format!("{source}: {door}: Stage {n}"));
    stages.chain([format!("{source}: {door}: OPEN SESAME\n")]).collect::<Vec<_>>().join("\n")
}

fn opens() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([1000, 2000, 3000].map(tcp));
    daemon.expect(&opened("d", CLIENT, 3));
}

fn syncs_wait_for_all_packets_before() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1:udp\n").start();
    world.send((0..500).map(|_| udp(1)));
    daemon.expect(&opened("d", CLIENT, 1).repeat(500));
}
