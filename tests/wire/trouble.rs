//! Trouble: what is full, gone, forbidden or used up leaves the daemon listening, and is told.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use netlink_packet_route::link::InfoKind;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

use crate::support::daemon::{RunningDaemon, program};
use crate::support::folder::{Folder, read};
use crate::support::packet::tcp;
use crate::support::process;
use crate::support::world::{World, run};
use crate::support::{holds_within, pause, seconds};
use crate::wire::load::told;

trials![
    a_flood_of_lines_is_summed_up,
    a_full_disk_costs_lines_of_the_log_and_nothing_else,
    a_log_folder_that_is_gone_is_told_and_used_when_it_is_back,
    a_read_only_log_is_told_and_used_when_it_can_be,
    a_hanging_command_is_killed_with_all_it_started,
    a_missing_shell_is_told,
    a_full_process_table_is_told,
    files_that_a_group_can_write_are_told,
    no_process_with_secrets_leaves_a_core_dump,
    no_process_with_secrets_belongs_to_its_user,
    a_used_up_descriptor_table_is_told,
    an_interface_that_comes_back_when_no_descriptor_is_free_is_listened_on_later,
    fewer_descriptors_than_are_in_use_make_nobody_busy,
    trouble_with_one_state_file_makes_nobody_busy_with_another,
    a_full_disk_is_told_of_the_state_file,
    a_read_only_state_file_is_told,
    a_read_only_one_time_file_keeps_its_door_shut,
];

/// A small file system of its own, as long as the value lives.
struct Disk {
    folder: Folder,
    path: PathBuf,
}

impl Disk {
    fn new(size: &str) -> Disk {
        let folder = Folder::new();
        let path = folder.join("disk");
        fs::create_dir(&path).unwrap();
        let options = format!("size={size},mode=0755");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        Disk { folder, path }
    }

    fn path(&self) -> String {
        self.path.display().to_string()
    }

    fn set_read_only(&self, is_read_only: bool) {
        let mut flags = MsFlags::MS_REMOUNT;
        flags.set(MsFlags::MS_RDONLY, is_read_only);
        mount(None::<&str>, &self.path, None::<&str>, flags, None::<&str>).unwrap();
    }

    fn fill(&self) {
        let _ = fs::write(self.path.join("filler"), vec![0; 1 << 20]);
    }

