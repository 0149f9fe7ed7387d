//! `Guard` and `Open` against the kernel: closed before, open for the knocker alone, closed after, whatever ends.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use knocking::firewall::answer::{Answer, answers};
use knocking::firewall::guard::{Abilities, Guard};
use litemap::LiteMap;
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use crate::firewall::bytes::{doors_of, head};
use crate::firewall::tools::{
    connect, connect_from, connect_to, connect6, connects, keeps_owned_tables, kill, listen, load, nft, serve,
};
use crate::support::namespace::Namespace;
use crate::support::packet::{CLIENT, CLIENT6, SERVER, tcp, udp};
use crate::support::world::{SERVER_LINK, World};
use crate::support::{holds_within, pause, seconds};
use crate::wire::state::with_state;

trials![
    a_first_door_is_three_lines,
    a_door_opens_for_ipv6_too,
    ranges_and_protocols_open_as_they_are_written,
    a_knock_renews_the_time_and_never_shortens_it,
    no_packet_sees_a_gap_while_a_door_is_renewed,
    of_two_doors_with_one_port_either_is_enough,
    more_doors_than_one_rule_can_ask_open_one_port,
    a_session_that_is_older_than_the_guard_goes_on,
    a_published_port_stays_closed_and_forwarded_traffic_passes,
    loopback_and_exceptions_stay_outside,
    the_guard_of_lesser_kernels_works,
    tiny_fragments_do_not_slip_through,
    a_udp_session_outlives_its_door,
    a_flush_leaves_the_guard_alone,
    the_guard_stays_when_the_daemon_ends,
    unguard_takes_it_away,
    open_doors_are_left_to_the_kernel,
    a_killed_daemon_closes_in_time,
    the_next_daemon_takes_open_doors_over,
    sighup_changes_what_is_guarded,
    a_second_daemon_does_not_get_the_guard,
    without_permission_it_does_not_start,
    a_prefix_lets_the_neighbours_in,
    close_established_ends_sessions,
    close_on_disconnect_closes_the_door,
    close_on_disconnect_heeds_forwarded_connections,
    ten_thousand_doors_are_open_at_once,
    openings_that_wait_are_one_transaction,
    a_command_runs_behind_the_element,
];

const SSH: &str = "[ssh]\nsequence = 7000:udp\nopen = tcp/22\n";

/// What the README begins with.
fn a_first_door_is_three_lines() {
    let world = World::new();
    let _ssh = serve(&world.server, 22);
    let daemon = world.knockd(&format!("{SSH}cmd_timeout = 1\n")).options("guard = yes").start();
    daemon.wait_for("guarding tcp/22");
    assert!(!connects(&world, 22));
    world.send([udp(7000)]);
    daemon.wait_for(&format!("{CLIENT}: ssh: opened tcp/22 for 1 s"));
    assert!(connects(&world, 22));
    daemon.wait_for(&format!("{CLIENT}: ssh: closed"));
    assert!(!connects(&world, 22));
    daemon.expect(
        "guarding tcp/22
         10.77.0.2: ssh: Stage 1
         10.77.0.2: ssh: OPEN SESAME
         10.77.0.2: ssh: opened tcp/22 for 1 s
         10.77.0.2: ssh: closed",
    );
}

fn a_door_opens_for_ipv6_too() {
    let world = World::new();
    let _ssh = serve(&world.server, 22);
    let daemon = world.knockd(&format!("{SSH}cmd_timeout = 60\n")).options("guard = yes").start();
    assert!(connect6(&world, 22).is_none());
    world.send([udp(7000).v6()]);
    daemon.wait_for(&format!("{CLIENT6}: ssh: opened tcp/22 for 60 s"));
    assert!(connect6(&world, 22).is_some());
    assert!(!connects(&world, 22), "the door is open for the knocker's address and no other");
}

