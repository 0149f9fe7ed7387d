//! Doors close, whatever ends before its time: the state file, and what runs beside doors.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use knocking::door::otp::Otp;
use knocking::door::spa::fields::Fields;
use knocking::door::spa::replay::Used;
use knocking::opening::admission_id::ByAdmission;
use knocking::opening::state::Moment;
use knocking::opening::text::write;
use knocking::opening::{Key, Phase, Stop};
use knocking::time::Now;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::Signal;

use crate::client::otp::not_soon;
use crate::support::daemon::{Knockd, RunningDaemon};
use crate::support::folder::Folder;
use crate::support::packet::{CLIENT, tcp};
use crate::support::process;
use crate::support::world::World;
use crate::support::{holds_within, pause, seconds};
use crate::wire::single_packets::{SPA, asked, sealed, sent};

trials![
    the_state_file_is_beside_the_pid_file,
    the_default_state_outlives_a_reboot,
    what_is_left_beside_the_pid_file_later_is_taken_over,
    a_state_that_cannot_be_locked_is_read,
    without_a_default_folder_the_state_is_beside_the_pid_file,
    a_strangers_folder_has_no_state,
    a_first_start_is_told_and_may_be_distrusted,
    doors_close_in_time_after_all_processes_were_killed,
    a_door_that_nothing_closes_is_not_remembered,
    overdue_doors_close_at_once,
    a_door_that_was_opening_is_closed,
    doors_close_once_after_two_kills_while_a_command_runs,
    the_newest_state_is_never_removed,
    a_stop_command_that_was_cut_off_is_run_again,
    a_stop_command_that_goes_on_is_not_run_again,
    a_start_command_that_goes_on_is_waited_for,
    a_start_command_whose_process_was_not_noted_is_waited_for,
    of_many_stops_at_once_only_those_that_run_are_run_again,
    a_killed_watcher_is_replaced_and_no_door_is_touched,
    commands_have_nothing_of_a_replaced_watcher,
    every_stop_runs_once_however_often_all_is_killed,
    a_second_daemon_keeps_a_state_of_its_own,
    daemons_that_share_a_path_leave_each_other_in_peace,
    a_daemon_takes_over_from_another_that_is_killed,
    without_a_place_for_the_file_it_goes_on,
    a_file_that_others_can_write_is_not_trusted,
    a_new_file_that_others_can_write_costs_nothing_else,
    a_damaged_line_is_reported_and_not_run,
    one_damaged_byte_costs_one_line,
    ten_thousand_bad_lines_are_a_few_lines_in_the_log,
    a_folder_in_its_place_is_told_once,
    an_heir_leaves_its_doors_to_a_daemon_that_starts,
    heirs_of_daemons_that_share_a_path_close_all,
    nothing_is_written_beside_a_device,
    a_lock_of_somebody_else_is_not_another_daemons,
    a_file_of_the_first_version_is_taken_over,
    a_new_state_file_takes_all_along,
    the_state_file_stays_if_the_next_one_cannot_be_had,
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
    // Halted while its heir is killed: as soon as the daemon is gone, its heir would take over the state file.
    daemon.kill(Signal::SIGSTOP);
    let is_halted = || process::find(daemon.pid).is_some_and(|it| it.state == 'T');
    assert!(holds_within(seconds(30.0), is_halted), "the daemon is not halted");
    let (watcher, heir) = (daemon.watcher(), daemon.heir());
    heir.into_iter().for_each(process::end);
    let is_gone = |pid: Option<i32>| pid.is_none_or(|pid| !process::alive(pid));
    assert!(holds_within(seconds(30.0), || is_gone(heir)), "the heir cannot be killed");
    daemon.kill(Signal::SIGKILL);
    daemon.wait();
    assert!(holds_within(seconds(30.0), || is_gone(watcher)), "the watcher outlives the daemon");
}

