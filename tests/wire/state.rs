//! Doors close, whatever ends before its time: the state file, and what runs beside doors.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use knocking::door::otp::Otp;
use nix::sys::signal::Signal;

use crate::support::daemon::{Knockd, RunningDaemon};
use crate::support::folder::Folder;
use crate::support::packet::{CLIENT, tcp};
use crate::support::process;
use crate::support::world::World;
use crate::support::{holds_within, pause, seconds};

trials![
    the_state_file_is_beside_the_pid_file,
    doors_close_in_time_after_all_processes_were_killed,
    a_door_that_nothing_closes_is_not_remembered,
    overdue_doors_close_at_once,
    a_door_that_was_opening_is_closed,
    a_killed_watcher_is_replaced_and_no_door_is_touched,
    commands_have_nothing_of_a_replaced_watcher,
    every_stop_runs_once_however_often_all_is_killed,
    a_second_daemon_says_so_and_goes_on_without,
    the_second_takes_the_file_when_the_first_has_ended,
    without_a_place_for_the_file_it_goes_on,
    a_file_that_others_can_write_is_not_trusted,
    a_damaged_line_is_reported_and_not_run,
    a_new_state_file_takes_all_along,
    spent_lists_stay_spent_over_a_crash,
    on_start_and_on_stop_run_once,
    on_stop_is_not_run_after_a_crash,
    extend_begins_the_time_anew,
    a_command_timeout_may_differ_by_door,
];

/// A door that is open for so many seconds and writes down who closes it.
pub fn door(open: u32) -> String {
    format!(
        "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = {open}\nstop_command = echo %IP% >> {{}}/out"
    )
}

/// A daemon with its state file and its doors' output in `place`.
pub fn with_state<'w>(world: &'w World, place: &Folder, doors: &str) -> Knockd<'w> {
    let path = place.path().display().to_string();
    world.knockd(&doors.replace("{}", &path)).options(&format!("statefile = {path}/state"))
}

/// The daemon with all its processes; commands live on.
#[track_caller]
pub fn kill_all(daemon: &mut RunningDaemon) {
    let watcher = daemon.watcher();
    daemon.kill(Signal::SIGKILL);
    daemon.wait(2.0);
    let is_gone = || watcher.is_none_or(|pid| !process::alive(pid));
    assert!(holds_within(seconds(2.0), is_gone), "the watcher outlives the daemon");
}

