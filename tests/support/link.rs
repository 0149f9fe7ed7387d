//! Sets up interfaces and addresses through rtnetlink, so that the tests need no iproute2.

use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::namespace::Namespace;
use super::packet::Mac;
use super::{holds_within, seconds};

/// Requests that set up links.
impl Namespace {
    /// A cable from `here` in this namespace to `there` in `other`; both ends are down.
    pub fn add_veth(&self, here: (&str, Mac), other: &Namespace, there: (&str, Mac)) {
        let mut peer = link_named(there.0);
        peer.attributes.push(LinkAttribute::Address(there.1.to_vec()));
        peer.attributes.push(LinkAttribute::NetNsFd(other.descriptor()));
        let mut link = link_named(here.0);
        link.attributes.push(LinkAttribute::Address(here.1.to_vec()));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.create(RouteNetlinkMessage::NewLink(link), "adding a veth pair");
    }

    /// An interface without a cable; `kind` is one that needs no further attributes, such as Dummy or Bridge.
    pub fn add_link(&self, name: &str, kind: InfoKind) {
        let mut link = link_named(name);
        link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
        self.create(RouteNetlinkMessage::NewLink(link), "adding a link");
    }

    /// An interface on top of `below`, or of another kind that not every kernel supports.
    ///
    /// # Errors
    /// The kernel's message.
    pub fn try_add_link(&self, name: &str, kind: InfoKind, below: Option<&str>) -> Result<(), String> {
        let mut link = link_named(name);
        link.attributes.extend(below.map(|below| LinkAttribute::Link(self.index(below))));
        link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.run(|| request(RouteNetlinkMessage::NewLink(link), flags))
    }

    /// Adds a default route; of several, the kernel uses the one with the lowest metric.
    pub fn add_default_route(&self, gateway: &str, metric: u32) {
        let gateway: IpAddr = gateway.parse().expect("an IP address");
        let mut message = RouteMessage::default();
        message.header.address_family =
            if gateway.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![RouteAttribute::Gateway(gateway.into()), RouteAttribute::Priority(metric)];
        self.create(RouteNetlinkMessage::NewRoute(message), "adding a default route");
    }

    /// Makes `port` a port of the bridge.
    pub fn enslave(&self, port: &str, bridge: &str) {
        let controller = LinkAttribute::Controller(self.index(bridge));
        self.change(port, |link| link.attributes.push(controller));
    }

    /// Removes an interface (and the other end of its cable).
    pub fn delete_link(&self, name: &str) {
        let mut link = LinkMessage::default();
        link.header.index = self.index(name);
        self.request(RouteNetlinkMessage::DelLink(link), 0, "deleting a link");
    }

    pub fn up(&self, name: &str) {
        self.change(name, |link| {
            link.header.flags = LinkFlags::Up;
            link.header.change_mask = LinkFlags::Up;
        });
    }

    pub fn down(&self, name: &str) {
        self.change(name, |link| link.header.change_mask = LinkFlags::Up);
    }

    /// Renames an interface, which must be down.
    pub fn rename(&self, name: &str, new: &str) {
        self.change(name, |link| link.attributes.push(LinkAttribute::IfName(new.to_owned())));
    }

    pub fn set_mac(&self, name: &str, mac: Mac) {
        self.change(name, |link| link.attributes.push(LinkAttribute::Address(mac.to_vec())));
    }

    /// The largest packet an interface sends, in bytes from the IP header on.
    pub fn set_mtu(&self, name: &str, mtu: u32) {
        self.change(name, |link| link.attributes.push(LinkAttribute::Mtu(mtu)));
    }

    /// Sets the hardware address of a neighbour, so that the kernel need not resolve it.
    pub fn add_neighbour(&self, name: &str, address: &str, mac: Mac) {
        let ip: IpAddr = address.parse().expect("an IP address");
        let mut message = NeighbourMessage::default();
        message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.ifindex = self.index(name);
        message.header.state = NeighbourState::Permanent;
        message.attributes = vec![
            NeighbourAttribute::Destination(ip.into()),
            NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        ];
        let what = format!("adding the neighbour {address} to {name}");
        self.request(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE, &what);
    }

    /// `add_address("eth0", "10.77.0.1/24")`; it can be used at once.
    pub fn add_address(&self, name: &str, address: &str) {
        let message = RouteNetlinkMessage::NewAddress(self.address_message(name, address));
        self.request(message, NLM_F_CREATE | NLM_F_REPLACE, &format!("adding {address} to {name}"));
        if address.contains(':') {
            // The kernel adds the route to it later, in the background.
            let routed = || self.run(|| std::fs::read_to_string("/proc/thread-self/net/ipv6_route"));
            let mine = |route: &str| route.starts_with(&hexadecimal(address)) && is_local(route);
            let there = || routed().expect("the table of routes").lines().any(mine);
            assert!(holds_within(seconds(30.0), there), "{address} does not become usable");
        }
    }

