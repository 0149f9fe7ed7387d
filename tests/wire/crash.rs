//! What outlives a crash or a reboot beside the doors that stand open, and what a state file of an earlier boot
//! means.

use std::fs;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use knocking::door::spa::replay::Used;
use knocking::opening::admission_id::ByAdmission;
use knocking::opening::state::{Cooldown, Moment, State};
use knocking::opening::text::{Text, write};
use knocking::opening::{Key, Phase, Stop};
use knocking::time::Now;
use nix::sys::signal::Signal;

use crate::support::daemon::RunningDaemon;
use crate::support::folder::Folder;
use crate::support::packet::tcp;
use crate::support::world::{SERVER_LINK, World};
use crate::support::{holds_within, pause, seconds};
use crate::wire::state::{door, expect_closed, kill_all, with_state};

trials![
    the_state_file_is_replaced_as_a_whole,
    cooldowns_go_on_after_a_crash,
    after_a_reboot_what_is_overdue_closes_at_once_and_the_rest_on_time,
    cooldowns_go_on_after_a_reboot,
    a_watcher_that_begins_after_a_reload_listens_where_the_last_one_did,
    a_new_watcher_has_the_configuration_that_is_in_force,
];

/// By rename: a reader that has the old one open still sees its content. One line an opening.
fn the_state_file_is_replaced_as_a_whole() {
    let (world, place) = (World::new(), Folder::new());
    let daemon = with_state(&world, &place, &door(60)).start();
    let read = |text: &str| {
        let now = Now { uptime: Duration::ZERO, unix: Duration::ZERO };
        Text::read(text.as_bytes(), Moment { now, boot: "" })
    };
    let openings = |text: &str| State::of(Some(read(text)), None).openings.len();
    let opened = |count: usize| {
        let there = || openings(&place.read("state")) == count && !place.join("state.new").exists();
        assert!(holds_within(seconds(30.0), there), "{:?}; {}", place.read("state"), daemon.said());
    };
    world.send([tcp(1)]);
    opened(1);
    let mut old = fs::File::open(place.join("state")).unwrap();
    world.send([tcp(1).from("10.77.0.12"), tcp(1).from("10.77.0.13")]);
    opened(3);
    let mut text = String::new();
    old.read_to_string(&mut text).unwrap();
    assert_eq!(openings(&text), 1, "{text}");
    for text in [text, place.read("state")] {
        assert!(text.starts_with("knockd-state 2 "), "{text}");
        assert!(read(&text).is_whole, "{text}");
    }
}

/// A door that listens to nobody for so many seconds after he opened it.
fn cool(seconds: u32) -> String {
    format!("[d]\nsequence = 1\ncooldown = {seconds}\ncommand = echo %IP% >> {{}}/out")
}

/// Is knocked at once more, and stays shut.
#[track_caller]
fn expect_ignored(world: &World, daemon: &RunningDaemon, place: &Folder, wanted: &str) {
    world.send([tcp(1)]);
    daemon.sync();
    pause(0.2);
    assert_eq!(place.read("out"), wanted, "{}", daemon.said());
}

/// Of all processes, and of the watcher alone.
fn cooldowns_go_on_after_a_crash() {
    let (world, place) = (World::new(), Folder::new());
    let mut daemon = with_state(&world, &place, &cool(6)).start();
    world.send([tcp(1)]);
    let began = Instant::now();
    expect_closed(&place, "10.77.0.2\n");
    kill_all(&mut daemon);
    daemon = with_state(&world, &place, &cool(6)).start();
    expect_ignored(&world, &daemon, &place, "10.77.0.2\n");
    // The next watcher knows as well.
    daemon.replace_watcher();
    expect_ignored(&world, &daemon, &place, "10.77.0.2\n");
    world.send([tcp(1).from("10.77.0.12")]);
    assert!(
        holds_within(seconds(30.0), || place.read("out") == "10.77.0.2\n10.77.0.12\n"),
        "{}",
        daemon.said()
    );
    kill_all(&mut daemon);
    daemon = with_state(&world, &place, &cool(6)).start();
    assert!(began.elapsed() < seconds(5.5), "too slow to show anything");
    expect_ignored(&world, &daemon, &place, "10.77.0.2\n10.77.0.12\n");
    // It is over in its time.
    std::thread::sleep(seconds(6.1).saturating_sub(began.elapsed()));
    world.send([tcp(1)]);
    expect_closed(&place, "10.77.0.2\n10.77.0.12\n10.77.0.2\n");
}

/// A moment of another boot, in which the machine had run for long, so many seconds ago.
fn before_the_reboot(ago: u64) -> Now {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Now { uptime: Duration::from_hours(50_000), unix: unix.saturating_sub(Duration::from_secs(ago)) }
}

const BOOT: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// The packets that were used, as a machine finds them after a reboot. No daemon runs.
pub fn reboot(place: &Folder) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let now = before_the_reboot(0);
    let read = |name: &str| {
        let text = fs::read(place.join(name)).ok()?;
        Some(Text::read(&text, Moment { now, boot: boot.trim() }))
    };
    let State { used, .. } = State::of(read("state"), read("state.new"));
    assert!(used.packets().count() > 0, "{}{}", place.read("state"), place.read("state.new"));
    let _ = fs::remove_file(place.join("state.new"));
    place.write("state", write(&[], &[], &ByAdmission::new(), &[], &used, Moment { now, boot: BOOT }));
}

