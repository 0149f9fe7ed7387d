//! Many doors, many knockers, many strangers.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::packet::{CLIENT, CLIENT6, tcp, udp};
use crate::support::process;
use crate::support::world::World;
use crate::support::{holds_within, seconds};
use crate::wire::attempts::{DOOR, KNOCKS, opened};

trials![
    five_hundred_interleaved_knockers_open_five_hundred_doors,
    five_hundred_open_doors_take_no_process_and_little_memory,
    strangers_do_not_fill_the_memory,
    the_furthest_attempts_survive_strangers,
    as_many_attempts_as_the_file_says,
    five_thousand_doors,
    one_packet_begins_more_doors_than_the_log_has_room_for,
    more_ports_than_a_filter_holds,
    bursts_are_not_lost,
    a_flood_at_a_door_of_one_knock,
    openings_wait_for_commands,
    a_new_configuration_holds_for_what_waits,
    a_reload_drops_nothing_that_a_section_of_this_name_allows,
    limits_that_are_raised_hold_for_what_waits,
    commands_that_hang_leave_a_place_to_other_doors,
    a_line_is_used_up_where_too_many_wait,
    one_knock_is_logged_as_ever,
];

/// The original opens one.
fn five_hundred_interleaved_knockers_open_five_hundred_doors() {
    let world = World::new();
    let door = |n: u16| format!("[d{n}]\nsequence = {},{},{}\n", 2000 + 3 * n, 2001 + 3 * n, 2002 + 3 * n);
    let daemon = world.knockd(&(0..500).map(door).collect::<String>()).start();
    let source = |n: u16| format!("10.77.{}.{}", 1 + n / 250, 1 + n % 250);
    for stage in 0..3 {
        // Not faster than the daemon reads: what is tested is not the length of a queue.
        for batch in (0..500).collect::<Vec<u16>>().chunks(100) {
            world.send(batch.iter().map(|n| tcp(2000 + 3 * n + stage).from(&source(*n))));
            daemon.sync();
        }
    }
    let mut lines = daemon.lines();
    // Some of the 15 syncs may be among what is summed up.
    let all = || (2000..=2015).contains(&told(&daemon.lines()));
    assert!(holds_within(seconds(30.0), all), "{}", told(&daemon.lines()));
    lines.retain(|line| line.ends_with("OPEN SESAME"));
    let wanted: Vec<String> = (0..500).map(|n| format!("{}: d{n}: OPEN SESAME", source(n))).collect();
    assert_eq!(lines, wanted);
}

/// The original has a process of 300 kB wait for each.
fn five_hundred_open_doors_take_no_process_and_little_memory() {
    let world = World::new();
    let commands =
        "start_command = echo %IP% >>@/opened\ncmd_timeout = 600\nstop_command = echo %IP% >>@/closed\n";
    let mut daemon = world
        .knockd(&format!("[d]\nsequence = 1000\nopen_rate = 0\n{commands}"))
        .options("max_commands = 0")
        .start();
    let watcher = daemon.watcher().expect("a watcher");
    let taken = || memory(daemon.pid) + memory(watcher);
    let before = taken();
    let knockers: Vec<String> = (0..500).map(|n| format!("10.77.{}.{}", 1 + n / 250, 1 + n % 250)).collect();
    for batch in knockers.chunks(50) {
        world.send(batch.iter().map(|knocker| tcp(1000).from(knocker)));
        daemon.sync();
    }
    let all = |name: &str| {
        let mut them: Vec<String> = daemon.read(name).lines().map(str::to_owned).collect();
        them.sort();
        let mut wanted = knockers.clone();
        wanted.sort();
        them == wanted
    };
    assert!(holds_within(seconds(20.0), || all("opened")), "{}", daemon.said());
    let alone = || process::descendants(daemon.pid).len() <= 2;
    assert!(holds_within(seconds(30.0), alone), "{:?}", process::descendants(daemon.pid));
    let grown = taken().saturating_sub(before);
    assert!(grown < 700, "{grown} kB more than before");
    daemon.kill(Signal::SIGTERM);
    assert!(holds_within(seconds(20.0), || all("closed")), "{}", daemon.said());
    assert_eq!(daemon.wait(), Some(0));
}