fn ranges_and_protocols_open_as_they_are_written() {
    let world = World::new();
    let _services = [22, 7999, 8000, 8005, 8010, 8011].map(|port| serve(&world.server, port));
    let doors = "[ssh]\nsequence = 7000:udp\nopen = tcp/22, udp/51820, tcp/8000-8010\ncmd_timeout = 60\n";
    let daemon = world.knockd(doors).options("guard = yes").start();
    let open = |ports: &[u16]| ports.iter().map(|port| connects(&world, *port)).collect::<Vec<_>>();
    assert_eq!(open(&[22, 7999, 8000, 8010, 8011]), [false, true, false, false, true]);
    world.send([udp(7000)]);
    daemon.wait_for(&format!("{CLIENT}: ssh: opened tcp/22, udp/51820, tcp/8000-8010 for 60 s"));
    assert_eq!(open(&[22, 7999, 8000, 8005, 8010, 8011]), [true; 6]);
}

fn a_knock_renews_the_time_and_never_shortens_it() {
    let world = World::new();
    let _ssh = serve(&world.server, 22);
    let doors =
        format!("{SSH}cmd_timeout = 4\n[long]\nsequence = 7001:udp\nopen = tcp/23\ncmd_timeout = 60\n");
    let daemon = world.knockd(&doors).options("guard = yes").start();
    world.send([udp(7000)]);
    daemon.wait_for("ssh: opened tcp/22 for 4 s");
    for _ in 0..3 {
        pause(1.5);
        world.send([udp(7000)]);
    }
    daemon.wait_for_times(3, &format!("{CLIENT}: ssh: still open, for 4 s"));
    // More than four seconds after the first knock.
    assert!(connects(&world, 22));
    daemon.wait_for("ssh: closed");
    assert!(!connects(&world, 22));
    // Shorter than what is left.
    world.send([udp(7001)]);
    daemon.wait_for("long: opened tcp/23 for 60 s");
    let config =
        std::fs::read_to_string(&daemon.config).unwrap().replace("cmd_timeout = 60", "cmd_timeout = 3");
    std::fs::write(&daemon.config, config).unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("re-reading config file");
    daemon.sync();
    world.send([udp(7001)]);
    daemon.wait_for("long: still open, for ");
    assert!(!daemon.raw_log().contains("long: still open, for 3 s"), "{}", daemon.said());
    let listed = nft(&world.server, &["list", "set", "inet", "knockd", "long4"]);
    assert!(!listed.contains("expires 2s") && !listed.contains("expires 3s"), "{listed}");
}

fn no_packet_sees_a_gap_while_a_door_is_renewed() {
    let world = World::new();
    let _ssh = serve(&world.server, 22);
    let door = SSH.replace("7000:udp", "7000:udp,7001:udp");
    let daemon = world.knockd(&format!("{door}cmd_timeout = 600\n")).options("guard = yes").start();
    world.send([7000, 7001].map(udp));
    daemon.wait_for("ssh: opened");
    let over = AtomicBool::new(false);
    let client = &world.client;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let _ = connect_from(client, &format!("{SERVER}:22"));
            }
        });
        for _ in 0..200 {
            world.send([7000, 7001].map(udp));
            pause(0.005);
        }
        over.store(true, Ordering::Relaxed);
    });
    daemon.wait_for_times(200, "ssh: still open");
    // What was refused in between is counted.
    let rules = nft(&world.server, &["list", "chain", "inet", "knockd", "doors"]);
    assert_eq!(rules.matches("counter packets 0 bytes 0 drop").count(), 2, "{rules}");
}

fn of_two_doors_with_one_port_either_is_enough() {
    let world = World::new();
    let _services = [serve(&world.server, 22), serve(&world.server, 80), serve(&world.server, 25)];
    let doors = "[one]\nsequence = 7000:udp\nopen = tcp/20-80\ncmd_timeout = 1\n[two]\nsequence = 7001:udp\nopen = tcp/22\ncmd_timeout = 60\n";
    let daemon = world.knockd(doors).options("guard = yes").start();
    world.send([udp(7000)]);
    daemon.wait_for("one: opened tcp/20-80 for 1 s");
    assert!(connects(&world, 22) && connects(&world, 80) && connects(&world, 25));
    daemon.wait_for("one: closed");
    assert!(!connects(&world, 22) && !connects(&world, 80) && !connects(&world, 25));
    world.send([udp(7001)]);
    daemon.wait_for("two: opened tcp/22 for 60 s");
    assert!(connects(&world, 22) && !connects(&world, 80) && !connects(&world, 25));
}

