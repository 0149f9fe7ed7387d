//! Interfaces, addresses and routes that come, go and change while the daemon runs.

use std::cell::RefCell;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};

use libtest_mimic::{Completion, Trial};
use netlink_packet_route::link::InfoKind;
use nix::sys::signal::Signal;

use crate::support::capture::Sender;
use crate::support::daemon::RunningDaemon;
use crate::support::packet::{CLIENT, CLIENT6, Mac, Packet, SERVER, SERVER_MAC, tcp, udp};
use crate::support::tun::Tun;
use crate::support::world::{CLIENT_LINK, SERVER_LINK, World, run};
use crate::support::{holds_within, pause, process, seconds};
use crate::wire::attempts::{DOOR, KNOCKS, opened};

trials![
    an_interface_that_goes_down_is_waited_for,
    what_changed_while_there_was_no_watcher_is_told,
    a_cable_that_is_pulled_is_waited_for,
    an_interface_that_is_made_anew_is_listened_on,
    a_renamed_interface_is_another,
    an_address_that_is_replaced_counts_at_once,
    an_ipv6_address_that_comes_counts_at_once,
    a_new_private_address_counts_beside_the_old_one,
    an_address_with_a_peer_counts_at_once,
    a_list_listens_on_each_of_them,
    a_list_waits_for_what_is_missing,
    any_hears_an_interface_that_comes_later,
    any_counts_a_bridge_and_its_port_once,
    any_counts_both_ends_of_a_cable_once,
    any_counts_loopback_once,
    any_counts_what_passes_through_once,
    any_counts_what_the_host_sends_to_a_target_once,
    redirected_knocks_count_where_the_manual_says,
    a_list_counts_a_bridge_and_its_port_once,
    a_port_of_a_bridge_is_pointed_out,
    an_alternative_name_is_a_name,
    an_interface_without_an_address_is_pointed_out,
    a_frame_for_another_machine_counts_there,
    auto_follows_the_default_route,
    auto_listens_on_the_routes_of_both_families,
    a_missing_interface_is_an_error_unless_it_may_be_missing,
    wait_interface_waits,
    wait_interface_no_waits_for_nothing,
    the_default_is_eth0,
    sighup_changes_interfaces,
    waiting_costs_nothing,
    who_waits_maps_little_code,
    changes_that_do_not_concern_us_change_nothing,
    everything_at_once_under_a_flood,
];

const OTHER_SERVER: &str = "10.78.0.1";
const OTHER_CLIENT: &str = "10.78.0.2";
const OTHER_MAC: Mac = [2, 0x78, 0, 0, 0, 1];

/// A second cable between server and client.
struct Cable<'w> {
    world: &'w World,
    name: &'static str,
    sender: RefCell<Sender>,
}

impl<'w> Cable<'w> {
    /// With addresses, up.
    fn new(world: &'w World, name: &'static str) -> Cable<'w> {
        let far = format!("{name}c");
        world.server.add_veth((name, OTHER_MAC), &world.client, (&far, [2, 0x78, 0, 0, 0, 2]));
        // Before it is up: code that sees it up finds the address, too.
        world.server.add_address(name, &format!("{OTHER_SERVER}/24"));
        world.server.up(name);
        world.client.up(&far);
        world.server.wait_until_running(name);
        world.client.wait_until_running(&far);
        let sender = RefCell::new(Sender::new(&world.client, &far));
        Cable { world, name, sender }
    }

    fn send(&self, packets: impl IntoIterator<Item = Packet>) {
        for packet in packets {
            let packet = packet.from(OTHER_CLIENT).to(OTHER_SERVER).mac(OTHER_MAC);
            self.sender.borrow_mut().send(&packet.frame());
        }
    }
}

impl Drop for Cable<'_> {
    fn drop(&mut self) {
        if self.world.server.try_index(self.name).is_some() {
            self.world.server.delete_link(self.name);
        }
    }
}

/// How often the log says this.
fn count(daemon: &RunningDaemon, text: &str) -> usize {
    daemon.lines().iter().filter(|line| line.contains(text)).count()
}

/// What the log says of interfaces.
fn changes(daemon: &RunningDaemon) -> Vec<String> {
    let told = |line: &String| {
        !line.starts_with("starting up") && (line.contains("listening on") || line.contains("waiting for"))
    };
    daemon.lines().into_iter().filter(told).collect()
}

#[track_caller]
fn expect_changes(daemon: &RunningDaemon, wanted: &[&str]) {
    let same = holds_within(seconds(30.0), || changes(daemon) == wanted);
    assert!(same, "{:?} instead of {wanted:?}; {}", changes(daemon), daemon.said());
}

fn an_interface_that_goes_down_is_waited_for() {
    let world = World::new();
    let mut daemon = world.knockd(DOOR).start();
    world.send([tcp(1000)]);
    daemon.sync();
    world.server.down(SERVER_LINK);
    daemon.wait_for("knk0 is down, waiting for it");
    world.server.up(SERVER_LINK);
    world.server.wait_until_running(SERVER_LINK);
    world.client.wait_until_running(CLIENT_LINK);
    // The attempt is still known.
    world.send([2000, 3000].map(tcp));
    daemon.wait_for("d: OPEN SESAME");
    expect_changes(&daemon, &["knk0 is down, waiting for it", "listening on knk0"]);
    assert_eq!(daemon.stop(), Some(0));
}