/// How many things the log tells, those included that it sums up.
pub fn told(lines: &[String]) -> usize {
    let summed_up = |line: &String| {
        let number = line.strip_prefix("... and ")?.split_once(" more in the last second")?.0;
        number.replace(',', "").parse().ok()
    };
    lines.iter().map(|line| summed_up(line).unwrap_or(1)).sum()
}

/// The resident memory of a process in kB, but for the program itself, which is not optimised here.
fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// First knocks from so many addresses, not faster than they are read.
fn strangers(world: &World, count: u32) {
    for n in 0..count {
        let [_, a, b, c] = n.to_be_bytes();
        world.send([tcp(1000).from(&format!("11.{a}.{b}.{c}"))]);
        if n % 128 == 127 {
            assert!(holds_within(seconds(30.0), || world.queued() == 0), "the daemon does not read any more");
        }
    }
}

fn strangers_do_not_fill_the_memory() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}seq_timeout = 600")).start();
    let watcher = daemon.watcher().expect("a watcher");
    let before = memory(watcher);
    strangers(&world, 200_000);
    let grown = memory(watcher).saturating_sub(before);
    let seen = || told(&daemon.lines());
    assert!(
        holds_within(seconds(30.0), || seen() > 160_000),
        "only {} knocks were seen: this test shows nothing",
        seen()
    );
    // A table of 65,536 attempts takes 6 MB, one of 200,000 takes 17. A busy machine loses some.
    assert!(grown < 10 * 1024, "{grown} kB more than before");
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("10.77.0.2: d: OPEN SESAME");
}

/// Who is part-way through is not pushed out by those who only began.
fn the_furthest_attempts_survive_strangers() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}seq_timeout = 600")).start();
    world.send([1000, 2000].map(tcp));
    daemon.wait_for("Stage 2");
    strangers(&world, 70_000);
    // The last knock must find room in the socket's buffer.
    daemon.sync();
    world.send([tcp(3000)]);
    daemon.wait_for("10.77.0.2: d: OPEN SESAME");
}

/// At the start, and with SIGHUP.
fn as_many_attempts_as_the_file_says() {
    let world = World::new();
    let door = format!("{DOOR}seq_timeout = 600");
    let daemon = world.knockd(&door).options("max_attempts = 20").arguments(&["-v"]).start();
    let begin = |count: u8| {
        world.send((0..count).map(|n| tcp(1000).from(&format!("10.77.1.{n}"))));
        daemon.sync();
    };
    let finish = |n: u8| world.send([2000, 3000].map(|port| tcp(port).from(&format!("10.77.1.{n}"))));
    begin(30);
    (0..30).for_each(finish);
    daemon.wait_for("10.77.1.29: d: OPEN SESAME");
    let opened = || daemon.lines().iter().filter(|line| line.ends_with("d: OPEN SESAME")).count();
    assert_eq!(opened(), 20, "{}", daemon.said());
    let text = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, text.replace("max_attempts = 20", "max_attempts = 40")).unwrap();
    daemon.kill(Signal::SIGHUP);
    let in_force = || daemon.stdout().contains("re-opening log file");
    assert!(holds_within(seconds(30.0), in_force), "{}", daemon.said());
    begin(30);
    (0..30).for_each(finish);
    daemon.wait_for_times(2, "10.77.1.29: d: OPEN SESAME");
    assert_eq!(opened(), 20 + 30, "{}", daemon.said());
}