#[track_caller]
pub fn expect_closed(place: &Folder, wanted: &str) {
    // Commands that run at once end in any order.
    let sorted = |text: &str| -> Vec<String> {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let closed = || sorted(&place.read("out")) == sorted(wanted);
    assert!(holds_within(seconds(30.0), closed), "closed for {:?}", place.read("out"));
    pause(0.4);
    assert_eq!(sorted(&place.read("out")), sorted(wanted), "a stop command ran twice");
}

fn the_state_file_is_beside_the_pid_file() {
    let world = World::new();
    let daemon = world.knockd(&door(60).replace("{}", "@")).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command");
    let path = daemon.folder.join("pid.state");
    assert!(holds_within(seconds(30.0), || path.exists()), "{}", daemon.said());
    for name in ["pid.state", "pid.state.lock"] {
        let mode = fs::metadata(daemon.folder.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// A daemon with the default pid file, in mounts of its own: `place` has its `/run` and its `/var/lib`. What `first`
/// does comes before it.
fn with_defaults<'w>(world: &'w World, place: &Folder, first: &str, doors: &str) -> Knockd<'w> {
    let path = place.path().display();
    for name in ["run", "lib"] {
        let _ = fs::create_dir(place.join(name));
    }
    let mounts = format!(
        "set -e; mount --make-rprivate /; mkdir -p {path}/run/knockd-tests; \
         if [ -d /run/knockd-tests ]; then mount --rbind /run/knockd-tests {path}/run/knockd-tests; fi; \
         mount --rbind {path}/lib /var/lib; {first}; mount --rbind {path}/run /run; exec \"$@\""
    );
    let doors = doors.replace("{}", &path.to_string());
    world
        .knockd(&doors)
        .options("pidfile = /var/run/knockd.pid\nstatussocket = none")
        .through(&["unshare", "--mount", "sh", "-c", &mounts, "sh"])
}

/// A used list stays used, with a state that an earlier version left in `/run`, and after a boot that emptied that.
fn the_default_state_outlives_a_reboot() {
    let (world, place) = (World::new(), Folder::new());
    let words = "default place,3600,20000,off,tcp,tcp,tcp";
    let doors = format!("[d]\notp = {words}\ncommand = echo %IP% >> {{}}/out");
    let otp = Otp::parse(words.as_bytes()).unwrap().unwrap();
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let period = otp.period(unix);
    let knock = |period| {
        let list = otp.list(period, CLIENT.parse().unwrap());
        world.send(list.iter().map(|stage| tcp(stage.port)));
    };
    // As an earlier version had it.
    let beside = |path: &str| format!("statefile = {path}");
    let early = with_defaults(&world, &place, "true", &doors).options(&beside("/run/knockd.pid.state"));
    let mut daemon = early.start();
    knock(period);
    expect_closed(&place, "10.77.0.2\n");
    kill_all(&mut daemon);
    assert!(place.join("run/knockd.pid.state").exists() || place.join("run/knockd.pid.state.new").exists());
    let is_used = |daemon: &RunningDaemon, period| {
        knock(period);
        daemon.sync();
        !daemon.raw_log().contains(": d: OPEN SESAME")
    };
    let mut daemon = with_defaults(&world, &place, "true", &doors).start();
    assert!(is_used(&daemon, period), "{}", daemon.said());
    let names = |folder: &str| -> Vec<String> {
        let names = fs::read_dir(place.join(folder)).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().display().to_string());
        let mut names: Vec<String> = names.filter(|name| name.contains("state")).collect();
        names.sort();
        names
    };
    assert_eq!(names("run"), [""; 0], "{}", daemon.said());
    assert!(names("lib/knockd").contains(&"knockd.state.lock".to_owned()), "{}", daemon.said());
    let mode = fs::metadata(place.join("lib/knockd")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    knock(period + 1);
    expect_closed(&place, "10.77.0.2\n10.77.0.2\n");
    kill_all(&mut daemon);
    fs::remove_dir_all(place.join("run")).unwrap();
    let daemon = with_defaults(&world, &place, "true", &doors).start();
    assert!(is_used(&daemon, period) && is_used(&daemon, period + 1), "{}", daemon.said());
}

/// A daemon of an earlier version still runs, with its state in `/run`, and ends without closing its door.
fn what_is_left_beside_the_pid_file_later_is_taken_over() {
    let (world, place) = (World::new(), Folder::new());
    let early = with_defaults(&world, &place, "true", &door(4)).options("statefile = /run/knockd.pid.state");
    let mut early = early.start();
    let late = with_defaults(&world, &place, "true", "").start();
    world.send([tcp(1)]);
    early.wait_for("running command: true");
    let state = || place.read("run/knockd.pid.state") + &place.read("run/knockd.pid.state.new");
    assert!(holds_within(seconds(30.0), || state().contains(" 10.77.0.2 d ")), "{}", early.said());
    kill_all(&mut early);
    assert!(holds_within(seconds(30.0), || place.read("out") == "10.77.0.2\n"), "{}", late.said());
}

/// As `/run` of a unit may be.
fn a_state_that_cannot_be_locked_is_read() {
    let (world, place) = (World::new(), Folder::new());
    let early = with_defaults(&world, &place, "true", &door(4)).options("statefile = /run/knockd.pid.state");
    let mut early = early.start();
    world.send([tcp(1)]);
    early.wait_for("running command: true");
    let state = || place.read("run/knockd.pid.state") + &place.read("run/knockd.pid.state.new");
    assert!(holds_within(seconds(30.0), || state().contains(" 10.77.0.2 d ")), "{}", early.said());
    kill_all(&mut early);
    // No file, so that nobody can lock it.
    let lock = place.join("run/knockd.pid.state.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let _late = with_defaults(&world, &place, "true", "").start();
    expect_closed(&place, "10.77.0.2\n");
}

/// Nothing is said of it: that is how it always was.
fn without_a_default_folder_the_state_is_beside_the_pid_file() {
    let (world, place) = (World::new(), Folder::new());
    let first = "mount -t tmpfs -o ro none /var/lib";
    let mut daemon = with_defaults(&world, &place, first, &door(2)).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command: true");
    let state = || place.read("run/knockd.pid.state") + &place.read("run/knockd.pid.state.new");
    assert!(holds_within(seconds(30.0), || state().contains(" 10.77.0.2 d ")), "{}", daemon.said());
    assert!(!daemon.said().contains("state file"), "{}", daemon.said());
    kill_all(&mut daemon);
    let _daemon = with_defaults(&world, &place, first, "").start();
    expect_closed(&place, "10.77.0.2\n");
}

/// The owner of a folder can bring back an old state, and with it used lists. The state is kept all the same.
fn a_strangers_folder_has_no_state() {
    let (world, place) = (World::new(), Folder::new());
    let folder = place.join("theirs");
    fs::create_dir(&folder).unwrap();
    if std::os::unix::fs::chown(&folder, Some(61234), None).is_err() {
        eprintln!("not tried: no folder can belong to user 61234 here");
        return;
    }
    let state = format!("statefile = {}/state", folder.display());
    let with = |doors: &str| with_defaults(&world, &place, "true", doors).options(&state);
    // Theirs counts as none.
    fs::write(folder.join("state"), "theirs").unwrap();
    let distrusted =
        "[o]\notp = a strangers folder,3600,20000,off,tcp,tcp,tcp\notp_trust_start = no\ncommand = true\n";
    let mut daemon = with(&(distrusted.to_owned() + &door(2))).start();
    assert!(daemon.raw_log().contains("count as used: o ("), "{}", daemon.said());
    daemon.wait_for(&format!(
        "state file {0}/state: the folder {0} belongs to user 61234, and root uses only its own; chown -h root {0}; \
         the state is kept in /var/lib/knockd/knockd.state",
        folder.display()
    ));
    world.send([tcp(1)]);
    daemon.wait_for("running command: true");
    kill_all(&mut daemon);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    let _daemon = with("").start();
    expect_closed(&place, "10.77.0.2\n");
}

/// Once: the next start finds a state file.
fn a_first_start_is_told_and_may_be_distrusted() {
    let (world, place) = (World::new(), Folder::new());
    let section = |name: &str, more: &str| {
        format!(
            "[{name}]\notp = first start {name},3600,20000,off,tcp,tcp,tcp\n{more}command = echo {name} >> {{}}/out\n"
        )
    };
    let doors = section("d", "") + &section("e", "otp_trust_start = no\n") + "[f]\nsequence = 5,6\n";
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let knock = |name: &str| {
        let otp = Otp::parse(format!("first start {name},3600,20000,off,tcp,tcp,tcp").as_bytes());
        let otp = otp.unwrap().unwrap();
        let list = otp.list(otp.period(unix), CLIENT.parse().unwrap());
        world.send(list.iter().map(|stage| tcp(stage.port)));
    };
    let trusted = "one-time lists of this moment are good, also if they were used before: d\n";
    let distrusted = "one-time lists of this moment count as used: e (for ";
    let mut daemon = with_state(&world, &place, &doors).start();
    let log = daemon.raw_log();
    assert!(log.contains(trusted) && log.contains(distrusted), "{log}");
    knock("e");
    knock("d");
    expect_closed(&place, "d\n");
    kill_all(&mut daemon);
    let daemon = with_state(&world, &place, &doors).start();
    knock("e");
    daemon.sync();
    assert!(!daemon.raw_log().contains("of this moment"), "{}", daemon.said());
    assert_eq!(place.read("out"), "d\n", "{}", daemon.said());
    // Single packets: until none that was made before can be good.
    let (world, place) = (World::new(), Folder::new());
    let door = format!("[d]\n{SPA}SPA_Open = tcp/22\nSPA_Max_Age = 5\n");
    let distrusting = format!("{door}otp_trust_start = no\n");
    // From a sender whose clock is ahead.
    let fields = asked("0.0.0.0", "tcp/22");
    let early = sealed(&Fields { time: fields.time + 3, ..fields });
    let mut daemon = with_state(&world, &place, &distrusting).start();
    assert!(daemon.raw_log().contains("single packets of this moment count as used: d (for "));
    world.send([sent(&early)]);
    daemon.wait_for(&format!("{CLIENT}: d: refused, it"));
    let opens = || {
        world.send([sent(&sealed(&asked("0.0.0.0", "tcp/22")))]);
        daemon.sync();
        daemon.raw_log().contains(": d: OPEN SESAME")
    };
    assert!(holds_within(seconds(60.0), opens), "{}", daemon.said());
    kill_all(&mut daemon);
    let daemon = with_state(&world, &place, &distrusting).start();
    daemon.sync();
    assert!(!daemon.raw_log().contains("of this moment"), "{}", daemon.said());
    let place = Folder::new();
    let daemon = with_state(&world, &place, &door).start();
    assert!(
        daemon
            .raw_log()
            .contains("single packets of this moment are good, also if they were used before: d\n")
    );
    // Without such lists there is nothing to say, and no file.
    let (world, place) = (World::new(), Folder::new());
    let daemon = with_state(&world, &place, "[f]\nsequence = 5,6\n").start();
    daemon.sync();
    assert!(!daemon.raw_log().contains("state file"), "{}", daemon.said());
    assert!(!place.join("state").exists() && !place.join("state.new").exists());
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
    expect_closed(&place, "10.77.0.2\n");
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
    assert!(holds_within(seconds(30.0), || place.read("state").contains("10.77.0.2")), "{}", daemon.said());
    assert_eq!(daemon.stop(), Some(0));
}

fn overdue_doors_close_at_once() {
    let (world, place) = (World::new(), Folder::new());
    let mut daemon = with_state(&world, &place, &door(8)).start();
    world.send([tcp(1), tcp(1).from("10.77.0.12")]);
    daemon.wait_for_times(2, "running command: true");
    pause(0.2);
    kill_all(&mut daemon);
    pause(8.2);
    assert_eq!(place.read("out"), "");
    let began = Instant::now();
    let _daemon = with_state(&world, &place, "").start();
    expect_closed(&place, "10.77.0.2\n10.77.0.12\n");
    assert!(began.elapsed() < seconds(8.0), "not at once: after {:?}", began.elapsed());
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
    expect_closed(&place, "10.77.0.2\n");
}

/// The second daemon must not be without a file while a command of the first one still runs.
fn doors_close_once_after_two_kills_while_a_command_runs() {
    let (world, place) = (World::new(), Folder::new());
    let doors = format!(
        "{}\n[slow]\nsequence = 2\nstart_command = sleep 3\ncmd_timeout = 1\nstop_command = echo slow >> {{}}/out",
        door(4)
    );
    let mut first = with_state(&world, &place, &doors).start();
    world.send([tcp(1), tcp(2)]);
    first.wait_for("running command: sleep");
    first.wait_for("running command: true");
    first.kill(Signal::SIGKILL);
    first.wait();
    let mut second = with_state(&world, &place, &doors).start();
    world.send([tcp(1).from("10.77.0.12")]);
    second.wait_for("running command: true");
    pause(0.1);
    kill_all(&mut second);
    let _third = with_state(&world, &place, &doors).start();
    expect_closed(&place, "10.77.0.2\n10.77.0.12\nslow\n");
}

/// What has the newest state is replaced, and only by what is whole: the names are renamed, and none is removed.
fn the_newest_state_is_never_removed() {
    let (world, place) = (World::new(), Folder::new());
    let mut daemon = with_state(&world, &place, &door(1)).start();
    let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
    let all = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE;
    watch.add_watch(place.path(), all).unwrap();
    for knocker in ["10.77.0.2", "10.77.0.12", "10.77.0.13"] {
        world.send([tcp(1).from(knocker)]);
        daemon.wait_for(&format!("{knocker}: d: command timeout"));
    }
    assert_eq!(daemon.stop(), Some(0));
    let mut kinds = Vec::new();
    while let Ok(events) = watch.read_events() {
        for event in events {
            let name = event.name.unwrap().into_string().unwrap();
            if name.starts_with("state") && name != "state.lock" {
                assert!(!event.mask.contains(AddWatchFlags::IN_DELETE), "{name} is removed");
                if event.mask.contains(AddWatchFlags::IN_CREATE) {
                    assert_eq!(name, "state.tmp", "made where it counts before it is whole");
                }
                kinds.push(name);
            }
        }
    }
    assert!(kinds.len() >= 5 * 3, "{kinds:?}");
}

/// Together with everything else; whether it did its work is not known.
fn a_stop_command_that_was_cut_off_is_run_again() {
    let (world, place) = (World::new(), Folder::new());
    let doors = door(1).replace("stop_command = ", "stop_command = touch {}/began; sleep 1; ");
    let mut daemon = with_state(&world, &place, &doors).start();
    world.send([tcp(1)]);
    assert!(holds_within(seconds(30.0), || place.join("began").exists()), "{}", daemon.said());
    pause(0.2);
    // Halted, so that it replaces none of them.
    daemon.kill(Signal::SIGSTOP);
    let all: Vec<i32> = daemon.descendants().iter().map(|process| process.pid).chain([daemon.pid]).collect();
    all.iter().copied().for_each(process::end);
    daemon.wait();
    assert!(holds_within(seconds(30.0), || !all.iter().any(|pid| process::alive(*pid))), "they live on");
    let daemon = with_state(&world, &place, "").start();
    daemon.wait_for("10.77.0.2: d: still open");
    expect_closed(&place, "10.77.0.2\n");
}

/// It outlives the daemon that started it: the next one waits for its end.
fn a_stop_command_that_goes_on_is_not_run_again() {
    let (world, place) = (World::new(), Folder::new());
    let doors = door(1).replace("stop_command = ", "stop_command = touch {}/began; sleep 2; ");
    let mut daemon = with_state(&world, &place, &doors).start();
    world.send([tcp(1)]);
    assert!(holds_within(seconds(30.0), || place.join("began").exists()), "{}", daemon.said());
    pause(0.2);
    kill_all(&mut daemon);
    let mut daemon = with_state(&world, &place, "").start();
    daemon.wait_for("10.77.0.2: d: its stop command still runs");
    expect_closed(&place, "10.77.0.2\n");
    assert_eq!(daemon.stop(), Some(0));
    assert!(!place.read("state").contains("\nopen "), "{}", place.read("state"));
}

/// What it opens has to be closed behind it, however short the door's time is.
fn a_start_command_that_goes_on_is_waited_for() {
    let (world, place) = (World::new(), Folder::new());
    let doors = door(1).replace("= true", "= sleep 3; echo opened >> {}/out");
    let mut daemon = with_state(&world, &place, &doors).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command: sleep");
    pause(0.3);
    kill_all(&mut daemon);
    let _daemon = with_state(&world, &place, "").start();
    assert!(holds_within(seconds(30.0), || place.read("out").lines().count() == 2), "{}", place.read("out"));
    assert_eq!(place.read("out"), "opened\n10.77.0.2\n");
}

/// The daemon was killed in the very moment between starting it and writing down which process it is.
fn a_start_command_whose_process_was_not_noted_is_waited_for() {
    let (world, place) = (World::new(), Folder::new());
    let out = place.path().display();
    // A name of its own: the commands of other tests' doors run at the same time.
    let door = Arc::from("unnoted");
    let stop = Stop { door, command: format!("echo closed >> {out}/out").into_bytes(), ..overdue(1, "") };
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let now = Now { uptime: Duration::from_secs(1), unix: Duration::from_secs(1) };
    let moment = Moment { now, boot: boot.trim() };
    let state = place.write(
        "state",
        write(&[(Phase::Opening(None), &stop)], &[], &ByAdmission::new(), &[], &Used::default(), moment),
    );
    fs::set_permissions(state, fs::Permissions::from_mode(0o600)).unwrap();
    let mut start = std::process::Command::new("setsid")
        .args(["sh", "-c", &format!("sleep 2; echo opened >> {out}/out")])
        .envs([("KNOCKD_DOOR", "unnoted"), ("KNOCKD_IP", CLIENT), ("KNOCKD_EVENT", "start")])
        .spawn()
        .unwrap();
    let is_started = || process::find(start.id().cast_signed()).is_some_and(|it| it.session == it.pid);
    assert!(holds_within(seconds(30.0), is_started));
    let _daemon = with_state(&world, &place, "").start();
    assert!(start.wait().unwrap().success());
    assert!(holds_within(seconds(30.0), || place.read("out").lines().count() == 2), "{}", place.read("out"));
    assert_eq!(place.read("out"), "opened\nclosed\n");
}

/// Each is noted by itself, when it was started and when it has ended.
fn of_many_stops_at_once_only_those_that_run_are_run_again() {
    let (world, place) = (World::new(), Folder::new());
    let doors = door(2).replace("sequence = 1", "sequence = 1,2");
    let mut daemon = with_state(&world, &place, &doors).start();
    let knockers: Vec<String> = (1..=60).map(|n| format!("10.77.3.{n}")).collect();
    world.send(knockers.iter().flat_map(|knocker| [1, 2].map(|port| tcp(port).from(knocker))));
    daemon.wait_for_times(60, "running command: true");
    let closed = || place.read("out").lines().count();
    assert!(holds_within(seconds(30.0), || closed() >= 10), "{}", daemon.said());
    kill_all(&mut daemon);
    // Until those that were running have ended.
    pause(0.5);
    let before = closed();
    let unnoted = place.read("state.new").lines().filter(|line| line.contains(" closing ")).count();
    let noted = place.read("state.new").lines().filter(|line| line.starts_with("closed ")).count();
    assert!(before < 60, "it was killed too late to show anything");
    // Some more may have been started while the processes were killed one after the other: the daemon and its heir start
    // one at a time.
    let running = unnoted.saturating_sub(noted) + 5;
    let _daemon = with_state(&world, &place, "").start();
    let all_closed = || knockers.iter().all(|it| place.read("out").lines().any(|line| line == it));
    assert!(holds_within(seconds(30.0), all_closed), "{}", place.read("out"));
    pause(0.5);
    assert!(closed() <= 60 + running, "{} of 60 were run twice, and {running} ran", closed() - 60);
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
    expect_closed(&place, "10.77.0.2\n10.77.0.12\n");
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
    assert!(holds_within(seconds(30.0), || !daemon.read("out").is_empty()), "{}", daemon.said());
    let files = daemon.read("out");
    assert!(!files.contains("socket:") && !files.contains("memfd:"), "{files}");
    assert_eq!(daemon.stop(), Some(0));
}

fn every_stop_runs_once_however_often_all_is_killed() {
    let (world, place) = (World::new(), Folder::new());
    let mut wanted = Vec::new();
    for round in 0..6_u8 {
        let mut daemon = with_state(&world, &place, &door(5)).start();
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
    assert!(holds_within(seconds(30.0), || closed() == wanted), "{:?}", closed());
    pause(1.0);
    assert_eq!(closed(), wanted);
}

/// Whichever daemon is killed, and in whichever order they start again: what each of them opened is closed, once.
fn a_second_daemon_keeps_a_state_of_its_own() {
    let (world, place) = (World::new(), Folder::new());
    let mut first = with_state(&world, &place, &door(4)).start();
    let mut second = with_state(&world, &place, &door(4).replace("= 1\n", "= 2\n")).start();
    let says = format!(
        "state file {0}/state: another daemon has it, process {1}; this daemon keeps its own in {0}/state.2",
        place.path().display(),
        first.pid
    );
    second.wait_for(&says);
    assert!(second.stderr().contains(&says), "{}", second.said());
    world.send([tcp(1), tcp(2).from("10.77.0.12")]);
    first.wait_for("running command: true");
    second.wait_for("running command: true");
    assert!(
        holds_within(seconds(30.0), || place.read("state.2").contains(" 10.77.0.12 d ")),
        "{}",
        second.said()
    );
    pause(0.1);
    kill_all(&mut second);
    kill_all(&mut first);
    let mut third = with_state(&world, &place, "").start();
    expect_closed(&place, "10.77.0.2\n10.77.0.12\n");
    assert!(!place.join("state.2").exists() && !place.join("state.2.lock").exists());
    assert_eq!(third.stop(), Some(0));
}

/// One that starts looks at the locks of the others; that is no end of anybody.
fn daemons_that_share_a_path_leave_each_other_in_peace() {
    let (world, place) = (World::new(), Folder::new());
    let idle = "[a]\nsequence = 9\ncommand = true";
    let first = with_state(&world, &place, &door(60)).start();
    world.send([tcp(1)]);
    first.wait_for("running command: true");
    assert!(holds_within(seconds(30.0), || place.join("state").exists()), "{}", first.said());
    let second = with_state(&world, &place, idle).start();
    let third = with_state(&world, &place, idle).start();
    third.wait_for("this daemon keeps its own in");
    pause(0.3);
    let ticks = || process::ticks(second.pid) + process::ticks(third.pid);
    let before = ticks();
    pause(1.0);
    assert!(ticks() - before < 10, "busy for {} hundredths of a second", ticks() - before);
}

/// Without being started again.
fn a_daemon_takes_over_from_another_that_is_killed() {
    let (world, place) = (World::new(), Folder::new());
    let mut first = with_state(&world, &place, &door(2)).start();
    let mut second = with_state(&world, &place, "[other]\nsequence = 2\ncommand = true").start();
    second.wait_for("another daemon has it");
    world.send([tcp(1)]);
    first.wait_for("running command: true");
    pause(0.1);
    kill_all(&mut first);
    second.wait_for("10.77.0.2: d: still open");
    expect_closed(&place, "10.77.0.2\n");
    assert!(!place.join("state").exists(), "{}", place.read("state"));
    assert_eq!(second.stop(), Some(0));
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
    let mut daemon = with_state(&world, &place, &door(3)).start();
    world.send([tcp(1)]);
    assert!(holds_within(seconds(30.0), || place.read("state").contains("\nopen ")));
    pause(0.2);
    kill_all(&mut daemon);
    for name in ["state", "state.new"] {
        let _ = fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o622));
    }
    let daemon = with_state(&world, &place, "").start();
    daemon.wait_for("state: others can write it, so it is left out");
    pause(2.3);
    assert_eq!(place.read("out"), "");
}

fn a_new_file_that_others_can_write_costs_nothing_else() {
    let (world, place) = (World::new(), Folder::new());
    let mut daemon = with_state(&world, &place, &door(3)).start();
    world.send([tcp(1)]);
    assert!(holds_within(seconds(30.0), || place.read("state").contains(" open - ")), "{}", daemon.said());
    kill_all(&mut daemon);
    let new = place.write("state.new", "");
    fs::set_permissions(new, fs::Permissions::from_mode(0o666)).unwrap();
    let daemon = with_state(&world, &place, "").start();
    daemon.wait_for("state.new: others can write it, so it is left out");
    expect_closed(&place, "10.77.0.2\n");
}

fn a_damaged_line_is_reported_and_not_run() {
    let (world, place) = (World::new(), Folder::new());
    let mut daemon = with_state(&world, &place, &door(30)).start();
    world.send([tcp(1), tcp(1).from("10.77.0.12")]);
    daemon.wait_for_times(2, "running command: true");
    // All of it is on the disk, which may take its time: also that both start commands have ended, or that change would
    // make another `state.new`.
    let is_settled = || {
        let text = place.read("state");
        let is_open = |knocker: &str| {
            text.lines().any(|line| line.contains(" open - ") && line.contains(&format!(" {knocker} ")))
        };
        !place.join("state.new").exists() && is_open("10.77.0.2") && is_open("10.77.0.12")
    };
    assert!(holds_within(seconds(30.0), is_settled), "{}", daemon.said());
    kill_all(&mut daemon);
    let text = place.read("state");
    assert!(!place.join("state.new").exists() && text.contains(" 10.77.0.2 "), "{text}");
    place.write("state", text.replacen(" 10.77.0.2 ", " 10.77.0.3 ", 1));
    let daemon = with_state(&world, &place, "").start();
    daemon.wait_for("state: line 2 is not in order and is left out");
    daemon.wait_for("10.77.0.12: d: still open");
    assert!(!daemon.raw_log().contains("10.77.0.3"), "{}", daemon.said());
}

/// The stop of a door that should have been closed long ago.
fn overdue(number: u64, command: &str) -> Stop {
    Stop {
        access: None,
        key: Key { origin: 1, number },
        door: Arc::from("d"),
        knocker: CLIENT.parse().unwrap(),
        command: command.as_bytes().to_vec(),
        after: Duration::ZERO,
        limit: None,
        due: Duration::ZERO,
    }
}

/// In either file: of the older one if there is no other, of the newer one if that is the last.
fn one_damaged_byte_costs_one_line() {
    for name in ["state", "state.new"] {
        let (world, place) = (World::new(), Folder::new());
        let now = Now { uptime: Duration::ZERO, unix: Duration::ZERO };
        let out = place.path().display();
        let stops = [1, 2, 3].map(|number| overdue(number, &format!("echo {number} >> {out}/out")));
        let standing: Vec<(Phase, &Stop)> = stops.iter().map(|stop| (Phase::Open, stop)).collect();
        let text = String::from_utf8(write(
            &standing,
            &[],
            &ByAdmission::new(),
            &[],
            &Used::default(),
            Moment { now, boot: "" },
        ))
        .unwrap();
        place.write(
            "state",
            write(&[], &[], &ByAdmission::new(), &[], &Used::default(), Moment { now, boot: "" }),
        );
        place.write(name, text.replace("echo%202", "echo%204"));
        for name in ["state", "state.new"] {
            let _ = fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o600));
        }
        let daemon = with_state(&world, &place, "").start();
        daemon.wait_for(&format!("{name}: line 3 is not in order and is left out"));
        expect_closed(&place, "1\n3\n");
    }
}

