//! STUN (RFC 8489): a server on the other side of the NAT tells which address it sees.
//!
//! One binding request, sent again a few times, and whatever answers to it. Who can forge the answer
//! can keep the door shut, not open it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use bytecodec::{DecodeExt, EncodeExt};
use stun_codec::rfc5389::{attributes::XorMappedAddress, methods::BINDING};
use stun_codec::{Message, MessageClass, MessageDecoder, MessageEncoder, TransactionId};

use super::chance;
use super::resolve::{self, Family};
use crate::reason::reason;

/// How long each of the tries waits for an answer.
const PATIENCE: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_millis(1500), Duration::from_secs(2)];
/// The longest answer that is read.
const MAX_ANSWER: usize = 1500;

/// The address of ours that this server sees.
///
/// # Errors
/// In words: it is not found, cannot be reached, or does not answer.
pub(super) fn ask(server: &str, port: u16, over_v4: bool) -> Result<IpAddr, String> {
    let family = if over_v4 { Family::V4 } else { Family::V6 };
    let found = resolve::host(server, family)?;
    let Some(mut address) = found.first().copied() else { return Err("no address".to_owned()) };
    address.set_port(port);
    exchange(address).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => reason(&error),
    })
}

fn exchange(server: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // Connected, so that only the server is heard.
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    let id = identifier();
    let request = request(id).ok_or(io::ErrorKind::InvalidData)?;
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
                length => length?,
            };
            if let Some(address) = answer.get(..length).and_then(|answer| mapped(answer, id)) {
                return Ok(address);
            }
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn identifier() -> [u8; 12] {
    let mut random = chance::numbers();
    let mut id = [0; 12];
    for part in id.chunks_mut(8) {
        part.copy_from_slice(random().to_be_bytes().get(..part.len()).unwrap_or_default());
    }
    id
}

/// A binding request.
fn request(id: [u8; 12]) -> Option<Vec<u8>> {
    let message = Message::<XorMappedAddress>::new(MessageClass::Request, BINDING, TransactionId::new(id));
    MessageEncoder::new().encode_into_bytes(message).ok()
}

/// The address that the answer to request `id` tells.
fn mapped(answer: &[u8], id: [u8; 12]) -> Option<IpAddr> {
    let message = MessageDecoder::<XorMappedAddress>::new().decode_from_bytes(answer).ok()?.ok()?;
    let is_ours = message.class() == MessageClass::SuccessResponse
        && message.method() == BINDING
        && *message.transaction_id().as_bytes() == id;
    message.attributes().next().filter(|_| is_ours).map(|mapped| mapped.address().ip())
}
