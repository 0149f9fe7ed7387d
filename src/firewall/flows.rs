//! Connections that a door let in, as flows that conntrack tracks: netlink messages
//! (`NFNL_SUBSYS_CTNETLINK`).
//!
//! They are the only trace of connections that this machine forwards, such as those to a port that a
//! container publishes.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NetlinkBuffer};

use crate::door::knock::Protocol;
use crate::firewall::answer;
use crate::firewall::message::{Attributes, HEADER, NETFILTER_HEADER, request};
use crate::firewall::sessions::Scope;

/// The multicast groups for flows that change and for flows that end, as bits.
pub const CHANGED_FLOWS: u32 = 1 << 1 | 1 << 2;

/// Message types: a new or changed flow; a question; an ended flow, or the request to delete one.
const FLOW: u16 = 1 << 8;
const GET_FLOWS: u16 = 1 << 8 | 1;
const DELETE_FLOW: u16 = 1 << 8 | 2;

// CTA_*, grouped by the attribute that contains them.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const PROTOCOL_STATE: u16 = 4;
const ZONE: u16 = 18;
const ADDRESSES: u16 = 1;
const PORTS: u16 = 2;
const SOURCE4: u16 = 1;
const SOURCE6: u16 = 3;
const PROTOCOL: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
const TCP: u16 = 1;
const TCP_STATE: u16 = 1;

// States of TCP as conntrack counts them (`enum tcp_conntrack`): a SYN was answered; both sides have sent
// FIN, the last acknowledgment arrived, or a reset did.
const SYN_RECV: u8 = 2;
const CLOSE_WAIT: u8 = 5;
const LAST_ACK: u8 = 6;
const CLOSE: u8 = 8;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The progress of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nobody has answered yet, or the message does not say.
    Unknown,
    /// It is established, or one side may still send data.
    Connected,
    /// It has ended.
    Ended,
}

/// A TCP connection that conntrack knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The address that connected.
    pub peer: IpAddr,
    /// Its port.
    pub peer_port: u16,
    /// The port that it connected to.
    pub port: u16,
    /// The port that answers; another one if the destination is translated.
    pub answering_port: u16,
    /// The progress of the connection.
    pub stage: Stage,
}

impl Flow {
    /// Whether the door lets it in, by either port: a rule may see it before or after the translation.
    #[must_use]
    pub fn is_in(&self, scope: &Scope<'_>) -> bool {
        [self.port, self.answering_port].into_iter().any(|port| scope.has(self.peer, Protocol::Tcp, port))
    }

    fn read(kind: u16, attributes: &[u8]) -> Option<Flow> {
        let original = answer::find(attributes, ORIGINAL)?;
        let (peer, protocol, port) = parse_tuple(original)?;
        let ports = answer::find(original, PORTS)?;
        let reply = answer::find(attributes, REPLY).and_then(|reply| answer::find(reply, PORTS));
        let tcp = answer::find(attributes, PROTOCOL_STATE)
            .and_then(|it| answer::find(answer::find(it, TCP)?, TCP_STATE)?.first().copied());
        let stage = match tcp {
            _ if kind == DELETE_FLOW => Stage::Ended,
            Some(SYN_RECV..=CLOSE_WAIT) => Stage::Connected,
            Some(LAST_ACK..=CLOSE) => Stage::Ended,
            _ => Stage::Unknown,
        };
        (protocol == Protocol::Tcp).then_some(())?;
        Some(Flow {
            peer,
            peer_port: port_in(ports, SOURCE_PORT)?,
            port,
            answering_port: reply.and_then(|reply| port_in(reply, SOURCE_PORT)).unwrap_or(port),
            stage,
        })
    }
}

/// Source, protocol and destination port of a tuple.
fn parse_tuple(tuple: &[u8]) -> Option<(IpAddr, Protocol, u16)> {
    let addresses = answer::find(tuple, ADDRESSES)?;
    let ports = answer::find(tuple, PORTS)?;
    let source = match (answer::find(addresses, SOURCE4), answer::find(addresses, SOURCE6)) {
        (Some(source), _) => IpAddr::from(<[u8; 4]>::try_from(source).ok()?),
        (_, Some(source)) => IpAddr::from(<[u8; 16]>::try_from(source).ok()?),
        _ => return None,
    };
    let protocol = [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .find(|protocol| answer::find(ports, PROTOCOL) == Some(&[protocol.number(true)]))?;
    Some((source, protocol, port_in(ports, DESTINATION_PORT)?))
}

fn port_in(ports: &[u8], which: u16) -> Option<u16> {
    Some(u16::from_be_bytes(answer::find(ports, which)?.try_into().ok()?))
}

/// The TCP connections in a datagram: in an answer, or in notifications of changed and ended flows.
#[must_use]
pub fn flows(datagram: &[u8]) -> Vec<Flow> {
    let mut found = Vec::new();
    let mut rest = datagram;
    while let Ok(message) = NetlinkBuffer::new_checked(rest) {
        let kind = message.message_type();
        if matches!(kind, FLOW | DELETE_FLOW) {
            found.extend(message.payload().get(NETFILTER_HEADER..).and_then(|it| Flow::read(kind, it)));
        }
        rest = rest.get((message.length() as usize).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// Asks conntrack for all flows of one IP version.
#[must_use]
pub fn flows_question(is_v6: bool, sequence: u32) -> Vec<u8> {
    message(is_v6, &Attributes::new(), GET_FLOWS, NLM_F_DUMP, sequence)
}

/// The message that makes conntrack forget a flow, if the door lets it in. `flow` is an answer to
/// [`flows_question`] without its first four bytes.
#[must_use]
pub fn flow_deletion(flow: &[u8], scope: &Scope<'_>, sequence: u32) -> Option<Vec<u8>> {
    let original = answer::find(flow, ORIGINAL)?;
    let (source, protocol, port) = parse_tuple(original)?;
    if !scope.has(source, protocol, port) {
        return None;
    }
    let attributes = Attributes::new().nested(ORIGINAL, &Attributes::from(original));
    let attributes = match answer::find(flow, ZONE) {
        Some(zone) => attributes.bytes(ZONE, zone),
        None => attributes,
    };
    Some(message(source.is_ipv6(), &attributes, DELETE_FLOW, NLM_F_ACK, sequence))
}

fn message(is_v6: bool, attributes: &Attributes, kind: u16, flags: u16, sequence: u32) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes.extend_from_slice(&[if is_v6 { AF_INET6 } else { AF_INET }, 0, 0, 0]);
    bytes.extend_from_slice(attributes.as_bytes());
    request(bytes, kind, flags, sequence)
}
