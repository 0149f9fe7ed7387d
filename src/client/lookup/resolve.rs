//! Resolves host names and service names.
//!
//! Numeric addresses bypass the resolver, which would read half a dozen files first.

use std::io;
use std::net::{IpAddr, SocketAddr};

use dns_lookup::{AddrFamily, AddrInfoHints, LookupError, SockType, getaddrinfo};

use crate::client::options::Family;
use crate::door::knock::Protocol;

/// The addresses of a host with port 0, in the resolver's order; at least one.
///
/// # Errors
/// The resolver's message.
pub fn host(name: &str, family: Family) -> Result<Vec<SocketAddr>, String> {
    // [2001:db8::1], as in URLs.
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let name = inner.filter(|name| name.contains(':')).unwrap_or(name);
    if let Ok(address) = name.parse::<IpAddr>() {
        if is_of_family(address, family) {
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
    let found = getaddrinfo(Some(name), None, Some(hints)).map_err(resolver_message)?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for entry in found.flatten() {
        if !addresses.contains(&entry.sockaddr) {
            addresses.push(entry.sockaddr);
        }
    }
    if addresses.is_empty() { Err("No address associated with hostname".to_owned()) } else { Ok(addresses) }
}

/// The port number of a service in `/etc/services`, for this protocol or, failing that, for the other one.
///
/// # Errors
/// The resolver's message.
pub fn service(name: &str, protocol: Protocol) -> Result<u16, String> {
    // Resolvers differ in the other names they accept: musl finds 7000/udp if /etc/services has it, and takes
    // it for TCP.
    let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+*".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_in_name) {
        return Err("Servname not supported for ai_socktype".to_owned());
    }
    let look_up = |socktype: SockType| {
        let hints = AddrInfoHints { socktype: socktype.into(), ..AddrInfoHints::default() };
        getaddrinfo(None, Some(name), Some(hints)).map_err(resolver_message)
    };
    let (socket_type, other_type) = match protocol {
        Protocol::Tcp => (SockType::Stream, SockType::DGram),
        Protocol::Udp | Protocol::Icmp => (SockType::DGram, SockType::Stream),
    };
    // A knock may use either protocol, whichever the service is registered for.
    let mut found = look_up(socket_type).or_else(|reason| look_up(other_type).map_err(|_| reason))?;
    found.find_map(Result::ok).map(|entry| entry.sockaddr.port()).ok_or_else(|| "no such service".to_owned())
}

/// The resolver's message, without the prefix that `dns-lookup` adds.
fn resolver_message(error: LookupError) -> String {
    let text = io::Error::from(error).to_string();
    match text.split_once("information: ") {
        Some((_, reason)) => reason.to_owned(),
        None => text,
    }
}

fn is_of_family(address: IpAddr, family: Family) -> bool {
    match family {
        Family::Any | Family::Both => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    }
}
