//! SIGHUP, SIGTERM and SIGINT.

use std::fs;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::support::daemon::{RunningDaemon, lines_of};
use crate::support::packet::{CLIENT, tcp};
use crate::support::process;
use crate::support::world::{SERVER_LINK, World};
use crate::support::{holds_within, pause, seconds};
use crate::wire::attempts::{DOOR, KNOCKS, opened};

trials![
    hup_reads_the_file_again,
    hup_drops_attempts,
    hup_reopens_the_log,
    hup_in_the_words_of_verbose,
    hup_in_the_words_of_debug,
    hup_takes_a_new_log_file,
    hup_keeps_what_the_file_does_not_name,
    hup_reads_the_addresses_again,
    hup_leaves_open_doors_to_their_old_stop,
    a_broken_file_changes_nothing,
    a_missing_file_changes_nothing,
    many_hups_in_a_row,
    a_signal_to_all_processes_is_for_the_main_one,
    usr1_and_usr2_end_no_process,
    hup_with_a_broken_file_reopens_the_log,
    hup_without_a_log_file,
    term_ends_it,
    int_ends_it,
    term_gives_stops_their_own_time_if_that_is_soon,
    term_closes_at_once_what_is_open_for_long,
    a_second_term_closes_at_once,
    term_does_not_wait_for_a_watcher_that_is_halted,
    term_ends_a_start_that_waits,
    term_closes_what_is_still_opening,
    term_stops_listening_at_once,
    term_to_the_whole_group_closes_too,
    term_to_a_last_command_runs_it_again,
    the_end_waits_for_stop_commands,
    the_end_waits_for_commands_that_run,
    the_end_does_not_wait_for_ever,
    the_end_waits_five_seconds_for_a_start_command,
];

/// Sends SIGHUP and waits until the new file is in force.
#[track_caller]
fn reload(daemon: &RunningDaemon) {
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("re-reading config file");
    // In force: nothing says so in the log, and both processes read.
    pause(0.5);
}

fn edit(daemon: &RunningDaemon, old: &str, new: &str) {
    let text = fs::read_to_string(&daemon.config).unwrap();
    assert!(text.contains(old), "{text}");
    fs::write(&daemon.config, text.replace(old, new)).unwrap();
}

fn rereading(daemon: &RunningDaemon) -> String {
    format!("re-reading config file: {}\n", daemon.config.display())
}

fn hup_reads_the_file_again() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}command = echo old >> @/out")).start();
    edit(
        &daemon,
        "[d]\nsequence = 1000,2000,3000\ncommand = echo old",
        "[n]\nsequence = 4000,5000\ncommand = echo new",
    );
    reload(&daemon);
    world.send(KNOCKS.map(tcp));
    world.send([4000, 5000].map(tcp));
    daemon.wait_for_file("out", "new\n");
    let ran = format!("n: running command: echo new >> {}/out", daemon.folder.path().display());
    daemon.expect(&format!("{}{}{ran}", rereading(&daemon), opened("n", CLIENT, 2)));
}

fn hup_drops_attempts() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([tcp(1000)]);
    daemon.wait_for("Stage 1");
    reload(&daemon);
    world.send([2000, 3000].map(tcp));
    daemon.sync();
    world.send(KNOCKS.map(tcp));
    daemon.expect(&format!("{CLIENT}: d: Stage 1\n{}{}", rereading(&daemon), opened("d", CLIENT, 3)));
}

/// As logrotate does it: the old file has been renamed.
fn hup_reopens_the_log() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}command = true")).start();
    let old = daemon.folder.join("knockd.log.1");
    fs::rename(&daemon.log, &old).unwrap();
    world.send([tcp(1000)]);
    assert!(holds_within(seconds(30.0), || !lines_of(&old).is_empty()), "nothing in the renamed log");
    daemon.kill(Signal::SIGHUP);
    assert!(holds_within(seconds(30.0), || daemon.log.exists()), "no new log");
    pause(0.3);
    world.send(KNOCKS.map(tcp));
    // Lines of both processes.
    daemon.wait_for("running command");
    daemon.expect(&format!("{}d: running command: true", opened("d", CLIENT, 3)));
    assert_eq!(lines_of(&old).join("\n") + "\n", format!("{CLIENT}: d: Stage 1\n{}", rereading(&daemon)));
}

