//! What runs when a door opens, and what closes it again.

use crate::support::daemon::RunningDaemon;
use crate::support::packet::{CLIENT, CLIENT6, tcp};
use crate::support::process;
use crate::support::world::World;
use crate::support::{holds_within, pause, seconds};
use crate::wire::attempts::opened;

trials![
    every_ip_is_replaced,
    the_shell_runs_it,
    commands_have_a_session_of_their_own,
    output_goes_where_the_daemons_goes,
    a_nonzero_exit_is_logged,
    an_end_by_signal_is_logged_as_zero,
    a_command_that_a_real_time_signal_ends_has_ended,
    a_start_that_cannot_be_started_has_no_stop,
    an_empty_command_is_no_command,
    without_a_start_command_there_is_no_stop,
    ipv6_knockers_have_their_own_command,
    ipv6_knockers_get_the_plain_command_otherwise,
    an_empty_ipv6_command_is_no_command,
    ipv6_doors_are_closed_by_their_own_command,
    the_stop_command_follows_in_time,
    the_stop_time_begins_when_the_start_command_ended,
    the_stop_time_is_ten_seconds_by_default,
    the_stop_command_does_not_ask_how_the_start_ended,
    an_empty_stop_command_is_still_announced,
    a_failing_stop_command_is_logged,
    too_long_a_command_is_not_run,
    without_any_log_too_long_a_command_is_told,
    too_long_a_stop_command_prevents_the_start,
    running_commands_block_nobody,
    each_knocker_has_a_stop_of_his_own,
    commands_leave_no_zombies,
    a_hundred_open_doors_are_one_process,
    commands_inherit_nothing,
    the_watcher_is_no_single_point_of_failure,
    commands_get_the_limits_that_the_daemon_was_started_with,
];

fn every_ip_is_replaced() {
    let world = World::new();
    let daemon =
        world.knockd("[d]\nsequence = 1\ncommand = echo '%IP%,%IP%:%ip% %IP x%IP%x' >> @/out").start();
    world.send([tcp(1)]);
    daemon.wait_for_file("out", "10.77.0.2,10.77.0.2:%ip% %IP x10.77.0.2x\n");
    let folder = daemon.folder.path().display().to_string();
    let command = format!("echo '10.77.0.2,10.77.0.2:%ip% %IP x10.77.0.2x' >> {folder}/out");
    daemon.expect(&format!("{}d: running command: {command}", opened("d", CLIENT, 1)));
}

fn the_shell_runs_it() {
    let world = World::new();
    let command = "X=\"a  b\"; echo \"$X\" | tr a-z A-Z > @/out && echo ok >> @/out";
    let daemon = world.knockd(&format!("[d]\nsequence = 1\ncommand = {command}")).start();
    world.send([tcp(1)]);
    daemon.wait_for_file("out", "A  B\nok\n");
}

/// A signal to the daemon's group does not reach them.
fn commands_have_a_session_of_their_own() {
    let world = World::new();
    let daemon = world
        .knockd("[d]\nsequence = 1\ncommand = echo $$ > @/pid.new; mv @/pid.new @/out; sleep 30")
        .start();
    world.send([tcp(1)]);
    assert!(holds_within(seconds(30.0), || daemon.read("out").ends_with('\n')));
    let shell = process::find(daemon.read("out").trim().parse().unwrap()).unwrap();
    let sessions: Vec<i32> = [daemon.pid, shell.parent].map(|pid| process::find(pid).unwrap().session).into();
    assert!(!sessions.contains(&shell.session), "{shell:?} {sessions:?}");
}

fn output_goes_where_the_daemons_goes() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1\ncommand = echo to-out; echo to-err >&2").start();
    world.send([tcp(1)]);
    daemon.wait_for_file("stdout", "to-out\n");
    daemon.wait_for_file("stderr", "to-err\n");
}

fn a_nonzero_exit_is_logged() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1\ncommand = exit 3").start();
    world.send([tcp(1)]);
    let says = "d: command returned non-zero status code (3)\n";
    daemon.wait_for(says.trim());
    daemon.expect(&format!("{}d: running command: exit 3\n{says}", opened("d", CLIENT, 1)));
    daemon.wait_for_file("stderr", says);
}

fn an_end_by_signal_is_logged_as_zero() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1\ncommand = kill -9 $$").start();
    world.send([tcp(1)]);
    daemon.wait_for("d: command returned non-zero status code (0)");
}

fn a_command_that_a_real_time_signal_ends_has_ended() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\nstart_command = kill -40 $$\ncmd_timeout = 1\nstop_command = echo %IP% >> @/out; kill -50 $$";
    let mut daemon = world.knockd(doors).start();
    world.send([tcp(1)]);
    daemon.wait_for_file("out", "10.77.0.2\n");
    daemon.wait_for_times(2, "d: command returned non-zero status code (0)");
    // Nothing is left to wait for.
    assert_eq!(daemon.stop(), Some(0));
}