/// The watcher is halted while the interface changes, and the next one finds it changed. What did not change is not
/// told again.
fn what_changed_while_there_was_no_watcher_is_told() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    let unseen = |change: &dyn Fn()| {
        assert!(process::signal(daemon.watcher().unwrap(), Signal::SIGSTOP));
        change();
        daemon.replace_watcher();
    };
    unseen(&|| world.server.down(SERVER_LINK));
    daemon.wait_for("knk0 is down, waiting for it");
    unseen(&|| {});
    unseen(&|| {
        world.server.up(SERVER_LINK);
        world.server.wait_until_running(SERVER_LINK);
        world.client.wait_until_running(CLIENT_LINK);
    });
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("d: OPEN SESAME");
    unseen(&|| {});
    daemon.sync();
    expect_changes(&daemon, &["knk0 is down, waiting for it", "listening on knk0"]);
}

fn a_cable_that_is_pulled_is_waited_for() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.client.down(CLIENT_LINK);
    daemon.wait_for("knk0 has no carrier, waiting for it");
    world.client.up(CLIENT_LINK);
    daemon.wait_for_times(2, "listening on knk0");
    world.server.wait_until_running(SERVER_LINK);
    world.client.wait_until_running(CLIENT_LINK);
    // The sender of before has an error to tell.
    let mut sender = Sender::new(&world.client, CLIENT_LINK);
    for port in KNOCKS {
        sender.send(&tcp(port).frame());
    }
    daemon.wait_for("d: OPEN SESAME");
    expect_changes(&daemon, &["knk0 has no carrier, waiting for it", "listening on knk0"]);
}

fn an_interface_that_is_made_anew_is_listened_on() {
    let world = World::new();
    let daemon = world.knockd(DOOR).interface(Some("ppp0")).options("wait_interface = yes").launch();
    daemon.wait_for("starting up, waiting for ppp0");
    for round in 1..=3 {
        let cable = Cable::new(&world, "ppp0");
        daemon.wait_for_times(round, "listening on ppp0");
        cable.send(KNOCKS.map(tcp));
        daemon.wait_for_times(round, "d: OPEN SESAME");
        drop(cable);
        daemon.wait_for_times(round, "ppp0 is gone, waiting for it");
    }
    // Nothing was lost in between, and nothing was said twice.
    assert_eq!(count(&daemon, "listening on ppp0"), 3, "{}", daemon.said());
}

fn a_renamed_interface_is_another() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.server.down(SERVER_LINK);
    world.server.rename(SERVER_LINK, "other0");
    world.server.up("other0");
    world.server.wait_until_running("other0");
    world.client.wait_until_running(CLIENT_LINK);
    daemon.wait_for("knk0 is gone, waiting for it");
    world.send(KNOCKS.map(tcp));
    pause(0.2);
    assert_eq!(count(&daemon, "Stage"), 0, "{}", daemon.said());
    world.server.down("other0");
    world.server.rename("other0", SERVER_LINK);
    world.server.up(SERVER_LINK);
    world.server.wait_until_running(SERVER_LINK);
    world.client.wait_until_running(CLIENT_LINK);
    daemon.wait_for_times(2, "listening on knk0");
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("d: OPEN SESAME");
}

/// As DHCP does it: the knocker goes on at the new address.
fn an_address_that_is_replaced_counts_at_once() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([tcp(1000)]);
    daemon.sync();
    world.server.add_address(SERVER_LINK, "10.77.5.5/24");
    // The daemon is told; how quickly is not for this test to say.
    let moved = || {
        world.send([tcp(2000).to("10.77.5.5").from("10.77.0.50")]);
        world.send([tcp(1000).to("10.77.5.5").from("10.77.0.50")]);
        pause(0.02);
        count(&daemon, "10.77.0.50: d: Stage 1") > 0
    };
    assert!(holds_within(seconds(30.0), moved), "{}", daemon.said());
    world.server.delete_address(SERVER_LINK, &format!("{SERVER}/24"));
    world.send([2000, 3000].map(|port| tcp(port).to("10.77.5.5")));
    daemon.wait_for(&format!("{CLIENT}: d: OPEN SESAME"));
    pause(0.1);
    // The old one is none of ours any more.
    world.send(KNOCKS.map(|port| tcp(port).from("10.77.0.60")));
    world.send(KNOCKS.map(|port| tcp(port).from("10.77.0.61").to("10.77.5.5")));
    daemon.wait_for("10.77.0.61: d: OPEN SESAME");
    assert_eq!(count(&daemon, "10.77.0.60:"), 0, "{}", daemon.said());
}

fn an_ipv6_address_that_comes_counts_at_once() {
    let world = World::v4_only();
    let daemon = world.knockd(DOOR).start();
    world.send([tcp(1000)]);
    daemon.sync();
    world.server.add_address(SERVER_LINK, "fd77::1/64");
    let hears = || {
        world.send([tcp(1000).v6().from("fd77::50"), tcp(1000).v6().from("fd77::50")]);
        pause(0.02);
        count(&daemon, "fd77::50: d: Stage 1") > 0
    };
    assert!(holds_within(seconds(30.0), hears), "{}", daemon.said());
    world.send(KNOCKS.map(|port| tcp(port).v6()));
    daemon.wait_for(&format!("{CLIENT6}: d: OPEN SESAME"));
    world.send([2000, 3000].map(tcp));
    daemon.wait_for(&format!("{CLIENT}: d: OPEN SESAME"));
}