fn hup_in_the_words_of_verbose() {
    let world = World::new();
    let daemon = world.knockd(DOOR).arguments(&["-v"]).start();
    daemon.kill(Signal::SIGHUP);
    let log = daemon.log.display();
    let wanted = format!(
        "listening on knk0...\n{}closing log file: {log}\nre-opening log file: {log}\n",
        rereading(&daemon)
    );
    let is_said = || daemon.stdout_but_for_confinement() == wanted;
    assert!(holds_within(seconds(30.0), is_said), "not {wanted:?}; {}", daemon.said());
}

/// The order of knockd 0.8.
fn hup_in_the_words_of_debug() {
    let world = World::v4_only();
    let daemon = world.knockd(DOOR).arguments(&["-v", "-D"]).start();
    daemon.kill(Signal::SIGHUP);
    let said = || {
        let stdout = daemon.stdout();
        let begin = stdout.rfind(&rereading(&daemon)).unwrap_or_default();
        let lines =
            stdout[begin..].lines().map(|line| line.split(": ").next().unwrap_or_default().to_owned());
        lines.filter(|line| line != "config").collect::<Vec<_>>()
    };
    let wanted = [
        "re-reading config file",
        "closing log file",
        "re-opening log file",
        "adding pcap expression for door 'd'",
        "adding pcap expression for door 'sync'",
    ];
    assert!(holds_within(seconds(30.0), || said() == wanted), "{:?}; {}", said(), daemon.said());
}

fn hup_takes_a_new_log_file() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}command = true")).start();
    edit(&daemon, "/knockd.log", "/other.log");
    reload(&daemon);
    world.send(KNOCKS.map(tcp));
    let other = daemon.folder.join("other.log");
    let wanted = format!("{}d: running command: true", opened("d", CLIENT, 3));
    assert!(holds_within(seconds(30.0), || lines_of(&other).join("\n") == wanted), "{:?}", lines_of(&other));
    daemon.expect_log(&rereading(&daemon));
}

fn hup_keeps_what_the_file_does_not_name() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    let log = format!("logfile = {}\n", daemon.log.display());
    edit(&daemon, &log, "");
    reload(&daemon);
    world.send(KNOCKS.map(tcp));
    daemon.expect(&format!("{}{}", rereading(&daemon), opened("d", CLIENT, 3)));
}

/// In the original an address that comes later is never known.
fn hup_reads_the_addresses_again() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.server.add_address(SERVER_LINK, "10.77.0.3/24");
    world.server.add_address(SERVER_LINK, "fd77::3/64");
    reload(&daemon);
    world.send(KNOCKS.map(|port| tcp(port).to("10.77.0.3")));
    world.send(KNOCKS.map(|port| tcp(port).v6().to("fd77::3")));
    daemon.expect(&format!("{}{}{}", rereading(&daemon), opened("d", CLIENT, 3), opened("d", "fd77::2", 3)));
}

/// Also when the door is not in the file any more.
fn hup_leaves_open_doors_to_their_old_stop() {
    let world = World::new();
    let doors =
        "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 2\nstop_command = echo old %IP% > @/out";
    let daemon = world.knockd(doors).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command: true");
    edit(&daemon, "[d]\nsequence = 1\n", "[e]\nsequence = 2\n");
    edit(&daemon, "echo old", "echo new");
    reload(&daemon);
    daemon.wait_for_file("out", "old 10.77.0.2\n");
    daemon.wait_for("10.77.0.2: d: command timeout");
}

/// The original ends, and nobody gets in to mend the file.
fn a_broken_file_changes_nothing() {
    let world = World::new();
    let mut daemon = world.knockd(&format!("{DOOR}command = true")).start();
    let good = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, "[new]\nsequence = 7\nbogus\n").unwrap();
    daemon.kill(Signal::SIGHUP);
    let says = "config: line 3: syntax error";
    daemon.wait_for(says);
    assert!(holds_within(seconds(30.0), || daemon.stderr().contains(says)), "{}", daemon.said());
    pause(0.3);
    world.send([tcp(7)]);
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("d: running command: true");
    assert!(!daemon.raw_log().contains("new:"), "{}", daemon.said());
    // And the mended file counts again.
    fs::write(&daemon.config, good.replace("[d]", "[mended]")).unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for_times(2, "re-reading config file");
    pause(0.5);
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("mended: running command: true");
    assert_eq!(daemon.stop(), Some(0));
}

fn a_missing_file_changes_nothing() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    fs::remove_file(&daemon.config).unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for(&format!("{}: No such file or directory", daemon.config.display()));
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("d: OPEN SESAME");
}

