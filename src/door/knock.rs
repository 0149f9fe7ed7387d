//! A knock: one packet, reduced to the fields that the rules of a door test.

use std::fmt;
use std::net::IpAddr;

/// The protocol of a knock. TCP and UDP carry ports; a ping has a length in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// Transmission Control Protocol, IP protocol 6.
    Tcp,
    /// User Datagram Protocol, IP protocol 17.
    Udp,
    /// Echo requests of the Internet Control Message Protocol, IP protocol 1 (`ICMPv6`: 58).
    Icmp,
}

impl Protocol {
    /// Reads `tcp`, `udp` or `icmp`, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Protocol> {
        Protocol::with_ports(word).or_else(|| word.eq_ignore_ascii_case("icmp").then_some(Protocol::Icmp))
    }

    /// Reads `tcp` or `udp`, in any case, where only a protocol with ports makes sense.
    #[must_use]
    pub fn with_ports(word: &str) -> Option<Protocol> {
        if word.eq_ignore_ascii_case("tcp") {
            Some(Protocol::Tcp)
        } else if word.eq_ignore_ascii_case("udp") {
            Some(Protocol::Udp)
        } else {
            None
        }
    }

    /// The number in an IPv4 header, or in an IPv6 one (RFC 9293, RFC 768, RFC 792, RFC 4443).
    #[must_use]
    pub const fn number(self, over_v4: bool) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Icmp => {
                if over_v4 {
                    1
                } else {
                    58
                }
            }
        }
    }

    /// The type of an echo request (RFC 792, RFC 4443, 4.1).
    #[must_use]
    pub const fn echo_request(over_v4: bool) -> u8 {
        if over_v4 { 8 } else { 128 }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Icmp => "icmp",
        })
    }
}

/// The TCP control bits as they stand in byte 13 of the header (RFC 9293, 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flags(pub u8);

impl Flags {
    /// No bit set.
    pub const NONE: Flags = Flags(0);
    /// No more data from the sender.
    pub const FIN: Flags = Flags(0x01);
    /// Synchronise sequence numbers: the first packet of a connection.
    pub const SYN: Flags = Flags(0x02);
    /// Reset the connection.
    pub const RST: Flags = Flags(0x04);
    /// Push.
    pub const PSH: Flags = Flags(0x08);
    /// The acknowledgment field is significant.
    pub const ACK: Flags = Flags(0x10);
    /// The urgent pointer is significant.
    pub const URG: Flags = Flags(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Flags = Flags(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Flags = Flags(0x80);

    /// Every flag with its name in lower case, in the order of their bits.
    pub const NAMES: [(&'static str, Flags); 8] = [
        ("fin", Flags::FIN),
        ("syn", Flags::SYN),
        ("rst", Flags::RST),
        ("psh", Flags::PSH),
        ("ack", Flags::ACK),
        ("urg", Flags::URG),
        ("ece", Flags::ECE),
        ("cwr", Flags::CWR),
    ];

    /// The flag of this name, in any case.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Flags> {
        Flags::NAMES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, flag)| flag)
    }

    /// Whether all bits of `other` are set here.
    #[must_use]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of both.
    #[must_use]
    pub const fn union(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// The bits of `self` that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
}

/// The TCP flags that a door requires and forbids: `tcpflags = syn,!ack`.
///
/// Flags that are not named do not matter; UDP and ICMP ignore the whole rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlagRule {
    /// Must be set.
    pub set: Flags,
    /// Must not be set.
    pub clear: Flags,
}

impl FlagRule {
    /// The first segment of a connection: SYN without ACK.
    pub const OPENS_CONNECTION: FlagRule = FlagRule { set: Flags::SYN, clear: Flags::ACK };

    /// Requires `flag`, overriding an earlier `forbid`.
    pub fn require(&mut self, flag: Flags) {
        self.set = self.set.union(flag);
        self.clear = self.clear.without(flag);
    }

    /// Forbids `flag`, overriding an earlier `require`.
    pub fn forbid(&mut self, flag: Flags) {
        self.clear = self.clear.union(flag);
        self.set = self.set.without(flag);
    }

    /// The bits that the rule tests; without any, it allows every segment.
    #[must_use]
    pub const fn mask(self) -> Flags {
        self.set.union(self.clear)
    }

    /// Whether the rule allows a segment with these flags.
    ///
    /// `None` (a TCP header cut before its flags) is allowed only if the rule tests no flag.
    #[must_use]
    pub fn allows(self, flags: Option<Flags>) -> bool {
        match flags {
            Some(flags) => flags.0 & self.mask().0 == self.set.0,
            None => self.mask() == Flags::NONE,
        }
    }
}

/// A door's requirements for a packet besides its port: TCP flags, UDP payload length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PacketRule {
    /// TCP: the flags.
    pub flags: FlagRule,
    /// UDP: the minimum and maximum payload length in bytes.
    pub udp_length: Option<(u16, u16)>,
    /// UDP: the payload must begin like a single packet, and is needed as a whole.
    pub is_single_packet: bool,
}

impl PacketRule {
    /// Whether the rule allows this packet, as far as its header tells.
    #[must_use]
    pub fn allows(self, knock: &Knock) -> bool {
        match (knock.protocol, self.udp_length) {
            (Protocol::Tcp, _) => self.flags.allows(knock.flags),
            (Protocol::Udp, None) | (Protocol::Icmp, _) => true,
            (Protocol::Udp, Some((least, most))) => {
                knock.udp_length.is_some_and(|length| (least..=most).contains(&length))
            }
        }
    }
}

/// One packet that may be a knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Knock {
    /// The knocker's address.
    pub source: IpAddr,
    /// The source port (0 for ICMP); only the debug output uses it.
    pub source_port: u16,
    /// The destination address.
    pub destination: IpAddr,
    /// TCP, UDP or ICMP.
    pub protocol: Protocol,
    /// The destination port; of an echo request, the number of data bytes.
    pub port: u16,
    /// The TCP flags; `None` for UDP, ICMP and for a TCP header cut before them.
    pub flags: Option<Flags>,
    /// Payload bytes of a datagram according to its header; `None` for TCP, ICMP and a cut header.
    pub udp_length: Option<u16>,
    /// Bytes of the IP packet, header included, according to that header.
    pub length: u32,
}