    fn empty(&self) {
        fs::remove_file(self.path.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(self.folder.join("disk"));
    }
}

/// A door that writes down who opens it.
pub const DOOR: &str = "[d]\nsequence = 1\nopen_rate = 0\ncommand = echo %IP% >> @/out";

/// It listens, and opens its door.
#[track_caller]
pub fn expect_to_listen(world: &World, daemon: &RunningDaemon, source: &str) {
    world.send([tcp(1).from(source)]);
    let opened = || daemon.read("out").lines().any(|line| line == source);
    assert!(holds_within(seconds(30.0), opened), "the door does not open; {}", daemon.said());
}

#[track_caller]
fn expect_complaint(daemon: &RunningDaemon, text: &str) {
    assert!(holds_within(seconds(30.0), || daemon.stderr().contains(text)), "{text:?}; {}", daemon.said());
}

fn a_flood_of_lines_is_summed_up() {
    // A stage each; and with a second knock that is wrong, that as well.
    for (knocks, rule) in [(1, ""), (2, "log_failures = yes")] {
        let world = World::new();
        let daemon = world.knockd(&format!("{DOOR}\n[e]\nsequence = 7,8\n{rule}")).start();
        for network in 1..=10 {
            let knockers = (1..=250).map(|n| format!("10.77.{network}.{n}"));
            world.send(knockers.flat_map(|knocker| vec![tcp(7).from(&knocker); knocks]));
            // On a busy machine more would not fit into the socket.
            assert!(holds_within(seconds(30.0), || world.queued() == 0), "{}", daemon.said());
        }
        expect_to_listen(&world, &daemon, "10.77.0.12");
        // Every line is there or counted, and how the door was opened. A slow machine takes more than a second for it.
        let all_told = || told(&daemon.lines()) == 2500 * knocks + 3;
        assert!(holds_within(seconds(30.0), all_told), "{}", daemon.said());
        let lines = daemon.lines();
        assert!(lines.len() < 1500, "{lines:?}");
        assert!(lines.contains(&"10.77.0.12: d: OPEN SESAME".to_owned()));
    }
}

fn a_full_disk_costs_lines_of_the_log_and_nothing_else() {
    let (world, disk) = (World::new(), Disk::new("64k"));
    let log = disk.path.join("log");
    let options = format!("logfile = {}", log.display());
    // Lines about the first door are summed up by the time that the disk has room again.
    let doors = format!("{DOOR}\n[e]\nsequence = 2,3\n");
    let daemon = world.knockd(&doors).without_log().arguments(&["-v"]).options(&options).start();
    expect_to_listen(&world, &daemon, "10.77.0.12");
    assert!(holds_within(seconds(30.0), || read(&log).contains("running command")));
    disk.fill();
    // What is left of the last page is used up first.
    for n in 1..=120 {
        world.send([tcp(1).from(&format!("10.77.1.{n}"))]);
        pause(0.005);
    }
    expect_to_listen(&world, &daemon, "10.77.0.13");
    let complaint = format!("could not write the log file {}: No space left on device\n", log.display());
    expect_complaint(&daemon, &complaint);
    // Once for each process.
    assert!(daemon.stderr().matches(&complaint).count() <= 2, "{}", daemon.said());
    disk.empty();
    expect_to_listen(&world, &daemon, "10.77.0.14");
    world.send([2, 3].map(|port| tcp(port).from("10.77.0.14")));
    assert!(
        holds_within(seconds(30.0), || read(&log).contains("could not be written here")),
        "{}",
        read(&log)
    );
    assert!(
        holds_within(seconds(30.0), || read(&log).contains("10.77.0.14: e: OPEN SESAME")),
        "{}",
        read(&log)
    );
}

fn a_log_folder_that_is_gone_is_told_and_used_when_it_is_back() {
    let world = World::new();
    let knockd = world.knockd(DOOR).without_log().arguments(&["-v"]).options("logfile = @/logs/log");
    let folder = knockd.folder().join("logs");
    fs::create_dir(&folder).unwrap();
    let daemon = knockd.start();
    fs::remove_dir_all(&folder).unwrap();
    expect_to_listen(&world, &daemon, "10.77.0.12");
    expect_complaint(
        &daemon,
        &format!("could not write the log file {}/log: No such file", folder.display()),
    );
    fs::create_dir(&folder).unwrap();
    pause(1.1);
    expect_to_listen(&world, &daemon, "10.77.0.13");
    let log = || read(&folder.join("log"));
    assert!(holds_within(seconds(30.0), || log().contains("10.77.0.13: d: OPEN SESAME")), "{}", log());
    assert!(log().contains("lines could not be written here") || log().contains("1 line could"), "{}", log());
}

fn a_read_only_log_is_told_and_used_when_it_can_be() {
    let (world, disk) = (World::new(), Disk::new("64k"));
    let log = disk.path.join("log");
    disk.set_read_only(true);
    let options = format!("logfile = {}", log.display());
    let daemon = world.knockd(DOOR).without_log().arguments(&["-v"]).options(&options).start();
    expect_complaint(&daemon, "warning: cannot open logfile: Read-only file system\n");
    daemon.kill(Signal::SIGHUP);
    expect_to_listen(&world, &daemon, "10.77.0.12");
    disk.set_read_only(false);
    pause(1.1);
    expect_to_listen(&world, &daemon, "10.77.0.13");
    assert!(
        holds_within(seconds(30.0), || read(&log).contains("10.77.0.13: d: OPEN SESAME")),
        "{}",
        read(&log)
    );
}

/// With the group, and with what a shell with job control put into a group of its own.
fn a_hanging_command_is_killed_with_all_it_started() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\ncommand_timeout = 1\ncmd_timeout = 1
                 start_command = set -m; sleep 101 & set +m; sleep 102 & sleep 103
                 stop_command = echo closed >> @/out";
    let daemon = world.knockd(doors).start();
    world.send([tcp(1)]);
    daemon.wait_for("d: command takes too long, killing it");
    let sleeps = || {
        let all = daemon.descendants();
        let others = world.server.processes().into_iter().filter_map(process::find);
        all.into_iter().chain(others).filter(|it| it.name == "sleep" && it.state != 'Z').count()
    };
    assert!(holds_within(seconds(30.0), || sleeps() == 0), "{} live on", sleeps());
    daemon.wait_for_file("out", "closed\n");
    daemon.wait_for("d: command returned non-zero status code (0)");
    assert!(daemon.stderr().contains("d: command takes too long, killing it"));
}