fn many_hups_in_a_row() {
    let world = World::new();
    let mut daemon = world.knockd(&format!("{DOOR}command = echo x >> @/out")).start();
    for _ in 0..100 {
        daemon.kill(Signal::SIGHUP);
        world.send([tcp(1000).from("10.77.0.12")]);
    }
    pause(1.0);
    daemon.sync();
    world.send(KNOCKS.map(tcp));
    daemon.wait_for_file("out", "x\n");
    assert_eq!(daemon.stop(), Some(0));
}

/// `killall -HUP knockd`, and what else somebody may send to all that has this name.
fn a_signal_to_all_processes_is_for_the_main_one() {
    let world = World::new();
    let mut daemon = world.knockd(&format!("{DOOR}command = echo x >> @/out")).arguments(&["-l"]).start();
    let family = daemon.descendants();
    assert_eq!(family.len(), 2, "a watcher and a resolver");
    // Not in the milliseconds in which they begin.
    let blocks = |pid: i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status
            .lines()
            .any(|line| line.strip_prefix("SigBlk:").is_some_and(|set| set.trim() != "0000000000000000"))
    };
    assert!(
        holds_within(seconds(30.0), || family.iter().all(|process| blocks(process.pid))),
        "nobody is deaf"
    );
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2] {
        for process in &family {
            process::signal(process.pid, signal);
        }
    }
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("re-reading config file");
    daemon.sync();
    world.send(KNOCKS.map(tcp));
    daemon.wait_for_file("out", "x\n");
    assert!(family.iter().all(|process| process::alive(process.pid)), "{}", daemon.said());
    assert!(!daemon.raw_log().contains("unexpectedly"), "{}", daemon.said());
    assert_eq!(daemon.stop(), Some(0));
}

/// As logrotate does it, and the file is broken: the log is another one all the same, for all lines.
/// Their default action is to end the process. What we run has that default again.
fn usr1_and_usr2_end_no_process() {
    let world = World::new();
    let mut daemon = world.knockd(&format!("{DOOR}command = kill -USR2 $$; echo survived > @/out")).start();
    let watcher = daemon.watcher().expect("a watcher");
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2] {
        for pid in [daemon.pid, watcher] {
            assert!(process::signal(pid, signal));
        }
    }
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("command returned non-zero status code (0)");
    assert_eq!(daemon.read("out"), "");
    assert_eq!((daemon.runs(), daemon.watcher()), (true, Some(watcher)));
    assert_eq!(daemon.stop(), Some(0));
}

fn hup_with_a_broken_file_reopens_the_log() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}command = true")).start();
    let text = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, text + "nonsense\n").unwrap();
    let old = daemon.folder.join("knockd.log.1");
    fs::rename(&daemon.log, &old).unwrap();
    daemon.kill(Signal::SIGHUP);
    assert!(holds_within(seconds(30.0), || daemon.log.exists()), "no new log");
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("running command");
    assert_eq!(daemon.lines().join("\n"), format!("{}d: running command: true", opened("d", CLIENT, 3)));
    assert!(!lines_of(&old).iter().any(|line| line.contains("Stage")), "{:?}", lines_of(&old));
}

fn hup_without_a_log_file() {
    let world = World::new();
    let mut daemon = world.knockd(DOOR).without_log().arguments(&["-v"]).start();
    daemon.kill(Signal::SIGHUP);
    assert!(
        holds_within(seconds(30.0), || daemon.stdout().contains("re-reading config file")),
        "{}",
        daemon.said()
    );
    pause(0.5);
    world.send(KNOCKS.map(tcp));
    assert!(holds_within(seconds(30.0), || daemon.stdout().contains("OPEN SESAME")), "{}", daemon.said());
    assert_eq!(daemon.stop(), Some(0));
}

fn term_ends_it() {
    let world = World::new();
    let mut daemon = world.knockd(DOOR).start();
    let family = daemon.descendants();
    assert_eq!(daemon.stop(), Some(0));
    daemon.expect_log("shutting down");
    assert_eq!(daemon.stderr(), "");
    let gone = holds_within(seconds(30.0), || family.iter().all(|process| !process::alive(process.pid)));
    assert!(gone, "{family:?}");
}

fn int_ends_it() {
    let world = World::new();
    let mut daemon = world.knockd(DOOR).start();
    daemon.kill(Signal::SIGINT);
    assert_eq!(daemon.wait(), Some(0));
    daemon.expect_log("shutting down");
}