fn ten_thousand_bad_lines_are_a_few_lines_in_the_log() {
    let (world, place) = (World::new(), Folder::new());
    place.write("state", "knockd-state 1 a\n".to_owned() + &"nonsense\n".repeat(10_000));
    let daemon = with_state(&world, &place, "").start();
    daemon.wait_for("state: line 2 is not in order and is left out");
    daemon.wait_for("state: 9995 more lines are not in order and are left out");
    assert_eq!(daemon.raw_log().matches("not in order").count(), 6);
}

/// A daemon that starts calls it, and need not wait for the doors.
fn an_heir_leaves_its_doors_to_a_daemon_that_starts() {
    let (world, place) = (World::new(), Folder::new());
    let mut daemon = with_state(&world, &place, &door(600)).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command: true");
    assert!(holds_within(seconds(30.0), || daemon.heir().is_some()), "no heir");
    let heir = daemon.heir().unwrap();
    daemon.kill(Signal::SIGKILL);
    daemon.wait();
    let has_lock = || place.read("state.lock").starts_with("leaving");
    assert!(holds_within(seconds(30.0), has_lock), "the heir has no lock");
    let next = with_state(&world, &place, "").start();
    next.wait_for("10.77.0.2: d: still open");
    assert!(!next.raw_log().contains("another daemon has it"), "{}", next.said());
    assert!(holds_within(seconds(30.0), || !process::alive(heir)), "the heir stays");
}