fn a_missing_shell_is_told() {
    let world = World::new();
    let daemon = world
        .knockd("[d]\nsequence = 1\ncommand = true")
        .replacing("/usr/bin", "sh", Path::new("/nowhere"))
        .start();
    for round in 1..=2 {
        world.send([tcp(1)]);
        daemon.wait_for_times(round, "d: could not run the command: No such file or directory");
    }
    expect_complaint(&daemon, "d: could not run the command: No such file or directory");
}

/// The words for setpriv that make somebody an ordinary user with this number who may listen, if there can be one.
fn ordinary_user(world: &World, user: u32) -> Option<Vec<String>> {
    let ids = [format!("--reuid={user}"), format!("--regid={user}")];
    let user = ids.iter().map(String::as_str).chain(["--clear-groups"]);
    let rights = ["--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw", "--bounding-set=-all,+net_raw"];
    let words: Vec<&str> = user.chain(rights).collect();
    let program = program().into_string().unwrap();
    let tried: Vec<&str> = words.iter().copied().chain(["test", "-x", &program]).collect();
    if run(&world.server, "setpriv", &tried).code() != Some(0) {
        eprintln!("not tried: an ordinary user cannot run {program} here");
        return None;
    }
    Some(words.into_iter().map(str::to_owned).collect())
}

/// As an ordinary user who may listen: for others there is no limit.
fn a_full_process_table_is_told() {
    let world = World::new();
    // Of this test and this run of it alone: the limit counts the processes of the user.
    let user = 10_000 + std::process::id() % 50_000;
    let Some(words) = ordinary_user(&world, user) else { return };
    let knockd = world.knockd("[d]\nsequence = 1\ncommand = true");
    Command::new("chown").arg(user.to_string()).arg(knockd.folder().path()).status().unwrap();
    let through: Vec<&str> =
        ["prlimit", "--nproc=2", "setpriv"].into_iter().chain(words.iter().map(String::as_str)).collect();
    let mut daemon = knockd.through(&through).start();
    for round in 1..=2 {
        world.send([tcp(1)]);
        daemon.wait_for_times(round, "d: could not run the command: Resource temporarily unavailable");
    }
    daemon.sync();
    assert_eq!(daemon.stop(), Some(0));
}

