//! Names of knockers for the log (`-l`), looked up by a process of their own.
//!
//! A lookup may take many seconds and tells a stranger's name server about us; nothing but a line
//! of the log ever waits for it. What comes back is shown only if it is made of the characters of a
//! host name: the owner of an address chooses its name.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use litemap::LiteMap;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{MsgFlags, recv, send};

use crate::config::Sandbox;
use crate::daemon::clock::now;
use crate::daemon::messages;
use crate::daemon::pages;
use crate::daemon::poll::{poll_timeout, wait_for};
use crate::daemon::processes::{self, Role, Sibling};
use crate::daemon::sandbox;
use crate::daemon::sandbox::tenant::Tenant;
use crate::daemon::signals;
use crate::protocol::confinement::{Confined, Confinement};
use crate::protocol::messages::{Crossing, Report};
use crate::time::Now;

/// How long a line waits for its name.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How long a name, or that there is none, is remembered.
const MEMORY: Duration = Duration::from_mins(5);
/// How many names are remembered at most.
const MOST_KNOWN: usize = 1024;
/// How many lookups are under way at most; further knockers are shown by their address.
const MOST_ASKED: usize = 64;
/// The longest name there is (RFC 1035, 2.3.4).
const LONGEST: usize = 255;

/// What is known of a knocker's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is this, or there is none.
    Known(Option<String>),
    /// It is being looked up.
    Asked,
}

/// The names known, and the process that finds them.
#[derive(Debug)]
pub struct Names {
    /// There as long as this is.
    resolver: Option<Sibling>,
    /// What it gave up, which is the first that it says.
    confined: Option<Confined>,
    known: LiteMap<IpAddr, (Option<String>, Duration)>,
    /// Whose names are being looked up: the process answers all that it is asked.
    asked: Vec<IpAddr>,
    is_gone: bool,
}

impl Names {
    /// Starts the process.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start(confinement: &Confinement) -> io::Result<Names> {
        let resolver = processes::start_confined(Role::Resolver, Vec::new(), confinement)?;
        Ok(Names {
            resolver: Some(resolver),
            confined: None,
            known: LiteMap::new(),
            asked: Vec::new(),
            is_gone: false,
        })
    }

    /// What the process gave up, waiting for it to say so until this uptime.
    pub fn confined(&mut self, deadline: Duration) -> Option<&Confined> {
        while self.confined.is_none() && !self.is_gone && now().uptime < deadline {
            let descriptor = self.descriptor().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            wait_for(
                descriptor.into_iter().collect::<Vec<_>>().as_mut_slice(),
                poll_timeout(Some(deadline), now()),
            );
            self.take(now());
        }
        self.confined.as_ref()
    }

    /// What is known of this knocker; if that is nothing, asks for it.
    pub fn ask(&mut self, knocker: IpAddr, now: Now) -> Answer {
        // An IPv4 address in the clothes of IPv6 is answered as what it is.
        let knocker = knocker.to_canonical();
        if let Some((name, until)) = self.known.get(&knocker)
            && *until > now.uptime
        {
            return Answer::Known(name.clone());
        }
        if self.asked.contains(&knocker) {
            return Answer::Asked;
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        if self.asked.len() >= MOST_ASKED || send(self.socket(), &octets(knocker), flags).is_err() {
            return Answer::Known(None);
        }
        self.asked.push(knocker);
        Answer::Asked
    }

    /// Whether the process ended; then there will be no answer any more.
    #[must_use]
    pub fn are_gone(&self) -> bool {
        self.is_gone
    }

    /// Takes the answers that came.
    pub fn take(&mut self, now: Now) {
        let mut answer = [0; 16 + LONGEST];
        loop {
            match recv(self.socket(), &mut answer, MsgFlags::MSG_DONTWAIT) {
                Ok(length @ 1..) if self.confined.is_none() => {
                    let Some(Some(Report::Confined(confined))) = answer.get(..length).map(Report::decode)
                    else {
                        self.is_gone = true;
                        return;
                    };
                    self.confined = Some(confined);
                }
                Ok(length) if length >= 16 => {
                    let Some((address, rest)) = answer.split_first_chunk::<16>() else { return };
                    let knocker = Ipv6Addr::from(*address).to_canonical();
                    let name = rest.get(..length - 16).unwrap_or_default();
                    self.asked.retain(|it| *it != knocker);
                    if self.known.len() >= MOST_KNOWN {
                        self.known.clear();
                    }
                    self.known.insert(knocker, (host_name(name), now.uptime + MEMORY));
                }
                // An answer that is none.
                Ok(1..) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Ok(0) | Err(_) => {
                    self.is_gone = true;
                    return;
                }
            }
        }
    }

    fn socket(&self) -> i32 {
        self.resolver.as_ref().map_or(-1, |resolver| resolver.socket.as_raw_fd())
    }

    /// Readable when an answer came.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.resolver.as_ref().map(|resolver| resolver.socket.as_fd())
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // It would end by itself when the socket closes, but not before its lookup is over.
        if let Some(resolver) = self.resolver.take() {
            resolver.end();
        }
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The name, if it is one that may stand in a log.
fn host_name(bytes: &[u8]) -> Option<String> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if bytes.is_empty() || !bytes.iter().all(is_plain) {
        return None;
    }
    let name = String::from_utf8_lossy(bytes).into_owned();
    // A resolver that finds no name may give the address back.
    if name.parse::<IpAddr>().is_ok() { None } else { Some(name) }
}

/// The resolver's whole life: an address comes, its name goes back. What name servers answer is read by the C library, so
/// it gives up what it does not need for that.
#[must_use]
pub fn main(words: Vec<OsString>) -> ExitCode {
    signals::ignore_all();
    let Some((_, confinement)) = processes::split_confinement(words) else { return ExitCode::FAILURE };
    let Ok(socket) = processes::accept_alone() else { return ExitCode::FAILURE };
    let confined = sandbox::enter(&confinement, &Tenant::Resolver);
    let is_refused = confinement.sandbox == Sandbox::Require && confined.missing().is_some();
    let is_told = messages::transmit(&socket, &Report::Confined(confined), None);
    if is_refused || is_told.is_err() {
        return ExitCode::FAILURE;
    }
    pages::release_code();
    loop {
        let mut request = [0; 16];
        match receive(&socket, &mut request) {
            Ok(16) => {}
            Err(Errno::EINTR) => continue,
            _ => return ExitCode::SUCCESS,
        }
        let knocker = Ipv6Addr::from(request).to_canonical();
        let name = dns_lookup::lookup_addr(&knocker).unwrap_or_default();
        let answer: Vec<u8> = request.iter().chain(name.as_bytes().iter().take(LONGEST)).copied().collect();
        if send(socket.as_raw_fd(), &answer, MsgFlags::MSG_NOSIGNAL).is_err() {
            return ExitCode::SUCCESS;
        }
    }
}

fn receive(socket: &OwnedFd, request: &mut [u8; 16]) -> nix::Result<usize> {
    recv(socket.as_raw_fd(), request, MsgFlags::empty())
}
