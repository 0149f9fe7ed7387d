//! One-time sequences: each line of the file opens its door once.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::support::daemon::RunningDaemon;
use crate::support::packet::{CLIENT, CLIENT6, tcp, udp};
use crate::support::world::World;
use crate::support::{holds_within, pause, seconds};
use crate::wire::attempts::opened;

trials![
    the_used_line_is_struck,
    a_line_is_struck_though_the_door_opens_too_often,
    the_next_line_counts_and_the_used_one_does_not,
    it_is_struck_before_the_command_starts,
    a_line_that_cannot_be_struck_opens_nothing,
    a_line_in_a_file_that_others_can_write_opens_nothing,
    after_the_last_line_the_door_alone_is_closed,
    bad_lines_are_stepped_over,
    ten_thousand_bad_lines_are_a_few_messages,
    odd_files_are_fine,
    a_failed_attempt_uses_nothing,
    an_attempt_does_not_go_on_with_the_next_line,
    the_next_line_counts_for_ipv6_too,
    used_lines_stay_used_after_a_restart,
    two_attempts_at_once_open_once,
];

/// A daemon with the door `o` whose file is `seqs`.
fn start<'w>(world: &'w World, lines: &str, more: &str) -> RunningDaemon<'w> {
    let knockd = world.knockd(&format!("[o]\none_time_sequences = @/seqs\n{more}"));
    knockd.folder().write("seqs", lines);
    knockd.start()
}

fn the_used_line_is_struck() {
    let world = World::new();
    let daemon = start(&world, " 1000,2000\n 3000,4000\n# c\n", "");
    world.send([1000, 2000].map(tcp));
    daemon.wait_for_file("seqs", "#1000,2000\n 3000,4000\n# c\n");
}

/// Others may have overheard it.
fn a_line_is_struck_though_the_door_opens_too_often() {
    let world = World::new();
    let daemon = start(&world, " 1000,2000\n 3000,4000\n 5000,6000\n", "open_rate = 1/3600\n");
    world.send([1000, 2000].map(tcp));
    daemon.wait_for_file("seqs", "#1000,2000\n 3000,4000\n 5000,6000\n");
    world.send([3000, 4000].map(tcp));
    daemon.wait_for_file("seqs", "#1000,2000\n#3000,4000\n 5000,6000\n");
    daemon.wait_for("o: 1 opening was dropped: more than its open_rate allows");
    assert_eq!(daemon.lines().iter().filter(|line| line.ends_with("o: OPEN SESAME")).count(), 1);
}

fn the_next_line_counts_and_the_used_one_does_not() {
    let world = World::new();
    let daemon = start(&world, " 1000,2000\n 3000,4000\n 5000,6000:udp\n 7\n", "");
    world.send([1000, 2000].map(tcp));
    daemon.wait_for_file("seqs", "#1000,2000\n 3000,4000\n 5000,6000:udp\n 7\n");
    daemon.sync();
    world.send([1000, 2000, 3000, 4000].map(tcp));
    daemon.wait_for_file("seqs", "#1000,2000\n#3000,4000\n 5000,6000:udp\n 7\n");
    daemon.sync();
    world.send([tcp(5000), udp(6000)]);
    daemon.wait_for_file("seqs", "#1000,2000\n#3000,4000\n#5000,6000:udp\n 7\n");
    daemon.expect(&opened("o", CLIENT, 2).repeat(3));
}

/// The first five, and how many more.
fn ten_thousand_bad_lines_are_a_few_messages() {
    let world = World::new();
    let lines = "nonsense:nowhere\n".repeat(10_000) + "1000,2000\n";
    let daemon = start(&world, &lines, "");
    let stderr = daemon.stderr();
    assert_eq!(stderr.lines().count(), 6, "{}", &stderr[..stderr.len().min(2000)]);
    let sum = format!(
        "config: section o: 9995 more lines of {}/seqs are no sequences",
        daemon.folder.path().display()
    );
    assert_eq!(stderr.lines().last(), Some(&*sum));
}

fn a_line_in_a_file_that_others_can_write_opens_nothing() {
    let world = World::new();
    let daemon = start(&world, " 1000,2000\n 3000\n", "command = touch @/out");
    let file = daemon.folder.join("seqs");
    fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
    world.send([1000, 2000].map(tcp));
    daemon.wait_for("seqs: everybody can write this file; chmod go-w ");
    daemon.sync();
    assert!(!daemon.folder.join("out").exists() && daemon.read("seqs") == " 1000,2000\n 3000\n");
}

/// The command itself looks.
fn it_is_struck_before_the_command_starts() {
    let world = World::new();
    let daemon = start(&world, " 1000,2000\n 3000\n", "command = cp @/seqs @/new; mv @/new @/out");
    world.send([1000, 2000].map(tcp));
    daemon.wait_for_file("out", "#1000,2000\n 3000\n");
}

/// Otherwise it could be used again.
fn a_line_that_cannot_be_struck_opens_nothing() {
    let world = World::new();
    let daemon = start(&world, " 1000\n 2000\n", "command = touch @/out");
    fs::remove_file(daemon.folder.join("seqs")).unwrap();
    world.send([tcp(1000)]);
    daemon.wait_for("could not strike the used line");
    daemon.sync();
    pause(0.3);
    assert!(!daemon.folder.join("out").exists());
}