fn more_doors_than_one_rule_can_ask_open_one_port() {
    let world = World::new();
    let _ssh = serve(&world.server, 22);
    let door = |number: u16| {
        format!("[d{number}]\nsequence = {}:udp\nopen = tcp/22\ncmd_timeout = 1\n", 7000 + number)
    };
    let doors: String = (0..150).map(door).collect();
    let daemon = world.knockd(&doors).options("guard = yes").start();
    daemon.wait_for("guarding tcp/22");
    for number in [0, 39, 40, 149] {
        assert!(!connects(&world, 22));
        world.send([udp(7000 + number)]);
        daemon.wait_for(&format!("d{number}: opened tcp/22 for 1 s"));
        assert!(connects(&world, 22), "door d{number}");
        daemon.wait_for(&format!("d{number}: closed"));
    }
}

fn a_session_that_is_older_than_the_guard_goes_on() {
    let world = World::new();
    let ssh = listen(&world.server, 22);
    let mut here = connect(&world, 22).expect("nothing guards the port yet");
    let (mut there, _) = ssh.accept().unwrap();
    let daemon = world.knockd(SSH).options("guard = yes").start();
    daemon.wait_for(&format!("tcp/22 is in use by {CLIENT}: these sessions go on"));
    assert!(!connects(&world, 22));
    here.write_all(b"ls\n").unwrap();
    let mut text = [0; 3];
    there.read_exact(&mut text).unwrap();
    there.write_all(&text).unwrap();
    here.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"ls\n");
}

/// As Docker does it: port 8080 of the server is port 80 of a container, which listens.
fn publish(world: &World) -> (Namespace, TcpListener) {
    let container = Namespace::new();
    world.server.add_veth(("dkr0", [2, 0x77, 0, 0, 9, 1]), &container, ("eth0", [2, 0x77, 0, 0, 9, 2]));
    world.server.up("dkr0");
    container.up("eth0");
    world.server.wait_until_running("dkr0");
    container.wait_until_running("eth0");
    world.server.add_address("dkr0", "10.99.0.1/24");
    container.add_address("eth0", "10.99.0.2/24");
    container.add_default_route("10.99.0.1", 0);
    world.client.add_default_route(SERVER, 0);
    world.server.set("ipv4/ip_forward", "1");
    load(
        &world.server,
        &format!(
            "table ip nat {{ chain prerouting {{ type nat hook prerouting priority dstnat;\n iif {SERVER_LINK} fib daddr type local tcp dport 8080 dnat to 10.99.0.2:80\n }}\n }}"
        ),
    );
    let web = container.run(|| TcpListener::bind("0.0.0.0:80").unwrap());
    (container, web)
}

/// The guard stands in front of what a container publishes.
fn a_published_port_stays_closed_and_forwarded_traffic_passes() {
    let world = World::v4_only();
    let _published = publish(&world);
    assert!(connects(&world, 8080), "the port is published");
    assert!(connect_to(&world, "10.99.0.2:80").is_some(), "the machine forwards");
    let doors = "[web]\nsequence = 7000:udp\nopen = tcp/8080, tcp/80\ncmd_timeout = 60\n";
    let daemon = world.knockd(doors).options("guard = yes").start();
    assert!(!connects(&world, 8080), "published, and guarded");
    assert!(connect_to(&world, "10.99.0.2:80").is_some(), "what is forwarded to others is theirs");
    world.send([udp(7000)]);
    daemon.wait_for("web: opened tcp/8080, tcp/80 for 60 s");
    assert!(connects(&world, 8080));
}

fn loopback_and_exceptions_stay_outside() {
    let world = World::new();
    let _ssh = serve(&world.server, 22);
    let options = format!("guard = yes\nguard_except = 192.0.2.0/24, {CLIENT}, fd00::/8");
    let daemon = world.knockd(SSH).options(&options).start();
    assert!(connects(&world, 22) && connect6(&world, 22).is_some());
    let config = std::fs::read_to_string(&daemon.config).unwrap();
    std::fs::write(&daemon.config, config.replace(&format!(", {CLIENT}, fd00::/8"), "")).unwrap();
    daemon.kill(Signal::SIGHUP);
    assert!(holds_within(seconds(30.0), || !connects(&world, 22)), "{}", daemon.said());
    assert!(connect6(&world, 22).is_none());
    let at_home = world.server.run(|| std::net::TcpStream::connect("127.0.0.1:22").is_ok());
    let by_own_address = world.server.run(|| std::net::TcpStream::connect(format!("{SERVER}:22")).is_ok());
    assert!(at_home && by_own_address);
}