fn five_thousand_doors() {
    let port = |n: usize| u16::try_from(1 + n * 40_503 % 65_000).unwrap();
    let door = |n: usize| {
        let ports = (0..4).map(|stage| format!("{}:udp", port(4 * n + stage))).collect::<Vec<_>>();
        format!("[door{n}]\nsequence = {}\n", ports.join(","))
    };
    let world = World::new();
    let daemon = world.knockd(&(0..5000).map(door).collect::<String>()).start();
    // The processor's time, not the clock's: other tests run beside this one. And this is the slow build.
    let took = process::ticks(daemon.pid);
    assert!(took < 200, "the start took {took} hundredths of a second");
    let watcher = daemon.watcher().expect("a watcher");
    // The watcher gives memory back after it has said that it listens.
    daemon.sync();
    // About 5,800 kB are measured, of which the counters of --status take a part. Fifty bytes more a door would be over
    // the limit.
    let taken = memory(daemon.pid) + memory(watcher);
    assert!(taken < 6000, "{taken} kB for 5,000 doors");
    let mut wanted = String::new();
    for n in [0, 4999] {
        world.send((0..4).map(|stage| udp(port(4 * n + stage))));
        world.send((0..4).map(|stage| udp(port(4 * n + stage)).v6()));
        wanted += &opened(&format!("door{n}"), CLIENT, 4);
        wanted += &opened(&format!("door{n}"), CLIENT6, 4);
    }
    daemon.expect(&wanted);
}

fn one_packet_begins_more_doors_than_the_log_has_room_for() {
    let door = |n: u16| format!("[d{n}]\nsequence = 1000,{}\nseq_timeout = 1\n", 2000 + n);
    let world = World::new();
    let daemon = world.knockd(&(0..700).map(door).collect::<String>()).start();
    world.send([tcp(1000)]);
    daemon.wait_for("... and 200 more in the last second");
    let stages = daemon.lines().iter().filter(|line| line.ends_with(": Stage 1")).count();
    assert_eq!(stages, 500, "{}", daemon.said());
    // The attempt at all of them expires.
    assert!(holds_within(seconds(30.0), || told(&daemon.lines()) == 1400), "{}", daemon.said());
}

/// However coarse the kernel's filter becomes, what is no knock stays none.
fn more_ports_than_a_filter_holds() {
    // Every other port: no range can be put together, and no filter of 4,096 instructions names them all.
    let door = |n: u16| format!("[d{n}]\nsequence = {},{}\n", 4 * n + 2, 4 * n + 4);
    let world = World::new();
    let daemon = world.knockd(&(0..9000).map(door).collect::<String>()).start();
    world.send([tcp(4 * 5000 + 2), tcp(4 * 5000 + 3), tcp(77), udp(4 * 5000 + 2), tcp(4 * 5000 + 4)]);
    daemon.expect(&opened("d5000", CLIENT, 2));
}

/// Packets that come at once are taken one after the other, in their order.
fn bursts_are_not_lost() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    for _ in 0..10 {
        world.send(KNOCKS.repeat(40).into_iter().map(tcp));
        daemon.sync();
    }
    let opened = daemon.lines().into_iter().filter(|line| line.ends_with("OPEN SESAME")).count();
    assert_eq!(opened, 400);
}

/// Packets that name any source open a door of one knock. They start a bounded number of commands, fill no log, and
/// another door opens as always.
fn a_flood_at_a_door_of_one_knock() {
    let world = World::new();
    let one =
        "[one]\nsequence = 2000:udp\nstart_command = echo >>@/one; until test -e @/go; do sleep 0.05; done\n";
    let other = "[d]\nsequence = 1000,2000\nstart_command = echo open >@/other\n";
    let daemon = world.knockd(&format!("{one}{other}")).options("max_commands = 4").start();
    for n in 0..6_000_u32 {
        let [_, _, a, b] = n.to_be_bytes();
        world.send([udp(2000).from(&format!("11.0.{a}.{b}"))]);
        if n % 128 == 127 {
            assert!(holds_within(seconds(30.0), || world.queued() == 0), "the daemon does not read any more");
        }
    }
    let lines = |what: &str| daemon.lines().iter().filter(|line| line.contains(what)).count();
    let is_told = || lines("openings were dropped: more than its open_rate allows") > 0;
    assert!(holds_within(seconds(30.0), is_told), "{}", daemon.said());
    // The fourth place is kept for the other door.
    daemon.wait_for_file("one", &"\n".repeat(3));
    // However slow the machine is, these are ten a second.
    let opened = lines("one: OPEN SESAME");
    assert!((10..3_000).contains(&opened), "{opened}");
    world.send([1000, 2000].map(tcp));
    daemon.wait_for_file("other", "open\n");
    fs::write(daemon.folder.join("go"), "").unwrap();
}