/// A door that opens at once and closes after `timeout` seconds.
fn open_for(timeout: u32) -> String {
    format!(
        "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = {timeout}\nstop_command = echo %IP% >> @/out"
    )
}

/// Opens the door for three, ends the daemon by `end`, and says how long it took.
#[track_caller]
fn end_with_open_doors(world: &World, daemon: &mut RunningDaemon, end: impl Fn(&RunningDaemon)) -> f64 {
    world.send([tcp(1), tcp(1).from("10.77.0.12"), tcp(1).from("10.77.0.13")]);
    daemon.wait_for_times(3, "running command: true");
    pause(0.1);
    let start = Instant::now();
    end(daemon);
    assert_eq!(daemon.wait(), Some(0));
    let took = start.elapsed().as_secs_f64();
    let mut closed: Vec<_> = daemon.read("out").lines().map(str::to_owned).collect();
    closed.sort();
    assert_eq!(closed, ["10.77.0.12", "10.77.0.13", CLIENT], "{}", daemon.said());
    let lines = daemon.lines();
    assert_eq!(lines.iter().filter(|line| *line == "shutting down").count(), 1, "{lines:?}");
    assert_eq!(lines.last().unwrap(), "shutting down");
    took
}

/// A door that closes by itself within the second is left to that.
fn term_gives_stops_their_own_time_if_that_is_soon() {
    let world = World::new();
    let mut daemon = world.knockd(&open_for(2)).start();
    let took = end_with_open_doors(&world, &mut daemon, |daemon| {
        pause(1.3);
        daemon.kill(Signal::SIGTERM);
    });
    assert!((1.4..3.0).contains(&took), "{took} s");
}

/// Init scripts wait for a second, and then start the next one.
fn term_closes_at_once_what_is_open_for_long() {
    for open in [4, 60] {
        let world = World::new();
        let mut daemon = world.knockd(&open_for(open)).start();
        let took = end_with_open_doors(&world, &mut daemon, |daemon| daemon.kill(Signal::SIGTERM));
        assert!(took < 1.0, "{took} s");
    }
}

fn a_second_term_closes_at_once() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\nstart_command = sleep 2; true\ncmd_timeout = 60\nstop_command = echo %IP% >> @/out";
    let mut daemon = world.knockd(doors).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command: sleep");
    let start = Instant::now();
    daemon.kill(Signal::SIGTERM);
    pause(0.5);
    assert!(daemon.read("out").is_empty(), "closed while it opens");
    daemon.kill(Signal::SIGINT);
    assert_eq!(daemon.wait(), Some(0));
    assert!(start.elapsed() < seconds(1.5), "{:?}", start.elapsed());
    assert_eq!(daemon.read("out"), "10.77.0.2\n", "{}", daemon.said());
}

/// Whichever process is halted: the daemon ends, and doors are closed.
fn term_does_not_wait_for_a_watcher_that_is_halted() {
    let world = World::new();
    let mut daemon = world.knockd(&open_for(60)).start();
    let took = end_with_open_doors(&world, &mut daemon, |daemon| {
        assert!(process::signal(daemon.watcher().unwrap(), Signal::SIGSTOP));
        daemon.kill(Signal::SIGTERM);
    });
    assert!(took < 1.5, "{took} s");
}

/// A start waits for its watcher, and for a daemon that leaves; neither comes here.
fn term_ends_a_start_that_waits() {
    let world = World::new();
    let knockd = world.knockd("").options("statefile = @/state");
    let lock = knockd.folder().write("state.lock", "leaving\n");
    let lock = fs::File::open(lock).unwrap();
    lock.lock().unwrap();
    let mut daemon = knockd.launch();
    assert!(holds_within(seconds(30.0), || daemon.watcher().is_some()), "{}", daemon.said());
    assert!(process::signal(daemon.watcher().unwrap(), Signal::SIGSTOP));
    daemon.kill(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.said());
    assert!(!daemon.raw_log().contains("starting up"), "{}", daemon.said());
    assert_eq!(daemon.read("state.lock"), "leaving\n");
}

/// The start command still runs when the signal comes: the door is closed after it.
fn term_closes_what_is_still_opening() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\nstart_command = echo a >> @/out; sleep 1.5; echo b >> @/out
                 cmd_timeout = 0\nstop_command = echo c >> @/out";
    let mut daemon = world.knockd(doors).start();
    world.send([tcp(1)]);
    daemon.wait_for_file("out", "a\n");
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(daemon.read("out"), "a\nb\nc\n");
}

