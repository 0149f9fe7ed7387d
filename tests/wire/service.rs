//! What the service manager learns: readiness, a reload, the end, exit codes.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};

use crate::support::packet::tcp;
use crate::support::world::World;
use crate::support::{pause, seconds};
use crate::wire::trouble::{DOOR, expect_to_listen};

trials![
    a_service_manager_is_told,
    a_service_manager_that_is_gone_is_no_trouble,
    exit_code_0_only_after_a_clean_stop,
];

fn a_service_manager_is_told() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\ncommand = echo \"socket '$NOTIFY_SOCKET'\" > @/out\n[e]\nsequence = 2\n\
        start_command = true\ncmd_timeout = 60\nstop_command = sleep 1; touch @/closed";
    let knockd = world.knockd(doors);
    let place = knockd.folder().join("manager");
    let manager = UnixDatagram::bind(&place).unwrap();
    manager.set_read_timeout(Some(seconds(5.0))).unwrap();
    let told = || {
        let mut bytes = [0; 256];
        let length = manager.recv(&mut bytes).expect("a word");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let mut daemon = knockd.variable("NOTIFY_SOCKET", &place.display().to_string()).start();
    assert_eq!(told(), "READY=1\n");
    let clock = || Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap()).as_micros();
    let before = clock();
    daemon.kill(Signal::SIGHUP);
    let reloading = told();
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a time").trim().parse();
    assert!((before..=clock()).contains(&time.unwrap()), "{before} {reloading}");
    assert_eq!(told(), "READY=1\n");
    // A broken file as well ends in being ready.
    fs::write(&daemon.config, "nonsense").unwrap();
    daemon.kill(Signal::SIGHUP);
    assert!(told().starts_with("RELOADING=1\n"));
    assert_eq!(told(), "READY=1\n");
    world.send([tcp(1)]);
    daemon.wait_for_file("out", "socket ''\n");
    // Before the doors are closed, not after.
    world.send([tcp(2)]);
    daemon.wait_for("e: running command");
    daemon.kill(Signal::SIGTERM);
    assert_eq!(told(), "STOPPING=1\n");
    assert!(!daemon.folder.join("closed").exists());
    assert_eq!(daemon.wait(), Some(0));
    assert!(daemon.folder.join("closed").exists());
    manager.set_nonblocking(true).unwrap();
    assert!(manager.recv(&mut [0; 256]).is_err(), "there is nothing more to tell");
}

/// Nor is anybody told who is gone.
fn a_service_manager_that_is_gone_is_no_trouble() {
    let world = World::new();
    let knockd = world.knockd(DOOR);
    let place = knockd.folder().join("manager");
    let manager = UnixDatagram::bind(&place).unwrap();
    let mut daemon = knockd.variable("NOTIFY_SOCKET", &place.display().to_string()).start();
    drop(manager);
    daemon.kill(Signal::SIGHUP);
    fs::remove_file(&place).unwrap();
    daemon.kill(Signal::SIGHUP);
    expect_to_listen(&world, &daemon, "10.77.0.12");
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(daemon.stderr(), "");
}

/// So that `Restart=on-failure` is right: no stop command could be run, for want of a shell.
fn exit_code_0_only_after_a_clean_stop() {
    let world = World::new();
    let door = "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 60\nstop_command = true";
    let knockd = world.knockd(door);
    // A link, so that it can lead elsewhere later.
    let shell = knockd.folder().join("shell");
    std::os::unix::fs::symlink("/usr/bin/dash", &shell).unwrap();
    let mut daemon = knockd.replacing("/usr/bin", "sh", &shell).start();
    world.send([tcp(1)]);
    daemon.wait_for("running command: true");
    pause(0.2);
    fs::remove_file(&shell).unwrap();
    daemon.kill(Signal::SIGTERM);
    assert_eq!(daemon.wait(), Some(1));
    let says = "doors that are open could not be closed: d for 10.77.0.2; the next daemon with this state file closes them";
    assert!(daemon.stderr().contains(says) && daemon.raw_log().contains(says), "{}", daemon.said());
}
