//! STUN (RFC 8489): asks a server beyond the NAT which source address it sees.
//!
//! Sends one binding request, up to four times, and accepts the first response from that server with the
//! request's transaction ID. [`plan::stun`](crate::plan::stun) decides whether to trust it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::client::lookup::resolve;
use crate::client::options::Family;
use crate::client::random;
use crate::plan::stun_message::{self, TransactionId};
use crate::reason::reason;

/// The timeout of each request.
const REQUEST_TIMEOUTS: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_millis(1500), Duration::from_secs(2)];
/// The longest response that is read, in bytes.
const MAX_RESPONSE: usize = 1500;

/// Returns the server's address, and the source address that it sees.
///
/// # Errors
/// The server is not found, is unreachable, or does not answer; as text.
pub fn query(server: &str, port: u16, over_v4: bool) -> Result<(IpAddr, IpAddr), String> {
    let family = if over_v4 { Family::V4 } else { Family::V6 };
    let found = resolve::host(server, family)?;
    let Some(mut address) = found.first().copied() else { return Err("no address".to_owned()) };
    address.set_port(port);
    request_address(address).map(|reported| (address.ip(), reported)).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => reason(&error),
    })
}

fn request_address(server: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Connected, so that the kernel drops datagrams from other addresses.
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    let id = random_transaction_id();
    let request = stun_message::binding_request(id);
    let mut response = [0; MAX_RESPONSE];
    for timeout in REQUEST_TIMEOUTS {
        let end = Instant::now() + timeout;
        socket.send(&request)?;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left))?;
            let length = match socket.recv(&mut response) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                length => length?,
            };
            if let Some(address) =
                response.get(..length).and_then(|response| stun_message::mapped_address(response, id))
            {
                return Ok(address);
            }
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn random_transaction_id() -> TransactionId {
    let mut random = random::numbers();
    std::array::from_fn(|_| random().to_be_bytes()[0])
}
