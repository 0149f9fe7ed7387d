//! STUN (RFC 8489): asks a server beyond the NAT which source address it sees.
//!
//! Sends one binding request, up to four times, and accepts the first response from that server with the
//! request's transaction ID. [`plan::stun`](crate::plan::stun) decides whether to trust it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::client::chance;
use crate::client::lookup::resolve;
use crate::client::wanted::Family;
use crate::plan::stun_message::{self, TransactionId};
use crate::reason::reason;

/// The timeout of each request.
const PATIENCE: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_millis(1500), Duration::from_secs(2)];
/// The longest response that is read, in bytes.
const MAX_ANSWER: usize = 1500;

/// Returns the server's address, and the source address that it sees.
///
/// # Errors
/// The server is not found, is unreachable, or does not answer; as text.
pub fn ask(server: &str, port: u16, over_v4: bool) -> Result<(IpAddr, IpAddr), String> {
    let family = if over_v4 { Family::V4 } else { Family::V6 };
    let found = resolve::host(server, family)?;
    let Some(mut address) = found.first().copied() else { return Err("no address".to_owned()) };
    address.set_port(port);
    exchange(address).map(|seen| (address.ip(), seen)).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => reason(&error),
    })
}

fn exchange(server: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Connected, so that the kernel drops datagrams from other addresses.
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    let id = identifier();
    let request = stun_message::binding_request(id);
    let mut answer = [0; MAX_ANSWER];
    for patience in PATIENCE {
        let end = Instant::now() + patience;
        socket.send(&request)?;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left))?;
            let length = match socket.recv(&mut answer) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                length => length?,
            };
            if let Some(address) =
                answer.get(..length).and_then(|answer| stun_message::mapped_address(answer, id))
            {
                return Ok(address);
            }
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn identifier() -> TransactionId {
    let mut random = chance::numbers();
    std::array::from_fn(|_| random().to_be_bytes()[0])
}