/// The guard as it is made where the kernel lacks something, on this kernel: without owners of tables, without `fib` at
/// `input`, without `ct`. A daemon on a newer kernel takes over what is open in it.
fn the_guard_of_lesser_kernels_works() {
    for (fib, conntrack) in [(true, true), (true, false), (false, true), (false, false)] {
        let world = World::v4_only();
        let _ssh = serve(&world.server, 22);
        let doors = "[ssh]\nsequence = 7000:udp\nopen = tcp/22, udp/51820\n";
        let guard = Guard::of(&doors_of(&format!("[options]\nguard = yes\n{doors}")).doors, &[]).unwrap();
        let abilities = Abilities { owner: false, fib, conntrack };
        let (bytes, last) = guard.batch(1, false, abilities, &LiteMap::new()).finish();
        assert_eq!(world.server.run(|| answer_to(&bytes)), [(last, 0)], "{abilities:?}");
        let table = nft(&world.server, &["list", "table", "inet", "knockd"]);
        let (at, knows) = (table.contains("hook prerouting"), table.contains("ct state"));
        assert_eq!((at, knows), (fib, conntrack), "{table}");
        assert!(!connects(&world, 22), "{abilities:?}");
        let (set, _) = guard.sets().find(|(_, is_v6)| !is_v6).unwrap();
        let element = format!("{{ {CLIENT} timeout 600s }}");
        nft(&world.server, &["add", "element", "inet", "knockd", &set.set, &element]);
        assert!(connects(&world, 22), "{abilities:?}");
        let daemon = world.knockd(doors).options("guard = yes").start();
        daemon.wait_for(&format!("{CLIENT}: ssh: still open, for "));
        assert!(connects(&world, 22));
        let table = nft(&world.server, &["list", "table", "inet", "knockd"]);
        assert!(table.contains("hook prerouting") && table.contains("ct state"), "{table}");
    }
}

/// Sends a transaction to nftables; the answers, by sequence number, with the number of the error.
fn answer_to(batch: &[u8]) -> Vec<(u32, i32)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter).unwrap();
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).unwrap();
    send(socket.as_raw_fd(), batch, MsgFlags::empty()).unwrap();
    let mut bytes = vec![0; 1 << 16];
    let mut all = Vec::new();
    while let Ok(length) = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
        all.extend(answers(&bytes[..length]).filter_map(|answer| match answer {
            Answer::Done { sequence } => Some((sequence, 0)),
            Answer::Refused(refused) => Some((refused.sequence, refused.errno)),
            Answer::Object { .. } => None,
        }));
    }
    all
}

/// The flags of a SYN in the second fragment.
fn tiny_fragments_do_not_slip_through() {
    let world = World::v4_only();
    let _ssh = serve(&world.server, 22);
    let halves = |port: u16| -> [Vec<u8>; 2] {
        let frame = tcp(port).source_port(33333).frame();
        let (head, segment) = frame.split_at(34);
        let half = |data: &[u8], fragment: u16| {
            let mut half = [head, data].concat();
            half[16..18].copy_from_slice(&u16::try_from(20 + data.len()).unwrap().to_be_bytes());
            half[20..22].copy_from_slice(&fragment.to_be_bytes());
            half[24..26].fill(0);
            let sum: u32 = half[14..34].chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
            half[24..26].copy_from_slice(&sum.to_be_bytes());
            half
        };
        [half(&segment[..8], 0x2000), half(&segment[8..20], 1)]
    };
    let syn_received = || {
        let table = world.server.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp")).unwrap();
        let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("Tcp:")).collect();
        let at = rows[0].split(' ').position(|name| name == "InSegs").unwrap();
        rows[1].split(' ').nth(at).unwrap().parse::<u64>().unwrap()
    };
    let arrives = |port| {
        let before = syn_received();
        for half in halves(port) {
            world.send_frame(&half);
        }
        holds_within(seconds(0.5), || syn_received() > before)
    };
    assert!(arrives(22), "without a guard the two halves are one SYN");
    let _daemon = world.knockd(SSH).options("guard = yes").start();
    assert!(!arrives(22), "the guard let a SYN in two halves through");
    assert!(arrives(23), "other ports are none of its business");
}

