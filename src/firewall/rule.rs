//! Builds rules: expressions in the order of their evaluation (`NFTA_RULE_*` and `NFTA_EXPR_*`).

use std::net::IpAddr;

use ipnet::IpNet;

use crate::door::knock::{Flags, Protocol};
use crate::door::ports::Ports;
use crate::firewall::message::Attributes;

const ITEM: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
const VALUE: u16 = 1;
const VERDICT: u16 = 2;

/// The register in which a packet's field is compared; it holds 16 bytes.
const REGISTER: u32 = 1;
/// Another register, for what is computed from the first.
const SCRATCH_REGISTER: u32 = 2;
/// The register for the verdict.
const VERDICT_REGISTER: u32 = 0;

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const NOT_ABOVE: u32 = 3;
const NOT_BELOW: u32 = 5;

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// Offset and length, in bytes, of the source in IPv4 and IPv6 headers, of the destination port in TCP and
/// UDP headers, and of the flags in TCP headers.
const SOURCE4: (u32, u32) = (12, 4);
const SOURCE6: (u32, u32) = (8, 16);
const PORT: (u32, u32) = (2, 2);
const TCP_FLAGS: (u32, u32) = (13, 1);

/// The kernel's type of an address of this machine (`RTN_LOCAL`).
const LOCAL: u32 = 2;
/// The index of `lo`, in every namespace.
const LOOPBACK: u32 = 1;

/// What happens to a packet that matches a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It is dropped, whatever other tables decide.
    Drop,
    /// This table lets it pass.
    Accept,
    /// The rules of this chain are evaluated next.
    Jump(&'a str),
}

/// A rule under construction.
#[derive(Clone, Debug, Default)]
pub struct Rule(Attributes);

impl Rule {
    /// A rule that matches every packet.
    #[must_use]
    pub fn new() -> Rule {
        Rule::default()
    }

    /// The attributes of the rule, to be nested in `NFTA_RULE_EXPRESSIONS`.
    #[must_use]
    pub fn expressions(&self) -> &Attributes {
        &self.0
    }

    fn expression(mut self, name: &str, data: &Attributes) -> Rule {
        let expression = Attributes::new().text(NAME, name).nested(DATA, data);
        self.0 = self.0.nested(ITEM, &expression);
        self
    }

    /// Loads a property of the packet into the register.
    fn meta(self, key: u32) -> Rule {
        self.expression("meta", &Attributes::new().number(1, REGISTER).number(2, key))
    }

    fn payload(self, header: u32, (offset, length): (u32, u32)) -> Rule {
        let data =
            Attributes::new().number(1, REGISTER).number(2, header).number(3, offset).number(4, length);
        self.expression("payload", &data)
    }

    fn compare(self, operation: u32, value: &[u8]) -> Rule {
        let value = Attributes::new().bytes(VALUE, value);
        let data = Attributes::new().number(1, REGISTER).number(2, operation).nested(3, &value);
        self.expression("cmp", &data)
    }

    fn mask(self, from_to: (u32, u32), mask: &[u8]) -> Rule {
        let length = u32::try_from(mask.len()).unwrap_or_default();
        let value = |bytes: &[u8]| Attributes::new().bytes(VALUE, bytes);
        let data = Attributes::new()
            .number(1, from_to.0)
            .number(2, from_to.1)
            .number(3, length)
            .nested(4, &value(mask))
            .nested(5, &value(&vec![0; mask.len()]));
        self.expression("bitwise", &data)
    }

    /// Matches packets that came in on `lo`.
    #[must_use]
    pub fn from_loopback(self) -> Rule {
        const INTERFACE: u32 = 4;
        self.meta(INTERFACE).compare(EQUAL, &LOOPBACK.to_ne_bytes())
    }

    /// Matches IPv6 packets, or IPv4 packets.
    #[must_use]
    pub fn of_version(self, is_v6: bool) -> Rule {
        const VERSION: u32 = 15;
        self.meta(VERSION).compare(EQUAL, &[if is_v6 { 10 } else { 2 }])
    }

    /// Matches packets of this protocol.
    #[must_use]
    pub fn of_protocol(self, protocol: Protocol) -> Rule {
        const PROTOCOL: u32 = 16;
        self.meta(PROTOCOL).compare(EQUAL, &[protocol.number(true)])
    }

    /// Matches TCP segments that do not begin a connection. A first fragment that ends before the flags does
    /// not match: it could be anything.
    #[must_use]
    pub fn of_later_tcp_segments(self) -> Rule {
        let looked_at = Flags::FIN.0 | Flags::SYN.0 | Flags::RST.0 | Flags::ACK.0;
        let rule = self.of_protocol(Protocol::Tcp).payload(TRANSPORT_HEADER, TCP_FLAGS);
        rule.mask((REGISTER, REGISTER), &[looked_at]).compare(NOT_EQUAL, &[Flags::SYN.0])
    }

