//! The heir: it closes the doors of a main process that was killed.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::daemon::program;
use crate::support::folder::Folder;
use crate::support::packet::tcp;
use crate::support::process;
use crate::support::world::World;
use crate::support::{holds_within, pause, seconds};

trials![
    doors_close_after_the_main_process_was_killed,
    an_heir_waits_while_doors_are_open,
    an_heir_leaves_its_doors_to_the_next_daemon,
    an_heir_that_leaves_waits_for_running_commands,
    an_heir_without_inotify_sleeps,
];

/// SIGKILL gives nobody time to clean up; an heir closes the doors, and leaves when all is done.
fn doors_close_after_the_main_process_was_killed() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 4\nstop_command = echo %IP% >> @/out";
    let mut daemon = world.knockd(doors).start();
    assert_eq!(daemon.heir(), None, "nothing to inherit");
    world.send([tcp(1), tcp(1).from("10.77.0.12")]);
    daemon.wait_for_times(2, "running command: true");
    assert!(holds_within(seconds(30.0), || daemon.heir().is_some()), "no heir");
    let heir = daemon.heir().unwrap();
    daemon.kill(Signal::SIGKILL);
    daemon.wait();
    assert!(holds_within(seconds(30.0), || daemon.read("out").lines().count() == 2), "{}", daemon.said());
    pause(0.3);
    assert_eq!(daemon.read("out").lines().count(), 2, "a stop command ran twice");
    assert!(holds_within(seconds(30.0), || !process::alive(heir)), "it outlives its work");
}

/// It waits while doors are open, and no longer; one that is killed is replaced.
fn an_heir_waits_while_doors_are_open() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 6\nstop_command = true";
    let daemon = world.knockd(doors).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command: true");
    assert!(holds_within(seconds(30.0), || daemon.heir().is_some()), "no heir");
    let first = daemon.heir().unwrap();
    process::end(first);
    assert!(holds_within(seconds(30.0), || daemon.heir().is_some_and(|heir| heir != first)), "no other heir");
    assert!(holds_within(seconds(30.0), || daemon.raw_log().contains("command timeout")));
    assert!(holds_within(seconds(30.0), || daemon.heir().is_none()), "it stays");
}

/// It is there for the time without a daemon, and for no longer.
fn an_heir_leaves_its_doors_to_the_next_daemon() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 6\nstop_command = echo %IP% >> @/out";
    for wait in [0.0, 0.5] {
        let mut first = world.knockd(doors).start();
        world.send([tcp(1)]);
        first.wait_for("running command: true");
        assert!(holds_within(seconds(30.0), || first.heir().is_some()), "no heir");
        let heir = first.heir().unwrap();
        first.kill(Signal::SIGKILL);
        first.wait();
        pause(wait);
        let path = first.folder.path().display().to_string();
        let text = std::fs::read_to_string(&first.config).unwrap();
        let mut second =
            world.knockd("").file(&text).arguments(&["-p", &format!("{path}/pid"), "-v"]).start();
        assert!(holds_within(seconds(30.0), || !process::alive(heir)), "it stays");
        assert!(!second.stderr().contains("another daemon has it"), "{}", second.said());
        assert_eq!(second.stop(), Some(0));
        assert_eq!(first.read("out"), "10.77.0.2\n", "{}", second.said());
    }
}

/// The next daemon could not tell whether a command that ended meanwhile had been run, and would run it again.
fn an_heir_that_leaves_waits_for_running_commands() {
    let world = World::new();
    // The stop command does to the lock what a daemon that starts does: it tells the heir to leave.
    let doors = "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 10\n\
                 stop_command = touch @/state.lock; sleep 0.01; echo %IP% >> @/out";
    let mut first = world.knockd(doors).options("statefile = @/state").start();
    world.send([tcp(1)]);
    first.wait_for("running command: true");
    assert!(holds_within(seconds(30.0), || first.heir().is_some()), "no heir");
    let heir = first.heir().unwrap();
    first.kill(Signal::SIGKILL);
    first.wait();
    assert!(holds_within(seconds(30.0), || !process::alive(heir)), "it stays");
    first.wait_for_file("out", "10.77.0.2\n");
    let text = std::fs::read_to_string(&first.config).unwrap();
    let pid_file = first.folder.join("pid").display().to_string();
    let mut second = world.knockd("").file(&text).arguments(&["-p", &pid_file, "-v"]).start();
    assert_eq!(second.stop(), Some(0));
    assert_eq!(first.read("out"), "10.77.0.2\n", "{}", second.said());
}

/// Where the kernel has no inotify instance for it, it is not told of a daemon that starts, and waits for the time of its
/// doors alone.
fn an_heir_without_inotify_sleeps() {
    let folder = Folder::new();
    let place = folder.path().display();
    let config = folder.write(
        "conf",
        format!(
            "[options]\nlogfile = {place}/log\nstatefile = {place}/state\n\
             [d]\nsequence = 1\nstart_command = true\ncmd_timeout = 600\nstop_command = echo %IP% >> {place}/out"
        ),
    );
    let script = "echo 0 > /proc/sys/user/max_inotify_instances && ip link set lo up && exec \"$@\"";
    let mut daemon = Command::new("unshare");
    daemon.args(["--user", "--map-root-user", "--net", "sh", "-c", script, "sh"]);
    daemon.arg(program()).args(["-i", "lo", "-c"]).arg(config).stdout(Stdio::null());
    let mut daemon = daemon.spawn().expect("unshare");
    let pid = daemon.id().cast_signed();
    let logged = |text: &str| holds_within(seconds(30.0), || folder.read("log").contains(text));
    assert!(logged("listening on lo"), "{}", folder.read("log"));
    let target = pid.to_string();
    let words =
        ["--preserve-credentials", "--user", "--net", "--target", &target, env!("CARGO_BIN_EXE_knock")];
    let knock = Command::new("nsenter").args(words).args(["127.0.0.1", "1"]).status();
    assert!(knock.expect("nsenter").success());
    assert!(logged("running command: true"), "{}", folder.read("log"));
    let find_heir = || {
        let name = |pid| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        process::descendants(pid).into_iter().find(|it| name(it.pid).starts_with(b"knockd: heir"))
    };
    assert!(holds_within(seconds(30.0), || find_heir().is_some()), "no heir");
    let heir = find_heir().unwrap().pid;
    process::end(pid);
    daemon.wait().expect("waiting for the daemon");
    // It has read what it inherits once it holds the lock.
    let has_lock = || folder.read("state.lock").starts_with("leaving");
    assert!(holds_within(seconds(30.0), has_lock), "{}", folder.read("log"));
    // One that runs all the time is never seen asleep twenty times in a row, however busy the machine is.
    let sleeps = || {
        pause(0.01);
        let stat = std::fs::read_to_string(format!("/proc/{heir}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
    };
    let sleeps_on = || (0..20).all(|_| sleeps());
    let it_sleeps = holds_within(seconds(30.0), sleeps_on);
    process::signal(heir, Signal::SIGTERM);
    let is_closed = || folder.read("out") == "127.0.0.1\n" && !process::alive(heir);
    assert!(holds_within(seconds(30.0), is_closed), "{}", folder.read("log"));
    assert!(it_sleeps, "it does not sleep while it waits");
}