fn a_udp_session_outlives_its_door() {
    let world = World::v4_only();
    let server = world.server.run(|| UdpSocket::bind("0.0.0.0:51820").unwrap());
    let client = world.client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    let stranger = world.client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(seconds(0.4))).unwrap();
    }
    let doors = "[vpn]\nsequence = 7000:udp\nopen = udp/51820\ncmd_timeout = 1\n";
    let daemon = world.knockd(doors).options("guard = yes").start();
    daemon.wait_for("guarding udp/51820");
    let mut text = [0; 16];
    let mut arrives = |from: &UdpSocket| {
        from.send_to(b"hello", format!("{SERVER}:51820")).unwrap();
        server.recv_from(&mut text).map(|(_, from)| from).ok()
    };
    assert_eq!(arrives(&client), None);
    world.send([udp(7000)]);
    daemon.wait_for("vpn: opened udp/51820 for 1 s");
    let from = arrives(&client).expect("the door is open");
    server.send_to(b"hello", from).unwrap();
    daemon.wait_for("vpn: closed");
    assert!(arrives(&client).is_some(), "the session goes on");
    assert_eq!(arrives(&stranger), None, "a new one does not begin");
    // Who sends from a guarded port gets the answer.
    let target = world.client.run(|| UdpSocket::bind("0.0.0.0:5000").unwrap());
    target.set_read_timeout(Some(seconds(2.0))).unwrap();
    server.send_to(b"query", format!("{CLIENT}:5000")).unwrap();
    let (_, from) = target.recv_from(&mut text).unwrap();
    target.send_to(b"answer", from).unwrap();
    assert!(server.recv_from(&mut text).is_ok());
}

fn a_flush_leaves_the_guard_alone() {
    let world = World::new();
    let _ssh = serve(&world.server, 22);
    let daemon = world.knockd(&format!("{SSH}cmd_timeout = 600\n")).options("guard = yes").start();
    world.send([udp(7000).from("10.77.0.77")]);
    daemon.wait_for("10.77.0.77: ssh: opened");
    let has_guard = || nft(&world.server, &["list", "tables"]).contains("inet knockd");
    for _ in 0..5 {
        nft(&world.server, &["flush", "ruleset"]);
        // Where the kernel does not keep it, it is made again when the daemon hears of the flush.
        assert!(keeps_owned_tables() || holds_within(seconds(30.0), has_guard), "{}", daemon.said());
        assert!(!connects(&world, 22));
    }
    let is_open = || nft(&world.server, &["list", "set", "inet", "knockd", "ssh4"]).contains("10.77.0.77");
    assert!(holds_within(seconds(30.0), is_open), "{}", daemon.said());
    world.send([udp(7000)]);
    daemon.wait_for(&format!("{CLIENT}: ssh: opened"));
    assert!(connects(&world, 22));
}

fn the_guard_stays_when_the_daemon_ends() {
    let world = World::new();
    let _ssh = serve(&world.server, 22);
    let mut daemon = world.knockd(SSH).options("guard = yes").start();
    assert_eq!(daemon.stop(), Some(0));
    assert!(!connects(&world, 22));
    let mut daemon = world.knockd(SSH).options("guard = yes").start();
    kill(&mut daemon);
    assert!(!connects(&world, 22));
    let daemon = world.knockd(SSH).options("guard = yes").start();
    world.send([udp(7000)]);
    daemon.wait_for("ssh: opened");
    assert!(connects(&world, 22));
}