    /// Matches packets of a flow that conntrack knows.
    #[must_use]
    pub fn of_a_known_flow(self) -> Rule {
        const STATE: u32 = 0;
        const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
        let rule = self.expression("ct", &Attributes::new().number(1, REGISTER).number(2, STATE));
        let rule = rule.mask((REGISTER, REGISTER), &ESTABLISHED_OR_RELATED.to_ne_bytes());
        rule.compare(NOT_EQUAL, &0_u32.to_ne_bytes())
    }

    /// Matches packets for one of these ports.
    #[must_use]
    pub fn to_ports(self, ports: Ports) -> Rule {
        let rule = self.payload(TRANSPORT_HEADER, PORT);
        if ports.first == ports.last {
            rule.compare(EQUAL, &ports.first.to_be_bytes())
        } else {
            rule.compare(NOT_BELOW, &ports.first.to_be_bytes()).compare(NOT_ABOVE, &ports.last.to_be_bytes())
        }
    }

    /// Matches packets for a port in this set of ports.
    #[must_use]
    pub fn to_ports_in(self, set: &str) -> Rule {
        self.payload(TRANSPORT_HEADER, PORT)
            .expression("lookup", &Attributes::new().text(1, set).number(2, REGISTER))
    }

    /// Matches packets for an address of this machine.
    #[must_use]
    pub fn to_us(self) -> Rule {
        const TYPE_OF_ADDRESS: u32 = 3;
        const OF_DESTINATION: u32 = 2;
        let data = Attributes::new().number(1, REGISTER).number(2, TYPE_OF_ADDRESS).number(3, OF_DESTINATION);
        self.expression("fib", &data).compare(EQUAL, &LOCAL.to_ne_bytes())
    }

    /// Matches packets from this network.
    #[must_use]
    pub fn from_network(self, network: IpNet) -> Rule {
        let is_v6 = matches!(network, IpNet::V6(_));
        let rule = self.of_version(is_v6).payload(NETWORK_HEADER, if is_v6 { SOURCE6 } else { SOURCE4 });
        let rule = if network.prefix_len() == network.max_prefix_len() {
            rule
        } else {
            rule.mask((REGISTER, REGISTER), &octets(network.netmask()))
        };
        rule.compare(EQUAL, &octets(network.network()))
    }

    /// Loads the source into the register, for [`Rule::source_is_in`] and [`Rule::source_is_not_in`].
    #[must_use]
    pub fn source(self, is_v6: bool) -> Rule {
        self.payload(NETWORK_HEADER, if is_v6 { SOURCE6 } else { SOURCE4 })
    }

    /// Matches if this set contains the source's network, of the prefix length of `network`.
    #[must_use]
    pub fn source_is_in(self, set: &str, network: IpNet) -> Rule {
        self.look_up(set, network, 0)
    }

    /// Matches if this set does not contain the source's network, of the prefix length of `network`.
    #[must_use]
    pub fn source_is_not_in(self, set: &str, network: IpNet) -> Rule {
        const NOT: u32 = 1;
        self.look_up(set, network, NOT)
    }

    /// Only the prefix length of `network` matters.
    fn look_up(self, set: &str, network: IpNet, flags: u32) -> Rule {
        let (rule, register) = if network.prefix_len() == network.max_prefix_len() {
            (self, REGISTER)
        } else {
            (self.mask((REGISTER, SCRATCH_REGISTER), &octets(network.netmask())), SCRATCH_REGISTER)
        };
        let data = Attributes::new().text(1, set).number(2, register);
        rule.expression("lookup", &if flags == 0 { data } else { data.number(5, flags) })
    }

    /// Counts the packets that matched so far.
    #[must_use]
    pub fn counted(self) -> Rule {
        self.expression("counter", &Attributes::new())
    }

    /// Ends the rule with a verdict.
    #[must_use]
    pub fn then(self, verdict: Verdict<'_>) -> Rule {
        const CODE: u16 = 1;
        const CHAIN: u16 = 2;
        let code = |code: i32| Attributes::new().bytes(CODE, &code.to_be_bytes());
        let verdict = match verdict {
            Verdict::Drop => code(0),
            Verdict::Accept => code(1),
            Verdict::Jump(chain) => code(-3).text(CHAIN, chain),
        };
        let data = Attributes::new().nested(VERDICT, &verdict);
        self.expression("immediate", &Attributes::new().number(1, VERDICT_REGISTER).nested(2, &data))
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