    pub fn delete_address(&self, name: &str, address: &str) {
        let message = RouteNetlinkMessage::DelAddress(self.address_message(name, address));
        self.request(message, 0, &format!("deleting {address} from {name}"));
    }

    /// Waits until an interface whose cable is up at both ends carries packets. The flags are set too early:
    /// until the kernel's linkwatch has run, packets are lost.
    pub fn wait_until_running(&self, name: &str) {
        let runs = || self.state(name) == Some(State::Up);
        assert!(holds_within(seconds(30.0), runs), "{name} does not come up");
    }

    /// The operational state of an interface (RFC 2863).
    fn state(&self, name: &str) -> Option<State> {
        let link = self.describe(name);
        link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::OperState(state) => Some(state),
            _ => None,
        })
    }

    /// How many sockets have made an interface promiscuous.
    pub fn promiscuity(&self, name: &str) -> u32 {
        let link = self.describe(name);
        let count = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Promiscuity(count) => Some(*count),
            _ => None,
        });
        count.expect("a promiscuity count from the kernel")
    }

    fn describe(&self, name: &str) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = self.index(name);
        let answer = self.run(|| ask(RouteNetlinkMessage::GetLink(link), 0));
        match answer {
            Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link))) => link,
            _ => panic!("the kernel does not describe {name}"),
        }
    }

    /// The index of an interface.
    pub fn index(&self, name: &str) -> u32 {
        self.try_index(name).unwrap_or_else(|| panic!("there is no interface {name}"))
    }

    /// The same, None if there is no such interface.
    pub fn try_index(&self, name: &str) -> Option<u32> {
        let interfaces = self.run(pnet::datalink::interfaces);
        Some(interfaces.iter().find(|interface| interface.name == name)?.index)
    }

    fn address_message(&self, name: &str, address: &str) -> AddressMessage {
        let (address, length) = address.split_once('/').expect("an address as 10.77.0.1/24");
        let address: IpAddr = address.parse().expect("an IP address");
        let mut message = AddressMessage::default();
        message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.prefix_len = length.parse().expect("a prefix length");
        message.header.flags = AddressHeaderFlags::Nodad;
        message.header.index = self.index(name);
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        message
    }

    fn change(&self, name: &str, edit: impl FnOnce(&mut LinkMessage)) {
        let mut link = LinkMessage::default();
        link.header.index = self.index(name);
        edit(&mut link);
        self.request(RouteNetlinkMessage::SetLink(link), 0, &format!("changing {name}"));
    }

    fn create(&self, message: RouteNetlinkMessage, what: &str) {
        self.request(message, NLM_F_CREATE | NLM_F_EXCL, what);
    }

    #[track_caller]
    fn request(&self, message: RouteNetlinkMessage, flags: u16, what: &str) {
        self.run(|| request(message, flags)).unwrap_or_else(|why| panic!("{what}: {why}"));
    }
}

/// An IPv6 address in the format of the table of routes.
fn hexadecimal(address: &str) -> String {
    let plain = address.split('/').next().unwrap_or_default();
    let address: std::net::Ipv6Addr = plain.parse().expect("an IPv6 address");
    format!("{:032x} 80", address.to_bits())
}

/// Whether a route of that table leads to this machine: `RTF_LOCAL`, in the ninth column.
fn is_local(route: &str) -> bool {
    let flags = route.split_whitespace().nth(8).and_then(|flags| u32::from_str_radix(flags, 16).ok());
    flags.is_some_and(|flags| flags & 0x8000_0000 != 0)
}

fn link_named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

/// Sends one request; an error if the kernel refuses it.
fn request(message: RouteNetlinkMessage, flags: u16) -> Result<(), String> {
    match ask(message, NLM_F_ACK | flags)? {
        NetlinkPayload::Error(answer) if answer.code.is_some() => Err(answer.to_io().to_string()),
        _ => Ok(()),
    }
}

/// Sends one request and returns the kernel's answer.
fn ask(message: RouteNetlinkMessage, flags: u16) -> Result<NetlinkPayload<RouteNetlinkMessage>, String> {
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(|e| e.to_string())?;
    socket.bind_auto().map_err(|e| e.to_string())?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(|e| e.to_string())?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);
    socket.send(&bytes, 0).map_err(|e| e.to_string())?;
    let (reply, _) = socket.recv_from_full().map_err(|e| e.to_string())?;
    let reply = NetlinkMessage::deserialize(&reply).map_err(|e| e.to_string())?;
    Ok(reply.payload)
}