fn term_stops_listening_at_once() {
    let world = World::new();
    let doors = open_for(60).replace("echo %IP%", "sleep 1; echo %IP%");
    let mut daemon = world.knockd(&doors).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command: true");
    daemon.kill(Signal::SIGTERM);
    pause(0.5);
    world.send([tcp(1).from("10.77.0.12")]);
    assert_eq!(daemon.wait(), Some(0));
    assert!(!daemon.raw_log().contains("10.77.0.12"), "{}", daemon.said());
}

/// As systemd does it unless told otherwise. The original's waiting processes then end without closing.
fn term_to_the_whole_group_closes_too() {
    let world = World::new();
    let mut daemon = world.knockd(&open_for(60)).start();
    let took = end_with_open_doors(&world, &mut daemon, |daemon| {
        let family = daemon.descendants();
        daemon.kill(Signal::SIGTERM);
        for process in family {
            process::signal(process.pid, Signal::SIGTERM);
        }
    });
    assert!(took < 1.5, "{took} s");
}

/// systemd signals the processes of a unit until it sees no new one: that hits commands too which the first signal
/// made us start.
fn term_to_a_last_command_runs_it_again() {
    let world = World::new();
    let once = |name: &str| {
        format!("test -e @/{name} && {{ echo again >> @/{name}; exit; }}; echo $$ > @/{name}; exec sleep 100")
    };
    let doors = format!(
        "[options]\non_stop = {}\n[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 60\nstop_command = {}",
        once("last"),
        once("stop")
    );
    let mut daemon = world.knockd(&doors).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command: true");
    daemon.kill(Signal::SIGTERM);
    for name in ["stop", "last"] {
        let pid = || daemon.read(name).trim().parse::<i32>().ok();
        assert!(holds_within(seconds(30.0), || pid().is_some()), "{}", daemon.said());
        assert!(process::signal(pid().unwrap(), Signal::SIGTERM));
        assert!(holds_within(seconds(30.0), || daemon.read(name).contains("again")), "{}", daemon.said());
    }
    assert_eq!(daemon.wait(), Some(0));
}

/// What it started last has ended, or had its time, before the daemon ends.
fn the_end_waits_for_stop_commands() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 0\nstop_command = sleep 1; echo closed > @/out";
    let mut daemon = world.knockd(doors).start();
    world.send([tcp(1)]);
    daemon.wait_for("command timeout");
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(daemon.read("out"), "closed\n");
}

/// Also for one that nothing follows, and its exit code is told.
fn the_end_waits_for_commands_that_run() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\nstart_command = echo $$ > @/out; sleep 1; echo done >> @/out; exit 3";
    let mut daemon = world.knockd(doors).start();
    world.send([tcp(1)]);
    assert!(holds_within(seconds(30.0), || !daemon.read("out").is_empty()), "{}", daemon.said());
    assert_eq!(daemon.stop(), Some(0));
    assert!(daemon.read("out").ends_with("done\n"), "{}", daemon.said());
    let last: Vec<String> = daemon.lines().into_iter().rev().take(2).collect();
    assert_eq!(last, ["shutting down", "d: command returned non-zero status code (3)"]);
}

/// A command that does not end goes on alone.
fn the_end_does_not_wait_for_ever() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 0\nstop_command = echo $$ > @/out; exec sleep 100
                 [e]\nsequence = 2\nstart_command = echo $$ > @/other; exec sleep 100";
    let mut daemon = world.knockd(doors).start();
    world.send([1, 2].map(tcp));
    let pid = |name| daemon.read(name).trim().parse::<i32>().ok();
    assert!(
        holds_within(seconds(30.0), || pid("out").is_some() && pid("other").is_some()),
        "{}",
        daemon.said()
    );
    let commands = [pid("out").unwrap(), pid("other").unwrap()];
    daemon.kill(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(0));
    assert!(commands.iter().all(|pid| process::alive(*pid)), "a command was ended");
}

/// A command that closes nothing has the time that doors have.
fn the_end_waits_five_seconds_for_a_start_command() {
    let world = World::new();
    let mut daemon =
        world.knockd("[e]\nsequence = 2\nstart_command = echo $$ > @/other; exec sleep 100").start();
    world.send([tcp(2)]);
    assert!(holds_within(seconds(30.0), || !daemon.read("other").is_empty()), "{}", daemon.said());
    let began = Instant::now();
    assert_eq!(daemon.stop(), Some(0));
    let took = began.elapsed();
    assert!(took > seconds(4.5) && took < seconds(7.0), "{took:?}");
}
