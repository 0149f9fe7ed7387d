//! The interfaces of this machine and their addresses.

use std::net::IpAddr;

use pnet::datalink::{self, NetworkInterface};
use pnet::ipnetwork::IpNetwork;

/// The name that means every interface.
pub const ANY: &str = "any";

/// What a capture needs to know of an interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// As pnet describes it; index 0 for all of them.
    pub link: NetworkInterface,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// The index of the loopback interface, if this is it or includes it.
    pub loopback: Option<u32>,
    /// It can carry packets.
    pub is_up: bool,
}

impl Interface {
    /// Bytes in front of the IP header on this link, as knockd 0.8 counts them.
    #[must_use]
    pub fn link_header(&self) -> u64 {
        match self.kind() {
            Kind::Ethernet => 14,
            Kind::Cooked => 16,
            Kind::Raw => 0,
        }
    }

    /// What the debug output of knockd 0.8 says of this link.
    #[must_use]
    pub fn link_words(&self) -> &'static str {
        match self.kind() {
            Kind::Ethernet => "ethernet interface detected",
            Kind::Cooked => "ppp interface detected (linux \"cooked\" encapsulation)",
            Kind::Raw => "raw interface detected, no encapsulation",
        }
    }

    fn kind(&self) -> Kind {
        if self.link.index == 0 || self.link.is_point_to_point() && self.link.mac.is_some() {
            Kind::Cooked
        } else if self.loopback.is_some() || self.link.mac.is_some() {
            Kind::Ethernet
        } else {
            Kind::Raw
        }
    }
}

/// How libpcap would see a link; nothing but the debug output depends on it.
enum Kind {
    Ethernet,
    Cooked,
    Raw,
}

/// The interface of this name.
#[must_use]
pub fn find(name: &str) -> Option<Interface> {
    let links = datalink::interfaces();
    if name == ANY {
        let addresses = links.iter().flat_map(|link| &link.ips).map(IpNetwork::ip).collect();
        let link = NetworkInterface {
            name: ANY.to_owned(),
            description: String::new(),
            index: 0,
            mac: None,
            ips: Vec::new(),
            flags: 0,
        };
        let loopback = links.iter().find(|link| link.is_loopback()).map(|link| link.index);
        return Some(Interface { link, addresses, loopback, is_up: true });
    }
    let link = links.into_iter().find(|link| link.name == name)?;
    let addresses = link.ips.iter().map(IpNetwork::ip).collect();
    let loopback = link.is_loopback().then_some(link.index);
    Some(Interface { addresses, loopback, is_up: link.is_up(), link })
}

/// The names of all interfaces.
#[must_use]
pub fn names() -> Vec<String> {
    datalink::interfaces().into_iter().map(|link| link.name).collect()
}