/// The original dies here.
fn after_the_last_line_the_door_alone_is_closed() {
    let world = World::new();
    let daemon = start(&world, " 1000,2000\n", "[other]\nsequence = 7,8");
    world.send([1000, 2000].map(tcp));
    let text = "no more sequences left in the one time sequences file for door o --> disabling the door";
    daemon.wait_for(text);
    assert!(holds_within(seconds(30.0), || daemon.stderr() == format!("{text}\n")), "{}", daemon.said());
    world.send([1000, 2000, 7, 8].map(tcp));
    daemon.expect(&format!("{}{text}\n{}", opened("o", CLIENT, 2), opened("other", CLIENT, 2)));
    assert_eq!(daemon.read("seqs"), "#1000,2000\n");
}

/// The original strikes the bad line, and the used one can be used again.
fn bad_lines_are_stepped_over() {
    let world = World::new();
    let daemon = start(&world, " 99:foo\n 1000,2000\nwords:words\n 3000,4000\n", "");
    assert!(daemon.stderr().contains("unknown protocol"), "nothing about the bad line; {}", daemon.said());
    world.send([1000, 2000].map(tcp));
    daemon.wait_for_file("seqs", " 99:foo\n#1000,2000\nwords:words\n 3000,4000\n");
    daemon.sync();
    world.send([1000, 2000].map(|port| tcp(port).from("10.77.0.12")));
    world.send([3000, 4000].map(tcp));
    daemon.wait_for_file("seqs", " 99:foo\n#1000,2000\nwords:words\n#3000,4000\n");
    assert!(!daemon.raw_log().contains("10.77.0.12"), "{}", daemon.said());
}

/// Empty lines, comments, no blank in front, Windows line ends, no line end at all.
fn odd_files_are_fine() {
    let world = World::new();
    let daemon = start(&world, "# a\n\n#1,2\r\n 1000,2000\r\n\r\n3000\n\t4000", "");
    world.send([1000, 2000].map(tcp));
    daemon.wait_for_file("seqs", "# a\n\n#1,2\r\n#1000,2000\r\n\r\n3000\n\t4000");
    daemon.sync();
    world.send([tcp(3000)]);
    daemon.wait_for_file("seqs", "# a\n\n#1,2\r\n#1000,2000\r\n\r\n#000\n\t4000");
    daemon.sync();
    world.send([tcp(4000)]);
    daemon.wait_for_file("seqs", "# a\n\n#1,2\r\n#1000,2000\r\n\r\n#000\n#4000");
}

fn a_failed_attempt_uses_nothing() {
    let world = World::new();
    let daemon = start(&world, " 1000,2000,3000\n 4000\n", "");
    world.send([1000, 3000, 2000, 1000, 4000].map(tcp));
    daemon.sync();
    pause(0.2);
    assert_eq!(daemon.read("seqs"), " 1000,2000,3000\n 4000\n");
}

/// In the original the last port of a longer line opens then.
fn an_attempt_does_not_go_on_with_the_next_line() {
    let world = World::new();
    let daemon = start(&world, " 1000,2000\n 3000,4000,5000\n 7\n", "");
    world.send([1000, 2000].map(tcp));
    daemon.wait_for_file("seqs", "#1000,2000\n 3000,4000,5000\n 7\n");
    daemon.sync();
    world.send([5000, 4000, 5000].map(tcp));
    daemon.expect(&opened("o", CLIENT, 2));
}

fn the_next_line_counts_for_ipv6_too() {
    let world = World::new();
    let daemon = start(&world, " 1000\n 2000\n 3000\n", "");
    for (port, left) in [(1000, "#1000\n 2000\n 3000\n"), (2000, "#1000\n#2000\n 3000\n")] {
        world.send([tcp(port).v6()]);
        daemon.wait_for_file("seqs", left);
        daemon.sync();
    }
    daemon.expect(&opened("o", CLIENT6, 1).repeat(2));
}

/// Even if it is killed right after.
fn used_lines_stay_used_after_a_restart() {
    let world = World::new();
    let mut daemon = start(&world, " 1000\n 2000\n 3000\n", "command = touch @/out");
    world.send([tcp(1000)]);
    assert!(holds_within(seconds(30.0), || daemon.folder.join("out").exists()));
    daemon.kill(Signal::SIGKILL);
    daemon.wait();
    let again = start(&world, &daemon.read("seqs"), "");
    world.send([tcp(1000), tcp(2000)]);
    again.expect(&opened("o", CLIENT, 1));
    again.wait_for_file("seqs", "#1000\n#2000\n 3000\n");
}

/// Two knockers, one sequence: the second one to finish finds it used.
fn two_attempts_at_once_open_once() {
    let world = World::new();
    let daemon = start(&world, " 1000,2000\n 7\n 8\n", "command = echo %IP% >> @/out");
    let other = |port| tcp(port).from("10.77.0.12");
    world.send([tcp(1000), other(1000), tcp(2000), other(2000)]);
    daemon.wait_for("running command");
    daemon.sync();
    pause(0.3);
    assert_eq!(daemon.read("out"), "10.77.0.2\n", "{}", daemon.said());
    assert_eq!(daemon.read("seqs"), "#1000,2000\n 7\n 8\n");
}