/// It opened nothing. The shell cannot be run where there is none.
fn a_start_that_cannot_be_started_has_no_stop() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 0\nstop_command = echo %IP% >> @/out";
    let daemon = world.knockd(doors);
    let nowhere = daemon.folder().join("no-shell");
    let mut daemon = daemon.replacing("/bin", "sh", &nowhere).start();
    world.send([tcp(1)]);
    daemon.wait_for("d: could not run the command: No such file or directory");
    daemon.sync();
    assert!(!daemon.raw_log().contains("command timeout"), "{}", daemon.said());
    assert_eq!(daemon.stop(), Some(0));
    assert!(!daemon.raw_log().contains("command timeout"), "{}", daemon.said());
}

fn an_empty_command_is_no_command() {
    let world = World::new();
    let daemon =
        world.knockd("[d]\nsequence = 1\ncommand =\ncmd_timeout = 0\nstop_command = touch @/out").start();
    world.send([tcp(1)]);
    pause(0.4);
    daemon.expect(&opened("d", CLIENT, 1));
    assert!(!daemon.folder.join("out").exists());
}

fn without_a_start_command_there_is_no_stop() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1\ncmd_timeout = 0\nstop_command = touch @/out").start();
    world.send([tcp(1)]);
    pause(0.4);
    daemon.expect(&opened("d", CLIENT, 1));
    assert!(!daemon.folder.join("out").exists());
}

fn ipv6_knockers_have_their_own_command() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\ncommand = echo four %IP% >> @/out\ncommand_6 = echo six %IP% >> @/out";
    let daemon = world.knockd(doors).start();
    world.send([tcp(1)]);
    daemon.wait_for_file("out", "four 10.77.0.2\n");
    world.send([tcp(1).v6()]);
    daemon.wait_for_file("out", "four 10.77.0.2\nsix fd77::2\n");
}

fn ipv6_knockers_get_the_plain_command_otherwise() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1\ncommand = echo %IP% >> @/out").start();
    world.send([tcp(1).v6()]);
    daemon.wait_for_file("out", "fd77::2\n");
}

fn an_empty_ipv6_command_is_no_command() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\ncommand = echo %IP% >> @/out\ncommand_6 =\ncmd_timeout = 0\nstop_command = touch @/out";
    let daemon = world.knockd(doors).start();
    world.send([tcp(1).v6()]);
    pause(0.4);
    daemon.expect(&opened("d", CLIENT6, 1));
    assert!(!daemon.folder.join("out").exists());
}

fn ipv6_doors_are_closed_by_their_own_command() {
    let world = World::new();
    let doors = "[a]\nsequence = 1\nstart_command = true\nstart_command_6 = echo s6 >> @/a\ncmd_timeout = 1
                 stop_command = echo e4 >> @/a\nstop_command_6 = echo e6 %IP% >> @/a
                 [b]\nsequence = 2\nstart_command_6 = true\ncmd_timeout = 1\nstop_command = echo fb %IP% >> @/b";
    let daemon = world.knockd(doors).start();
    world.send([tcp(1).v6(), tcp(2).v6()]);
    daemon.wait_for_file("a", "s6\ne6 fd77::2\n");
    daemon.wait_for_file("b", "fb fd77::2\n");
    // The door without a plain start command does not open its stop for IPv4 either.
    world.send([tcp(2)]);
    pause(1.3);
    assert_eq!(daemon.read("b"), "fb fd77::2\n");
}

/// A door whose commands write their time down.
fn timed(start: &str, timeout: &str) -> String {
    format!(
        "[d]\nsequence = 1\nstart_command = date +%s.%N > @/a; {start}\n{timeout}
         stop_command = date +%s.%N > @/new; mv @/new @/b"
    )
}

/// The seconds between the start and the stop command of `timed`.
fn time_between(daemon: &RunningDaemon, limit: f64) -> f64 {
    assert!(holds_within(seconds(limit), || !daemon.read("b").is_empty()), "{}", daemon.said());
    let time = |name| daemon.read(name).trim().parse::<f64>().unwrap();
    time("b") - time("a")
}

fn the_stop_command_follows_in_time() {
    let world = World::new();
    let daemon = world.knockd(&timed("true", "cmd_timeout = 2")).start();
    world.send([tcp(1)]);
    let between = time_between(&daemon, 5.0);
    assert!((1.95..2.6).contains(&between), "{between} s");
    let folder = daemon.folder.path().display().to_string();
    daemon.expect(
        &format!(
            "{}d: running command: date +%s.%N > @/a; true
             10.77.0.2: d: command timeout
             d: running command: date +%s.%N > @/new; mv @/new @/b",
            opened("d", CLIENT, 1)
        )
        .replace('@', &folder),
    );
}

