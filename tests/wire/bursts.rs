//! Bursts of packets: they are batched, and then read from a ring.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use knocking::config::{Config, Reading};
use knocking::daemon::capture::netlink;
use knocking::daemon::capture::socket::{Capture, Taken, open_unbound};
use knocking::filter::bursts::RING_HOLD_TIME;
use knocking::filter::interest::Interest;
use knocking::filter::interfaces::Wanted;
use knocking::filter::trouble::{Code, Operation, Trouble};

use crate::support::capture::Sender;
use crate::support::daemon::RunningDaemon;
use crate::support::packet::{tcp, udp};
use crate::support::process;
use crate::support::world::{CLIENT_LINK, SERVER_LINK, World};
use crate::support::{holds_within, pause, seconds};
use crate::wire::attempts::{DOOR, KNOCKS};
use crate::wire::trouble::limit_descriptors;

trials![
    packets_come_once_whichever_way_they_come,
    packets_come_once_where_changes_follow_each_other,
    a_flood_is_read_from_a_ring,
    without_a_ring_it_goes_on,
    what_cannot_be_given_back_is_tried_again_later,
    a_ring_is_given_back_after_a_calm_minute
];

/// Whether the daemon shares memory with a packet socket.
fn has_ring(daemon: &RunningDaemon<'_>) -> bool {
    let watcher = daemon.watcher().expect("a watcher");
    let maps = fs::read_to_string(format!("/proc/{watcher}/maps")).expect("the watcher's mappings");
    maps.lines().any(|line| line.contains("socket:"))
}

#[track_caller]
fn opens(world: &World, daemon: &RunningDaemon<'_>, source: &str) {
    world.send(KNOCKS.map(|port| tcp(port).from(source)));
    daemon.wait_for(&format!("{source}: d: OPEN SESAME"));
}

/// First knocks of strangers, until a ring is used or three seconds are over.
fn flood_until_ring(world: &World, daemon: &RunningDaemon<'_>) -> bool {
    flood_until(world, seconds(3.0), || has_ring(daemon))
}

/// First knocks of strangers, until the condition holds or the time is over; returns whether it holds.
fn flood_until(world: &World, time: Duration, holds: impl Fn() -> bool) -> bool {
    let mut n = 0_u32;
    holds_within(time, || {
        for _ in 0..500 {
            n += 1;
            let [_, a, b, c] = n.to_be_bytes();
            world.send([tcp(KNOCKS[0]).from(&format!("11.{a}.{b}.{c}"))]);
        }
        holds()
    })
}

/// Ends the sender, whatever becomes of the test.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn packets_come_once_whichever_way_they_come() {
    packets_come_once(400, 0);
}

/// Some packets wait all the time, so that the socket of a change is still there at the next.
fn packets_come_once_where_changes_follow_each_other() {
    packets_come_once(10, 7);
}

/// `between` packets come between two changes, of which `left` wait at the next. Every packet has another source address. A hole is one that was lost, a step back one that came twice.
fn packets_come_once(between: u32, left: u32) {
    const CHANGES: u32 = 6;
    const FIRST: u32 = 0xb00_0000;
    let world = World::new();
    let mut sender = Sender::new(&world.client, CLIENT_LINK);
    let is_over = AtomicBool::new(false);
    let next = AtomicU32::new(FIRST);
    let (sources, changes): (Vec<u32>, Vec<usize>) = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let source = std::net::Ipv4Addr::from(next.load(Ordering::Relaxed)).to_string();
                sender.send(&udp(1000).from(&source).frame());
                next.fetch_add(1, Ordering::Relaxed);
                // Not more than a small queue holds while the sockets change, on a busy machine too.
                thread::sleep(Duration::from_millis(1));
            }
        });
        let _over = Over(&is_over);
        world.server.run(|| {
            // A socket that a change has closed is really closed then: a group whose first member lives on goes wrong.
            process::share_no_descriptors();
            let mut file = |_: &Path| -> io::Result<Vec<u8>> { Ok(Vec::new()) };
            let reading = Reading { file: &mut file, note: &mut |_| {}, interface_is_given: false };
            let text = "[d]\nsequence = 1000:udp,1001:udp\n";
            let doors = Config::parse(text.as_bytes(), reading).expect("a configuration").doors;
            let interest = Interest::of(&doors, 0);
            let scene = netlink::scene(false).expect("the interfaces");
            let layout = Wanted::parse(SERVER_LINK).expect("an interface").layout(&scene);
            let interface = scene.interfaces.iter().find(|it| it.name == SERVER_LINK).expect("ours").clone();
            let mut sockets = || open_unbound().map_err(|error| Code::of(&error));
            let mut capture =
                Capture::open(interface, &layout, &interest, false, &mut sockets).expect("a capture");
            let (mut sources, mut changes) = (Vec::new(), Vec::new());
            let end = Instant::now() + Duration::from_secs(30);
            for change in 0..=CHANGES {
                let last = next.load(Ordering::Relaxed) + between;
                while left > 0 && next.load(Ordering::Relaxed) < last {
                    thread::sleep(Duration::from_millis(1));
                }
                while sources.last().is_none_or(|source| *source < last - left) {
                    match capture.take() {
                        Taken::Knock(knock) => {
                            let IpAddr::V4(source) = knock.source else { panic!("{knock:?}") };
                            sources.push(u32::from(source));
                        }
                        Taken::Other => panic!("no knock"),
                        Taken::Nothing if Instant::now() > end => panic!("deaf after change {change}"),
                        Taken::Nothing => thread::sleep(Duration::from_micros(200)),
                    }
                }
                if change < CHANGES {
                    let had_ring = capture.has_ring();
                    assert_eq!(had_ring, change % 2 == 1, "before change {change}");
                    changes.push(sources.len());
                    // A change can fail, and has on a busy machine; the daemon tries again later, too.
                    while capture.has_ring() == had_ring {
                        assert!(Instant::now() < end, "no change {change}");
                        capture.change(&layout, &interest, Duration::ZERO, &mut sockets);
                    }
                }
            }
            (sources, changes)
        })
    });
    // The first time, the socket is deaf while it enters the group: that is long where the processor is taken away.
    let is_first = |at: &usize| (changes[0]..changes[1]).contains(&(at + 1));
    let mut breaks: Vec<usize> = (1..sources.len()).map(|at| at - 1).collect();
    breaks.retain(|at| sources[at + 1] != sources[*at] + 1);
    let is_hole = |at: &usize| sources[at + 1] > sources[*at];
    if breaks.first().is_some_and(|at| is_first(at) && is_hole(at)) {
        breaks.remove(0);
    }
    let pairs: Vec<_> = breaks.iter().map(|at| &sources[*at..at + 2]).collect();
    assert!(pairs.is_empty(), "{pairs:x?}");
}

