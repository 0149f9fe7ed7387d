//! Attempts on the wire: what opens a door, what ends an attempt, what it leaves alone.

use crate::support::packet::{ACK, CLIENT, CLIENT6, FIN, PSH, RST, SYN, URG, tcp, udp};
use crate::support::pause;
use crate::support::world::World;

trials![
    three_right_packets_open_a_door,
    a_single_knock_opens,
    a_door_opens_again_and_again,
    a_port_at_the_wrong_place_ends_the_attempt,
    a_port_of_no_sequence_does_nothing,
    a_port_of_another_door_ends_the_attempt,
    a_repeated_first_knock_ends_the_attempt,
    the_packet_that_ends_an_attempt_begins_none,
    a_new_attempt_may_follow_a_failed_one,
    a_sequence_may_repeat_a_port,
    other_sources_do_not_disturb,
    a_protocol_of_no_sequence_does_nothing,
    the_other_protocol_of_a_sequence_ends_the_attempt,
    flags_do_not_concern_udp,
    without_flags_any_tcp_packet_counts,
    packets_without_the_flags_are_left_alone,
    only_the_named_flags_matter,
    each_flag_can_be_asked_for_and_refused,
    doors_that_begin_alike_run_side_by_side,
    equal_sequences_all_open_in_the_order_of_the_file,
    no_door_is_begun_during_an_attempt,
    one_packet_can_advance_one_door_and_fail_another,
    flags_of_one_door_do_not_hold_up_another,
    knockers_end_in_any_order,
    both_families_are_different_knockers,
    an_attempt_times_out_by_itself,
    a_timed_out_attempt_is_gone,
    time_counts_from_the_first_packet,
    time_is_not_cut_short,
    with_no_time_only_single_knocks_succeed,
    a_timeout_touches_nobody_else,
    sixty_doors,
];

/// A door and its knocks.
pub const DOOR: &str = "[d]\nsequence = 1000,2000,3000\n";
/// The ports of `DOOR`.
pub const KNOCKS: [u16; 3] = [1000, 2000, 3000];

/// The log lines of a door opened by `stages` right knocks.
pub fn opened(door: &str, source: &str, stages: usize) -> String {
    let stages = (1..=stages).map(|n| format!("{source}: {door}: Stage {n}"));
    stages.chain([format!("{source}: {door}: OPEN SESAME\n")]).collect::<Vec<_>>().join("\n")
}

const OTHER: &str = "10.77.0.12";

fn three_right_packets_open_a_door() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send(KNOCKS.map(tcp));
    daemon.expect(
        "10.77.0.2: d: Stage 1
         10.77.0.2: d: Stage 2
         10.77.0.2: d: Stage 3
         10.77.0.2: d: OPEN SESAME",
    );
}

fn a_single_knock_opens() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000").start();
    world.send([tcp(1000)]);
    daemon.expect(&opened("d", CLIENT, 1));
}

fn a_door_opens_again_and_again() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send(KNOCKS.repeat(3).into_iter().map(tcp));
    daemon.expect(&opened("d", CLIENT, 3).repeat(3));
}

fn a_port_at_the_wrong_place_ends_the_attempt() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([1000, 3000, 2000, 3000].map(tcp));
    daemon.expect("10.77.0.2: d: Stage 1");
}

fn a_port_of_no_sequence_does_nothing() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([
        tcp(1000),
        tcp(4444),
        udp(5555),
        tcp(2000),
        tcp(22).flags(ACK),
        tcp(999),
        tcp(1001),
        tcp(3000),
    ]);
    daemon.expect(&opened("d", CLIENT, 3));
}

fn a_port_of_another_door_ends_the_attempt() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}[e]\nsequence = 5000,6000")).start();
    world.send([1000, 5000, 2000, 3000, 6000].map(tcp));
    daemon.expect("10.77.0.2: d: Stage 1");
}

/// A retransmitted SYN spoils the knocking.
fn a_repeated_first_knock_ends_the_attempt() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([1000, 1000, 2000, 3000].map(tcp));
    daemon.expect("10.77.0.2: d: Stage 1");
}