/// As the kernel does it with temporary addresses (RFC 8981): the old one lives on for a while.
fn a_new_private_address_counts_beside_the_old_one() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([tcp(1000).v6()]);
    daemon.sync();
    world.server.add_address(SERVER_LINK, "fd77::abcd:1/64");
    let new = |port: u16| tcp(port).v6().to("fd77::abcd:1");
    let hears = || {
        world.send([new(1000).from("fd77::50"), new(1000).from("fd77::50")]);
        pause(0.02);
        count(&daemon, "fd77::50: d: Stage 1") > 0
    };
    assert!(holds_within(seconds(30.0), hears), "{}", daemon.said());
    world.send([new(2000), tcp(3000).v6()]);
    daemon.wait_for(&format!("{CLIENT6}: d: OPEN SESAME"));
    world.send([1000, 2000, 3000].map(|port| new(port).from("fd77::51")));
    daemon.wait_for("fd77::51: d: OPEN SESAME");
}

/// As PPP has it: the address of the other side is not ours.
fn an_address_with_a_peer_counts_at_once() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    let words = ["address", "add", "10.90.0.1", "peer", "10.90.0.2/32", "dev", SERVER_LINK];
    let added = run(&world.server, "ip", &words);
    assert_eq!(added.code(), Some(0), "{added:?}");
    let knock = |from: &str, to: &str| world.send(KNOCKS.map(|port| tcp(port).from(from).to(to)));
    let hears = || {
        knock("10.90.0.2", "10.90.0.1");
        pause(0.02);
        count(&daemon, "10.90.0.2: d: OPEN SESAME") > 0
    };
    assert!(holds_within(seconds(30.0), hears), "{}", daemon.said());
    knock("10.77.0.60", "10.90.0.2");
    knock("10.77.0.61", "10.90.0.1");
    daemon.wait_for("10.77.0.61: d: OPEN SESAME");
    assert_eq!(count(&daemon, "10.77.0.60:"), 0, "{}", daemon.said());
}

fn a_list_listens_on_each_of_them() {
    let world = World::new();
    let cable = Cable::new(&world, "ppp0");
    let mut daemon = world.knockd(DOOR).interface(Some("knk0, ppp0")).arguments(&["-v"]).start();
    assert!(daemon.raw_log().contains("starting up, listening on knk0, ppp0\n"), "{}", daemon.said());
    assert!(daemon.stdout().contains("listening on knk0, ppp0...\n"), "{}", daemon.said());
    world.send(KNOCKS.map(tcp));
    cable.send(KNOCKS.map(tcp));
    // Either address at either of them.
    cable.sender.borrow_mut().send(&tcp(1000).from("10.78.0.9").mac(OTHER_MAC).frame());
    let both = || count(&daemon, "OPEN SESAME") == 2 && count(&daemon, "10.78.0.9: d: Stage 1") == 1;
    assert!(holds_within(seconds(30.0), both), "{}", daemon.said());
    assert_eq!(count(&daemon, "Stage"), 7, "{}", daemon.said());
    assert_eq!(daemon.stop(), Some(0));
}

fn a_list_waits_for_what_is_missing() {
    let world = World::new();
    let daemon = world.knockd(DOOR).interface(None).options("interface = knk0,ppp0").start();
    expect_changes(&daemon, &["ppp0 is not there, waiting for it"]);
    world.send(KNOCKS.map(tcp));
    daemon.expect(&format!("ppp0 is not there, waiting for it\n{}", opened("d", CLIENT, 3)));
    let cable = Cable::new(&world, "ppp0");
    daemon.wait_for("listening on ppp0");
    cable.send(KNOCKS.map(tcp));
    daemon.wait_for(&format!("{OTHER_CLIENT}: d: OPEN SESAME"));
}

fn any_hears_an_interface_that_comes_later() {
    let world = World::new();
    let daemon = world.knockd(DOOR).interface(Some("any")).start();
    let cable = Cable::new(&world, "ppp0");
    let hears = || {
        cable.send([tcp(1000), tcp(1000)]);
        pause(0.02);
        count(&daemon, &format!("{OTHER_CLIENT}: d: Stage 1")) > 0
    };
    assert!(holds_within(seconds(30.0), hears), "{}", daemon.said());
    cable.send(KNOCKS.map(tcp));
    daemon.wait_for(&format!("{OTHER_CLIENT}: d: OPEN SESAME"));
    // `any` is always there: nothing to tell.
    expect_changes(&daemon, &[]);
}

/// A door that a packet counted twice would never open, by any of these.
const TWICE: &str = "[d]\nsequence = 1000:udp,2000:udp,3000:udp\n";

