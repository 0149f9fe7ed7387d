//! Interfaces, their addresses and the default routes, as the kernel reports them (rtnetlink(7)), and
//! notifications when they change.
//!
//! Only the attributes that we need are parsed: an unknown attribute of a newer kernel must not make an
//! interface disappear.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLA_HEADER_SIZE, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlasIterator,
    parse_i32, parse_ip, parse_mac, parse_u16, parse_u32,
};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::filter::interfaces::{Interface, Kind, Scene};

/// Buffer for one datagram of a dump, in bytes: the most that the kernel puts into one.
const DUMP_BUFFER: usize = 1 << 15;
/// The most datagrams that are read in one go.
const MAX_DATAGRAMS: usize = 1024;

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;

// Message types (linux/rtnetlink.h).
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

// Multicast groups.
const GROUPS_OF_LINKS: u32 = 0x1 | 0x10 | 0x100;
const GROUPS_OF_ROUTES: u32 = 0x40 | 0x400;

/// All interfaces and addresses and, if asked for, the default routes.
///
/// # Errors
/// Errors of the socket calls, or the error that the kernel answers.
pub fn scene(with_routes: bool) -> io::Result<Scene> {
    Survey::new()?.scene(with_routes)
}

/// Surveys interfaces, addresses and routes. It keeps its socket, because the confined watcher cannot open
/// another.
#[derive(Debug)]
pub struct Survey {
    socket: OwnedFd,
    /// Sequence number of the last request; its answers carry the same.
    question: u32,
}

impl Survey {
    /// Opens the socket; no request is sent yet.
    ///
    /// # Errors
    /// Errors of the socket calls, or the error that the kernel answers.
    pub fn new() -> io::Result<Survey> {
        let socket = open()?;
        // The kernel answers at once. If it ever does not, the survey fails instead of blocking.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
        Ok(Survey { socket, question: 0 })
    }

    /// All interfaces and addresses and, if asked for, the default routes.
    ///
    /// # Errors
    /// Errors of the socket calls, or the error that the kernel answers.
    pub fn scene(&mut self, with_routes: bool) -> io::Result<Scene> {
        let mut scene = Scene::default();
        self.dump(RTM_GETLINK, RTM_NEWLINK, &LINK_REQUEST, &mut |message| {
            scene.interfaces.extend(interface(message));
        })?;
        self.dump(RTM_GETADDR, RTM_NEWADDR, &[0; 8], &mut |message| {
            let Some((index, address)) = own_address(message) else { return };
            if let Some(interface) = scene.interfaces.iter_mut().find(|interface| interface.index == index) {
                interface.addresses.push(address);
            }
        })?;
        if with_routes {
            let mut routes = Vec::new();
            self.dump(RTM_GETROUTE, RTM_NEWROUTE, &[0; 12], &mut |message| {
                routes.extend(default_route(message));
            })?;
            scene.default_routes = best(&routes);
        }
        Ok(scene)
    }

    /// Sends a dump request, and calls `each` with the payload of every message of the answer.
    fn dump(
        &mut self,
        question: u16,
        answer: u16,
        body: &[u8],
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        self.question = self.question.wrapping_add(1);
        let mut buffer = vec![0; DUMP_BUFFER];
        self.discard_pending(&mut buffer);
        let mut request = vec![0; HEADER];
        request.extend_from_slice(body);
        let length = u32::try_from(request.len()).map_err(io::Error::other)?;
        let mut header = NetlinkBuffer::new(&mut request);
        header.set_length(length);
        header.set_message_type(question);
        header.set_flags(NLM_F_REQUEST | NLM_F_DUMP);
        header.set_sequence_number(self.question);
        send(self.socket.as_raw_fd(), &request, MsgFlags::empty())?;
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                length => length?,
            };
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Ok(message) = NetlinkBuffer::new_checked(rest) {
                let is_ours = message.sequence_number() == self.question;
                match message.message_type() {
                    _ if !is_ours => {}
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        let code = message.payload().get(..4).and_then(|code| parse_i32(code).ok());
                        return Err(io::Error::from_raw_os_error(code.unwrap_or_default().saturating_neg()));
                    }
                    kind if kind == answer => each(message.payload()),
                    _ => {}
                }
                let length = (message.length() as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }

    /// Discards the rest of a dump that failed: the kernel starts no other dump before it is read.
    fn discard_pending(&self, buffer: &mut [u8]) {
        for _ in 0..MAX_DATAGRAMS {
            match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
                // A datagram, or the notice that some did not fit into the receive buffer.
                Ok(1..) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Ok(0) | Err(_) => return,
            }
        }
    }
}

