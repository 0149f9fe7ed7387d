//! A process that somebody took over, played: it is confined by the function that confines the watcher and the resolver,
//! and then tries what an intruder would. The test program is run anew for it.
#![allow(unsafe_code)] // it makes system calls as an intruder would
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_lossless,
    clippy::cast_sign_loss
)]

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use knocking::config::Sandbox;
use knocking::daemon::messages::pair;
use knocking::daemon::sandbox::confined_process::{ConfinedProcess, Descriptors};
use knocking::daemon::sandbox::enter;
use knocking::filter::bpf::{Assembler, JUMP_EQUAL, LD_WORD};
use knocking::protocol::confinement::Confinement;
use nix::errno::Errno;
use nix::libc::{self, c_long};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, sendmsg, socket};

use crate::support::namespace::Namespace;

trials![
    a_taken_over_watcher_can_receive_and_nothing_else,
    a_taken_over_resolver_can_look_up_names_and_nothing_else,
    without_the_box_all_of_it_could_be_done,
    each_part_is_said_to_be_there,
];

/// Says that this process is the intruder, and whose place it has.
pub const ROLE: &str = "KNOCKD_TEST_INTRUDER";
/// This process is to be a program, the rest of its command line, on a kernel that has neither seccomp nor Landlock.
pub const OLD_KERNEL: &str = "old kernel";
/// New memory.
#[cfg(target_arch = "arm")]
const MMAP: c_long = libc::SYS_mmap2;
#[cfg(not(target_arch = "arm"))]
const MMAP: c_long = libc::SYS_mmap;
/// An ordinary user.
const NOBODY: (u32, u32) = (65_534, 65_534);

/// The intruder's whole life, if this process is one.
pub fn main() -> Option<ExitCode> {
    let role = std::env::var(ROLE).ok()?;
    if role == OLD_KERNEL {
        let mut words = std::env::args_os().skip(1);
        forget_system_calls();
        let error = Command::new(words.next()?).args(words).env_remove(ROLE).exec();
        panic!("{error}");
    }
    let (role, sandbox) = role.split_once(' ')?;
    let sandbox = Sandbox::from_word(sandbox)?;
    let link = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
    let frames = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
    let frames = frames.expect("a packet socket");
    // SAFETY: all zero is an address.
    let mut loopback: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    loopback.sll_family = libc::AF_PACKET as u16;
    loopback.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    loopback.sll_ifindex = 1;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is as long as it says.
    let bound = unsafe { libc::bind(frames.as_raw_fd(), (&raw const loopback).cast(), length) };
    assert_eq!(bound, 0, "{}", Errno::last());
    let process = match role {
        "watcher" => {
            ConfinedProcess::Watcher(Descriptors { links: [link.as_fd(), link.as_fd()], survey: None })
        }
        _ => ConfinedProcess::Resolver,
    };
    let identity = (sandbox != Sandbox::No).then_some(NOBODY);
    let confined = enter(&Confinement { identity, sandbox }, &process);
    let say = |line: &str| {
        let sent =
            sendmsg::<()>(link.as_raw_fd(), &[IoSlice::new(line.as_bytes())], &[], MsgFlags::empty(), None);
        sent.expect("the line to the test");
    };
    say(&format!("confined: {confined}"));
    for (what, result) in attempts(&link, &frames, role) {
        let result = result.map_or_else(|errno| format!("{errno:?}"), |_| "done".to_owned());
        say(&format!("{what}: {result}"));
    }
    say("end");
    Some(ExitCode::SUCCESS)
}

/// From here on the kernel says that it has neither.
fn forget_system_calls() {
    const ERROR: u32 = 0x0005_0000;
    const ALLOWED: u32 = 0x7fff_0000;
    const FIRST_ARGUMENT: u32 = if cfg!(target_endian = "big") { 20 } else { 16 };
    let mut assembler = Assembler::default();
    let missing = assembler.finish(ERROR | Errno::ENOSYS as u32);
    let invalid = assembler.finish(ERROR | Errno::EINVAL as u32);
    let allowed = assembler.finish(ALLOWED);
    let is_seccomp = assembler.branch(JUMP_EQUAL, libc::PR_SET_SECCOMP as u32, invalid, allowed);
    let prctl = assembler.then(LD_WORD, FIRST_ARGUMENT, is_seccomp);
    let mut next = allowed;
    for (call, end) in
        [(libc::SYS_prctl, prctl), (libc::SYS_seccomp, missing), (libc::SYS_landlock_create_ruleset, missing)]
    {
        next = assembler.branch(JUMP_EQUAL, u32::try_from(call).expect("a number"), end, next);
    }
    let entry = assembler.then(LD_WORD, 0, next);
    let mut program: Vec<libc::sock_filter> = assembler
        .program(entry)
        .into_iter()
        .map(|it| libc::sock_filter { code: it.code, jt: it.jt, jf: it.jf, k: it.k })
        .collect();
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    nix::sys::prctl::set_no_new_privs().expect("no new privileges");
    // SAFETY: the program has as many instructions as it says.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    Errno::result(result).expect("a filter");
}