fn the_packet_that_ends_an_attempt_begins_none() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([1000, 2000, 1000, 2000, 3000].map(tcp));
    daemon.expect(
        "10.77.0.2: d: Stage 1
         10.77.0.2: d: Stage 2",
    );
}

fn a_new_attempt_may_follow_a_failed_one() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([1000, 3000, 1000, 2000, 3000].map(tcp));
    daemon.expect(&format!("10.77.0.2: d: Stage 1\n{}", opened("d", CLIENT, 3)));
}

fn a_sequence_may_repeat_a_port() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000,1000,2000,1000").start();
    world.send([1000, 1000, 2000, 1000].map(tcp));
    daemon.expect(&opened("d", CLIENT, 4));
}

fn other_sources_do_not_disturb() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([tcp(1000), tcp(3000).from(OTHER), tcp(2000), tcp(2000).from(OTHER), tcp(3000)]);
    daemon.expect(&opened("d", CLIENT, 3));
}

fn a_protocol_of_no_sequence_does_nothing() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([tcp(1000), udp(2000), udp(1000), tcp(2000), tcp(3000)]);
    daemon.expect(&opened("d", CLIENT, 3));
}

fn the_other_protocol_of_a_sequence_ends_the_attempt() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000:udp,2000:tcp,1000:tcp").start();
    world.send([udp(1000), tcp(1000), tcp(2000), tcp(1000)]);
    daemon.expect("10.77.0.2: d: Stage 1");
    world.send([udp(1000), tcp(2000), tcp(1000)]);
    daemon.expect(&format!("10.77.0.2: d: Stage 1\n{}", opened("d", CLIENT, 3)));
}

fn flags_do_not_concern_udp() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 2222:udp,3333:tcp,4444:udp\ntcpflags = syn,!ack").start();
    world.send([udp(2222), tcp(3333), udp(4444)]);
    daemon.expect(&opened("d", CLIENT, 3));
}

fn without_flags_any_tcp_packet_counts() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1,2,3,4,5,6,7").start();
    let flags = [SYN, ACK, RST, FIN | ACK, PSH | ACK, 0, FIN | PSH | URG];
    world.send((1..).zip(flags).map(|(port, flags)| tcp(port).flags(flags)));
    daemon.expect(&opened("d", CLIENT, 7));
}

fn packets_without_the_flags_are_left_alone() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}tcpflags = syn")).start();
    world.send([tcp(1000).flags(ACK), tcp(1000), tcp(3000).flags(ACK), tcp(2000).flags(RST), tcp(2000)]);
    world.send([tcp(1000).flags(FIN | ACK), tcp(3000).flags(PSH | ACK), tcp(3000).flags(0), tcp(3000)]);
    daemon.expect(&opened("d", CLIENT, 3));
}

fn only_the_named_flags_matter() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}tcpflags = syn,!ack")).start();
    world.send([tcp(1000).flags(SYN | PSH | URG), tcp(2000).flags(SYN | ACK), tcp(2000).flags(SYN | 0x40)]);
    world.send([tcp(3000).flags(ACK), tcp(3000).flags(SYN | 0x80 | FIN)]);
    daemon.expect(&opened("d", CLIENT, 3));
}

fn each_flag_can_be_asked_for_and_refused() {
    let flags = [("fin", FIN), ("syn", SYN), ("rst", RST), ("psh", PSH), ("ack", ACK), ("urg", URG)];
    let doors = (100..).zip(flags).map(|(port, (name, _))| {
        let set = format!("[set-{name}]\nsequence = {port}\ntcpflags = {name}\n");
        format!("{set}[clear-{name}]\nsequence = {}\ntcpflags = !{name}\n", port + 100)
    });
    let packets = (100..).zip(flags).flat_map(|(port, (_, flag))| {
        let set = [tcp(port).flags(63 ^ flag), tcp(port).flags(flag)];
        set.into_iter().chain([tcp(port + 100).flags(flag), tcp(port + 100).flags(63 ^ flag)])
    });
    let wanted =
        flags.map(|(name, _)| ["set", "clear"].map(|kind| opened(&format!("{kind}-{name}"), CLIENT, 1)));
    let world = World::new();
    let daemon = world.knockd(&doors.collect::<String>()).start();
    world.send(packets);
    daemon.expect(&wanted.concat().concat());
}

