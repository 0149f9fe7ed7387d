//! What the tests of the kernel's firewall share.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::sys::signal::Signal;

use crate::support::daemon::RunningDaemon;
use crate::support::namespace::Namespace;
use crate::support::packet::{SERVER, SERVER6};
use crate::support::process::Finished;
use crate::support::world::{World, run};
use crate::support::{pause, seconds};

/// Runs `nft` in a namespace; it must succeed.
#[track_caller]
pub fn nft(namespace: &Namespace, words: &[&str]) -> String {
    let Finished { status, stdout, stderr } = run(namespace, "nft", words);
    assert!(status.success(), "nft {words:?}: {stderr}");
    stdout
}

/// Loads a ruleset.
#[track_caller]
pub fn load(namespace: &Namespace, ruleset: &str) {
    let folder = crate::support::folder::Folder::new();
    let file = folder.write("ruleset.nft", ruleset);
    nft(namespace, &["-f", &file.to_string_lossy()]);
}

/// A port that listens, over IPv4 and IPv6; connections wait until somebody accepts them.
pub fn listen(namespace: &Namespace, port: u16) -> TcpListener {
    namespace.run(|| TcpListener::bind(format!("[::]:{port}")).expect("a port of its own"))
}

/// A service that takes every connection and closes it at once.
pub struct Service {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A service of this kind.
pub fn serve(namespace: &Namespace, port: u16) -> Service {
    let listener = listen(namespace, port);
    listener.set_nonblocking(true).expect("a listener that does not block");
    let is_over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&is_over);
    let thread = std::thread::spawn(move || {
        while !until.load(Ordering::Relaxed) {
            while listener.accept().is_ok() {}
            pause(0.005);
        }
    });
    Service { is_over, thread: Some(thread) }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A connection from the client to a port of the server.
pub fn connect(world: &World, port: u16) -> Option<TcpStream> {
    connect_to(world, &format!("{SERVER}:{port}"))
}

/// The same over IPv6.
pub fn connect6(world: &World, port: u16) -> Option<TcpStream> {
    connect_to(world, &format!("[{SERVER6}]:{port}"))
}

pub fn connect_to(world: &World, to: &str) -> Option<TcpStream> {
    connect_from(&world.client, to)
}

pub fn connect_from(client: &Namespace, to: &str) -> Option<TcpStream> {
    let to: SocketAddr = to.parse().expect("an address and a port");
    client.run(|| TcpStream::connect_timeout(&to, seconds(0.4)).ok())
}

/// Whether the client can connect.
pub fn connects(world: &World, port: u16) -> bool {
    connect(world, port).is_some()
}

/// Whether the kernel keeps a table for its owner, whoever flushes the ruleset, and when the owner has ended: since Linux 6.9.
pub fn keeps_owned_tables() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the version of the kernel");
    let mut numbers = release.split(|it: char| !it.is_ascii_digit()).map_while(|it| it.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(9))
}

/// All processes of a daemon, at once.
pub fn kill(daemon: &mut RunningDaemon<'_>) {
    daemon.kill(Signal::SIGKILL);
    daemon.wait();
}