fn the_stop_time_begins_when_the_start_command_ended() {
    let world = World::new();
    let daemon = world.knockd(&timed("sleep 1.2", "cmd_timeout = 1")).start();
    world.send([tcp(1)]);
    let between = time_between(&daemon, 5.0);
    assert!((2.15..2.8).contains(&between), "{between} s");
}

fn the_stop_time_is_ten_seconds_by_default() {
    let world = World::new();
    let daemon = world.knockd(&timed("true", "")).start();
    world.send([tcp(1)]);
    let between = time_between(&daemon, 13.0);
    assert!((9.9..10.7).contains(&between), "{between} s");
}

fn the_stop_command_does_not_ask_how_the_start_ended() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\nstart_command = exit 7\ncmd_timeout = 0\nstop_command = touch @/out";
    let daemon = world.knockd(doors).start();
    world.send([tcp(1)]);
    assert!(holds_within(seconds(30.0), || daemon.folder.join("out").exists()), "{}", daemon.said());
    daemon.wait_for("d: command returned non-zero status code (7)");
}

fn an_empty_stop_command_is_still_announced() {
    let world = World::new();
    let daemon =
        world.knockd("[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 0\nstop_command =").start();
    world.send([tcp(1)]);
    daemon.wait_for("10.77.0.2: d: command timeout");
}

fn a_failing_stop_command_is_logged() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 0\nstop_command = exit 4";
    let daemon = world.knockd(doors).start();
    world.send([tcp(1)]);
    daemon.wait_for("d: command returned non-zero status code (4)");
}

/// The line in the file is short; what `%IP%` stands for makes it long. 4095 bytes are the limit.
fn too_long_a_command_is_not_run() {
    let world = World::new();
    for (length, runs) in [(4095, true), (4096, false)] {
        let door = world.knockd("");
        let head = format!("touch {}/out; : {}", door.folder().path().display(), "%IP%".repeat(300));
        let substituted = head.len() + 300 * (CLIENT.len() - "%IP%".len());
        let command = format!("{head}{}", "x".repeat(length - substituted));
        let daemon = door.sections(&format!("[d]\nsequence = 1\ncommand = {command}")).start();
        world.send([tcp(1)]);
        daemon.sync();
        assert_eq!(holds_within(seconds(1.0), || daemon.folder.join("out").exists()), runs, "{length} bytes");
        let refusal = "error: parsed start command has been truncated! --> won't execute it";
        assert_eq!(daemon.lines().contains(&refusal.to_owned()), !runs, "{}", daemon.said());
    }
}

/// The one place left to say it.
fn without_any_log_too_long_a_command_is_told() {
    let world = World::new();
    let long = "%IP%".repeat(1000);
    let daemon = world.knockd(&format!("[d]\nsequence = 1\ncommand = : {long}"));
    let daemon = daemon.without_log().without_sync().launch();
    let says = "error: parsed start command has been truncated! --> won't execute it\n";
    let is_told = || {
        // Nothing says when it listens.
        world.send([tcp(1)]);
        daemon.stderr().starts_with(says)
    };
    assert!(holds_within(seconds(30.0), is_told), "{}", daemon.said());
}

fn too_long_a_stop_command_prevents_the_start() {
    let world = World::new();
    let long = "%IP%".repeat(500);
    let doors =
        format!("[d]\nsequence = 1\nstart_command = touch @/out\ncmd_timeout = 0\nstop_command = : {long}");
    let daemon = world.knockd(&doors).start();
    world.send([tcp(1)]);
    let refusal = "error: parsed stop command has been truncated! --> won't execute start command";
    daemon.wait_for(refusal);
    pause(0.3);
    assert!(!daemon.folder.join("out").exists());
    daemon.expect(&format!("{}{refusal}", opened("d", CLIENT, 1)));
}

fn running_commands_block_nobody() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1,2\ncommand = echo %IP% >> @/out; sleep 30").start();
    for source in [CLIENT, "10.77.0.12", CLIENT] {
        world.send([1, 2].map(|port| tcp(port).from(source)));
    }
    let ran = || daemon.read("out").lines().count();
    assert!(holds_within(seconds(30.0), || ran() == 3), "{}", daemon.said());
}

/// Each in its own time, also for one who opened the door twice.
fn each_knocker_has_a_stop_of_his_own() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 1\nstop_command = echo %IP% >> @/out";
    let daemon = world.knockd(doors).start();
    world.send([tcp(1)]);
    pause(0.3);
    world.send([tcp(1).from("10.77.0.12"), tcp(1)]);
    daemon.wait_for_times(3, "command timeout");
    pause(0.2);
    let mut closed: Vec<_> = daemon.read("out").lines().map(str::to_owned).collect();
    assert_eq!(closed[0], CLIENT);
    closed.sort();
    assert_eq!(closed, ["10.77.0.12", CLIENT, CLIENT]);
}