/// The machine went down while four doors stood open or were just closed, and is up again 100 seconds later.
fn after_a_reboot_what_is_overdue_closes_at_once_and_the_rest_on_time() {
    let (world, place) = (World::new(), Folder::new());
    let now = before_the_reboot(100);
    let out = place.path().display().to_string();
    let stop = |knocker: &str, left: u64, after: u64| Stop {
        access: None,
        key: Key { origin: 7, number: left + 1 },
        door: Arc::from("gone"),
        knocker: knocker.parse().unwrap(),
        command: format!("echo {knocker} >> {out}/out").into_bytes(),
        after: Duration::from_secs(after),
        limit: None,
        due: now.uptime + Duration::from_secs(left),
    };
    let stops = [
        stop("10.77.0.1", 50, 60),
        stop("10.77.0.2", 103, 3600),
        stop("10.77.0.3", 3600, 3600),
        stop("10.77.0.4", 0, 60),
    ];
    let standing = [
        (Phase::Open, &stops[0]),
        (Phase::Open, &stops[1]),
        (Phase::Open, &stops[2]),
        // Its stop command was running.
        (Phase::Closing(None), &stops[3]),
    ];
    place.write(
        "state",
        write(&standing, &[], &ByAdmission::new(), &[], &Used::default(), Moment { now, boot: BOOT }),
    );
    let began = Instant::now();
    let mut daemon = with_state(&world, &place, "").start();
    daemon.wait_for_times(4, ": gone: still open");
    let closed = || {
        let mut lines: Vec<String> = place.read("out").lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert!(holds_within(seconds(2.0), || closed() == ["10.77.0.1", "10.77.0.4"]), "{:?}", closed());
    let on_time = || closed() == ["10.77.0.1", "10.77.0.2", "10.77.0.4"];
    assert!(holds_within(seconds(30.0), on_time), "{:?}", closed());
    assert!(began.elapsed() > seconds(1.8), "too early");
    pause(0.5);
    assert!(on_time(), "{:?}", closed());
    // What is left is a matter of this boot now.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let mine = format!("knockd-state 2 {}", boot.trim());
    assert!(
        holds_within(seconds(30.0), || place.read("state").starts_with(&mine)),
        "{}",
        place.read("state")
    );
    assert!(place.read("state").contains(" 10.77.0.3 gone "), "{}", place.read("state"));
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(closed().len(), 4);
}

fn cooldowns_go_on_after_a_reboot() {
    let (world, place) = (World::new(), Folder::new());
    let now = before_the_reboot(100);
    let cooldown = |knocker: &str, left: u64| Cooldown {
        door: Arc::from("d"),
        knocker: knocker.parse().unwrap(),
        after: Duration::from_mins(10),
        until: now.uptime + Duration::from_secs(left),
    };
    let cooldowns = [cooldown("10.77.0.2", 104), cooldown("10.77.0.12", 50)];
    place.write(
        "state",
        write(&[], &cooldowns, &ByAdmission::new(), &[], &Used::default(), Moment { now, boot: BOOT }),
    );
    let daemon = with_state(&world, &place, &cool(600)).start();
    world.send([tcp(1).from("10.77.0.12")]);
    assert!(holds_within(seconds(30.0), || place.read("out") == "10.77.0.12\n"), "{}", daemon.said());
    expect_ignored(&world, &daemon, &place, "10.77.0.12\n");
    pause(4.0);
    world.send([tcp(1)]);
    expect_closed(&place, "10.77.0.12\n10.77.0.2\n");
}

/// What the file named before is in force still, and a new watcher has never read it.
fn a_watcher_that_begins_after_a_reload_listens_where_the_last_one_did() {
    let world = World::new();
    let knockd = world.knockd("[d]\nsequence = 1\ncommand = echo %IP% >> @/out").interface(None);
    let daemon = knockd.options(&format!("interface = {SERVER_LINK}")).start();
    let text = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, text.replace("interface", "#interface")).unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("re-reading config file");
    daemon.sync();
    daemon.replace_watcher();
    world.send([tcp(1)]);
    daemon.wait_for_file("out", "10.77.0.2\n");
}

/// Not what the file says by now: that may be half written, or another door's number.
fn a_new_watcher_has_the_configuration_that_is_in_force() {
    let (world, place) = (World::new(), Folder::new());
    let mut daemon = with_state(&world, &place, &door(60)).start();
    let text = fs::read_to_string(&daemon.config).unwrap();
    for edited in ["nonsense".to_owned(), text.replace("[d]", "[e]\nsequence = 2\ncommand = touch {}/e\n[d]")]
    {
        fs::write(&daemon.config, edited).unwrap();
        daemon.replace_watcher();
        world.send([tcp(1)]);
        daemon.wait_for("d: running command: true");
        world.send([tcp(2)]);
        daemon.sync();
    }
    daemon.wait_for_times(2, "d: running command: true");
    assert!(!daemon.raw_log().contains(": e: "), "{}", daemon.said());
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(place.read("out"), "10.77.0.2\n10.77.0.2\n");
}