#[track_caller]
pub fn expect_closed(place: &Folder, limit: f64, wanted: &str) {
    // Commands that run at once end in any order.
    let sorted = |text: &str| -> Vec<String> {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let closed = || sorted(&place.read("out")) == sorted(wanted);
    assert!(holds_within(seconds(limit), closed), "closed for {:?}", place.read("out"));
    pause(0.4);
    assert_eq!(sorted(&place.read("out")), sorted(wanted), "a stop command ran twice");
}

fn the_state_file_is_beside_the_pid_file() {
    let world = World::new();
    let daemon = world.knockd(&door(60).replace("{}", "@")).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command");
    let path = daemon.folder.join("pid.state");
    assert!(holds_within(seconds(3.0), || path.exists()), "{}", daemon.said());
    for name in ["pid.state", "pid.state.lock"] {
        let mode = fs::metadata(daemon.folder.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

fn doors_close_in_time_after_all_processes_were_killed() {
    let (world, place) = (World::new(), Folder::new());
    let mut daemon = with_state(&world, &place, &door(2)).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command: true");
    let opened = Instant::now();
    pause(0.1);
    kill_all(&mut daemon);
    pause(0.3);
    // The door is not even in the configuration any more.
    let daemon = with_state(&world, &place, "[other]\nsequence = 9\ncommand = true").start();
    daemon.wait_for("10.77.0.2: d: still open");
    expect_closed(&place, 3.0, "10.77.0.2\n");
    assert!(opened.elapsed() > seconds(2.2), "too early");
    daemon.wait_for("10.77.0.2: d: command timeout");
}

/// Nor does its command wait for the disk.
fn a_door_that_nothing_closes_is_not_remembered() {
    let (world, place) = (World::new(), Folder::new());
    let sections = format!("[e]\nsequence = 2\ncommand = false\n{}", door(1));
    let mut daemon = with_state(&world, &place, &sections).start();
    world.send([tcp(2)]);
    daemon.wait_for("e: command returned non-zero status code (1)");
    // What is not urgent is written after a second.
    pause(1.4);
    assert_eq!(place.read("state"), "");
    world.send([tcp(1)]);
    daemon.wait_for("running command: true");
    assert!(holds_within(seconds(1.0), || place.read("state").contains("10.77.0.2")), "{}", daemon.said());
    assert_eq!(daemon.stop(), Some(0));
}

fn overdue_doors_close_at_once() {
    let (world, place) = (World::new(), Folder::new());
    let mut daemon = with_state(&world, &place, &door(3)).start();
    world.send([tcp(1), tcp(1).from("10.77.0.12")]);
    daemon.wait_for_times(2, "running command: true");
    pause(0.2);
    kill_all(&mut daemon);
    pause(3.2);
    assert_eq!(place.read("out"), "");
    let _daemon = with_state(&world, &place, "").start();
    expect_closed(&place, 2.5, "10.77.0.2\n10.77.0.12\n");
}

/// What its start command did before the end is not known: it is closed.
fn a_door_that_was_opening_is_closed() {
    let (world, place) = (World::new(), Folder::new());
    let doors = door(1).replace("= true", "= sleep 1.5");
    let mut daemon = with_state(&world, &place, &doors).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command: sleep");
    kill_all(&mut daemon);
    let _daemon = with_state(&world, &place, "").start();
    expect_closed(&place, 3.0, "10.77.0.2\n");
}

/// It faces the network and can be lost: no door knows of it.
fn a_killed_watcher_is_replaced_and_no_door_is_touched() {
    let (world, place) = (World::new(), Folder::new());
    let mut daemon = with_state(&world, &place, &door(2)).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command: true");
    let opened = Instant::now();
    daemon.replace_watcher();
    daemon.wait_for("the watcher ended unexpectedly: starting another; attempts under way are lost");
    world.send([tcp(1).from("10.77.0.12")]);
    expect_closed(&place, 4.0, "10.77.0.2\n10.77.0.12\n");
    assert!(opened.elapsed() > seconds(2.0), "too early");
    assert!(!daemon.raw_log().contains("still open"), "{}", daemon.said());
    assert_eq!(daemon.stop(), Some(0));
}

/// Its packet sockets above all: one in the hands of a command goes on listening.
fn commands_have_nothing_of_a_replaced_watcher() {
    let (world, place) = (World::new(), Folder::new());
    let command = "ls -l /proc/self/fd > @/new; mv @/new @/out";
    let mut daemon = with_state(&world, &place, &format!("[d]\nsequence = 1\ncommand = {command}")).start();
    daemon.replace_watcher();
    world.send([tcp(1)]);
    assert!(holds_within(seconds(5.0), || !daemon.read("out").is_empty()), "{}", daemon.said());
    let files = daemon.read("out");
    assert!(!files.contains("socket:") && !files.contains("memfd:"), "{files}");
    assert_eq!(daemon.stop(), Some(0));
}

fn every_stop_runs_once_however_often_all_is_killed() {
    let (world, place) = (World::new(), Folder::new());
    let mut wanted = Vec::new();
    for round in 0..6_u8 {
        let mut daemon = with_state(&world, &place, &door(2)).start();
        let knockers = [1, 2].map(|n| format!("10.77.{round}.{n}1"));
        world.send(knockers.iter().map(|knocker| tcp(1).from(knocker)));
        daemon.wait_for_times(2, "running command: true");
        wanted.extend(knockers);
        pause(f64::from(round) * 0.05);
        kill_all(&mut daemon);
    }
    let _last = with_state(&world, &place, "").start();
    wanted.sort();
    let closed = || {
        let mut lines: Vec<String> = place.read("out").lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert!(holds_within(seconds(5.0), || closed() == wanted), "{:?}", closed());
    pause(1.0);
    assert_eq!(closed(), wanted);
}

fn a_second_daemon_says_so_and_goes_on_without() {
    let (world, place) = (World::new(), Folder::new());
    let _first = with_state(&world, &place, "[a]\nsequence = 9\ncommand = true").start();
    let mut second = with_state(&world, &place, &door(1)).start();
    let says =
        format!("state file {}/state: another daemon has it; going on without", place.path().display());
    second.wait_for(&says);
    assert!(second.stderr().contains(&says), "{}", second.said());
    world.send([tcp(1)]);
    expect_closed(&place, 3.0, "10.77.0.2\n");
    assert_eq!(second.stop(), Some(0));
}

fn the_second_takes_the_file_when_the_first_has_ended() {
    let (world, place) = (World::new(), Folder::new());
    let mut first = with_state(&world, &place, "[a]\nsequence = 9\ncommand = true").start();
    let mut second = with_state(&world, &place, &door(60)).start();
    second.wait_for("another daemon has it");
    world.send([tcp(1)]);
    second.wait_for("running command: true");
    assert_eq!(first.stop(), Some(0));
    assert!(
        holds_within(seconds(14.0), || place.read("state").contains(" 10.77.0.2 d ")),
        "{}",
        second.said()
    );
    assert_eq!(second.stop(), Some(0));
    assert_eq!(place.read("out"), "10.77.0.2\n");
}

fn without_a_place_for_the_file_it_goes_on() {
    let (world, place) = (World::new(), Folder::new());
    let doors = door(1).replace("{}", "@");
    let options = format!("statefile = {}/nowhere/state", place.path().display());
    let daemon = world.knockd(&doors).options(&options).start();
    let says =
        format!("could not claim the state file {}/nowhere/state: No such file", place.path().display());
    daemon.wait_for(&says);
    assert!(daemon.stderr().contains(&says), "{}", daemon.said());
    world.send([tcp(1)]);
    daemon.wait_for_file("out", "10.77.0.2\n");
}

fn a_file_that_others_can_write_is_not_trusted() {
    let (world, place) = (World::new(), Folder::new());
    let mut daemon = with_state(&world, &place, &door(1)).start();
    world.send([tcp(1)]);
    assert!(holds_within(seconds(3.0), || place.read("state").contains("open ")));
    pause(0.2);
    kill_all(&mut daemon);
    for name in ["state", "state.new"] {
        let _ = fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o622));
    }
    let daemon = with_state(&world, &place, "").start();
    daemon.wait_for("state: others can write it, so it is left out");
    pause(1.3);
    assert_eq!(place.read("out"), "");
}

fn a_damaged_line_is_reported_and_not_run() {
    let (world, place) = (World::new(), Folder::new());
    let mut daemon = with_state(&world, &place, &door(30)).start();
    world.send([tcp(1), tcp(1).from("10.77.0.12")]);
    daemon.wait_for_times(2, "running command: true");
    pause(1.5);
    kill_all(&mut daemon);
    let text = place.read("state");
    assert!(!place.join("state.new").exists() && text.contains(" 10.77.0.2 "), "{text}");
    place.write("state", text.replacen(" 10.77.0.2 ", " 10.77.0.3 ", 1));
    let daemon = with_state(&world, &place, "").start();
    daemon.wait_for("state: line 2 is not in order and is left out");
    daemon.wait_for("10.77.0.12: d: still open");
    assert!(!daemon.raw_log().contains("10.77.0.3"), "{}", daemon.said());
}

fn a_new_state_file_takes_all_along() {
    let (world, place) = (World::new(), Folder::new());
    let daemon = with_state(&world, &place, &door(30)).start();
    world.send([tcp(1)]);
    assert!(holds_within(seconds(3.0), || place.read("state").contains("open ")), "{}", daemon.said());
    let text = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, text.replace("/state\n", "/other\n")).unwrap();
    daemon.kill(Signal::SIGHUP);
    assert!(holds_within(seconds(3.0), || place.read("other").contains("open ")), "{}", daemon.said());
    assert!(holds_within(seconds(2.0), || !place.read("state").contains("open ")), "{}", daemon.said());
}

/// A list that opened a door is knocked again: before and after everything was killed.
fn spent_lists_stay_spent_over_a_crash() {
    let (world, place) = (World::new(), Folder::new());
    let words = "sesame,3600,20000,off,tcp,tcp,tcp";
    let doors = format!("[d]\notp = {words}\ncommand = echo %IP% >> {{}}/out");
    let mut daemon = with_state(&world, &place, &doors).start();
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let otp = Otp::parse(words.as_bytes()).unwrap().unwrap();
    let list = otp.list(otp.period(unix), CLIENT.parse().unwrap());
    let knock = || world.send(list.iter().map(|stage| tcp(stage.port)));
    knock();
    expect_closed(&place, 3.0, "10.77.0.2\n");
    for _ in 0..2 {
        kill_all(&mut daemon);
        daemon = with_state(&world, &place, &doors).start();
        knock();
        daemon.sync();
        assert!(!daemon.raw_log().contains(": d: OPEN SESAME"), "{}", daemon.said());
        assert!(!place.read("state").contains("sesame"));
    }
    // The watcher alone: the next one knows.
    let stages = daemon.raw_log().matches(": d: Stage").count();
    daemon.replace_watcher();
    knock();
    daemon.sync();
    assert!(!daemon.raw_log().contains(": d: OPEN SESAME"), "{}", daemon.said());
    assert_eq!(daemon.raw_log().matches(": d: Stage").count(), stages, "{}", daemon.said());
}

fn on_start_and_on_stop_run_once() {
    let world = World::new();
    let options = "on_start = echo start >> @/out\non_stop = echo stop >> @/out";
    let door = "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 60\nstop_command = sleep 0.3; echo closed >> @/out";
    let mut daemon = world.knockd(door).options(options).start();
    daemon.wait_for_file("out", "start\n");
    daemon.wait_for("options: running command: echo start");
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("re-reading");
    daemon.replace_watcher();
    world.send([tcp(1)]);
    daemon.wait_for("d: running command: true");
    // Every door is closed before.
    daemon.kill(Signal::SIGTERM);
    pause(0.2);
    daemon.kill(Signal::SIGTERM);
    assert_eq!(daemon.wait(8.0), Some(0));
    assert_eq!(daemon.read("out"), "start\nclosed\nstop\n", "{}", daemon.said());
}

fn on_stop_is_not_run_after_a_crash() {
    let world = World::new();
    let mut daemon = world.knockd("").options("on_stop = echo stop >> @/out").start();
    daemon.kill(Signal::SIGKILL);
    daemon.wait(2.0);
    pause(0.5);
    assert_eq!(daemon.read("out"), "");
}

fn extend_begins_the_time_anew() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\nreopen = extend\nstart_command = echo in >> @/out\ncmd_timeout = 2
                 stop_command = echo out >> @/out";
    let daemon = world.knockd(doors).start();
    for _ in 0..3 {
        world.send([tcp(1)]);
        pause(1.0);
    }
    assert_eq!(daemon.read("out"), "in\n");
    daemon.wait_for_file("out", "in\nout\n");
    world.send([tcp(1)]);
    daemon.wait_for_file("out", "in\nout\nin\n");
    daemon.wait_for_times(2, "10.77.0.2: d: already open, its time begins anew");
}

fn a_command_timeout_may_differ_by_door() {
    let world = World::new();
    let doors = "[a]\nsequence = 1\ncommand = sleep 2; echo a >> @/out
                 [b]\nsequence = 2\ncommand_timeout = 0\ncommand = sleep 2; echo b >> @/out";
    let daemon = world.knockd(doors).options("command_timeout = 1").start();
    world.send([tcp(1), tcp(2)]);
    daemon.wait_for("a: command takes too long");
    daemon.wait_for_file("out", "b\n");
    let refused = world.knockd("[a]\nsequence = 1\ncommand_timeout = soon").finish();
    let says = "command_timeout is a number of seconds, 0 for no limit, not \"soon\"";
    assert!(refused.code() == Some(1) && refused.stderr.contains(says), "{}", refused.stderr);
    let refused = world.knockd("[a]\nsequence = 1\nreopen = maybe").finish();
    let says = "reopen is run, extend or ignore, not \"maybe\"";
    assert!(refused.code() == Some(1) && refused.stderr.contains(says), "{}", refused.stderr);
}