/// Neither the heirs nor what they find gets lost between them.
fn heirs_of_daemons_that_share_a_path_close_all() {
    let (world, place) = (World::new(), Folder::new());
    let daemons = [(); 2].map(|()| with_state(&world, &place, &door(8)).start());
    world.send([tcp(1)]);
    for daemon in &daemons {
        daemon.wait_for("running command: true");
        assert!(holds_within(seconds(30.0), || daemon.heir().is_some()), "no heir");
    }
    let heirs = daemons.each_ref().map(|daemon| daemon.heir().unwrap());
    for daemon in &daemons {
        daemon.kill(Signal::SIGKILL);
    }
    let said = || daemons.each_ref().map(RunningDaemon::said);
    let closed = || place.read("out") == "10.77.0.2\n".repeat(2);
    assert!(holds_within(seconds(30.0), closed), "closed for {:?}; {:?}", place.read("out"), said());
    let are_gone = || !heirs.iter().any(|pid| process::alive(*pid));
    assert!(holds_within(seconds(30.0), are_gone), "{:?}", said());
    assert_eq!(place.read("out"), "10.77.0.2\n".repeat(2));
}

/// A user who wants no state file may say so this way.
fn nothing_is_written_beside_a_device() {
    let world = World::new();
    let door = "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 60\nstop_command = echo %IP% > @/out";
    let mut daemon = world.knockd(door).options("statefile = /dev/null").start();
    let line = "could not claim the state file /dev/null: it is a device; going on without: \
                doors that are open may stay open if this daemon is killed";
    daemon.wait_for(line);
    world.send([tcp(1)]);
    daemon.wait_for("running command: true");
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(daemon.read("out"), "10.77.0.2\n");
    let is_ours = |name: &String| name.starts_with("null.");
    let names = fs::read_dir("/dev").unwrap().map(|entry| entry.unwrap().file_name().display().to_string());
    assert_eq!(names.filter(is_ours).collect::<Vec<_>>(), [""; 0]);
}

