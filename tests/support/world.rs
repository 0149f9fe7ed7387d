//! A server and a client with a cable between them.

use std::cell::RefCell;
use std::process::{Command, Stdio};

use super::capture::{Capture, Sender};
use super::daemon::Knockd;
use super::folder::Folder;
use super::namespace::Namespace;
use super::packet::{CLIENT, CLIENT_MAC, CLIENT6, Packet, SERVER, SERVER_MAC, SERVER6};
use super::process::{self, Finished};
use super::seconds;

/// The server's end of the cable.
pub const SERVER_LINK: &str = "knk0";
/// The client's end of the cable.
pub const CLIENT_LINK: &str = "knc0";

/// Two namespaces and a veth pair; both ends are up. No daemon runs yet.
pub struct World {
    pub server: Namespace,
    pub client: Namespace,
    sender: RefCell<Sender>,
}

impl World {
    /// Both sides have an IPv4 and an IPv6 address.
    pub fn new() -> World {
        let world = World::v4_only();
        world.add_v6();
        world
    }

    pub fn v4_only() -> World {
        let world = World::without_addresses();
        world.server.add_address(SERVER_LINK, &format!("{SERVER}/24"));
        world.client.add_address(CLIENT_LINK, &format!("{CLIENT}/24"));
        world
    }

    pub fn v6_only() -> World {
        let world = World::without_addresses();
        world.add_v6();
        world
    }

    pub fn without_addresses() -> World {
        let (server, client) = (Namespace::new(), Namespace::new());
        server.add_veth((SERVER_LINK, SERVER_MAC), &client, (CLIENT_LINK, CLIENT_MAC));
        server.up(SERVER_LINK);
        client.up(CLIENT_LINK);
        server.wait_until_running(SERVER_LINK);
        client.wait_until_running(CLIENT_LINK);
        let sender = RefCell::new(Sender::new(&client, CLIENT_LINK));
        World { server, client, sender }
    }

    fn add_v6(&self) {
        self.server.add_address(SERVER_LINK, &format!("{SERVER6}/64"));
        self.client.add_address(CLIENT_LINK, &format!("{CLIENT6}/64"));
    }

    /// The client sends these packets, one after the other.
    pub fn send(&self, packets: impl IntoIterator<Item = Packet>) {
        packets.into_iter().for_each(|packet| self.send_frame(&packet.frame()));
    }

    /// The client sends these bytes as a frame.
    pub fn send_frame(&self, frame: &[u8]) {
        self.sender.borrow_mut().send(frame);
    }

    /// What arrives at the server from now on.
    pub fn capture(&self) -> Capture {
        Capture::new(&self.server, SERVER_LINK)
    }

    /// How many bytes wait in the server's packet sockets to be read.
    pub fn queued(&self) -> u64 {
        let table = self.server.run(|| std::fs::read_to_string("/proc/thread-self/net/packet"));
        let table = table.expect("the table of packet sockets");
        let bytes = |row: &str| row.split_whitespace().nth(6)?.parse::<u64>().ok();
        table.lines().skip(1).map(|row| bytes(row).expect("the column Rmem")).sum()
    }

    /// A daemon to be started on the server's end of the cable, with these sections in its file; `@` in them
    /// stands for the daemon's folder.
    pub fn knockd(&self, sections: &str) -> Knockd<'_> {
        Knockd::new(self, sections)
    }

    /// Runs our `knock` on the client.
    pub fn knock(&self, arguments: &[&str]) -> Finished {
        run(&self.client, env!("CARGO_BIN_EXE_knock"), arguments)
    }
}

/// Runs a program to its end in a namespace, for at most twenty seconds.
pub fn run(namespace: &Namespace, program: &str, arguments: &[&str]) -> Finished {
    let folder = Folder::new();
    let file = |name| std::fs::File::create(folder.join(name)).expect("a file for the output");
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").current_dir(folder.path());
    command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
    let mut child = namespace.spawn(&mut command);
    let status = process::wait(&mut child, seconds(20.0)).unwrap_or_else(|| {
        process::end(child.id().cast_signed());
        panic!("{program} {arguments:?} does not end")
    });
    Finished { status, stdout: folder.read("stdout"), stderr: folder.read("stderr") }
}