impl AsFd for Survey {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Receives notifications of changes of interfaces, addresses and, on demand, default routes.
#[derive(Debug)]
pub struct ChangeListener {
    socket: OwnedFd,
}

impl ChangeListener {
    /// Opens the socket; it belongs to no multicast group yet.
    ///
    /// # Errors
    /// Errors of the socket calls, or the error that the kernel answers.
    pub fn new() -> io::Result<ChangeListener> {
        Ok(ChangeListener { socket: open()? })
    }

    /// Joins the multicast groups of these changes.
    ///
    /// # Errors
    /// Errors of the socket calls, or the error that the kernel answers.
    pub fn listen(&self, with_routes: bool) -> io::Result<()> {
        let groups = GROUPS_OF_LINKS | if with_routes { GROUPS_OF_ROUTES } else { 0 };
        // A socket that has a port already keeps it, and only changes its groups.
        let port = getsockname::<NetlinkAddr>(self.socket.as_raw_fd())?.pid();
        Ok(bind(self.socket.as_raw_fd(), &NetlinkAddr::new(port, groups))?)
    }

    /// The notifications since the last call; `None` if there were none that matter.
    pub fn read_changes(&self) -> Option<InterfaceChanges> {
        let mut changes = None;
        // Longer messages are truncated; the part that is parsed is at the beginning.
        let mut buffer = [0; 512];
        for _ in 0..MAX_DATAGRAMS {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    let message = buffer.get(..length).unwrap_or_default();
                    if concerns_us(message) {
                        changes
                            .get_or_insert_with(InterfaceChanges::default)
                            .removed
                            .extend(removed_interface(message));
                    }
                }
                // The receive buffer overflowed: notifications were lost.
                Err(Errno::ENOBUFS) => {
                    changes.get_or_insert_with(InterfaceChanges::default).is_incomplete = true;
                }
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        changes
    }
}

/// What notifications report and the next survey does not: which interfaces were removed meanwhile.
#[derive(Clone, Debug, Default)]
pub struct InterfaceChanges {
    removed: Vec<u32>,
    is_incomplete: bool,
}

impl InterfaceChanges {
    /// Any interface may have been removed: notifications were lost.
    #[must_use]
    pub fn unknown() -> InterfaceChanges {
        InterfaceChanges { removed: Vec::new(), is_incomplete: true }
    }

    /// Whether this interface may have been removed. One with the same index would then be another.
    #[must_use]
    pub fn removed(&self, index: u32) -> bool {
        self.is_incomplete || self.removed.contains(&index)
    }
}

impl AsFd for ChangeListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether a notification matters. Of the routes only default ones do: a router may have a million others
/// that change all the time.
fn concerns_us(message: &[u8]) -> bool {
    let is_default = message.get(HEADER + 1) == Some(&0);
    !matches!(kind(message), Some(RTM_NEWROUTE | RTM_DELROUTE)) || is_default
}

/// The index of the interface that this message reports as removed.
fn removed_interface(message: &[u8]) -> Option<u32> {
    const UNSPECIFIED: u8 = 0;
    // A port that leaves its bridge causes an `RTM_DELLINK` of family `AF_BRIDGE`; the interface itself
    // stays.
    let is_meant = kind(message)? == RTM_DELLINK && *message.get(HEADER)? == UNSPECIFIED;
    word(message.get(HEADER + 4..HEADER + 8)?).filter(|_| is_meant)
}

fn kind(message: &[u8]) -> Option<u16> {
    parse_u16(message.get(4..6)?).ok()
}

fn open() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    Ok(socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?)
}

/// `struct ifinfomsg`, then `IFLA_EXT_MASK` with `RTEXT_FILTER_SKIP_STATS`, which leaves out the counters.
const LINK_REQUEST: [u8; 24] = {
    let mut request = [0; 24];
    let (length, kind, mask) = (8_u16.to_ne_bytes(), 29_u16.to_ne_bytes(), 8_u32.to_ne_bytes());
    (request[16], request[17], request[18], request[19]) = (length[0], length[1], kind[0], kind[1]);
    (request[20], request[21], request[22], request[23]) = (mask[0], mask[1], mask[2], mask[3]);
    request
};