fn doors_that_begin_alike_run_side_by_side() {
    let world = World::new();
    let daemon = world.knockd("[a]\nsequence = 1000,2000\n[b]\nsequence = 1000,3000").start();
    world.send([1000, 3000].map(tcp));
    daemon.expect(
        "10.77.0.2: a: Stage 1
         10.77.0.2: b: Stage 1
         10.77.0.2: b: Stage 2
         10.77.0.2: b: OPEN SESAME",
    );
}

fn equal_sequences_all_open_in_the_order_of_the_file() {
    let world = World::new();
    let daemon = world.knockd("[z]\nsequence = 1000,2000\n[a]\nsequence = 1000,2000").start();
    world.send([1000, 2000].map(tcp));
    daemon.expect(
        "10.77.0.2: z: Stage 1
         10.77.0.2: a: Stage 1
         10.77.0.2: z: Stage 2
         10.77.0.2: z: OPEN SESAME
         10.77.0.2: a: Stage 2
         10.77.0.2: a: OPEN SESAME",
    );
}

fn no_door_is_begun_during_an_attempt() {
    let world = World::new();
    let daemon = world.knockd("[a]\nsequence = 1,2,3\n[b]\nsequence = 2,3,4").start();
    world.send([1, 2, 3, 4].map(tcp));
    daemon.expect(&opened("a", CLIENT, 3));
    world.send([2, 3, 4].map(tcp));
    daemon.expect(&(opened("a", CLIENT, 3) + &opened("b", CLIENT, 3)));
}

/// The failed attempt is gone, the other goes on.
fn one_packet_can_advance_one_door_and_fail_another() {
    let world = World::new();
    let daemon = world.knockd("[a]\nsequence = 1,2,4\n[b]\nsequence = 1,3,4,5").start();
    world.send([1, 3, 4, 5].map(tcp));
    daemon.expect(&format!("10.77.0.2: a: Stage 1\n{}", opened("b", CLIENT, 4)));
}

/// A packet whose flags do not fit one door may still be what another waits for.
fn flags_of_one_door_do_not_hold_up_another() {
    let world = World::new();
    let daemon = world.knockd("[s]\nsequence = 1,2\ntcpflags = syn\n[n]\nsequence = 1,2\n").start();
    world.send([tcp(1), tcp(2).flags(ACK)]);
    let until_then = "10.77.0.2: s: Stage 1
         10.77.0.2: n: Stage 1
         10.77.0.2: n: Stage 2
         10.77.0.2: n: OPEN SESAME\n";
    daemon.expect(until_then);
    world.send([tcp(2)]);
    daemon.expect(&format!("{until_then}10.77.0.2: s: Stage 2\n10.77.0.2: s: OPEN SESAME"));
}

/// The original forgets everyone who came later when the first one ends.
fn knockers_end_in_any_order() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([
        tcp(1000),
        tcp(1000).from(OTHER),
        tcp(2000),
        tcp(3000),
        tcp(2000).from(OTHER),
        tcp(3000).from(OTHER),
    ]);
    let first = "10.77.0.2: d: Stage 1
         10.77.0.12: d: Stage 1
         10.77.0.2: d: Stage 2
         10.77.0.2: d: Stage 3
         10.77.0.2: d: OPEN SESAME
         10.77.0.12: d: Stage 2
         10.77.0.12: d: Stage 3
         10.77.0.12: d: OPEN SESAME\n";
    daemon.expect(first);
    world.send([
        tcp(1000),
        tcp(1000).from(OTHER),
        tcp(2000).from(OTHER),
        tcp(3000).from(OTHER),
        tcp(2000),
        tcp(3000),
    ]);
    daemon.expect(&format!(
        "{first}10.77.0.2: d: Stage 1\n{}10.77.0.2: d: Stage 2\n10.77.0.2: d: Stage 3\n10.77.0.2: d: OPEN SESAME",
        opened("d", OTHER, 3)
    ));
}