fn unguard_takes_it_away() {
    let world = World::new();
    let _ssh = serve(&world.server, 22);
    let unguard = || {
        let ended = world.knockd(SSH).arguments(&["--unguard"]).interface(None).finish();
        (ended.code(), ended.stdout, ended.stderr)
    };
    assert_eq!(unguard(), (Some(0), "there is no guard\n".to_owned(), String::new()));
    let mut daemon = world.knockd(SSH).options("guard = yes").start();
    assert_eq!(
        unguard(),
        (Some(1), String::new(), "the guard belongs to a knockd that runs; stop it first\n".to_owned())
    );
    assert!(!connects(&world, 22));
    assert_eq!(daemon.stop(), Some(0));
    let gone = "the guard is gone: its ports are as open as the rest of the firewall has them\n";
    assert_eq!(unguard(), (Some(0), gone.to_owned(), String::new()));
    assert!(connects(&world, 22));
    assert_eq!(unguard().0, Some(0));
}

fn open_doors_are_left_to_the_kernel() {
    let world = World::new();
    let _services = [serve(&world.server, 22), serve(&world.server, 80), serve(&world.server, 81)];
    let doors = format!(
        "{SSH}cmd_timeout = 4\n[web]\nsequence = 7001:udp\nopen = tcp/80\nclose_on_stop = yes\n\
         [ever]\nsequence = 7002:udp\nopen = tcp/81\ncmd_timeout = 0\nopen_forever = yes\n"
    );
    let mut daemon = world.knockd(&doors).options("guard = yes").start();
    world.send([udp(7000), udp(7001), udp(7002)]);
    daemon.wait_for("ever: opened tcp/81 until closed by hand");
    assert!(connects(&world, 22) && connects(&world, 80) && connects(&world, 81));
    let ended = Instant::now();
    assert_eq!(daemon.stop(), Some(0));
    assert!(ended.elapsed() < seconds(3.0), "nothing waits for doors that the kernel closes");
    daemon.wait_for(&format!("{CLIENT}: ssh: left to the kernel: closes in "));
    daemon.wait_for(&format!("{CLIENT}: web: closed"));
    daemon.wait_for(&format!("{CLIENT}: ever: left to the kernel: open until closed by hand"));
    assert!(connects(&world, 22) && !connects(&world, 80) && connects(&world, 81));
    assert!(holds_within(seconds(30.0), || !connects(&world, 22)));
    assert!(connects(&world, 81));
}

fn a_killed_daemon_closes_in_time() {
    let world = World::new();
    let _ssh = serve(&world.server, 22);
    let mut daemon = world.knockd(&format!("{SSH}cmd_timeout = 2\n")).options("guard = yes").start();
    world.send([udp(7000)]);
    daemon.wait_for("ssh: opened");
    kill(&mut daemon);
    assert!(connects(&world, 22));
    pause(2.1);
    assert!(!connects(&world, 22));
}

fn the_next_daemon_takes_open_doors_over() {
    let world = World::new();
    let place = crate::support::folder::Folder::new();
    let _ssh = serve(&world.server, 22);
    let doors = format!("{SSH}cmd_timeout = 8\n");
    let mut daemon = with_state(&world, &place, &doors).options("guard = yes").start();
    world.send([udp(7000)]);
    daemon.wait_for("ssh: opened");
    kill(&mut daemon);
    let daemon = with_state(&world, &place, &doors).options("guard = yes").start();
    daemon.wait_for(&format!("{CLIENT}: ssh: still open, for "));
    assert!(connects(&world, 22));
    daemon.wait_for(&format!("{CLIENT}: ssh: closed"));
    assert!(!connects(&world, 22));
    // A knock renews what was taken over.
    world.send([udp(7000)]);
    daemon.wait_for_times(1, &format!("{CLIENT}: ssh: opened tcp/22 for 8 s"));
}

fn sighup_changes_what_is_guarded() {
    let world = World::new();
    let _services = [serve(&world.server, 22), serve(&world.server, 80)];
    let doors = format!("{SSH}cmd_timeout = 600\n");
    let daemon = world.knockd(&doors).options("guard = yes").start();
    world.send([udp(7000)]);
    daemon.wait_for("ssh: opened");
    assert!(connects(&world, 80));
    let config = std::fs::read_to_string(&daemon.config).unwrap();
    std::fs::write(&daemon.config, config.clone() + "[web]\nsequence = 7001:udp\nopen = tcp/80\n").unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("guarding tcp/22, tcp/80");
    assert!(connects(&world, 22), "what is open stays open");
    assert!(!connects(&world, 80));
    std::fs::write(&daemon.config, config.replace("guard = yes", "").replace("open = tcp/22\n", "")).unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("guarding nothing any more");
    assert!(connects(&world, 80));
}

