//! Waits until the host answers.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::output;
use crate::door::knock::Protocol;

/// How long the first try waits for an answer; each further one waits twice as long. If the firewall was
/// still closed a new SYN should follow soon, but a slow line needs more time.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long the longest try waits.
const LONG_PATIENCE: Duration = Duration::from_secs(2);
/// The pause after a try that was refused at once.
const PAUSE: Duration = Duration::from_millis(100);
/// Longer waits are shown on a terminal.
const SILENCE: Duration = Duration::from_secs(1);

/// Tries the addresses in turn until one accepts a connection.
pub fn for_connection(addresses: &[SocketAddr], timeout: Duration) -> Option<TcpStream> {
    until(addresses, timeout, |address, patience| TcpStream::connect_timeout(&address, patience))
}

/// Tries the addresses in turn until one answers: over TCP by accepting a connection, over UDP by a
/// datagram in reply to one zero byte.
pub fn for_answer(addresses: &[SocketAddr], protocol: Protocol, timeout: Duration) -> bool {
    match protocol {
        Protocol::Tcp => for_connection(addresses, timeout).is_some(),
        Protocol::Udp | Protocol::Icmp => until(addresses, timeout, datagram).is_some(),
    }
}

fn datagram(address: SocketAddr, patience: Duration) -> io::Result<()> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(&[0])?;
    socket.recv(&mut [0; 1]).map(drop)
}

fn until<T>(
    addresses: &[SocketAddr],
    timeout: Duration,
    attempt: impl Fn(SocketAddr, Duration) -> io::Result<T>,
) -> Option<T> {
    let begin = Instant::now();
    let mut patience = PATIENCE;
    let mut progress = Progress { begin, shown: false };
    loop {
        for &address in addresses {
            let left = timeout.checked_sub(begin.elapsed()).filter(|left| !left.is_zero())?;
            progress.show(address);
            let tried = Instant::now();
            if let Ok(answer) = attempt(address, patience.min(left)) {
                return Some(answer);
            }
            if tried.elapsed() < PAUSE {
                thread::sleep(PAUSE.min(left));
            }
        }
        patience = LONG_PATIENCE.min(patience * 2);
    }
}

/// A line on a terminal that is overwritten, and erased at the end. It has no colour.
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
