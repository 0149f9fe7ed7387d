//! Host names of knockers for the log (`-l`), looked up by a separate process.
//!
//! A lookup may take many seconds and reveals us to a stranger's name server; only lines of the log ever wait
//! for it. A name is shown only if it consists of host name characters: whoever owns an address chooses its
//! name.

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
use crate::daemon::sandbox::confined_process::ConfinedProcess;
use crate::daemon::signals;
use crate::protocol::confinement::{Confined, Confinement};
use crate::protocol::messages::{Crossing, Report};
use crate::time::Now;

/// How long a line waits for its name.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a name, or the absence of one, is cached.
const CACHE_TIME: Duration = Duration::from_mins(5);
/// The most names that are cached.
const MAX_CACHED: usize = 1024;
/// The most lookups in progress; further knockers are shown by address.
const MAX_LOOKUPS: usize = 64;
/// The longest host name (RFC 1035, 2.3.4).
const MAX_HOST_NAME: usize = 255;

/// What is known of a knocker's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name, or `None` if the address has none.
    Known(Option<String>),
    /// The lookup is in progress.
    Pending,
}

/// The cached names, and the resolver process.
#[derive(Debug)]
pub struct Names {
    /// The resolver, ended when this is dropped.
    resolver: Option<Sibling>,
    /// Its confinement, the first thing it reports.
    confined: Option<Confined>,
    cache: LiteMap<IpAddr, (Option<String>, Duration)>,
    /// The addresses being looked up: the process answers every request.
    pending: Vec<IpAddr>,
    has_ended: bool,
}

impl Names {
    /// Starts the resolver process.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start(confinement: &Confinement) -> io::Result<Names> {
        let resolver = processes::start_confined(Role::Resolver, Vec::new(), confinement)?;
        Ok(Names {
            resolver: Some(resolver),
            confined: None,
            cache: LiteMap::new(),
            pending: Vec::new(),
            has_ended: false,
        })
    }

    /// The confinement that the process reports, waiting for the report until this uptime.
    pub fn confined(&mut self, deadline: Duration) -> Option<&Confined> {
        while self.confined.is_none() && !self.has_ended && now().uptime < deadline {
            let descriptor = self.descriptor().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            wait_for(
                descriptor.into_iter().collect::<Vec<_>>().as_mut_slice(),
                poll_timeout(Some(deadline), now()),
            );
            self.read_answers(now());
        }
        self.confined.as_ref()
    }

    /// The cached answer for this knocker; starts a lookup if there is none.
    pub fn ask(&mut self, knocker: IpAddr, now: Now) -> Answer {
        // An IPv4-mapped IPv6 address is looked up as IPv4.
        let knocker = knocker.to_canonical();
        if let Some((name, until)) = self.cache.get(&knocker)
            && *until > now.uptime
        {
            return Answer::Known(name.clone());
        }
        if self.pending.contains(&knocker) {
            return Answer::Pending;
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        if self.pending.len() >= MAX_LOOKUPS || send(self.socket(), &octets(knocker), flags).is_err() {
            return Answer::Known(None);
        }
        self.pending.push(knocker);
        Answer::Pending
    }

    /// Whether the process has ended; no answer will come then.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Reads the answers of the process.
    pub fn read_answers(&mut self, now: Now) {
        let mut answer = [0; 16 + MAX_HOST_NAME];
        loop {
            match recv(self.socket(), &mut answer, MsgFlags::MSG_DONTWAIT) {
                Ok(length @ 1..) if self.confined.is_none() => {
                    let Some(Some(Report::Confined(confined))) = answer.get(..length).map(Report::decode)
                    else {
                        self.has_ended = true;
                        return;
                    };
                    self.confined = Some(confined);
                }
                Ok(length) if length >= 16 => {
                    let Some((address, rest)) = answer.split_first_chunk::<16>() else { return };
                    let knocker = Ipv6Addr::from(*address).to_canonical();
                    let name = rest.get(..length - 16).unwrap_or_default();
                    self.pending.retain(|it| *it != knocker);
                    if self.cache.len() >= MAX_CACHED {
                        self.cache.clear();
                    }
                    self.cache.insert(knocker, (host_name(name), now.uptime + CACHE_TIME));
                }
                // Not a valid answer.
                Ok(1..) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Ok(0) | Err(_) => {
                    self.has_ended = true;
                    return;
                }
            }
        }
    }

    fn socket(&self) -> i32 {
        self.resolver.as_ref().map_or(-1, |resolver| resolver.socket.as_raw_fd())
    }

    /// Readable when an answer has arrived.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.resolver.as_ref().map(|resolver| resolver.socket.as_fd())
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // It would end when the socket closes, but only after its current lookup.
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

/// The name, if it may be shown in a log.
fn host_name(bytes: &[u8]) -> Option<String> {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if bytes.is_empty() || !bytes.iter().all(is_allowed) {
        return None;
    }
    let name = String::from_utf8_lossy(bytes).into_owned();
    // A resolver without a result may return the address.
    if name.parse::<IpAddr>().is_ok() { None } else { Some(name) }
}

/// Main function of the resolver: reads addresses and answers with names. The C library parses the answers of
/// name servers, so the process confines itself to what a lookup needs.
#[must_use]
pub fn main(words: Vec<OsString>) -> ExitCode {
    signals::ignore_all();
    let Some((_, confinement)) = processes::split_confinement(words) else { return ExitCode::FAILURE };
    let Ok(socket) = processes::accept_alone() else { return ExitCode::FAILURE };
    let confined = sandbox::enter(&confinement, &ConfinedProcess::Resolver);
    let is_refused = confinement.sandbox == Sandbox::Require && confined.missing().is_some();
    let report_sent = messages::transmit(&socket, &Report::Confined(confined), None);
    if is_refused || report_sent.is_err() {
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
        let answer: Vec<u8> =
            request.iter().chain(name.as_bytes().iter().take(MAX_HOST_NAME)).copied().collect();
        if send(socket.as_raw_fd(), &answer, MsgFlags::MSG_NOSIGNAL).is_err() {
            return ExitCode::SUCCESS;
        }
    }
}

fn receive(socket: &OwnedFd, request: &mut [u8; 16]) -> nix::Result<usize> {
    recv(socket.as_raw_fd(), request, MsgFlags::empty())
}