fn commands_leave_no_zombies() {
    let world = World::new();
    let doors =
        "[d]\nsequence = 1\nopen_rate = 0\nstart_command = true\ncmd_timeout = 0\nstop_command = true";
    let daemon = world.knockd(doors).start();
    world.send([1; 20].map(tcp));
    daemon.wait_for_times(20, "command timeout");
    let left = || daemon.descendants();
    let few = holds_within(seconds(30.0), || left().iter().all(|p| p.state != 'Z') && left().len() <= 2);
    assert!(few, "{:?}", left());
}

/// The original keeps a sleeping process for each open door.
fn a_hundred_open_doors_are_one_process() {
    let world = World::new();
    let doors = "[d]\nsequence = 1,2\nstart_command = true\ncmd_timeout = 60\nstop_command = true";
    let daemon = world.knockd(doors).start();
    world.send((1..=100).flat_map(|n| [1, 2].map(|port| tcp(port).from(&format!("10.77.1.{n}")))));
    daemon.wait_for_times(100, "running command: true");
    let few = holds_within(seconds(30.0), || daemon.descendants().len() <= 2);
    assert!(few, "{:?}", daemon.descendants());
}

/// Neither the packet socket nor any other descriptor of the daemon, nor its signal mask; its input is empty.
fn commands_inherit_nothing() {
    let world = World::new();
    let signals = "grep -E 'Sig(Blk|Ign)' /proc/self/status";
    let command = format!("(ls -l /proc/self/fd | grep -c socket; {signals}; cat) > @/new; mv @/new @/out");
    let daemon = world.knockd(&format!("[d]\nsequence = 1\ncommand = {command}")).start();
    world.send([tcp(1)]);
    assert!(holds_within(seconds(30.0), || !daemon.read("out").is_empty()), "{}", daemon.said());
    let ours = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = ours.lines().find(|line| line.starts_with("SigIgn")).unwrap();
    // Not SIGPIPE, which our own runtime ignores, nor what the daemon itself listens for (SIGHUP, SIGINT,
    // SIGTERM, SIGCHLD, SIGXFSZ), should we have been started with it ignored, as nohup(1) does; and the two
    // signals that glibc keeps for itself.
    let reset = [1, 2, 13, 15, 17, 25].iter().fold(0, |all, signal| all | 1 << (signal - 1));
    let ignored = u64::from_str_radix(ignored.split_whitespace().nth(1).unwrap(), 16).unwrap();
    let ignored = ignored & !reset | 3 << 31;
    assert_eq!(daemon.read("out"), format!("0\nSigBlk:\t{:016x}\nSigIgn:\t{ignored:016x}\n", 0));
}

/// Without it the daemon makes another one; it does not end, and doors go on opening.
fn the_watcher_is_no_single_point_of_failure() {
    let world = World::new();
    let mut daemon = world.knockd("[d]\nsequence = 1\ncommand = echo %IP% >> @/out").start();
    world.send([tcp(1)]);
    daemon.wait_for_file("out", "10.77.0.2\n");
    for source in ["10.77.0.12", "10.77.0.13"] {
        let before = daemon.read("out");
        daemon.replace_watcher();
        assert!(daemon.runs(), "{}", daemon.said());
        world.send([tcp(1).from(source)]);
        daemon.wait_for_file("out", &format!("{before}{source}\n"));
    }
    assert_eq!(daemon.stop(), Some(0));
}

/// Whatever somebody made of the daemon's own limits since.
fn commands_get_the_limits_that_the_daemon_was_started_with() {
    let world = World::new();
    let command = "ulimit -n > @/new; mv @/new @/out";
    let knockd = world.knockd(&format!("[d]\nsequence = 1\ncommand = {command}"));
    let daemon = knockd.through(&["prlimit", "--nofile=777:4096"]).start();
    let words = [format!("--pid={}", daemon.pid), "--nofile=64:4096".to_owned()];
    assert!(std::process::Command::new("prlimit").args(words).status().unwrap().success());
    world.send([tcp(1)]);
    daemon.wait_for_file("out", "777\n");
    // The command may be done before the daemon has its own again.
    let own = || {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid)).unwrap_or_default();
        let line =
            limits.lines().find(|line| line.starts_with("Max open files")).unwrap_or_default().to_owned();
        line.split_whitespace().nth(3).map(str::to_owned)
    };
    assert!(holds_within(seconds(30.0), || own().as_deref() == Some("64")), "{:?}", own());
}
