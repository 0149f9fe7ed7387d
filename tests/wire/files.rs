//! Files that the daemon writes: their modes, and what strangers put in their place.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};

use crate::support::daemon::RunningDaemon;
use crate::support::folder::{Folder, read};
use crate::support::packet::tcp;
use crate::support::process;
use crate::support::world::World;
use crate::support::{holds_within, seconds};

trials![
    the_modes_are_the_same_whatever_the_umask,
    a_strangers_link_in_place_of_the_log_is_not_followed,
    a_strangers_link_in_place_of_the_pid_file_is_not_followed,
    another_name_of_a_file_is_not_written_in_a_shared_folder,
    our_own_link_is_followed,
];

/// A folder like /tmp.
fn shared() -> Folder {
    let folder = Folder::new();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
    folder
}

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

fn the_modes_are_the_same_whatever_the_umask() {
    for umask in ["000", "077", "0777"] {
        let world = World::new();
        let through = ["sh", "-c", &format!("umask {umask}; exec \"$@\""), "sh"];
        let knockd = world.knockd("[d]\nsequence = 1\ncommand = true\ncmd_timeout = 60\nstop_command = true");
        let daemon = knockd.through(&through).start_in_background();
        world.send([tcp(1)]);
        daemon.wait_for("running command: true");
        assert_eq!(mode(&daemon.log), 0o640, "{umask}");
        assert_eq!(mode(&daemon.folder.join("pid")), 0o644, "{umask}");
        let state = daemon.folder.join("pid.state");
        assert!(holds_within(seconds(30.0), || state.exists()), "{}", daemon.said());
        assert_eq!(mode(&state), 0o600, "{umask}");
        fs::set_permissions(&daemon.log, Permissions::from_mode(0o604)).unwrap();
        daemon.kill(nix::sys::signal::Signal::SIGHUP);
        daemon.wait_for("re-reading config file");
        daemon.sync();
        assert_eq!(mode(&daemon.log), 0o604, "the mode of a log that is there");
    }
}

/// A daemon with this log, which listens.
fn start<'w>(world: &'w World, log: &str) -> RunningDaemon<'w> {
    let knockd = world.knockd("").without_sync().without_log();
    knockd.options(&format!("logfile = {log}")).arguments(&["-v"]).start()
}

/// A link of user 61234; false if there can be none.
fn strangers_link(target: &std::path::Path, link: &std::path::Path) -> bool {
    symlink(target, link).unwrap();
    let is_made = lchown(link, Some(61234), None).is_ok();
    if !is_made {
        eprintln!("not tried: no link can belong to user 61234 here");
    }
    is_made
}

fn a_strangers_link_in_place_of_the_log_is_not_followed() {
    let (world, place) = (World::new(), shared());
    let target = place.write("target", "mine\n");
    if !strangers_link(&target, &place.join("log")) {
        return;
    }
    let log = place.join("log").display().to_string();
    let daemon = start(&world, &log);
    let says = format!(
        "warning: cannot open logfile: the link {log} belongs to user 61234, and root uses only its own; chown -h root {log}"
    );
    assert!(daemon.stderr().contains(&says), "{}", daemon.said());
    assert_eq!(place.read("target"), "mine\n");
}

fn a_strangers_link_in_place_of_the_pid_file_is_not_followed() {
    let (world, place) = (World::new(), shared());
    let target = place.write("target", "mine\n");
    if !strangers_link(&target, &place.join("pid")) {
        return;
    }
    let pid = place.join("pid").display().to_string();
    let mut daemon = world.knockd("").options(&format!("pidfile = {pid}")).arguments(&["-d"]).launch();
    daemon.wait_for(&format!("could not create pid file {pid}: the link {pid} belongs to user 61234"));
    // It did not write its number down.
    let config = daemon.config.display().to_string();
    let is_ours = |pid: &i32| read(format!("/proc/{pid}/cmdline").as_ref()).contains(&config);
    daemon.pid = process::all().find(|pid| is_ours(pid) && *pid != daemon.pid).unwrap();
    assert_eq!(place.read("target"), "mine\n");
}

/// A stranger can give a file of root's a second name.
fn another_name_of_a_file_is_not_written_in_a_shared_folder() {
    let (world, place) = (World::new(), shared());
    let target = place.write("target", "mine\n");
    fs::hard_link(&target, place.join("log")).unwrap();
    let daemon = start(&world, &place.join("log").display().to_string());
    let says = "cannot open logfile: it has another name, in a folder that others can write";
    assert!(daemon.stderr().contains(says), "{}", daemon.said());
    assert_eq!(place.read("target"), "mine\n");
}

/// Also to a file that is still to be made.
fn our_own_link_is_followed() {
    let (world, place) = (World::new(), shared());
    symlink(place.join("target"), place.join("log")).unwrap();
    let log = place.join("log").display().to_string();
    let daemon = start(&world, &log);
    let is_written = holds_within(seconds(30.0), || place.read("target").contains("starting up"));
    assert!(is_written, "{}", daemon.said());
}