fn a_second_daemon_does_not_get_the_guard() {
    let world = World::new();
    let _first = world.knockd(SSH).options("guard = yes").start();
    let second = world.knockd(SSH).options("guard = yes").finish();
    assert_eq!(second.code(), Some(1), "{second:?}");
    assert!(
        second.stderr.contains("the table inet knockd belongs to another process; does another knockd run?")
    );
}

fn without_permission_it_does_not_start() {
    let world = World::new();
    let setpriv = ["setpriv", "--inh-caps=-net_admin", "--bounding-set=-net_admin"];
    let ended = world.knockd(SSH).options("guard = yes").through(&setpriv).finish();
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    let sentence = "could not use the firewall: not permitted; run as root or give knockd CAP_NET_ADMIN";
    assert!(ended.stderr.contains(sentence), "{ended:?}");
}

fn a_prefix_lets_the_neighbours_in() {
    let world = World::new();
    let _ssh = serve(&world.server, 22);
    let doors = format!("{SSH}cmd_timeout = 60\nopen_prefix4 = 24\nopen_prefix6 = 64\n");
    let daemon = world.knockd(&doors).options("guard = yes").start();
    world.send([udp(7000).from("10.78.0.9")]);
    daemon.wait_for("10.78.0.9: ssh: opened");
    assert!(!connects(&world, 22), "another network");
    world.send([udp(7000).from("10.77.0.9"), udp(7000).from("fd77::9")]);
    daemon.wait_for("10.77.0.9: ssh: opened");
    daemon.wait_for("fd77::9: ssh: opened");
    assert!(connects(&world, 22) && connect6(&world, 22).is_some());
}

fn close_established_ends_sessions() {
    let world = World::new();
    let ssh = listen(&world.server, 22);
    let doors = format!("{SSH}cmd_timeout = 1\nclose_established = yes\n");
    let daemon = world.knockd(&doors).options("guard = yes").start();
    world.send([udp(7000)]);
    daemon.wait_for("ssh: opened");
    let mut here = connect(&world, 22).expect("the door is open");
    let (_there, _) = ssh.accept().unwrap();
    here.set_read_timeout(Some(seconds(5.0))).unwrap();
    daemon.wait_for("ssh: closed");
    let ended = here.read(&mut [0; 1]);
    assert!(ended.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset), "{ended:?}");
    assert!(!daemon.raw_log().contains("could not end"), "{}", daemon.said());
}

fn close_on_disconnect_closes_the_door() {
    let world = World::new();
    let ssh = listen(&world.server, 22);
    let doors = format!("{SSH}cmd_timeout = 600\nclose_on_disconnect = yes\n");
    let before = connect(&world, 22);
    let daemon = world.knockd(&doors).options("guard = yes").start();
    world.send([udp(7000)]);
    daemon.wait_for("ssh: opened");
    // One that is older than the door ends: that is none of the door's.
    drop(before);
    drop(ssh.accept().unwrap());
    let (one, two) = (connect(&world, 22).unwrap(), connect(&world, 22).unwrap());
    let (there_one, there_two) = (ssh.accept().unwrap(), ssh.accept().unwrap());
    drop((one, there_one));
    pause(0.3);
    assert!(connects(&world, 22), "one of two is left; {}", daemon.said());
    drop(ssh.accept().unwrap());
    drop((two, there_two));
    daemon.wait_for(&format!("{CLIENT}: ssh: closed"));
    assert!(!connects(&world, 22));
}

/// At a port that a container publishes only conntrack knows of connections.
fn close_on_disconnect_heeds_forwarded_connections() {
    let world = World::v4_only();
    let (_container, web) = publish(&world);
    let doors = "[web]\nsequence = 7000:udp\nopen = tcp/8080\ncmd_timeout = 600\nclose_on_disconnect = yes\n";
    let before = connect(&world, 8080).expect("the port is published");
    let before = (before, web.accept().unwrap());
    let daemon = world.knockd(doors).options("guard = yes").start();
    world.send([udp(7000)]);
    daemon.wait_for("web: opened");
    // One that is older than the door ends: that is none of the door's.
    drop(before);
    let through = || (connect(&world, 8080).expect("the door is open"), web.accept().unwrap());
    let (one, two) = (through(), through());
    drop(one);
    pause(0.3);
    drop(through());
    drop(two);
    daemon.wait_for(&format!("{CLIENT}: web: closed"));
    assert!(!connects(&world, 8080));
}