/// Neither the doorkeeper nor the watcher, which both know every seed. Commands may, as before.
fn no_process_with_secrets_leaves_a_core_dump() {
    let world = World::new();
    let knockd =
        world.knockd("[d]\nsequence = 1\ncommand = grep core /proc/self/limits > @/new; mv @/new @/out");
    let daemon = knockd.through(&["prlimit", "--core=1000:2000"]).start();
    world.send([tcp(1)]);
    assert!(holds_within(seconds(30.0), || daemon.folder.join("out").exists()), "{}", daemon.said());
    let limit = |text: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with("Max core file size"));
        line.unwrap_or_default().split_whitespace().skip(4).map(str::to_owned).collect()
    };
    assert_eq!(limit(&daemon.read("out")), ["1000", "2000", "bytes"]);
    let limits_of = |pid: i32| limit(&read(Path::new(&format!("/proc/{pid}/limits"))));
    assert_eq!(limits_of(daemon.watcher().unwrap()), ["0", "2000", "bytes"]);
    // While the doorkeeper starts a command, it has the command's limits.
    let is_forbidden = || limits_of(daemon.pid) == ["0", "2000", "bytes"];
    assert!(holds_within(seconds(30.0), is_forbidden), "{:?}", limits_of(daemon.pid));
}

/// The kernel gives the files in `/proc/PID` of a process that is not dumpable (`PR_SET_DUMPABLE`) to root: other
/// processes of its user cannot read its memory, and no program that takes core dumps gets one.
fn no_process_with_secrets_belongs_to_its_user() {
    let world = World::new();
    let Some(words) = ordinary_user(&world, 61234) else { return };
    let doors = "[d]\nsequence = 1\ncommand = sleep 60 & echo $! > @/new; mv @/new @/out\ncmd_timeout = 60\nstop_command = true";
    let knockd = world.knockd(doors);
    Command::new("chown").arg("61234").arg(knockd.folder().path()).status().unwrap();
    let through: Vec<&str> = ["setpriv"].into_iter().chain(words.iter().map(String::as_str)).collect();
    let daemon = knockd.through(&through).start();
    world.send([tcp(1)]);
    let has_all = || daemon.heir().is_some() && daemon.folder.join("out").exists();
    assert!(holds_within(seconds(30.0), has_all), "{}", daemon.said());
    let owner = |pid: i32| fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid();
    for (what, pid) in
        [("doorkeeper", Some(daemon.pid)), ("watcher", daemon.watcher()), ("heir", daemon.heir())]
    {
        assert_eq!(owner(pid.unwrap()), 0, "the {what}; {}", daemon.said());
    }
    let command: i32 = daemon.read("out").trim().parse().unwrap();
    assert_eq!(owner(command), 61234, "a command is as it always was");
    process::end(command);
}

/// At the start, and again when it is read again.
fn files_that_a_group_can_write_are_told() {
    let world = World::new();
    let knockd = world.knockd("[o]\none_time_sequences = @/seqs");
    let seqs = knockd.folder().write("seqs", "1\n2\n");
    fs::set_permissions(&seqs, PermissionsExt::from_mode(0o620)).unwrap();
    let daemon = knockd.start();
    let warning = |file: &Path| {
        let file = file.display();
        format!(
            "warning: {file}: a group can write this file; chmod g-w {file}. Its members decide which commands knockd runs."
        )
    };
    daemon.wait_for(&warning(&seqs));
    assert!(daemon.stderr().contains(&warning(&seqs)), "{}", daemon.said());
    fs::set_permissions(&daemon.config, PermissionsExt::from_mode(0o660)).unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for(&warning(&daemon.config));
    fs::set_permissions(&daemon.config, PermissionsExt::from_mode(0o666)).unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("everybody can write this file; chmod go-w ");
    daemon.wait_for("keeping the configuration that was in force");
}

/// Leaves no descriptor that is not in use, or so many of them.
#[track_caller]
pub fn limit_descriptors(daemon: &RunningDaemon, limit: Option<usize>) {
    let doorkeepers = daemon.descendants().into_iter().filter(|it| it.name.starts_with("knockd"));
    for pid in doorkeepers.map(|it| it.pid).chain([daemon.pid]) {
        let is_used = |fd: &usize| fs::symlink_metadata(format!("/proc/{pid}/fd/{fd}")).is_ok();
        let limit = limit.unwrap_or_else(|| (0..4096).find(|fd| !is_used(fd)).unwrap());
        let words = [format!("--pid={pid}"), format!("--nofile={limit}:4096")];
        // As its own user: limits of others need a capability that not every root has.
        let owner = process::identity(pid).unwrap_or_default();
        let mut prlimit = Command::new("prlimit");
        let is_limited = prlimit.args(words).uid(owner.0).gid(owner.1).status().unwrap().success();
        // A command on its way has the doorkeeper's name until it is one.
        let is_gone = pid != daemon.pid && !fs::exists(format!("/proc/{pid}")).unwrap();
        assert!(is_limited || is_gone, "prlimit of {pid}");
    }
}

