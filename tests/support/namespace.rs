//! A network namespace, owned by a value.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use super::process;

/// A network namespace. The kernel removes it when the value is dropped and everything opened in it is closed.
pub struct Namespace {
    net: File,
    inode: u64,
}

impl Namespace {
    /// A new namespace with only `lo`, up, and without IPv6 autoconfiguration on later interfaces.
    pub fn new() -> Namespace {
        let net = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            File::open("/proc/thread-self/ns/net").expect("the new network namespace")
        });
        let net = net.join().expect("the thread that makes a namespace");
        let inode = net.metadata().expect("stat of a namespace").ino();
        let namespace = Namespace { net, inode };
        namespace.quiet("all");
        namespace.quiet("default");
        namespace.up("lo");
        namespace
    }

    /// Runs `work` on a thread inside this namespace. What it opens or starts there stays there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                setns(&self.net, CloneFlags::CLONE_NEWNET).expect("entering a namespace");
                work()
            });
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a program inside this namespace.
    pub fn spawn(&self, command: &mut Command) -> Child {
        let name = command.get_program().to_owned();
        self.run(|| command.spawn()).unwrap_or_else(|e| panic!("starting {}: {e}", name.display()))
    }

    /// Writes a setting below /proc/sys/net, as this namespace sees it.
    pub fn set(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/net/{name}");
        self.run(|| fs::write(&path, value)).unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// The processes that live in this namespace.
    pub fn processes(&self) -> Vec<i32> {
        process::all().filter(|pid| process::network_of(*pid) == Some(self.inode)).collect()
    }

    /// The kernel's number for this namespace.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The descriptor that identifies this namespace in a message to the kernel.
    pub fn descriptor(&self) -> i32 {
        std::os::fd::AsRawFd::as_raw_fd(&self.net)
    }

    /// Disables duplicate address detection, generated addresses and router solicitations, so that tests see
    /// only their own packets.
    fn quiet(&self, whom: &str) {
        if !fs::exists("/proc/sys/net/ipv6").unwrap_or(false) {
            return;
        }
        for (setting, value) in [("accept_dad", "0"), ("addr_gen_mode", "1"), ("router_solicitations", "0")] {
            self.set(&format!("ipv6/conf/{whom}/{setting}"), value);
        }
    }
}

impl Drop for Namespace {
    /// Kills what still runs inside, so that nothing outlives its test.
    fn drop(&mut self) {
        for _ in 0..3 {
            let left = self.processes();
            if left.is_empty() {
                break;
            }
            left.into_iter().for_each(process::end);
            super::pause(0.01);
        }
    }
}