fn ten_thousand_doors_are_open_at_once() {
    const KNOCKERS: u32 = 10_000;
    let world = World::new();
    let _ssh = serve(&world.server, 22);
    let door = SSH.replace("7000:udp", "7000:udp,7001:udp");
    let daemon = world.knockd(&format!("{door}cmd_timeout = 600\n")).options("guard = yes").start();
    for number in 0..KNOCKERS {
        let [_, a, b, c] = number.to_be_bytes();
        world.send([7000, 7001].map(|port| udp(port).from(&format!("11.{a}.{b}.{c}"))));
        if number % 1000 == 999 {
            let opened = || daemon.raw_log().matches(": ssh: opened tcp/22").count();
            assert!(holds_within(seconds(200.0), || opened() > number as usize), "{} of {number}", opened());
        }
    }
    world.send([7000, 7001].map(udp));
    daemon.wait_for(&format!("{CLIENT}: ssh: opened"));
    let listed = nft(&world.server, &["list", "set", "inet", "knockd", "ssh4"]);
    assert_eq!(listed.matches("expires").count(), KNOCKERS as usize + 1);
    assert!(connects(&world, 22));
}

/// How many transactions there were in a namespace's nftables, and some more (`NFT_MSG_GETGEN`).
fn transactions(namespace: &Namespace) -> u32 {
    let question = head(20, 10 << 8 | 16, 1, 1, [0; 4]);
    let mut answer = [0; 1024];
    namespace.run(|| {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter).unwrap();
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).unwrap();
        send(socket.as_raw_fd(), &question, MsgFlags::empty()).unwrap();
        recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap()
    });
    // Behind the two heads and the head of the first attribute, NFTA_GEN_ID.
    u32::from_be_bytes(answer[24..28].try_into().unwrap())
}

/// As many as fit into the socket between the two processes, with their lines about stages.
fn openings_that_wait_are_one_transaction() {
    const KNOCKERS: usize = 130;
    let world = World::v4_only();
    let door = format!("{SSH}cmd_timeout = 60\nopen_rate = 0\n");
    let daemon = world.knockd(&door).options("guard = yes").start();
    let watcher = daemon.watcher().expect("a watcher");
    let before = transactions(&world.server);
    daemon.kill(Signal::SIGSTOP);
    world.send((1..=KNOCKERS).map(|number| udp(7000).from(&format!("11.0.0.{number}"))));
    let is_asleep = || {
        let stat = std::fs::read_to_string(format!("/proc/{watcher}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
    };
    for _ in 0..3 {
        assert!(holds_within(seconds(30.0), || world.queued() == 0 && is_asleep()), "{}", daemon.said());
        pause(0.1);
    }
    daemon.kill(Signal::SIGCONT);
    let open = || {
        nft(&world.server, &["list", "set", "inet", "knockd", "ssh4"]).matches("expires").count() == KNOCKERS
    };
    assert!(holds_within(seconds(30.0), open), "{}", daemon.said());
    assert_eq!(transactions(&world.server).wrapping_sub(before), 1);
}

/// A reader of the command's output can connect.
fn a_command_runs_behind_the_element() {
    let world = World::new();
    let _ssh = serve(&world.server, 22);
    let doors = format!(
        "{SSH}cmd_timeout = 60\nstart_command = nft list set inet knockd ssh4 >@/out\nstop_command = true\n"
    );
    let daemon = world.knockd(&doors).options("guard = yes").start();
    world.send([udp(7000)]);
    daemon.wait_for("ssh: running command: nft list set");
    assert!(holds_within(seconds(30.0), || daemon.read("out").contains(CLIENT)), "{}", daemon.read("out"));
    let lines = daemon.lines();
    let at = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
    assert!(at("ssh: opened tcp/22 for 60 s") < at("ssh: running command"), "{lines:?}");
}
