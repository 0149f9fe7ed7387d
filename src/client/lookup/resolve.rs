//! Names to numbers: hosts and services.
//!
//! Numbers never reach the resolver: it reads half a dozen files before it finds out that there
//! was nothing to look up.

use std::io;
use std::net::{IpAddr, SocketAddr};

use dns_lookup::{AddrFamily, AddrInfoHints, LookupError, SockType, getaddrinfo};

use crate::client::wanted::Family;
use crate::door::knock::Protocol;

/// The addresses of a host, best first, at least one; their port is 0.
///
/// # Errors
/// The resolver's reason, in its own words.
pub fn host(name: &str, family: Family) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = name.parse::<IpAddr>() {
        if fits(address, family) {
            return Ok(vec![SocketAddr::new(address, 0)]);
        }
        return Err("Address family for hostname not supported".to_owned());
    }
    let address = match family {
        Family::Any | Family::Both => 0,
        Family::V4 => AddrFamily::Inet.into(),
        Family::V6 => AddrFamily::Inet6.into(),
    };
    let hints = AddrInfoHints { address, socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
    let found = getaddrinfo(Some(name), None, Some(hints)).map_err(in_words)?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for entry in found.flatten() {
        if !addresses.contains(&entry.sockaddr) {
            addresses.push(entry.sockaddr);
        }
    }
    if addresses.is_empty() { Err("No address associated with hostname".to_owned()) } else { Ok(addresses) }
}

/// The port number of a service, as `/etc/services` has it for this protocol or, if it does not, for
/// the other one.
///
/// # Errors
/// The resolver's reason, in its own words.
pub fn service(name: &str, protocol: Protocol) -> Result<u16, String> {
    let look_up = |socktype: SockType| {
        let hints = AddrInfoHints { socktype: socktype.into(), ..AddrInfoHints::default() };
        getaddrinfo(None, Some(name), Some(hints)).map_err(in_words)
    };
    let (own, other) = match protocol {
        Protocol::Tcp => (SockType::Stream, SockType::DGram),
        Protocol::Udp => (SockType::DGram, SockType::Stream),
    };
    // A port can be knocked at over either, whichever its service speaks.
    let mut found = look_up(own).or_else(|reason| look_up(other).map_err(|_| reason))?;
    found.find_map(Result::ok).map(|entry| entry.sockaddr.port()).ok_or_else(|| "no such service".to_owned())
}

/// `dns-lookup` puts words of its own before those of the resolver.
fn in_words(error: LookupError) -> String {
    let text = io::Error::from(error).to_string();
    match text.split_once("information: ") {
        Some((_, reason)) => reason.to_owned(),
        None => text,
    }
}

fn fits(address: IpAddr, family: Family) -> bool {
    match family {
        Family::Any | Family::Both => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    }
}