/// The client knocks at what is now the server's side.
#[track_caller]
fn counts_once(world: &World, daemon: &RunningDaemon, mac: Mac) {
    for knocker in ["10.77.0.31", "10.77.0.32"] {
        world.send(KNOCKS.map(|port| udp(port).from(knocker).mac(mac)));
        daemon.wait_for(&format!("{knocker}: d: OPEN SESAME"));
    }
    assert_eq!(count(daemon, "Stage"), 6, "{}", daemon.said());
}

/// Moves the server's address to a new link of this kind that gets the cable as a port.
fn with_master(world: &World, name: &str, kind: InfoKind) {
    let server = &world.server;
    server.delete_address(SERVER_LINK, &format!("{SERVER}/24"));
    server.add_link(name, kind);
    server.set_mac(name, SERVER_MAC);
    server.down(SERVER_LINK);
    server.enslave(SERVER_LINK, name);
    server.up(SERVER_LINK);
    server.up(name);
    server.add_address(name, &format!("{SERVER}/24"));
    server.wait_until_running(SERVER_LINK);
    world.client.wait_until_running(CLIENT_LINK);
    server.wait_until_running(name);
}

/// Frames go up from a port of a bridge as soon as the bridge forwards.
#[track_caller]
fn wait_until_forwarding(world: &World, name: &str) {
    let mut seen = crate::support::capture::Capture::new(&world.server, name);
    let goes_up = || {
        world.send([udp(9)]);
        !seen.read_for(seconds(0.02)).is_empty()
    };
    assert!(holds_within(seconds(30.0), goes_up), "{name} does not forward");
}

fn any_counts_a_bridge_and_its_port_once() {
    let world = World::v4_only();
    with_master(&world, "br0", InfoKind::Bridge);
    wait_until_forwarding(&world, "br0");
    let daemon = world.knockd(TWICE).interface(Some("any")).without_sync().start();
    counts_once(&world, &daemon, SERVER_MAC);
}

fn a_list_counts_a_bridge_and_its_port_once() {
    let world = World::v4_only();
    with_master(&world, "br0", InfoKind::Bridge);
    wait_until_forwarding(&world, "br0");
    let daemon = world.knockd(TWICE).interface(Some("knk0,br0")).without_sync().start();
    counts_once(&world, &daemon, SERVER_MAC);
    // The bridge goes: now its port is all there is.
    world.server.delete_link("br0");
    daemon.wait_for("br0 is gone, waiting for it");
    world.server.add_address(SERVER_LINK, &format!("{SERVER}/24"));
    let hears = || {
        world.send(KNOCKS.map(|port| udp(port).from("10.77.0.40")));
        pause(0.05);
        count(&daemon, "10.77.0.40: d: OPEN SESAME") > 0
    };
    assert!(holds_within(seconds(30.0), hears), "{}", daemon.said());
}

/// As people set it up on hosts of virtual machines: the address is that of the bridge.
fn a_port_of_a_bridge_is_pointed_out() {
    let world = World::v4_only();
    with_master(&world, "vmbr0", InfoKind::Bridge);
    let words = "knk0 is a port of vmbr0: knocks for this host arrive at vmbr0, so listen on vmbr0";
    let daemon = world.knockd(TWICE).without_sync().start();
    daemon.wait_for(words);
    assert_eq!(daemon.raw_log().matches(words).count(), 1, "{}", daemon.said());
    let both = world.knockd(TWICE).interface(Some("knk0,vmbr0")).without_sync().start();
    both.wait_for("starting up");
    wait_until_forwarding(&world, "vmbr0");
    counts_once(&world, &both, SERVER_MAC);
    assert!(!both.raw_log().contains("is a port of"), "{}", both.said());
}

fn an_alternative_name_is_a_name() {
    let world = World::v4_only();
    let named = ["link", "property", "add", "dev", SERVER_LINK, "altname", "the-internet-side"];
    let named = run(&world.server, "ip", &named);
    assert_eq!(named.code(), Some(0), "{named:?}");
    let daemon = world.knockd(DOOR).interface(Some("the-internet-side")).start();
    daemon.wait_for("starting up, listening on the-internet-side");
    world.send(KNOCKS.map(tcp));
    daemon.expect(&opened("d", CLIENT, 3));
    // In a list, in the file, and with the usual name beside it.
    let list = format!("[options]\ninterface = the-internet-side, {SERVER_LINK}\n{DOOR}");
    let daemon = world.knockd(&list).interface(None).start();
    world.send(KNOCKS.map(tcp));
    daemon.expect(&opened("d", CLIENT, 3));
    // For the client.
    let named = ["link", "property", "add", "dev", CLIENT_LINK, "altname", "to-the-server"];
    let named = run(&world.client, "ip", &named);
    assert_eq!(named.code(), Some(0), "{named:?}");
    let mut words = vec!["-d", "50", "-i", "to-the-server", SERVER];
    let ports = KNOCKS.map(|port| port.to_string());
    words.extend(ports.iter().map(String::as_str));
    let knocked = world.knock(&words);
    assert_eq!(knocked.code(), Some(0), "{knocked:?}");
    daemon.wait_for_times(2, "OPEN SESAME");
}

