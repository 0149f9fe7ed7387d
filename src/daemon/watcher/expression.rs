//! What a door listens for, as a pcap filter expression: knockd 0.8 prints these in its debug output.

use std::net::IpAddr;

use crate::door::Door;
use crate::door::knock::{Flags, Protocol};
use crate::door::lock::Lock;

/// The lines about all doors: first those about IPv4, then those about IPv6.
#[must_use]
pub fn lines(doors: &[Door], here: &[IpAddr], only_v4: bool) -> Vec<String> {
    let families: &[bool] = if only_v4 { &[false] } else { &[false, true] };
    let each = |&is_v6: &bool| {
        doors.iter().filter_map(move |door| {
            let expression = expression(door, here, is_v6)?;
            Some(format!("adding pcap expression for door '{}': {expression}", door.name))
        })
    };
    families.iter().flat_map(each).collect()
}

fn expression(door: &Door, here: &[IpAddr], is_v6: bool) -> Option<String> {
    let target: Vec<IpAddr> = door.target.into_iter().collect();
    let addresses = if target.is_empty() { here } else { &target };
    let hosts: Vec<String> = addresses
        .iter()
        .filter(|address| address.is_ipv6() == is_v6)
        .map(|address| format!("dst host {address}"))
        .collect();
    let wanted: Vec<(Protocol, String)> = match &door.lock {
        Lock::Fixed(_) | Lock::OneTime(_) => door
            .lock
            .current_sequence()?
            .stages()
            .iter()
            .map(|stage| (stage.protocol, stage.port.to_string()))
            .collect(),
        Lock::Spa(lock) => vec![(Protocol::Udp, lock.port.to_string())],
        // Without the current one-time passwords: the output must not reveal them.
        Lock::Otp(lock) => lock
            .otp
            .ranges()
            .into_iter()
            .map(|(protocol, low, high)| (protocol, format!("{low}-{high}")))
            .collect(),
    };
    let ports = |protocol| {
        let ports: Vec<&str> =
            wanted.iter().filter(|it| it.0 == protocol).map(|(_, ports)| ports.as_str()).collect();
        let range = if matches!(door.lock, Lock::Otp(_)) { "portrange" } else { "port" };
        (!ports.is_empty()).then(|| format!("({protocol} dst {range} {})", ports.join(" or ")))
    };
    let rule = door.packet_rule().flags;
    let byte = if is_v6 { "ip6[13+40]" } else { "tcp[tcpflags]" };
    let flags: Vec<String> = Flags::NAMES
        .iter()
        .filter(|(_, flag)| rule.mask().contains(*flag))
        .map(|(name, flag)| {
            let relation = if rule.set.contains(*flag) { "!=" } else { "==" };
            // As libpcap calls it.
            let name = if *name == "psh" { "push" } else { name };
            format!(" and {byte} & tcp-{name} {relation} 0")
        })
        .collect();
    // libpcap has no keyword for the length of an echo request.
    let pings = wanted.iter().filter(|it| it.0 == Protocol::Icmp).map(|(_, length)| {
        if is_v6 {
            format!("(icmp6 and ip6[40] == 128 and ip6[4:2] - 8 == {length})")
        } else {
            format!("(icmp[icmptype] == icmp-echo and ip[2:2] - ((ip[0] & 15) << 2) - 8 == {length})")
        }
    });
    let all: Vec<String> =
        [ports(Protocol::Tcp).map(|ports| format!("({ports}{})", flags.concat())), ports(Protocol::Udp)]
            .into_iter()
            .flatten()
            .chain(pings)
            .collect();
    (!hosts.is_empty()).then(|| format!("(({}) and ({}))", hosts.join(" or "), all.join(" or ")))
}