/// Openings wait in a queue of limited length, and what waited is dropped at the end.
fn openings_wait_for_commands() {
    let world = World::new();
    let door = "[d]\nsequence = 1000:udp,1001:udp\nstart_command = echo %IP% >>@/out; test %IP% != 11.0.0.0 || sleep 600\nmax_commands = 1\n";
    let mut daemon = world.knockd(door).start();
    for n in 0..300_u32 {
        let [_, _, a, b] = n.to_be_bytes();
        let source = format!("11.0.{a}.{b}");
        world.send([1000, 1001].map(|port| udp(port).from(&source)));
        if n % 32 == 31 {
            assert!(holds_within(seconds(30.0), || world.queued() == 0), "the daemon does not read any more");
        }
    }
    daemon.wait_for("11.0.0.1: d: waits until another command ends (max_commands)");
    // One runs, 256 wait.
    let dropped = || -> u32 {
        let number = |line: &String| line.strip_prefix("d: ")?.split_once(" opening")?.0.parse::<u32>().ok();
        daemon.lines().iter().filter(|line| line.contains("too many wait already")).filter_map(number).sum()
    };
    assert!(holds_within(seconds(30.0), || dropped() == 43), "{} {}", dropped(), daemon.said());
    assert_eq!(daemon.read("out"), "11.0.0.0\n");
    daemon.kill(Signal::SIGTERM);
    daemon.wait_for("d: 256 openings were dropped: the daemon ends");
    assert_eq!(daemon.wait(), Some(0));
    assert_eq!(daemon.read("out"), "11.0.0.0\n");
}

/// Who waits and is denied meanwhile does not get in, nor does anybody through a door that is gone.
fn a_new_configuration_holds_for_what_waits() {
    let world = World::new();
    let daemon =
        world.knockd(&format!("{}{}", one_at_a_time("d", 1000), one_at_a_time("gone", 2000))).start();
    world.send([udp(1000).from("11.0.0.1")]);
    daemon.wait_for_file("out", "11.0.0.1\n");
    world.send([udp(2000).from("11.0.0.4")]);
    daemon.wait_for_file("out", "11.0.0.1\n11.0.0.4\n");
    for (door, port, source) in [("d", 1000, 2), ("d", 1000, 3), ("gone", 2000, 5)] {
        world.send([udp(port).from(&format!("11.0.0.{source}"))]);
        daemon.wait_for(&format!("11.0.0.{source}: {door}: waits until another command ends"));
    }
    let file = fs::read_to_string(&daemon.config).unwrap();
    let file = file.replace("[gone]", "[other]").replace("1000:udp\n", "1000:udp\ndeny = 11.0.0.2\n");
    fs::write(&daemon.config, file).unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("d: 1 opening was dropped: not allowed by the new configuration");
    daemon.wait_for("gone: 1 opening was dropped: not allowed by the new configuration");
    fs::write(daemon.folder.join("go"), "").unwrap();
    daemon.wait_for_file("out", "11.0.0.1\n11.0.0.4\n11.0.0.3\n");
}

/// The first section of a name does not speak for the second.
fn a_reload_drops_nothing_that_a_section_of_this_name_allows() {
    let world = World::new();
    let first = one_at_a_time("d", 2000).replace("2000:udp\n", "2000:udp\nallow = 11.0.0.9\n");
    let daemon = world.knockd(&format!("{first}{}", one_at_a_time("d", 1000))).start();
    world.send([udp(1000).from("11.0.0.1")]);
    daemon.wait_for_file("out", "11.0.0.1\n");
    world.send([udp(1000).from("11.0.0.2")]);
    daemon.wait_for("11.0.0.2: d: waits until another command ends");
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("re-reading config file");
    fs::write(daemon.folder.join("go"), "").unwrap();
    daemon.wait_for_file("out", "11.0.0.1\n11.0.0.2\n");
    assert!(!daemon.raw_log().contains("dropped"), "{}", daemon.said());
}