fn an_interface_without_an_address_is_pointed_out() {
    let world = World::v4_only();
    let (name, mac) = ("idle0", [2, 0x77, 0, 0, 0, 0x66]);
    world.server.add_veth((name, mac), &world.server, ("idle1", [2, 0x77, 0, 0, 0, 0x67]));
    world.server.up("idle1");
    world.server.up(name);
    world.server.wait_until_running(name);
    let words = format!(
        "{name} has no address: knocks for this host count there when it has one; addresses are at {SERVER_LINK}"
    );
    let daemon = world.knockd(DOOR).interface(Some(name)).without_sync().start();
    daemon.wait_for(&words);
    assert_eq!(daemon.raw_log().matches("has no address").count(), 1, "{}", daemon.said());
    // A door with a target needs none.
    let target =
        world.knockd("[t]\nsequence = 1\ntarget = 192.0.2.1").interface(Some(name)).without_sync().start();
    let both = world.knockd(DOOR).interface(Some(&format!("{name},{SERVER_LINK}"))).without_sync().start();
    both.wait_for(&format!("{name} has no address: knocks for this host count there when it has one"));
    assert!(!both.raw_log().contains("addresses are at"), "{}", both.said());
    target.wait_for("starting up");
    assert!(!target.raw_log().contains("has no address"), "{}", target.said());
}

/// Links that not every kernel knows: without them these count as ignored, in plain sight.
pub fn kernel_tests() -> Vec<Trial> {
    let bond = || Ok(any_counts_a_bond_and_its_port_once());
    let macvlan = || Ok(any_counts_a_macvlan_and_what_is_below_once());
    vec![
        Trial::ignorable_test("wire::links::any_counts_a_bond_and_its_port_once", bond),
        Trial::ignorable_test("wire::links::any_counts_a_macvlan_and_what_is_below_once", macvlan),
    ]
}

fn any_counts_a_bond_and_its_port_once() -> Completion {
    let world = World::v4_only();
    if let Err(why) = world.server.try_add_link("probe0", InfoKind::Bond, None) {
        return Completion::ignored_with(format!("a bond: {why}"));
    }
    with_master(&world, "bond0", InfoKind::Bond);
    wait_until_forwarding(&world, "bond0");
    let daemon = world.knockd(TWICE).interface(Some("any")).without_sync().start();
    counts_once(&world, &daemon, SERVER_MAC);
    Completion::Completed
}

fn any_counts_a_macvlan_and_what_is_below_once() -> Completion {
    let world = World::v4_only();
    let mac = [2, 0x77, 0, 0, 0, 0x55];
    if let Err(why) = world.server.try_add_link("mv0", InfoKind::MacVlan, Some(SERVER_LINK)) {
        return Completion::ignored_with(format!("a macvlan: {why}"));
    }
    world.server.set_mac("mv0", mac);
    world.server.up("mv0");
    let daemon = world.knockd(TWICE).interface(Some("any")).without_sync().start();
    counts_once(&world, &daemon, SERVER_MAC);
    for knocker in ["10.77.0.33", "10.77.0.34"] {
        world.send(KNOCKS.map(|port| udp(port).from(knocker).mac(mac)));
        daemon.wait_for(&format!("{knocker}: d: OPEN SESAME"));
    }
    assert_eq!(count(&daemon, "Stage"), 12, "{}", daemon.said());
    Completion::Completed
}

/// Both ends in one namespace: what leaves one end arrives at the other.
fn any_counts_both_ends_of_a_cable_once() {
    let world = World::new();
    let server = &world.server;
    server.add_veth(("here0", [2, 1, 0, 0, 0, 1]), server, ("there0", [2, 1, 0, 0, 0, 2]));
    for end in ["here0", "there0"] {
        server.up(end);
    }
    for end in ["here0", "there0"] {
        server.wait_until_running(end);
    }
    server.add_address("here0", "10.79.0.1/24");
    server.add_address("there0", "10.79.0.2/24");
    let doors = format!("{TWICE}[t]\nsequence = 1001:udp,2001:udp\ntarget = 10.79.0.2");
    let daemon = world.knockd(&doors).interface(Some("any")).start();
    let mut sender = Sender::new(server, "here0");
    // From a third machine: our own address on a cable would be forged.
    let frame = |port| udp(port).from("10.79.0.9").to("10.79.0.2").mac([2, 1, 0, 0, 0, 2]).frame();
    for port in KNOCKS.into_iter().chain([1001, 2001]) {
        sender.send(&frame(port));
    }
    daemon.wait_for("10.79.0.9: d: OPEN SESAME");
    daemon.wait_for("10.79.0.9: t: OPEN SESAME");
    assert_eq!(count(&daemon, "Stage"), 5, "{}", daemon.said());
}

fn any_counts_loopback_once() {
    let world = World::new();
    let daemon = world.knockd(TWICE).interface(Some("any")).start();
    let socket = world.server.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    for to in ["127.0.0.1", SERVER] {
        for port in KNOCKS {
            socket.send_to(b"x", (to, port)).unwrap();
        }
        daemon.wait_for(&format!("{to}: d: OPEN SESAME"));
    }
    assert_eq!(count(&daemon, "Stage"), 6, "{}", daemon.said());
}