fn a_used_up_descriptor_table_is_told() {
    let world = World::new();
    let closing = "[e]\nsequence = 2\nstart_command = true\ncmd_timeout = 1\nstop_command = touch @/closed";
    let mut daemon = world.knockd(&format!("{DOOR}\n{closing}")).start();
    limit_descriptors(&daemon, None);
    expect_to_listen(&world, &daemon, "10.77.0.12");
    world.send([tcp(2)]);
    expect_complaint(&daemon, "pid.state: Too many open files");
    daemon.kill(Signal::SIGHUP);
    expect_complaint(&daemon, "knockd.conf: Too many open files");
    assert!(holds_within(seconds(30.0), || daemon.folder.join("closed").exists()), "{}", daemon.said());
    expect_to_listen(&world, &daemon, "10.77.0.13");
    limit_descriptors(&daemon, Some(1024));
    let again = "pid.state can be written again";
    assert!(holds_within(seconds(30.0), || daemon.raw_log().contains(again)), "{}", daemon.said());
    daemon.kill(Signal::SIGHUP);
    pause(0.5);
    expect_to_listen(&world, &daemon, "10.77.0.14");
    assert_eq!(daemon.stop(), Some(0));
}

/// Nothing rings when there is room again.
fn an_interface_that_comes_back_when_no_descriptor_is_free_is_listened_on_later() {
    let complaint = "could not open extra0: packet socket: Too many open files";
    for is_removed in [false, true] {
        let world = World::new();
        let mut daemon = world.knockd(DOOR).interface(Some("knk0,extra0")).start();
        limit_descriptors(&daemon, None);
        if is_removed {
            world.server.add_link("extra0", InfoKind::Bridge);
            daemon.wait_for(complaint);
            world.server.delete_link("extra0");
            daemon.wait_for("extra0 is gone");
        }
        world.server.add_link("extra0", InfoKind::Bridge);
        world.server.up("extra0");
        let times = 1 + usize::from(is_removed);
        daemon.wait_for_times(times, complaint);
        pause(2.2);
        // Once, however often it is tried.
        assert_eq!(daemon.raw_log().matches(complaint).count(), times, "{}", daemon.said());
        expect_to_listen(&world, &daemon, "10.77.0.12");
        limit_descriptors(&daemon, Some(1024));
        let looks = || {
            daemon.raw_log().contains("extra0 has no carrier")
                || daemon.raw_log().contains("listening on extra0")
        };
        assert!(holds_within(seconds(30.0), looks), "{}", daemon.said());
        expect_to_listen(&world, &daemon, "10.77.0.13");
        assert_eq!(daemon.stop(), Some(0));
    }
}

/// What a process and those it started have used, in hundredths of a second.
fn ticks(daemon: &RunningDaemon) -> u64 {
    daemon.descendants().iter().map(|it| it.pid).chain([daemon.pid]).map(process::ticks).sum()
}

#[track_caller]
fn expect_idle(daemon: &RunningDaemon) {
    let before = ticks(daemon);
    pause(1.0);
    let used = ticks(daemon) - before;
    assert!(used < 20, "{used} hundredths of a second in one; {}", daemon.said());
}