/// No command has to end first.
fn limits_that_are_raised_hold_for_what_waits() {
    let world = World::new();
    let daemon = world.knockd(&one_at_a_time("d", 1000)).options("max_commands = 1").start();
    world.send([udp(1000).from("11.0.0.1")]);
    daemon.wait_for_file("out", "11.0.0.1\n");
    world.send([udp(1000).from("11.0.0.2")]);
    daemon.wait_for("11.0.0.2: d: waits until another command ends");
    let file = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, file.replace("max_commands = 1", "max_commands = 2")).unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for_file("out", "11.0.0.1\n11.0.0.2\n");
    fs::write(daemon.folder.join("go"), "").unwrap();
}

/// Four doors that run 16 commands at once could take all 64 places.
fn commands_that_hang_leave_a_place_to_other_doors() {
    let world = World::new();
    let hangs = |n: u16| {
        let ports = format!("{0}:udp,{0}1:udp", 100 * n);
        format!("[d{n}]\nsequence = {ports}\nstart_command = echo >>@/out; exec sleep 600\n")
    };
    let other = "[other]\nsequence = 9000:udp,9001:udp\nstart_command = echo open >>@/other\n";
    let daemon = world.knockd(&format!("{}{other}", (1..=4).map(hangs).collect::<String>())).start();
    for n in 1..=4_u16 {
        for source in 0..17 {
            let source = format!("11.0.{n}.{source}");
            world.send([100 * n, 1000 * n + 1].map(|port| udp(port).from(&source)));
        }
        daemon.sync();
    }
    daemon.wait_for_times(5, "waits until another command ends (max_commands)");
    daemon.wait_for_file("out", &"\n".repeat(63));
    world.send([9000, 9001].map(udp));
    daemon.wait_for_file("other", "open\n");
    assert_eq!(daemon.read("out").lines().count(), 63, "{}", daemon.said());
}

/// A door that runs one command at once, each until the file `go` is there.
fn one_at_a_time(name: &str, port: u16) -> String {
    let command = "echo %IP% >>@/out; until test -e @/go; do sleep 0.05; done";
    format!("[{name}]\nsequence = {port}:udp\nstart_command = {command}\nmax_commands = 1\n")
}

/// An opening that is dropped because too many wait has used its line all the same: somebody may have overheard it.
fn a_line_is_used_up_where_too_many_wait() {
    const WAITING: usize = 256;
    let world = World::new();
    let door =
        "[d]\none_time_sequences = @/lines\nstart_command = echo >>@/out; sleep 600\nmax_commands = 1\n";
    let knockd = world.knockd(door);
    knockd.folder().write("lines", "1000:udp,1001:udp\n".repeat(1 + WAITING + 2));
    let daemon = knockd.start();
    for n in 0..=1 + WAITING {
        world.send([1000, 1001].map(udp));
        if n % 16 == 15 {
            assert!(holds_within(seconds(30.0), || world.queued() == 0), "the daemon does not read any more");
        }
    }
    daemon.wait_for("d: 1 opening was dropped: too many wait already");
    let unused = daemon.read("lines").lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(unused, 1, "{}", daemon.said());
    assert_eq!(daemon.read("out"), "\n");
}

/// One user at a door of one knock sees what 0.8 shows, to the letter.
fn one_knock_is_logged_as_ever() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1000\nstart_command = true\n").start();
    let mut wanted = String::new();
    for _ in 0..5 {
        world.send([tcp(1000)]);
        wanted.extend([opened("d", CLIENT, 1).as_str(), "d: running command: true\n"]);
        daemon.expect(&wanted);
    }
}