fn both_families_are_different_knockers() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([tcp(1000), tcp(1000).v6(), tcp(2000).v6(), tcp(3000).v6(), tcp(2000), tcp(3000)]);
    daemon.expect(&format!(
        "10.77.0.2: d: Stage 1\n{}10.77.0.2: d: Stage 2\n10.77.0.2: d: Stage 3\n10.77.0.2: d: OPEN SESAME",
        opened("d", CLIENT6, 3)
    ));
}

/// No further packet is needed (the original needs one).
fn an_attempt_times_out_by_itself() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}seq_timeout = 1")).start();
    world.send([1000, 2000].map(tcp));
    daemon.wait_for("Stage 2");
    pause(0.5);
    assert!(!daemon.raw_log().contains("timeout"), "too early; {}", daemon.said());
    pause(0.9);
    daemon.expect_log(
        "10.77.0.2: d: Stage 1
         10.77.0.2: d: Stage 2
         10.77.0.2: d: sequence timeout (stage 2)",
    );
}

fn a_timed_out_attempt_is_gone() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}seq_timeout = 1")).start();
    world.send([tcp(1000)]);
    daemon.wait_for("Stage 1");
    pause(2.1);
    world.send([2000, 3000].map(tcp));
    let until_then = "10.77.0.2: d: Stage 1\n10.77.0.2: d: sequence timeout (stage 1)\n";
    daemon.expect(until_then);
    world.send(KNOCKS.map(tcp));
    daemon.expect(&format!("{until_then}{}", opened("d", CLIENT, 3)));
}

fn time_counts_from_the_first_packet() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1,2,3,4\nseq_timeout = 2").start();
    for port in [1, 2, 3] {
        world.send([tcp(port)]);
        pause(0.8);
    }
    world.send([tcp(4)]);
    daemon.expect(
        "10.77.0.2: d: Stage 1
         10.77.0.2: d: Stage 2
         10.77.0.2: d: Stage 3
         10.77.0.2: d: sequence timeout (stage 3)",
    );
}

/// The original counts whole seconds, so that a second's turn alone can end an attempt.
fn time_is_not_cut_short() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1,2\nseq_timeout = 1").start();
    let mut wanted = String::new();
    for _ in 0..4 {
        world.send([tcp(1)]);
        pause(0.6);
        world.send([tcp(2)]);
        wanted += &opened("d", CLIENT, 2);
    }
    daemon.expect(&wanted);
}

fn with_no_time_only_single_knocks_succeed() {
    let world = World::new();
    let doors = "[one]\nsequence = 1\nseq_timeout = 0\n[two]\nsequence = 2,3\nseq_timeout = 0";
    let daemon = world.knockd(doors).start();
    world.send([1, 2, 3].map(tcp));
    daemon.expect(
        "10.77.0.2: one: Stage 1
         10.77.0.2: one: OPEN SESAME
         10.77.0.2: two: Stage 1
         10.77.0.2: two: sequence timeout (stage 1)",
    );
}

/// The original forgets all attempts that are younger than one that times out.
fn a_timeout_touches_nobody_else() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1,2\nseq_timeout = 2").start();
    world.send([tcp(1)]);
    pause(1.2);
    world.send([tcp(1).from(OTHER)]);
    pause(1.2);
    world.send([tcp(2).from(OTHER)]);
    daemon.expect(
        "10.77.0.2: d: Stage 1
         10.77.0.12: d: Stage 1
         10.77.0.2: d: sequence timeout (stage 1)
         10.77.0.12: d: Stage 2
         10.77.0.12: d: OPEN SESAME",
    );
}

fn sixty_doors() {
    let door = |n: u16| {
        format!("[d{n}]\nsequence = {},{},{}:udp\ntcpflags = syn\n", 3 * n + 1, 3 * n + 2, 3 * n + 3)
    };
    let world = World::new();
    let daemon = world.knockd(&(700..760).map(door).collect::<String>()).start();
    let mut wanted = String::new();
    for n in [700, 731, 759] {
        world.send([tcp(3 * n + 1), tcp(3 * n + 2), udp(3 * n + 3)]);
        wanted += &opened(&format!("d{n}"), CLIENT, 3);
    }
    daemon.expect(&wanted);
}
