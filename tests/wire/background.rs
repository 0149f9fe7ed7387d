//! `-d`, the pid file, and the interface under the daemon's feet.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::packet::{CLIENT, tcp};
use crate::support::process;
use crate::support::world::{CLIENT_LINK, SERVER_LINK, World};
use crate::support::{holds_within, pause, seconds};
use crate::wire::attempts::{DOOR, KNOCKS};

trials![
    it_goes_to_the_background_and_comes_to_an_end,
    it_lets_go_of_everything,
    it_listens_when_the_starting_process_ends,
    an_old_pid_file_is_overwritten,
    a_missing_interface_is_an_error,
    a_missing_interface_is_an_error_in_the_foreground,
    a_broken_file_is_an_error,
    a_missing_dev_null_is_named,
    a_pid_file_that_cannot_be_written_stops_nothing,
    the_pid_file_of_the_configuration_counts,
    the_pid_file_that_was_written_is_removed,
    no_pid_file_in_the_foreground,
    a_relative_configuration_is_found_again,
    the_watcher_ends_with_the_background,
    a_start_waits_for_a_daemon_that_ends,
    a_second_daemon_is_told_of,
    a_single_daemon_does_not_start_beside_another,
    it_survives_its_interface_going_down,
    a_dead_interface_costs_nothing,
];

fn it_goes_to_the_background_and_comes_to_an_end() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}command = echo %IP% > @/out")).start_in_background();
    let pid_file = daemon.folder.join("pid");
    assert_eq!(daemon.read("pid"), format!("{}\n", daemon.pid));
    assert!(process::alive(daemon.pid));
    world.send(KNOCKS.map(tcp));
    daemon.wait_for_file("out", "10.77.0.2\n");
    daemon.kill(Signal::SIGTERM);
    assert!(holds_within(seconds(30.0), || !process::alive(daemon.pid)), "it does not end");
    assert!(!pid_file.exists(), "the pid file is left");
    assert_eq!(daemon.lines().last().unwrap(), "shutting down");
}

fn it_lets_go_of_everything() {
    let world = World::new();
    let knockd = world.knockd("[d]\nsequence = 1\ncommand = pwd > @/out; echo noise; echo noise >&2");
    let daemon = knockd.arguments(&["-v"]).start_in_background();
    let own = process::find(daemon.pid).unwrap();
    let starter = process::find(std::process::id().cast_signed()).unwrap();
    assert_ne!(own.session, starter.session);
    assert_eq!(fs::read_link(format!("/proc/{}/cwd", daemon.pid)).unwrap().to_str(), Some("/"));
    for descriptor in 0..3 {
        let path = format!("/proc/{}/fd/{descriptor}", daemon.pid);
        assert_eq!(fs::read_link(path).unwrap().to_str(), Some("/dev/null"));
    }
    world.send([tcp(1)]);
    daemon.wait_for_file("out", "/\n");
    daemon.sync();
    assert_eq!((daemon.stdout(), daemon.stderr()), (String::new(), String::new()));
}

/// No knock after it is lost.
fn it_listens_when_the_starting_process_ends() {
    let world = World::new();
    for _ in 0..3 {
        let mut daemon =
            world.knockd("[d]\nsequence = 1\ncommand = echo x > @/out").arguments(&["-d"]).launch();
        assert_eq!(daemon.wait(), Some(0));
        world.send([tcp(1)]);
        daemon.pid = daemon.read("pid").trim().parse().unwrap();
        daemon.wait_for_file("out", "x\n");
    }
}

fn an_old_pid_file_is_overwritten() {
    let world = World::new();
    let knockd = world.knockd(DOOR).arguments(&["-d"]);
    knockd.folder().write("pid", "1234567890, and more than that\n");
    let mut daemon = knockd.launch();
    assert_eq!(daemon.wait(), Some(0));
    assert!(holds_within(seconds(30.0), || daemon.read("pid").len() < 15), "{:?}", daemon.read("pid"));
    daemon.pid = daemon.read("pid").trim().parse().unwrap();
    assert_eq!(process::network_of(daemon.pid), Some(world.server.inode()));
}

fn a_missing_interface_is_an_error() {
    let world = World::new();
    let knockd = world.knockd(DOOR).interface(Some("nope0")).arguments(&["-d"]);
    let pid_file = knockd.folder().join("pid");
    let finished = knockd.finish();
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.starts_with("could not open nope0: "), "{finished:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
    assert!(!pid_file.exists());
    assert!(holds_within(seconds(30.0), || world.server.processes().is_empty()), "something is left running");
}

fn a_missing_interface_is_an_error_in_the_foreground() {
    let world = World::new();
    let finished = world.knockd(DOOR).interface(Some("nope0")).finish();
    assert_eq!((finished.code(), finished.stdout.as_str()), (Some(1), ""));
    assert!(finished.stderr.starts_with("could not open nope0: "), "{finished:?}");
    // What to do: the interfaces there are.
    assert!(finished.stderr.contains(SERVER_LINK), "{finished:?}");
    assert!(holds_within(seconds(30.0), || world.server.processes().is_empty()), "something is left running");
}