/// `poll` does not take more descriptors than a process may have: then it fails at once.
fn fewer_descriptors_than_are_in_use_make_nobody_busy() {
    let world = World::new();
    let mut daemon = world.knockd(&format!("{DOOR}\n")).start();
    limit_descriptors(&daemon, Some(1));
    expect_idle(&daemon);
    world.send([tcp(1)]);
    daemon.wait_for("10.77.0.2: d: OPEN SESAME");
    limit_descriptors(&daemon, Some(1024));
    expect_to_listen(&world, &daemon, "10.77.0.14");
    limit_descriptors(&daemon, Some(1));
    assert_eq!(daemon.stop(), Some(0));
}

/// The first could not be written, and the next is another daemon's.
fn trouble_with_one_state_file_makes_nobody_busy_with_another() {
    let (world, disk) = (World::new(), Disk::new("64k"));
    let other = world.knockd("[other]\nsequence = 9\ncommand = true").start();
    let path = disk.path.join("state").display().to_string();
    let doors =
        format!("{DOOR}\n[e]\nsequence = 2\nstart_command = true\ncmd_timeout = 60\nstop_command = true");
    let mut daemon = world.knockd(&doors).options(&format!("statefile = {path}")).start();
    disk.fill();
    world.send([tcp(2)]);
    expect_complaint(&daemon, "could not write the state file");
    let text = fs::read_to_string(&daemon.config).unwrap();
    let taken = other.folder.join("pid.state").display().to_string();
    fs::write(&daemon.config, text.replace(&path, &taken)).unwrap();
    daemon.kill(Signal::SIGHUP);
    expect_complaint(&daemon, "another daemon has it");
    // Until what was to be tried again is due.
    pause(5.2);
    expect_idle(&daemon);
    disk.empty();
    assert_eq!(daemon.stop(), Some(0));
}

fn a_full_disk_is_told_of_the_state_file() {
    let (world, disk) = (World::new(), Disk::new("64k"));
    let doors = "[d]\nsequence = 1\nstart_command = echo %IP% >> @/out\ncmd_timeout = 1\nstop_command = touch @/closed";
    let daemon = world.knockd(doors).options(&format!("statefile = {}/state", disk.path())).start();
    disk.fill();
    expect_to_listen(&world, &daemon, "10.77.0.12");
    let complaint = format!("could not write the state file {}/state: No space left on device", disk.path());
    daemon.wait_for(&complaint);
    assert_eq!(daemon.stderr().matches(&complaint).count(), 1);
    assert!(holds_within(seconds(30.0), || daemon.folder.join("closed").exists()), "{}", daemon.said());
    disk.empty();
    let again = "can be written again";
    assert!(holds_within(seconds(30.0), || daemon.raw_log().contains(again)), "{}", daemon.said());
}

fn a_read_only_state_file_is_told() {
    let (world, disk) = (World::new(), Disk::new("64k"));
    disk.set_read_only(true);
    let daemon = world.knockd(DOOR).options(&format!("statefile = {}/state", disk.path())).start();
    daemon.wait_for(&format!("could not claim the state file {}/state: Read-only file system", disk.path()));
    expect_to_listen(&world, &daemon, "10.77.0.12");
}

fn a_read_only_one_time_file_keeps_its_door_shut() {
    let (world, disk) = (World::new(), Disk::new("64k"));
    let file = disk.path.join("once");
    fs::write(&file, " 5,6\n 7,8\n").unwrap();
    let doors = format!("{DOOR}\n[o]\none_time_sequences = {}\ncommand = echo o >> @/once", file.display());
    let daemon = world.knockd(&doors).start();
    disk.set_read_only(true);
    world.send([tcp(5), tcp(6)]);
    let says = "o: could not strike the used line in";
    daemon.wait_for(says);
    daemon.wait_for("Read-only file system --> the door stays shut");
    expect_to_listen(&world, &daemon, "10.77.0.12");
    disk.set_read_only(false);
    // The line that was seen on the wire is passed over.
    world.send([tcp(7), tcp(8)]);
    daemon.wait_for_file("once", "o\n");
    assert_eq!(read(&file), " 5,6\n#7,8\n");
}
