//! A log, a standard output and a syslog that nobody reads: the daemon goes on, and what is missing is counted.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::libc::O_NONBLOCK;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::daemon::RunningDaemon;
use crate::support::packet::tcp;
use crate::support::world::World;
use crate::support::{holds_within, seconds};

trials![
    nobody_reads_syslog,
    nobody_reads_a_log_that_is_a_pipe,
    nobody_reads_standard_output,
    a_log_that_is_a_pipe_without_a_reader_is_told,
    a_log_that_reached_the_size_limit_is_told,
];

/// A door that writes lines and does nothing else, and one that is to be closed.
const DOORS: &str = "[q]\nsequence = 2,3\n[d]\nsequence = 1\nstart_command = echo %IP% >> @/in\ncmd_timeout = 1\n\
                     stop_command = echo %IP% >> @/out";

/// Knocks that give more lines than any queue of the kernel holds.
fn cause_lines(world: &World) {
    for batch in 0..40_u8 {
        let source = |n: u8| format!("10.77.{}.{n}", batch + 1);
        world.send((1..=100).flat_map(|n| [2, 3].map(|port| tcp(port).from(&source(n)))));
    }
}

/// Such knocks, and then a door: it opens, and it closes.
#[track_caller]
fn expect_to_serve(world: &World, daemon: &mut RunningDaemon) {
    cause_lines(world);
    for source in ["10.77.0.12", "10.77.0.13"] {
        let is_in = |name: &str| daemon.read(name).lines().any(|line| line == source);
        let opens = holds_within(seconds(30.0), || {
            world.send([tcp(1).from(source)]);
            is_in("in")
        });
        assert!(opens, "deaf");
        assert!(holds_within(seconds(30.0), || is_in("out")), "not closed");
    }
    assert_eq!(daemon.stop(), Some(0));
}

fn nobody_reads_syslog() {
    let world = World::new();
    let knockd = world.knockd(DOORS).options("UseSyslog").without_log();
    let place = knockd.folder().join("log-socket");
    let syslog = UnixDatagram::bind(&place).unwrap();
    let mut daemon = knockd.without_sync().replacing("/dev", "log", &place).arguments(&["-v"]).start();
    expect_to_serve(&world, &mut daemon);
    drop(syslog);
}

/// A pipe whose reading end is open, and not read.
fn pipe(path: &Path) -> File {
    mkfifo(path, Mode::S_IRWXU).unwrap();
    OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).unwrap()
}

fn nobody_reads_a_log_that_is_a_pipe() {
    let world = World::new();
    let knockd = world.knockd(DOORS).without_log().without_sync().options("logfile = @/pipe");
    let mut reader = pipe(&knockd.folder().join("pipe"));
    let mut daemon = knockd.arguments(&["-v"]).start();
    expect_to_serve(&world, &mut daemon);
    let mut text = vec![0; 1 << 16];
    assert!(reader.read(&mut text).unwrap() > 10_000);
    assert!(text.starts_with(b"["), "{:?}", String::from_utf8_lossy(&text[..100]));
}

/// Neither standard output nor standard error, which is one and the same pipe here.
fn nobody_reads_standard_output() {
    let world = World::new();
    let knockd = world.knockd(DOORS).without_sync().arguments(&["-v"]);
    let _reader = pipe(&knockd.folder().join("pipe"));
    let through = ["sh", "-c", "exec \"$0\" \"$@\" >pipe 2>&1"];
    let mut daemon = knockd.through(&through).start();
    // More lines reach the log than fit into the pipe. On a busy machine packets are lost, so they come again.
    let fills_log = || {
        cause_lines(&world);
        holds_within(seconds(2.0), || daemon.raw_log().matches(": q: OPEN SESAME").count() >= 3500)
    };
    assert!(holds_within(seconds(60.0), fills_log), "{}", daemon.raw_log().len());
    expect_to_serve(&world, &mut daemon);
}

fn a_log_that_is_a_pipe_without_a_reader_is_told() {
    let world = World::new();
    let knockd = world.knockd(DOORS).without_log().without_sync().options("logfile = @/pipe");
    let path = knockd.folder().join("pipe");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    let mut daemon = knockd.arguments(&["-v"]).start();
    let says = "warning: cannot open logfile: No such device or address";
    assert!(holds_within(seconds(30.0), || daemon.stderr().contains(says)), "{}", daemon.said());
    expect_to_serve(&world, &mut daemon);
}

/// Writing beyond it sends a signal that ends a program (SIGXFSZ) unless it takes care.
fn a_log_that_reached_the_size_limit_is_told() {
    let world = World::new();
    let knockd = world.knockd(DOORS).without_sync().through(&["prlimit", "--fsize=20000"]);
    let mut daemon = knockd.start();
    expect_to_serve(&world, &mut daemon);
    assert!(daemon.stderr().contains("knockd.log: File too large"), "{}", daemon.stderr());
}
