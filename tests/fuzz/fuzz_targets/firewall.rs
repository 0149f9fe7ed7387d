//! What the kernel answers over netlink, or somebody who can pass for it: nftables, sockets, conntrack. The numbers that
//! are in the machine's own byte order are read as on this machine.
#![no_main]

use std::net::IpAddr;

use knocking::door::knock::Protocol;
use knocking::door::ports::Ports;
use knocking::firewall::answer::{Answer, answers, attributes};
use knocking::firewall::element::{found, is_dump, removed};
use knocking::firewall::flows::{flow_deletion, flows};
use knocking::firewall::refusal::Refusal;
use knocking::firewall::sessions::{Scope, connections, destruction};
use knocking::firewall::set::{Description, TableDescription};
use libfuzzer_sys::fuzz_target;

/// The most elements that one datagram can hold: the smallest one is an item with a key of no bytes.
const SMALLEST_ELEMENT: usize = 12;

fuzz_target!(|datagram: &[u8]| {
    let ports = [Ports { protocol: Protocol::Tcp, first: 1, last: u16::MAX }];
    for answer in answers(datagram) {
        match answer {
            Answer::Refused(refused) => {
                assert_ne!(refused.errno, 0, "a refusal without a reason");
                let _ = Refusal::of(refused, refused.sequence);
            }
            Answer::Done { .. } => {}
            Answer::Object { attributes: bytes, .. } => {
                let length: usize = attributes(bytes).map(|(_, value)| value.len()).sum();
                assert!(length <= bytes.len());
                let elements = found(bytes);
                assert!(elements.len() * SMALLEST_ELEMENT <= bytes.len(), "{elements:?}");
                let gone = removed(bytes);
                assert!(gone.is_empty() || gone.len() == elements.len());
                for is_v6 in [false, true] {
                    assert!(Description::read(bytes, is_v6).map_or(true, |it| it.is_v6 == is_v6));
                    let network = if is_v6 { "::/0" } else { "0.0.0.0/0" };
                    let scope = Scope { network: network.parse().expect("a network"), ports: &ports };
                    if let Some(request) = flow_deletion(bytes, &scope, 2) {
                        assert!(!is_dump(&request), "it asks for one flow");
                    }
                }
                let _ = TableDescription::read(bytes);
            }
        }
    }
    let scope = |peer: IpAddr| Scope { network: peer.into(), ports: &ports };
    for connection in connections(datagram) {
        assert!(connection.port == 0 || connection.is_in(&scope(connection.peer)));
        // struct nlmsghdr, struct inet_diag_req_v2.
        assert_eq!(destruction(&connection, 1).len(), 16 + 56);
    }
    for flow in flows(datagram) {
        assert!(flow.port == 0 || flow.is_in(&scope(flow.peer)));
    }
});