fn a_flood_is_read_from_a_ring() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    opens(&world, &daemon, "10.77.0.12");
    assert!(!has_ring(&daemon), "a knock needs no ring");
    assert!(flood_until_ring(&world, &daemon), "a flood, and no ring");
    opens(&world, &daemon, "10.77.0.13");
    // What puts an error on the socket does so here as well.
    world.server.down(SERVER_LINK);
    assert!(holds_within(seconds(30.0), || daemon.raw_log().contains("is down")), "{}", daemon.raw_log());
    world.server.up(SERVER_LINK);
    world.server.wait_until_running(SERVER_LINK);
    world.client.wait_until_running(CLIENT_LINK);
    assert!(has_ring(&daemon));
    opens(&world, &daemon, "10.77.0.14");
}

/// Nothing comes that would remind the daemon of it.
fn a_ring_is_given_back_after_a_calm_minute() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    assert!(flood_until_ring(&world, &daemon), "a flood, and no ring");
    // The flood may have taken breath.
    pause(RING_HOLD_TIME.as_secs_f64() / 2.0);
    assert!(has_ring(&daemon), "the ring is given back at once");
    assert!(holds_within(RING_HOLD_TIME + seconds(15.0), || !has_ring(&daemon)), "the ring is kept");
    opens(&world, &daemon, "10.77.0.12");
}

/// It is not tried again at once, which would be for ever.
fn what_cannot_be_given_back_is_tried_again_later() {
    let world = World::new();
    world.server.run(|| {
        let mut file = |_: &Path| -> io::Result<Vec<u8>> { Ok(Vec::new()) };
        let reading = Reading { file: &mut file, note: &mut |_| {}, interface_is_given: false };
        let doors = Config::parse(b"[d]\nsequence = 1000\n", reading).expect("a configuration").doors;
        let interest = Interest::of(&doors, 0);
        let scene = netlink::scene(false).expect("the interfaces");
        let layout = Wanted::parse(SERVER_LINK).expect("an interface").layout(&scene);
        let interface = scene.interfaces.iter().find(|it| it.name == SERVER_LINK).expect("ours").clone();
        let mut sockets = || open_unbound().map_err(|error| Code::of(&error));
        let mut capture =
            Capture::open(interface, &layout, &interest, false, &mut sockets).expect("a capture");
        let second = Duration::from_secs(1);
        // Thick enough for a ring, and then calm for long.
        capture.bursts.record(1000, true, second);
        assert!(capture.is_to_change(second));
        capture.change(&layout, &interest, second, &mut sockets);
        assert!(capture.has_ring() && !capture.is_to_change(second));
        // Nothing is left from before the change.
        assert!(matches!(capture.take(), Taken::Nothing));
        let later = second + RING_HOLD_TIME;
        assert_eq!(capture.next_change(), Some(later));
        assert!(capture.is_to_change(later));
        // Nothing to wait for, once they come thin again.
        capture.bursts.record(1, true, later);
        assert_eq!(capture.next_change(), Some(Duration::ZERO));
        // The interface is not there any more.
        let index = std::mem::replace(&mut capture.interface.index, 4_000_000);
        let is_told = |trouble| matches!(trouble, Some(Trouble::Switch(name, Operation::Bind, _)) if name == SERVER_LINK);
        assert!(is_told(capture.change(&layout, &interest, later, &mut sockets)));
        assert!(capture.has_ring() && !capture.is_to_change(later));
        assert_eq!(capture.next_change(), Some(later + RING_HOLD_TIME));
        let later = later + RING_HOLD_TIME;
        assert!(capture.is_to_change(later));
        // It is told once, until a change succeeds.
        assert_eq!(capture.change(&layout, &interest, later, &mut sockets), None);
        assert!(capture.has_ring());
        capture.interface.index = index;
        assert_eq!(capture.change(&layout, &interest, later, &mut sockets), None);
        assert!(!capture.has_ring());
        assert!(matches!(capture.take(), Taken::Nothing));
        capture.interface.index = 4_000_000;
        assert!(is_told(capture.change(&layout, &interest, later, &mut sockets)));
    });
}

fn without_a_ring_it_goes_on() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    // No further descriptor, and so no second socket.
    limit_descriptors(&daemon, None);
    let line =
        format!("could not switch {SERVER_LINK} between socket and ring: packet socket: Too many open files");
    let is_told = flood_until(&world, seconds(30.0), || daemon.raw_log().contains(&line));
    assert!(is_told, "{}", daemon.said());
    assert!(!flood_until_ring(&world, &daemon), "a ring without a descriptor");
    opens(&world, &daemon, "10.77.0.12");
    assert_eq!(daemon.raw_log().matches(&line).count(), 1, "{}", daemon.raw_log());
}