/// The doors are kept beside it.
fn a_folder_in_its_place_is_told_once() {
    let (world, place) = (World::new(), Folder::new());
    fs::create_dir(place.join("state")).unwrap();
    let mut daemon = with_state(&world, &place, &door(2)).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command: true");
    assert!(
        holds_within(seconds(30.0), || place.read("state.2").contains(" 10.77.0.2 d ")),
        "{}",
        daemon.said()
    );
    kill_all(&mut daemon);
    let daemon = with_state(&world, &place, "").start();
    expect_closed(&place, "10.77.0.2\n");
    // What cannot be written is tried again after five seconds.
    pause(5.5);
    let says: Vec<String> = daemon.lines().into_iter().filter(|line| line.contains("state file")).collect();
    let wanted = format!(
        "state file {0}/state: it is a folder; this daemon keeps its own in {0}/state.2",
        place.path().display()
    );
    assert_eq!(says, [wanted]);
}

/// Nor is a link. What is open is kept all the same.
fn a_lock_of_somebody_else_is_not_another_daemons() {
    for is_link in [false, true] {
        let (world, place) = (World::new(), Folder::new());
        let says = if is_link {
            std::os::unix::fs::symlink("/etc/passwd", place.join("state.lock")).unwrap();
            "state.lock is a symbolic link"
        } else {
            let lock = fs::File::create(place.join("state.lock")).unwrap();
            lock.lock().unwrap();
            if std::os::unix::fs::chown(place.join("state.lock"), Some(1), None).is_err() {
                // An ordinary user's namespace has no other users.
                continue;
            }
            std::mem::forget(lock);
            "state.lock belongs to somebody else"
        };
        let mut daemon = with_state(&world, &place, &door(1)).start();
        daemon.wait_for(says);
        world.send([tcp(1)]);
        daemon.wait_for("running command: true");
        kill_all(&mut daemon);
        let _daemon = with_state(&world, &place, "").start();
        expect_closed(&place, "10.77.0.2\n");
    }
}