fn a_broken_file_is_an_error() {
    let world = World::new();
    let finished = world.knockd("").file("[d]\nsequence = 70000\n").arguments(&["-d"]).finish();
    assert_eq!(finished.code(), Some(1));
    assert!(finished.stderr.contains("port 70000 is invalid"), "{finished:?}");
}

/// As in a chroot or a container that was put together by hand.
fn a_missing_dev_null_is_named() {
    let world = World::new();
    for words in [&["-v"], &["-d"]] {
        let empty_dev = ["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /dev && exec \"$@\"", "sh"];
        let ended = world.knockd(DOOR).through(&empty_dev).arguments(words).finish();
        let wanted = "could not open /dev/null: No such file or directory; knockd and its commands need it: \
            mknod -m 666 /dev/null c 1 3\n";
        assert_eq!((ended.code(), ended.stderr.as_str()), (Some(1), wanted), "{words:?}");
    }
}

fn a_pid_file_that_cannot_be_written_stops_nothing() {
    let world = World::new();
    let knockd = world.knockd(DOOR).arguments(&["-d", "-p", "/nowhere/pid"]);
    let mut daemon = knockd.launch();
    assert_eq!(daemon.wait(), Some(0));
    daemon.wait_for("could not create pid file /nowhere/pid: No such file or directory");
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("d: OPEN SESAME");
}

fn the_pid_file_of_the_configuration_counts() {
    let world = World::new();
    let mut daemon = world.knockd(DOOR).options("pidfile = @/other").arguments(&["-d"]).launch();
    assert_eq!(daemon.wait(), Some(0));
    daemon.wait_for("starting up");
    daemon.pid = daemon.read("other").trim().parse().unwrap();
    assert!(!daemon.folder.join("pid").exists());
}

/// SIGHUP does not write it, so what it names is somebody else's.
fn the_pid_file_that_was_written_is_removed() {
    let world = World::new();
    let mut daemon = world.knockd(DOOR).options("pidfile = @/other").arguments(&["-d"]).launch();
    assert_eq!(daemon.wait(), Some(0));
    daemon.wait_for("starting up");
    daemon.pid = daemon.read("other").trim().parse().unwrap();
    let text = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, text.replace("/other", "/third")).unwrap();
    daemon.folder.write("third", "1\n");
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("re-reading config file");
    daemon.sync();
    daemon.kill(Signal::SIGTERM);
    daemon.wait_for("shutting down");
    assert!(holds_within(seconds(30.0), || !daemon.folder.join("other").exists()), "it is left");
    assert_eq!(daemon.read("third"), "1\n");
}

fn no_pid_file_in_the_foreground() {
    let world = World::new();
    let daemon = world.knockd(DOOR).options("pidfile = @/other").start();
    daemon.sync();
    assert!(!daemon.folder.join("other").exists() && !daemon.folder.join("pid").exists());
}

fn a_relative_configuration_is_found_again() {
    let world = World::new();
    let daemon = world.knockd(DOOR).arguments(&["-c", "knockd.conf", "-p", "pid"]).start_in_background();
    let text = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, text.replace("[d]", "[n]")).unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("re-reading config file");
    pause(0.5);
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("n: OPEN SESAME");
}

fn the_watcher_ends_with_the_background() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start_in_background();
    let watcher = daemon.watcher().expect("a watcher");
    daemon.kill(Signal::SIGKILL);
    assert!(holds_within(seconds(30.0), || !process::alive(watcher)), "it stays");
}

/// As init scripts do it: what is open is closed by then, and exactly one is there afterwards.
fn a_start_waits_for_a_daemon_that_ends() {
    let world = World::new();
    let door = "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 60\nstop_command = sleep 1.5; echo %IP% >> @/out";
    let old = world.knockd(door).start_in_background();
    world.send([tcp(1)]);
    old.wait_for("running command: true");
    pause(0.2);
    old.kill(Signal::SIGTERM);
    // The signal may not have reached it yet: it is one that ends once it says so.
    let is_leaving = || old.read("pid.state.lock").starts_with("leaving");
    assert!(holds_within(seconds(30.0), is_leaving), "{}", old.said());
    let text = fs::read_to_string(&old.config).unwrap();
    let path = old.folder.path().display().to_string();
    let knockd = world.knockd("").file(&text).arguments(&["-d", "-p", &format!("{path}/pid"), "-v"]);
    let mut new = knockd.launch();
    assert_eq!(new.wait(), Some(0), "{}", new.said());
    assert_eq!(old.read("out"), "10.77.0.2\n", "the new one did not wait");
    // Its lock on the state file, which the new one waits for, ends a moment before the process.
    assert!(holds_within(seconds(30.0), || !process::alive(old.pid)), "the old one does not end");
    assert_eq!(new.stderr(), "");
    new.pid = old.read("pid").trim().parse().expect("the pid file of the new one");
    assert!(process::alive(new.pid) && new.pid != old.pid);
    new.kill(Signal::SIGTERM);
    assert!(holds_within(seconds(30.0), || !process::alive(new.pid)), "it does not end");
    assert_eq!(old.read("pid"), "", "the pid file is left");
}

