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
const PATIENCE: Duration = Duration::from_millis(250);
/// The longest timeout of a try.
const LONG_PATIENCE: Duration = Duration::from_secs(2);
/// The pause after a try that failed at once.
const PAUSE: Duration = Duration::from_millis(100);
/// Longer waits are shown on a terminal.
const SILENCE: Duration = Duration::from_secs(1);

/// A port that did not open: the most informative outcome, and its address.
#[derive(Debug)]
pub struct Shut {
    pub address: SocketAddr,
    pub seen: Seen,
}

/// The outcome of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// No answer.
    Silence,
    /// Connection refused.
    Refusal,
    /// Another error, in the system's words.
    Error(String),
}

impl Seen {
    fn of(error: &io::Error) -> Seen {
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Seen::Silence,
            io::ErrorKind::ConnectionRefused => Seen::Refusal,
            _ => Seen::Error(reason(error)),
        }
    }
}

/// Tries the addresses in turn until one accepts a connection.
///
/// # Errors
/// None of them accepts within the timeout.
pub fn for_connection(addresses: &[SocketAddr], timeout: Duration) -> Result<TcpStream, Shut> {
    until(addresses, timeout, connection).map(TcpStream::from)
}

/// Tries the addresses in turn until one answers: over TCP by accepting a connection, over UDP by a datagram
/// in reply to one zero byte.
///
/// # Errors
/// None of them answers within the timeout.
pub fn for_answer(addresses: &[SocketAddr], protocol: Protocol, timeout: Duration) -> Result<(), Shut> {
    match protocol {
        Protocol::Tcp => for_connection(addresses, timeout).map(drop),
        Protocol::Udp | Protocol::Icmp => until(addresses, timeout, datagram).map(drop),
    }
}

fn connection(address: SocketAddr, patience: Duration) -> io::Result<Socket> {
    TcpStream::connect_timeout(&address, patience).map(Socket::from)
}

fn datagram(address: SocketAddr, patience: Duration) -> io::Result<Socket> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(&[0])?;
    socket.recv(&mut [0; 1])?;
    Ok(socket.into())
}

fn until(
    addresses: &[SocketAddr],
    timeout: Duration,
    attempt: fn(SocketAddr, Duration) -> io::Result<Socket>,
) -> Result<Socket, Shut> {
    let begin = Instant::now();
    let mut patience = PATIENCE;
    let mut progress = Progress { begin, shown: false };
    let mut shut: Option<Shut> = None;
    loop {
        let mut is_cut_off = true;
        for &address in addresses {
            let seen = |shut: Option<Shut>| shut.unwrap_or(Shut { address, seen: Seen::Silence });
            let Some(left) = timeout.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) else {
                return Err(seen(shut));
            };
            progress.show(address);
            let tried = Instant::now();
            let error = match attempt(address, patience.min(left)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            is_cut_off &= error.kind() == io::ErrorKind::NetworkUnreachable;
            let seen = Seen::of(&error);
            if seen != Seen::Silence || shut.is_none() {
                shut = Some(Shut { address, seen });
            }
            if tried.elapsed() < PAUSE && !is_cut_off {
                thread::sleep(PAUSE.min(left));
            }
        }
        // Without a route, retrying is pointless. Other errors may come from a firewall that still rejects.
        if let Some(shut) = shut.take_if(|_| is_cut_off) {
            return Err(shut);
        }
        patience = LONG_PATIENCE.min(patience * 2);
    }
}

/// A progress line on a terminal, without colour; erased on drop.
struct Progress {
    begin: Instant,
    shown: bool,
}

impl Progress {
    fn show(&mut self, address: SocketAddr) {
        let elapsed = self.begin.elapsed();
        if elapsed > SILENCE && output::is_terminal() {
            self.shown = true;
            output::progress(format_args!("\rwaiting for {address}: {} s ", elapsed.as_secs()));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            output::progress("\r\x1b[K");
        }
    }
}