/// The same format as a whole and as what came after it, as daemons wrote it until November 2026.
fn a_file_of_the_first_version_is_taken_over() {
    let (world, place) = (World::new(), Folder::new());
    let line = |knocker: &str, text: &str| {
        let out = place.path().display();
        let line = format!("open {text} 0 0 60000 - {knocker} d echo%20{knocker}%20>>%20{out}/out");
        let sum = line.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("{line} {sum:016x}\n")
    };
    place.write("state", format!("knockd-state 1 x\n{}end 1 8b6e0e4a79f6a875\n", line("10.77.0.2", "open")));
    place.write("state.new", format!("knockd-state 1 x\n{}", line("10.77.0.12", "opening")));
    for name in ["state", "state.new"] {
        fs::set_permissions(place.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let _daemon = with_state(&world, &place, "").start();
    expect_closed(&place, "10.77.0.2\n10.77.0.12\n");
}

fn a_new_state_file_takes_all_along() {
    let (world, place) = (World::new(), Folder::new());
    let daemon = with_state(&world, &place, &door(30)).start();
    world.send([tcp(1)]);
    assert!(holds_within(seconds(30.0), || place.read("state").contains("open ")), "{}", daemon.said());
    let text = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, text.replace("/state\n", "/other\n")).unwrap();
    daemon.kill(Signal::SIGHUP);
    assert!(holds_within(seconds(30.0), || place.read("other").contains("open ")), "{}", daemon.said());
    assert!(holds_within(seconds(30.0), || !place.read("state").contains("open ")), "{}", daemon.said());
}

fn the_state_file_stays_if_the_next_one_cannot_be_had() {
    let (world, place) = (World::new(), Folder::new());
    let mut daemon = with_state(&world, &place, &door(3)).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command: true");
    let text = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, text.replace("/state\n", "/nowhere/state\n")).unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for(&format!("going on with {}/state", place.path().display()));
    // And it is written on.
    world.send([tcp(1).from("10.77.0.12")]);
    daemon.wait_for_times(2, "running command: true");
    pause(0.1);
    kill_all(&mut daemon);
    let _daemon = with_state(&world, &place, "").start();
    expect_closed(&place, "10.77.0.2\n10.77.0.12\n");
}

/// A list that opened a door is knocked again: before and after everything was killed.
fn spent_lists_stay_spent_over_a_crash() {
    not_soon();
    let (world, place) = (World::new(), Folder::new());
    let words = "sesame,3600,20000,off,tcp,tcp,tcp";
    // Without a window: a port of the list may by chance begin the list of another period.
    let doors = format!("[d]\notp = {words}\notp_window = 0\ncommand = echo %IP% >> {{}}/out");
    let mut daemon = with_state(&world, &place, &doors).start();
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let otp = Otp::parse(words.as_bytes()).unwrap().unwrap();
    let list = otp.list(otp.period(unix), CLIENT.parse().unwrap());
    let knock = || world.send(list.iter().map(|stage| tcp(stage.port)));
    knock();
    expect_closed(&place, "10.77.0.2\n");
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
    assert_eq!(daemon.wait(), Some(0));
    assert_eq!(daemon.read("out"), "start\nclosed\nstop\n", "{}", daemon.said());
}

fn on_stop_is_not_run_after_a_crash() {
    let world = World::new();
    let mut daemon = world.knockd("").options("on_stop = echo stop >> @/out").start();
    daemon.kill(Signal::SIGKILL);
    daemon.wait();
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