/// A router: knocks for a target come in at one interface and leave by another.
fn any_counts_what_passes_through_once() {
    let world = World::v4_only();
    let _cable = Cable::new(&world, "ppp0");
    world.server.set("ipv4/conf/all/forwarding", "1");
    world.server.add_neighbour("ppp0", "10.78.0.77", [2, 0x78, 0, 0, 0, 2]);
    let doors = "[d]\nsequence = 1000:udp,2000:udp,3000:udp\ntarget = 10.78.0.77";
    let daemon = world.knockd(doors).interface(Some("any")).start();
    let mut beyond = crate::support::capture::Capture::new(&world.client, "ppp0c");
    world.send(KNOCKS.map(|port| udp(port).to("10.78.0.77")));
    assert_eq!(beyond.until(3, seconds(3.0)).len(), 3, "the server does not forward");
    daemon.expect(&opened("d", CLIENT, 3));
}

/// DNAT: the address of the router where they arrive, of the host behind it where they leave.
fn redirected_knocks_count_where_the_manual_says() {
    let world = World::v4_only();
    let _cable = Cable::new(&world, "lan0");
    world.server.set("ipv4/conf/all/forwarding", "1");
    world.server.add_neighbour("lan0", "10.78.0.77", [2, 0x78, 0, 0, 0, 2]);
    let rules = "add table ip nat { chain in { type nat hook prerouting priority -100; meta l4proto udp dnat to 10.78.0.77; }; }";
    let set = run(&world.server, "nft", &[rules]);
    assert_eq!(set.code(), Some(0), "{set:?}");
    let sequence = "sequence = 1000:udp,2000:udp,3000:udp";
    let outside = format!("[router]\n{sequence}\n[host]\n{sequence}\ntarget = 10.78.0.77");
    let any = world.knockd(&outside).interface(Some("any")).without_sync().start();
    let inside = format!("[host]\n{sequence}\ntarget = 10.78.0.77");
    let lan = world.knockd(&inside).interface(Some("lan0")).without_sync().start();
    world.send(KNOCKS.map(udp));
    lan.wait_for("host: OPEN SESAME");
    any.wait_for("router: OPEN SESAME");
    assert!(!any.raw_log().contains("host: "), "{}", any.said());
}

fn any_counts_what_the_host_sends_to_a_target_once() {
    let world = World::v4_only();
    with_master(&world, "br0", InfoKind::Bridge);
    wait_until_forwarding(&world, "br0");
    world.server.add_neighbour("br0", CLIENT, crate::support::packet::CLIENT_MAC);
    let doors = format!("{TWICE}target = {CLIENT}");
    let daemon = world.knockd(&doors).interface(Some("any")).start();
    let socket = world.server.run(|| UdpSocket::bind((SERVER, 0))).unwrap();
    for port in KNOCKS {
        socket.send_to(b"x", (CLIENT, port)).unwrap();
    }
    daemon.expect(&opened("d", SERVER, 3));
}

/// Two interfaces on one wire: a frame that the switch sends to both is for one of them.
fn a_frame_for_another_machine_counts_there() {
    let world = World::v4_only();
    let daemon = world.knockd(TWICE).interface(Some("knk0,lo")).start();
    world.send(KNOCKS.map(|port| udp(port).mac([2, 9, 9, 9, 9, 9])));
    daemon.expect("");
    world.send(KNOCKS.map(udp));
    daemon.expect(&opened("d", CLIENT, 3));
}

fn auto_follows_the_default_route() {
    let world = World::v4_only();
    let cable = Cable::new(&world, "ppp0");
    let daemon = world.knockd(DOOR).interface(Some("auto")).launch();
    daemon.wait_for("starting up, waiting for auto");
    daemon.wait_for("there is no default route, waiting for one");
    world.server.add_default_route(CLIENT, 100);
    daemon.wait_for("listening on knk0");
    world.send(KNOCKS.map(tcp));
    daemon.wait_for(&format!("{CLIENT}: d: OPEN SESAME"));
    // A better one.
    world.server.add_default_route(OTHER_CLIENT, 50);
    daemon.wait_for("listening on ppp0");
    cable.send(KNOCKS.map(tcp));
    daemon.wait_for(&format!("{OTHER_CLIENT}: d: OPEN SESAME"));
    world.send(KNOCKS.map(|port| tcp(port).from("10.77.0.66")));
    pause(0.1);
    assert_eq!(count(&daemon, "10.77.0.66"), 0, "{}", daemon.said());
    // The better one goes with its interface.
    drop(cable);
    daemon.wait_for_times(2, "listening on knk0");
    world.send(KNOCKS.map(|port| tcp(port).from("10.77.0.67")));
    daemon.wait_for("10.77.0.67: d: OPEN SESAME");
    world.server.down(SERVER_LINK);
    daemon.wait_for_times(2, "there is no default route, waiting for one");
    expect_changes(
        &daemon,
        &[
            "there is no default route, waiting for one",
            "listening on knk0",
            "listening on ppp0",
            "listening on knk0",
            "there is no default route, waiting for one",
        ],
    );
}

fn auto_listens_on_the_routes_of_both_families() {
    let world = World::new();
    let cable = Cable::new(&world, "ppp0");
    world.server.add_default_route(OTHER_CLIENT, 1);
    world.server.add_default_route(CLIENT6, 1);
    let daemon = world.knockd(DOOR).interface(Some("auto")).start();
    assert!(daemon.raw_log().contains("starting up, listening on knk0, ppp0\n"), "{}", daemon.said());
    world.send(KNOCKS.map(|port| tcp(port).v6()));
    cable.send(KNOCKS.map(tcp));
    let both = || count(&daemon, "OPEN SESAME") == 2;
    assert!(holds_within(seconds(30.0), both), "{}", daemon.said());
}

