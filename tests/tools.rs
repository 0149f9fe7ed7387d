//! The tests' own tools. A capture that sees nothing or a packet with a wrong checksum would make other tests
//! pass for the wrong reason.

use std::net::{TcpListener, TcpStream, UdpSocket};

use crate::support::capture::{Capture, Sender};
use crate::support::namespace::Namespace;
use crate::support::packet::{ACK, CLIENT, CLIENT6, SERVER, SERVER6, SYN, checksum, tcp, udp};
use crate::support::seconds;
use crate::support::world::{CLIENT_LINK, SERVER_LINK, World, run};

trials![
    namespaces_are_isolated,
    the_cable_carries_both_families,
    crafted_packets_are_right,
    crafted_packets_reach_a_socket,
    captures_see_arrivals_only,
    links_change,
    nothing_outlives_a_namespace,
];

fn namespaces_are_isolated() {
    let (one, two) = (Namespace::new(), Namespace::new());
    let listener = one.run(|| TcpListener::bind("127.0.0.1:0")).unwrap();
    let there = listener.local_addr().unwrap();
    assert!(one.run(|| TcpStream::connect(there)).is_ok());
    assert!(two.run(|| TcpStream::connect(there)).is_err());
}

fn the_cable_carries_both_families() {
    let world = World::new();
    for (server, client) in [(SERVER, CLIENT), (SERVER6, CLIENT6)] {
        let listener = world.server.run(|| TcpListener::bind((server, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = world.client.run(|| TcpStream::connect((server, port))).unwrap();
        assert_eq!(stream.local_addr().unwrap().ip().to_string(), client);
    }
}

fn crafted_packets_are_right() {
    let packet = tcp(7000).ip_options(&[1, 1, 1, 0]).data(b"odd");
    assert_eq!(checksum(&packet.ip()[..24]), 0);
    let world = World::new();
    let mut capture = world.capture();
    world.send([packet, udp(53).v6(), tcp(22).vlan(7), tcp(80).flags(ACK).from("10.77.0.9")]);
    let seen = capture.until(4, seconds(2.0));
    let shown: Vec<_> = seen.iter().map(|p| (p.protocol, p.source.to_string(), p.port, p.flags)).collect();
    let wanted = [("tcp", CLIENT, 7000, SYN), ("udp", CLIENT6, 53, 0), ("tcp", CLIENT, 22, SYN)];
    let wanted = wanted.into_iter().chain([("tcp", "10.77.0.9", 80, ACK)]);
    assert_eq!(shown, wanted.map(|(a, b, c, d)| (a, b.to_owned(), c, d)).collect::<Vec<_>>());
    assert_eq!(seen[0].data, b"odd");
}

/// The kernel checks lengths and checksums before it hands a datagram to a socket.
fn crafted_packets_reach_a_socket() {
    let world = World::new();
    for (server, packet) in [(SERVER, udp(4000)), (SERVER6, udp(4000).v6())] {
        let socket = world.server.run(|| UdpSocket::bind((server, 4000))).unwrap();
        socket.set_read_timeout(Some(seconds(2.0))).unwrap();
        let mut buffer = [0; 16];
        world.send([packet.clone().bad_checksum().data(b"bad"), packet.data(b"good")]);
        assert_eq!(socket.recv(&mut buffer).unwrap(), 4);
        assert_eq!(&buffer[..4], b"good");
    }
}

fn captures_see_arrivals_only() {
    let world = World::new();
    let mut at_the_client = Capture::new(&world.client, CLIENT_LINK);
    let mut at_the_server = world.capture();
    world.send([udp(4000)]);
    assert_eq!(at_the_server.until(1, seconds(2.0)).len(), 1);
    assert_eq!(at_the_client.read_for(seconds(0.1)), []);
}

fn links_change() {
    let world = World::without_addresses();
    let (server, index) = (&world.server, world.server.index(SERVER_LINK));
    server.down(SERVER_LINK);
    server.rename(SERVER_LINK, "other0");
    server.set_mac("other0", [2, 0, 0, 0, 0, 9]);
    server.up("other0");
    assert_eq!(server.index("other0"), index);
    for address in ["10.77.0.5/24", "fd77::5/64"] {
        server.add_address("other0", address);
        let plain = address.split('/').next().unwrap();
        assert!(server.run(|| UdpSocket::bind((plain, 0))).is_ok(), "{address}");
        server.delete_address("other0", address);
        assert!(server.run(|| UdpSocket::bind((plain, 0))).is_err(), "{address}");
    }
    server.delete_link("other0");
    assert_eq!(server.try_index("other0"), None);
    assert_eq!(world.client.try_index(CLIENT_LINK), None);
}

fn nothing_outlives_a_namespace() {
    let namespace = Namespace::new();
    let started = run(&namespace, "sh", &["-c", "sleep 1000 & echo $!"]);
    let pid: i32 = started.stdout.trim().parse().unwrap();
    assert_eq!(namespace.processes(), [pid]);
    let mut sender = Sender::new(&namespace, "lo");
    sender.send(&tcp(1).frame());
    drop(namespace);
    assert!(crate::support::holds_within(seconds(30.0), || !crate::support::process::alive(pid)));
}