type Attempts = Vec<(&'static str, Result<c_long, Errno>)>;

/// What it tries, and what comes of it.
fn attempts(link: &OwnedFd, frames: &OwnedFd, role: &str) -> Attempts {
    let (link, frames) = (c_long::from(link.as_raw_fd()), c_long::from(frames.as_raw_fd()));
    let frame = [0_u8; 64];
    let bytes = frame.as_ptr() as c_long;
    let part = libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
    // SAFETY: all zero is an empty message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = ((&raw const part).cast_mut(), 1);
    let message = (&raw const message) as c_long;
    let parent = c_long::from(nix::unistd::getppid().as_raw());
    let here = c_long::from(libc::AT_FDCWD);
    let on: libc::c_int = 1;
    let on = (&raw const on) as c_long;
    // struct packet_mreq: interface 1, PACKET_MR_PROMISC.
    let member = [1_u32, 1, 0, 0];
    let member = member.as_ptr() as c_long;
    // struct tpacket_req: a ring of one frame.
    let ring = [4096_u32, 1, 2048, 2];
    let ring = ring.as_ptr() as c_long;
    let passwd = c"/etc/passwd".as_ptr() as c_long;
    let shadow = c"/etc/shadow".as_ptr() as c_long;
    let new = c"/tmp/knockd-intruder".as_ptr() as c_long;
    let shell = c"/bin/true".as_ptr() as c_long;
    let size = frame.len() as c_long;
    let executable = c_long::from(libc::PROT_READ | libc::PROT_EXEC);
    let private = c_long::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let try_it = |number: c_long, arguments: [c_long; 6]| {
        let [first, second, third, fourth, fifth, sixth] = arguments;
        // SAFETY: each pointer is to something that lives, and of the size that is said.
        Errno::result(unsafe { libc::syscall(number, first, second, third, fourth, fifth, sixth) })
    };
    let mut attempts = vec![
        ("read /etc/passwd", libc::SYS_openat, [here, passwd, 0, 0, 0, 0]),
        ("read /etc/shadow", libc::SYS_openat, [here, shadow, 0, 0, 0, 0]),
        (
            "make a file",
            libc::SYS_openat,
            [here, new, (libc::O_CREAT | libc::O_WRONLY) as c_long, 0o600, 0, 0],
        ),
        ("remove a file", libc::SYS_unlinkat, [here, new, 0, 0, 0, 0]),
        ("open a socket of the internet", libc::SYS_socket, [libc::AF_INET as c_long, 2, 0, 0, 0, 0]),
        ("open a packet socket", libc::SYS_socket, [libc::AF_PACKET as c_long, 3, 0, 0, 0, 0]),
        ("make a pair of sockets", libc::SYS_socketpair, [1, 1, 0, ring, 0, 0]),
        ("send a frame (sendto)", libc::SYS_sendto, [frames, bytes, size, 0, 0, 0]),
        ("send a frame (write)", libc::SYS_write, [frames, bytes, size, 0, 0, 0]),
        ("send a frame (writev)", libc::SYS_writev, [frames, (&raw const part) as c_long, 1, 0, 0, 0]),
        ("send a frame (sendmsg)", libc::SYS_sendmsg, [frames, message, 0, 0, 0, 0]),
        ("send a frame (ring)", libc::SYS_setsockopt, [frames, libc::SOL_PACKET as c_long, 13, ring, 16, 0]),
        (
            "hear what is for others",
            libc::SYS_setsockopt,
            [frames, libc::SOL_PACKET as c_long, 1, member, 16, 0],
        ),
        (
            "set another option",
            libc::SYS_setsockopt,
            [frames, libc::SOL_SOCKET as c_long, libc::SO_BROADCAST as c_long, on, 4, 0],
        ),
        ("connect", libc::SYS_connect, [frames, bytes, 16, 0, 0, 0]),
        ("put the packet socket in the place of the line", libc::SYS_dup3, [frames, link, 0, 0, 0, 0]),
        ("close the line", libc::SYS_close, [link, 0, 0, 0, 0, 0]),
        ("run a program", libc::SYS_execve, [shell, 0, 0, 0, 0, 0]),
        ("attach to the parent", libc::SYS_ptrace, [libc::PTRACE_ATTACH as c_long, parent, 0, 0, 0, 0]),
        ("signal the parent", libc::SYS_kill, [parent, 0, 0, 0, 0, 0]),
        ("read the parent's memory", libc::SYS_process_vm_readv, [parent, 0, 0, 0, 0, 0]),
        ("take a descriptor of the parent", libc::SYS_pidfd_open, [parent, 0, 0, 0, 0, 0]),
        ("become root", libc::SYS_setresuid, [0, 0, 0, 0, 0, 0]),
        ("run code that it wrote", MMAP, [0, 4096, executable, private, -1, 0]),
        ("make other namespaces", libc::SYS_unshare, [libc::CLONE_NEWUSER as c_long, 0, 0, 0, 0, 0]),
        (
            "have the socket send signals",
            libc::SYS_fcntl,
            [frames, libc::F_SETOWN as c_long, parent, 0, 0, 0],
        ),
        ("change an interface", libc::SYS_ioctl, [frames, 0x8914, bytes, 0, 0, 0]),
        ("use io_uring", libc::SYS_io_uring_setup, [1, bytes, 0, 0, 0, 0]),
        ("use bpf", libc::SYS_bpf, [0, bytes, 64, 0, 0, 0]),
        ("make a file in memory", libc::SYS_memfd_create, [passwd, 0, 0, 0, 0, 0]),
        ("see when something happens to a file", libc::SYS_inotify_init1, [0, 0, 0, 0, 0, 0]),
        ("raise a limit", libc::SYS_prlimit64, [0, 7, 0, 0, 0, 0]),
    ];
    if role == "resolver" {
        // It may, and then says nothing any more.
        attempts.retain(|(what, ..)| *what != "close the line");
    }
    if role == "free" {
        // What would end the process that tries, or others.
        let harmless = [
            "read /etc/passwd",
            "open a socket of the internet",
            "open a packet socket",
            "send a frame (sendto)",
            "send a frame (write)",
            "send a frame (sendmsg)",
            "hear what is for others",
            "signal the parent",
            "run code that it wrote",
            "have the socket send signals",
        ];
        attempts.retain(|(what, ..)| harmless.contains(what));
    }
    attempts.into_iter().map(|(what, number, arguments)| (what, try_it(number, arguments))).collect()
}

/// Runs the intruder; what it says, line by line.
fn run(role: &str, sandbox: Sandbox) -> Vec<(String, String)> {
    let namespace = Namespace::new();
    namespace.up("lo");
    // A confined process dies with the thread that started it (`PR_SET_PDEATHSIG`), so that thread has to stay.
    namespace.run(|| {
        let (ours, theirs) = pair().expect("a pair of sockets");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(ROLE, format!("{role} {}", sandbox.word())).stdin(Stdio::from(theirs));
        let mut child = command.spawn().expect("the intruder");
        drop(command);
        let mut said = Vec::new();
        let mut line = [0; 1024];
        loop {
            let length =
                recv(ours.as_raw_fd(), &mut line, MsgFlags::empty()).expect("what the intruder says");
            let text = String::from_utf8_lossy(&line[..length]).into_owned();
            match text.split_once(": ") {
                Some((what, result)) => said.push((what.to_owned(), result.to_owned())),
                None if text == "end" => break,
                None => panic!("{} behind {said:?}", child.wait().expect("its end")),
            }
        }
        let end = child.wait().expect("its end");
        assert!(end.success(), "{end}");
        said
    })
}

fn a_taken_over_watcher_can_receive_and_nothing_else() {
    let said = run("watcher", Sandbox::Yes);
    assert!(said.len() > 30, "{said:?}");
    let done: Vec<_> = said.iter().skip(1).filter(|(_, result)| result != "EPERM").collect();
    assert!(done.is_empty(), "a taken-over watcher could: {done:?}");
}

fn a_taken_over_resolver_can_look_up_names_and_nothing_else() {
    let said = run("resolver", Sandbox::Yes);
    let of = |what: &str| said.iter().find(|(it, _)| it == what).map(|(_, result)| result.as_str());
    // It reads what everybody may, and speaks to name servers.
    let may = ["read /etc/passwd", "open a socket of the internet", "run code that it wrote"];
    for what in &may[..2] {
        assert_eq!(of(what), Some("done"), "{what}");
    }
    let socket_only = ["send a frame", "hear what is for others", "set another option", "connect"];
    for (what, result) in said.iter().skip(1) {
        // The intruder of this test brought a packet socket along; the resolver has none.
        let is_of_socket = socket_only.iter().any(|it| what.starts_with(it));
        if !may.contains(&what.as_str()) && !is_of_socket {
            assert!(matches!(result.as_str(), "EPERM" | "EACCES" | "ENOENT"), "{what}: {result}");
        }
    }
}

/// The attempts are real ones: without the box they succeed.
fn without_the_box_all_of_it_could_be_done() {
    let said = run("free", Sandbox::No);
    assert_eq!(said.len(), 11, "{said:?}");
    let failed: Vec<_> = said.iter().skip(1).filter(|(_, result)| result != "done").collect();
    assert!(failed.is_empty(), "{failed:?}");
}

fn each_part_is_said_to_be_there() {
    let said = run("watcher", Sandbox::Yes);
    // In a user namespace of one user there is no other to become.
    let words = ["empty bounding set", "no capabilities", "no_new_privs", "seccomp"];
    for word in words {
        assert!(said[0].1.contains(word), "{word}: {said:?}");
    }
    assert!(said[0].1.contains("Landlock") || said[0].1.contains("empty root"), "{said:?}");
}