fn a_missing_interface_is_an_error_unless_it_may_be_missing() {
    let world = World::new();
    world.server.add_link("down0", InfoKind::Bridge);
    for background in [&[][..], &["-d"]] {
        let finished = world.knockd(DOOR).interface(Some("nope0")).arguments(background).finish();
        assert_eq!(finished.code(), Some(1), "{finished:?}");
        assert!(finished.stderr.starts_with("could not open nope0: No such device exists"), "{finished:?}");
        for word in [SERVER_LINK, "down0", "lo", "'auto'"] {
            assert!(finished.stderr.contains(word), "{finished:?}");
        }
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        let finished = world.knockd(DOOR).interface(Some("down0")).arguments(background).finish();
        assert_eq!(finished.code(), Some(1), "{finished:?}");
        assert!(finished.stderr.starts_with("could not open down0: That device is not up"), "{finished:?}");
    }
    for may in ["nope0,knk0", "nope0, down0", "auto"] {
        let mut daemon = world.knockd(DOOR).interface(Some(may)).launch();
        daemon.wait_for("starting up, ");
        daemon.wait_for("waiting for");
        assert_eq!(daemon.stop(), Some(0));
    }
}

fn wait_interface_waits() {
    let world = World::new();
    let knockd =
        world.knockd(DOOR).interface(Some("ppp0")).options("Wait_Interface = yes").arguments(&["-d"]);
    let mut daemon = knockd.launch();
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.said());
    daemon.pid = daemon.read("pid").trim().parse().unwrap();
    daemon.wait_for("starting up, waiting for ppp0");
    let cable = Cable::new(&world, "ppp0");
    daemon.wait_for("listening on ppp0");
    cable.send(KNOCKS.map(tcp));
    daemon.wait_for("d: OPEN SESAME");
}

fn wait_interface_no_waits_for_nothing() {
    let world = World::new();
    for (interface, offender) in [("nope0", "nope0"), ("knk0,nope0", "nope0"), ("auto", "auto")] {
        let knockd = world.knockd(DOOR).interface(Some(interface)).options("wait_interface = no");
        let finished = knockd.finish();
        assert_eq!(finished.code(), Some(1), "{finished:?}");
        assert!(finished.stderr.starts_with(&format!("could not open {offender}: ")), "{finished:?}");
    }
    // Once it listens, it waits.
    let daemon = world.knockd(DOOR).options("wait_interface = no").start();
    world.server.delete_link(SERVER_LINK);
    daemon.wait_for("knk0 is gone, waiting for it");
}

fn the_default_is_eth0() {
    let world = World::new();
    let finished = world.knockd(DOOR).interface(None).finish();
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.starts_with("could not open eth0: "), "{finished:?}");
    assert!(finished.stderr.contains("knk0") && finished.stderr.contains("'auto'"), "{finished:?}");
    world.server.down(SERVER_LINK);
    world.server.rename(SERVER_LINK, "eth0");
    world.server.up("eth0");
    world.server.wait_until_running("eth0");
    world.client.wait_until_running(CLIENT_LINK);
    let daemon = world.knockd(DOOR).interface(None).start();
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("d: OPEN SESAME");
}

fn sighup_changes_interfaces() {
    let world = World::new();
    let cable = Cable::new(&world, "ppp0");
    let daemon = world.knockd(DOOR).interface(None).options("interface = knk0").start();
    let text = fs::read_to_string(&daemon.config).unwrap();
    let reload = |interface: &str| {
        fs::write(&daemon.config, text.replace("interface = knk0", interface)).unwrap();
        daemon.kill(Signal::SIGHUP);
    };
    reload("interface = ppp0");
    daemon.wait_for("listening on ppp0");
    cable.send(KNOCKS.map(tcp));
    daemon.wait_for(&format!("{OTHER_CLIENT}: d: OPEN SESAME"));
    world.send(KNOCKS.map(tcp));
    reload("interface = knk0, ppp0, nope0");
    daemon.wait_for("nope0 is not there, waiting for it");
    assert_eq!(count(&daemon, CLIENT), 0, "{}", daemon.said());
    world.send(KNOCKS.map(tcp));
    daemon.wait_for(&format!("{CLIENT}: d: OPEN SESAME"));
    // Broken: nothing changes.
    reload("interface = ppp0\nwait_interface = perhaps");
    daemon.wait_for("keeping the configuration that was in force");
    world.send(KNOCKS.map(|port| tcp(port).from("10.77.0.70")));
    daemon.wait_for("10.77.0.70: d: OPEN SESAME");
    reload("interface = any");
    daemon.wait_for("listening on any");
    world.send(KNOCKS.map(|port| tcp(port).from("10.77.0.71")));
    daemon.wait_for("10.77.0.71: d: OPEN SESAME");
}