/// The attributes in these bytes, each with its type.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let attributes = NlasIterator::new(bytes).map_while(Result::ok);
    attributes.filter_map(|attribute| {
        let length = usize::from(attribute.length());
        Some((attribute.kind(), attribute.into_inner().get(NLA_HEADER_SIZE..length)?))
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}

fn word(bytes: &[u8]) -> Option<u32> {
    parse_u32(bytes).ok()
}

/// `RTM_NEWLINK`: `struct ifinfomsg`, then `IFLA_*`.
fn interface(message: &[u8]) -> Option<Interface> {
    const UP: u32 = 0x1;
    const LOOPBACK: u32 = 0x8;
    const LOWER_UP: u32 = 0x1_0000;
    let flags = word(message.get(8..12)?)?;
    let mut interface = Interface {
        index: word(message.get(4..8)?)?,
        hardware: parse_u16(message.get(2..4)?).ok()?,
        is_up: flags & UP != 0,
        has_carrier: flags & LOWER_UP != 0,
        is_loopback: flags & LOOPBACK != 0,
        ..Interface::default()
    };
    let mut is_elsewhere = false;
    for (number, value) in attributes(message.get(16..)?) {
        match number {
            1 => interface.mac = parse_mac(value).ok(),
            3 => interface.name = text(value),
            5 => interface.below = word(value),
            10 => interface.master = word(value),
            // IFLA_LINKINFO with IFLA_INFO_KIND
            18 => {
                let name = attributes(value).find(|(number, _)| *number == 1);
                interface.kind = name.map_or(Kind::Usual, |(_, name)| kind_called(name));
            }
            // IFLA_PROP_LIST with IFLA_ALT_IFNAME
            52 => {
                let names = attributes(value).filter(|(number, _)| *number == 53);
                interface.alternatives = names.map(|(_, name)| text(name)).collect();
            }
            // IFLA_LINK_NETNSID: the underlying interface is in another namespace.
            37 => is_elsewhere = true,
            _ => {}
        }
    }
    interface.below = interface.below.filter(|_| !is_elsewhere);
    Some(interface)
}

fn kind_called(name: &[u8]) -> Kind {
    match text(name).as_str() {
        "vrf" => Kind::Vrf,
        "macvlan" | "macvtap" | "ipvlan" | "ipvtap" => Kind::Share,
        _ => Kind::Usual,
    }
}

/// `RTM_NEWADDR`: `struct ifaddrmsg`, then `IFA_*`.
fn own_address(message: &[u8]) -> Option<(u32, IpAddr)> {
    let index = word(message.get(4..8)?)?;
    let (mut address, mut local) = (None, None);
    for (number, value) in attributes(message.get(8..)?) {
        match number {
            1 => address = parse_ip(value).ok(),
            2 => local = parse_ip(value).ok(),
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the peer's address.
    Some((index, local.or(address)?))
}

/// A default route.
struct Route {
    family: u8,
    metric: u32,
    /// The interfaces it leads to: several for a multipath route.
    indexes: Vec<u32>,
}

/// `RTM_NEWROUTE`: `struct rtmsg`, then `RTA_*`; `None` unless it is a default route of the main table.
fn default_route(message: &[u8]) -> Option<Route> {
    const MAIN_TABLE: u32 = 254;
    const UNICAST: u8 = 1;
    let &[family, 0, _, _, table, _, _, UNICAST, ..] = message else { return None };
    let mut route = Route { family, metric: 0, indexes: Vec::new() };
    let mut table = u32::from(table);
    for (number, value) in attributes(message.get(12..)?) {
        match number {
            4 => route.indexes.extend(word(value)),
            6 => route.metric = word(value)?,
            9 => route.indexes.extend(next_hops(value)),
            15 => table = word(value)?,
            _ => {}
        }
    }
    (table == MAIN_TABLE).then_some(route)
}

/// The interfaces of `RTA_MULTIPATH`: `struct rtnexthop`, each with its own attributes.
fn next_hops(mut bytes: &[u8]) -> Vec<u32> {
    let mut indexes = Vec::new();
    while let Some(hop) = bytes.get(..8) {
        let length = hop.get(..2).and_then(|length| parse_u16(length).ok()).map_or(0, usize::from);
        indexes.extend(hop.get(4..8).and_then(word));
        bytes = bytes.get(length.max(8).next_multiple_of(4)..).unwrap_or_default();
    }
    indexes
}

/// The interfaces of the default routes with the lowest metric of their family.
fn best(routes: &[Route]) -> Vec<u32> {
    let is_best = |route: &&Route| {
        let others = routes.iter().filter(|other| other.family == route.family);
        others.map(|other| other.metric).min() == Some(route.metric)
    };
    routes.iter().filter(is_best).flat_map(|route| &route.indexes).copied().collect()
}