/// Both listen, as with knockd 0.8; the first one's pid file is the second one's now.
fn a_second_daemon_is_told_of() {
    let world = World::new();
    let first = world.knockd(DOOR).start_in_background();
    let path = first.folder.path().display().to_string();
    let text = fs::read_to_string(&first.config).unwrap();
    let mut second = world.knockd("").file(&text).arguments(&["-d", "-p", &format!("{path}/pid")]).launch();
    assert_eq!(second.wait(), Some(0));
    let says = format!("another knockd with the pid file {path}/pid is running, as process {}", first.pid);
    assert!(second.stderr().contains(&says), "{}", second.said());
    assert!(second.stderr().contains("pid.state"), "{}", second.said());
    second.pid = first.read("pid").trim().parse().unwrap();
    assert_ne!(second.pid, first.pid);
    first.kill(Signal::SIGTERM);
    assert!(holds_within(seconds(30.0), || !process::alive(first.pid)), "it does not end");
    assert_eq!(first.read("pid"), format!("{}\n", second.pid), "it is not its own");
}

/// By the pid file, by the state file alone, and not by files that a daemon left that is gone.
fn a_single_daemon_does_not_start_beside_another() {
    let world = World::new();
    let first = world.knockd(DOOR).arguments(&["--single"]).start_in_background();
    let path = first.folder.path().display().to_string();
    let text = fs::read_to_string(&first.config).unwrap();
    let start = |words: &[&str]| world.knockd("").file(&text).arguments(words).launch();
    let (pid_file, state_file) = (format!("{path}/pid"), format!("{path}/pid.state"));
    let elsewhere = format!("{text}\n[options]\nstatefile = {state_file}\n");
    let words = format!("knockd is running already, as process {}, with ", first.pid);
    for background in [&["-d"][..], &[]] {
        let mut second = start(&[background, &["--single", "-p", &pid_file]].concat());
        assert_eq!(second.wait(), Some(1), "{}", second.said());
        assert_eq!(second.stderr(), format!("{words}{pid_file}\n"));
        let mut third = world.knockd("").file(&elsewhere);
        third = third.arguments(&[background, &["--single", "-p", &format!("{path}/other")]].concat());
        let mut third = third.launch();
        assert_eq!(third.wait(), Some(1), "{}", third.said());
        assert_eq!(third.stderr(), format!("{words}{state_file}\n"));
    }
    assert_eq!(first.read("pid"), format!("{}\n", first.pid));
    first.kill(Signal::SIGKILL);
    assert!(holds_within(seconds(30.0), || !process::alive(first.pid)), "it does not end");
    let mut next = start(&["-d", "--single", "-p", &pid_file]);
    assert_eq!(next.wait(), Some(0), "{}", next.said());
    next.pid = first.read("pid").trim().parse().unwrap();
    next.kill(Signal::SIGTERM);
    assert!(holds_within(seconds(30.0), || !process::alive(next.pid)), "it does not end");
}

fn it_survives_its_interface_going_down() {
    let world = World::new();
    let mut daemon = world.knockd(DOOR).start();
    world.send([tcp(1000)]);
    daemon.sync();
    for _ in 0..2 {
        world.server.down(SERVER_LINK);
        pause(0.3);
        world.server.up(SERVER_LINK);
        world.server.wait_until_running(SERVER_LINK);
        world.client.wait_until_running(CLIENT_LINK);
    }
    // The attempt is still known.
    world.send([2000, 3000].map(tcp));
    daemon.wait_for(&format!("{CLIENT}: d: OPEN SESAME"));
    assert_eq!(daemon.stop(), Some(0));
}

/// A packet socket on an interface that is down, or gone, is always ready to be read, in vain.
fn a_dead_interface_costs_nothing() {
    let world = World::new();
    let mut daemon = world.knockd(DOOR).start();
    let spent_while = |change: &dyn Fn()| {
        change();
        pause(0.3);
        let before = process::ticks(daemon.pid);
        pause(1.0);
        process::ticks(daemon.pid) - before
    };
    let down = spent_while(&|| world.server.down(SERVER_LINK));
    let gone = spent_while(&|| world.server.delete_link(SERVER_LINK));
    assert!(down < 20 && gone < 20, "{down} and {gone} hundredths of a second in a second");
    assert!(daemon.runs(), "{}", daemon.said());
    assert_eq!(daemon.stop(), Some(0));
}