/// The processor time, in hundredths of a second, that the daemon has used.
fn processor_ticks(daemon: &RunningDaemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid)).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// How often the daemon has gone to sleep.
fn sleeps(daemon: &RunningDaemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// Neither processor time nor wake-ups, whatever it waits for.
fn waiting_costs_nothing() {
    let world = World::new();
    let (cable, list) = (Cable::new(&world, "ppp0"), "knk0,ppp0,nope0");
    let daemons =
        [list, "any", "auto", "knk0"].map(|interface| world.knockd(DOOR).interface(Some(interface)).launch());
    for daemon in &daemons {
        daemon.wait_for("starting up");
    }
    let costs = |change: &dyn Fn()| {
        change();
        pause(0.5);
        let before: Vec<_> = daemons.iter().map(|daemon| (processor_ticks(daemon), sleeps(daemon))).collect();
        pause(1.0);
        for (daemon, (ticks, count)) in daemons.iter().zip(before) {
            let (ticks, count) = (processor_ticks(daemon) - ticks, sleeps(daemon) - count);
            assert!(ticks <= 1 && count == 0, "{ticks} ticks, {count} wake-ups; {}", daemon.said());
        }
    };
    costs(&|| {});
    costs(&|| world.server.down(SERVER_LINK));
    costs(&|| world.server.delete_link("ppp0"));
    costs(&|| world.server.delete_link(SERVER_LINK));
    drop(cable);
}

/// How many kilobytes of code a process has mapped, and how many there are.
fn code(pid: i32) -> (u64, u64) {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut lines = maps.lines().skip_while(|line| !(line.contains(" r-xp ") && line.ends_with("/knockd")));
    let mut field = |name: &str| -> u64 {
        let value = lines.find_map(|line| line.strip_prefix(name)).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    };
    let size = field("Size:");
    (field("Rss:"), size)
}

fn who_waits_maps_little_code() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    let watcher = daemon.watcher().unwrap();
    let rests = |pid: i32| {
        let maps_little = || code(pid).0 * 4 < code(pid).1;
        assert!(holds_within(seconds(30.0), maps_little), "{:?} kB; {}", code(pid), daemon.said());
    };
    rests(daemon.pid);
    rests(watcher);
    world.send(KNOCKS.map(tcp));
    daemon.expect(&opened("d", CLIENT, KNOCKS.len()));
    rests(daemon.pid);
    rests(watcher);
}

fn changes_that_do_not_concern_us_change_nothing() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send([tcp(1000)]);
    daemon.sync();
    for round in 0..20 {
        let name = format!("d{round}");
        world.server.add_link(&name, InfoKind::Bridge);
        world.server.up(&name);
        world.server.add_address(&name, &format!("10.80.{round}.1/24"));
        world.server.delete_link(&name);
    }
    world.send([tcp(2000).to("10.80.3.1"), tcp(2000), tcp(3000)]);
    daemon.expect(&opened("d", CLIENT, 3));
}

/// Ends the flood.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Interfaces, addresses and packets of strangers, all at the same time: who knocks while things are in order
/// gets in, and the daemon lives.
fn everything_at_once_under_a_flood() {
    let world = World::new();
    let mut daemon = world.knockd(DOOR).interface(Some("knk0,ppp0,tun7")).start();
    let over = AtomicBool::new(false);
    let over = Over(&over);
    let is_over = over.0;
    std::thread::scope(|scope| {
        // Also when this fails.
        let over = over;
        scope.spawn(|| {
            let mut sender = Sender::new(&world.client, CLIENT_LINK);
            // Ports of the door, but not the first: that would fill the log. At most 20,000 a second.
            for number in 0..u32::MAX {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let source =
                    Ipv4Addr::from_bits(0x0b00_0000 + number.wrapping_mul(2_654_435_761) % 0x00ff_ffff);
                sender.send(&tcp(KNOCKS[1 + number as usize % 2]).from(&source.to_string()).frame());
                if number % 20 == 0 {
                    pause(0.001);
                }
            }
        });
        for round in 1..=5 {
            let cable = Cable::new(&world, "ppp0");
            let tun = world.server.run(|| Tun::new("tun7"));
            world.server.add_address(SERVER_LINK, &format!("10.77.1.{round}/24"));
            daemon.wait_for_times(round, "listening on ppp0");
            cable.send(KNOCKS.map(tcp));
            daemon.wait_for_times(round, &format!("{OTHER_CLIENT}: d: OPEN SESAME"));
            if let Ok(tun) = &tun {
                world.server.add_address("tun7", "10.88.0.1/24");
                world.server.up("tun7");
                daemon.wait_for_times(round, "listening on tun7");
                for port in KNOCKS {
                    tun.send(&tcp(port).from("10.88.0.9").to("10.88.0.1").ip()).unwrap();
                }
                daemon.wait_for_times(round, "10.88.0.9: d: OPEN SESAME");
            }
            let knocker = format!("10.77.0.{}", 100 + round);
            world.send(KNOCKS.map(|port| tcp(port).from(&knocker).to(&format!("10.77.1.{round}"))));
            daemon.wait_for(&format!("{knocker}: d: OPEN SESAME"));
            drop(tun);
            drop(cable);
            daemon.wait_for_times(round, "ppp0 is gone, waiting for it");
        }
        drop(over);
    });
    assert_eq!(daemon.stop(), Some(0));
}
