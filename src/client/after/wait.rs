//! Waits until the host answers.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::client::output;
use crate::door::knock::Protocol;
use crate::reason::reason;

/// The timeout of the first try, which doubles with each round. Short, as the firewall may have dropped the
/// first SYN; longer later, for slow lines.
const INITIAL_TRY_TIMEOUT: Duration = Duration::from_millis(250);
/// The longest timeout of a try.
const MAX_TRY_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause after a try that failed immediately, such as one that was refused.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// Waits longer than this are shown on a terminal.
const PROGRESS_DELAY: Duration = Duration::from_secs(1);

/// A port that did not open: the most informative outcome, and its address.
#[derive(Debug)]
pub struct NotOpen {
    pub address: SocketAddr,
    pub outcome: TryOutcome,
}

/// The outcome of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TryOutcome {
    /// No answer.
    NoAnswer,
    /// Connection refused.
    Refused,
    /// Another error, in the system's words.
    Error(String),
}

impl TryOutcome {
    fn from_error(error: &io::Error) -> TryOutcome {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => TryOutcome::NoAnswer,
            io::ErrorKind::ConnectionRefused => TryOutcome::Refused,
            _ => TryOutcome::Error(reason(error)),
        }
    }
}

/// Tries the addresses in turn until one accepts a connection.
///
/// # Errors
/// None of them accepts within the timeout.
pub fn for_connection(addresses: &[SocketAddr], timeout: Duration) -> Result<TcpStream, NotOpen> {
    try_until(addresses, timeout, try_connection).map(TcpStream::from)
}

/// Tries the addresses in turn until one answers: over TCP by accepting a connection, over UDP by a datagram
/// in reply to one zero byte.
///
/// # Errors
/// None of them answers within the timeout.
pub fn for_answer(addresses: &[SocketAddr], protocol: Protocol, timeout: Duration) -> Result<(), NotOpen> {
    match protocol {
        Protocol::Tcp => for_connection(addresses, timeout).map(drop),
        Protocol::Udp | Protocol::Icmp => try_until(addresses, timeout, try_datagram).map(drop),
    }
}

fn try_connection(address: SocketAddr, try_timeout: Duration) -> io::Result<Socket> {
    TcpStream::connect_timeout(&address, try_timeout).map(Socket::from)
}

fn try_datagram(address: SocketAddr, try_timeout: Duration) -> io::Result<Socket> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(try_timeout))?;
    socket.send(&[0])?;
    socket.recv(&mut [0; 1])?;
    Ok(socket.into())
}

fn try_until(
    addresses: &[SocketAddr],
    timeout: Duration,
    attempt: fn(SocketAddr, Duration) -> io::Result<Socket>,
) -> Result<Socket, NotOpen> {
    let begin = Instant::now();
    let mut try_timeout = INITIAL_TRY_TIMEOUT;
    let mut progress = Progress { begin, is_shown: false };
    let mut not_open: Option<NotOpen> = None;
    loop {
        let mut has_no_route = true;
        for &address in addresses {
            let or_no_answer = |not_open: Option<NotOpen>| {
                not_open.unwrap_or(NotOpen { address, outcome: TryOutcome::NoAnswer })
            };
            let Some(left) = timeout.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) else {
                return Err(or_no_answer(not_open));
            };
            progress.show(address);
            let started = Instant::now();
            let error = match attempt(address, try_timeout.min(left)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            has_no_route &= error.kind() == io::ErrorKind::NetworkUnreachable;
            let outcome = TryOutcome::from_error(&error);
            if outcome != TryOutcome::NoAnswer || not_open.is_none() {
                not_open = Some(NotOpen { address, outcome });
            }
            if started.elapsed() < RETRY_DELAY && !has_no_route {
                thread::sleep(RETRY_DELAY.min(left));
            }
        }
        // Without a route, retrying is pointless. Other errors may come from a firewall that still rejects.
        if let Some(not_open) = not_open.take_if(|_| has_no_route) {
            return Err(not_open);
        }
        try_timeout = MAX_TRY_TIMEOUT.min(try_timeout * 2);
    }
}

/// A progress line on a terminal, without colour; erased on drop.
struct Progress {
    begin: Instant,
    is_shown: bool,
}

impl Progress {
    fn show(&mut self, address: SocketAddr) {
        let elapsed = self.begin.elapsed();
        if elapsed > PROGRESS_DELAY && output::stderr_is_terminal() {
            self.is_shown = true;
            output::print_progress(format_args!("\rwaiting for {address}: {} s ", elapsed.as_secs()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            output::print_progress("\r\x1b[K");
        }
    }
}
