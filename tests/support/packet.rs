//! Builds and reads the packets of the tests. Deliberately independent of the parser under test, so as not to
//! repeat its mistakes.

use std::net::IpAddr;

/// A hardware address.
pub type Mac = [u8; 6];

pub const SERVER: &str = "10.77.0.1";
pub const SERVER6: &str = "fd77::1";
pub const CLIENT: &str = "10.77.0.2";
pub const CLIENT6: &str = "fd77::2";
pub const SERVER_MAC: Mac = [2, 0x77, 0, 0, 0, 1];
pub const CLIENT_MAC: Mac = [2, 0x77, 0, 0, 0, 2];

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// A packet to be sent: `tcp(1000).from("10.77.0.9").flags(ACK)`.
#[derive(Debug, Clone)]
pub struct Packet {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    source_port: u16,
    port: u16,
    flags: u8,
    data: Vec<u8>,
    bad_checksum: bool,
    ip_options: Vec<u8>,
    fragment: u16,
    ttl: u8,
    to_mac: Mac,
    vlan: Option<u16>,
}

/// A SYN from the client to the server.
pub fn tcp(port: u16) -> Packet {
    Packet::new(TCP, port, Vec::new())
}

/// A datagram with one zero byte from the client to the server.
pub fn udp(port: u16) -> Packet {
    Packet::new(UDP, port, vec![0])
}

/// An echo request with so many data bytes from the client to the server.
pub fn ping(length: usize) -> Packet {
    Packet::new(ICMP, 0, vec![0x61; length])
}

impl Packet {
    fn new(protocol: u8, port: u16, data: Vec<u8>) -> Packet {
        Packet {
            source: address(CLIENT),
            destination: address(SERVER),
            protocol,
            source_port: 40001,
            port,
            flags: SYN,
            data,
            bad_checksum: false,
            ip_options: Vec::new(),
            fragment: 0,
            ttl: 64,
            to_mac: SERVER_MAC,
            vlan: None,
        }
    }

    /// From the client to the server, both by their IPv6 addresses.
    pub fn v6(self) -> Packet {
        self.from(CLIENT6).to(SERVER6)
    }

    /// A source; if it is of the other family, the packet goes to the server's address of that family.
    pub fn from(mut self, source: &str) -> Packet {
        self.source = address(source);
        if self.source.is_ipv4() != self.destination.is_ipv4() {
            self.destination = address(if self.source.is_ipv4() { SERVER } else { SERVER6 });
        }
        self
    }

    pub fn to(mut self, destination: &str) -> Packet {
        self.destination = address(destination);
        self
    }

    pub fn source_port(mut self, port: u16) -> Packet {
        self.source_port = port;
        self
    }

    pub fn flags(mut self, flags: u8) -> Packet {
        self.flags = flags;
        self
    }

    pub fn data(mut self, data: &[u8]) -> Packet {
        self.data = data.to_vec();
        self
    }

    pub fn bad_checksum(mut self) -> Packet {
        self.bad_checksum = true;
        self
    }

    /// IPv4 options (a multiple of four bytes).
    pub fn ip_options(mut self, options: &[u8]) -> Packet {
        assert!(options.len() <= 40 && options.len().is_multiple_of(4));
        self.ip_options = options.to_vec();
        self
    }

    /// An IPv4 fragment: its place in units of eight bytes, and whether more follow.
    pub fn fragment(mut self, place: u16, more: bool) -> Packet {
        self.fragment = place | if more { 0x2000 } else { 0 };
        self
    }

    pub fn ttl(mut self, ttl: u8) -> Packet {
        self.ttl = ttl;
        self
    }

    /// The hardware address it goes to.
    pub fn mac(mut self, mac: Mac) -> Packet {
        self.to_mac = mac;
        self
    }

    /// An 802.1Q tag in front.
    pub fn vlan(mut self, number: u16) -> Packet {
        self.vlan = Some(number);
        self
    }

    /// The number in the IP header.
    fn protocol(&self) -> u8 {
        if self.protocol == ICMP && self.source.is_ipv6() { ICMP6 } else { self.protocol }
    }

    /// The TCP segment, UDP datagram or ICMP message.
    pub fn segment(&self) -> Vec<u8> {
        if self.protocol == ICMP {
            let kind = if self.source.is_ipv4() { 8 } else { 128 };
            let mut bytes = [&[kind, 0, 0, 0, 0x12, 0x34, 0, 1], &self.data[..]].concat();
            let mut covered = Vec::new();
            if self.source.is_ipv6() {
                covered = [octets(self.source), octets(self.destination)].concat();
                covered.extend([0, ICMP6]);
                covered.extend(length(bytes.len()));
            }
            covered.extend(&bytes);
            let sum = checksum(&covered) ^ if self.bad_checksum { 0x5555 } else { 0 };
            bytes[2..4].copy_from_slice(&sum.to_be_bytes());
            return bytes;
        }
        let mut bytes = [self.source_port.to_be_bytes(), self.port.to_be_bytes()].concat();
        let checksum_at = if self.protocol == TCP {
            bytes.extend([0, 0, 3, 232, 0, 0, 0, 0, 5 << 4, self.flags, 32, 0, 0, 0, 0, 0]);
            16
        } else {
            bytes.extend(length(8 + self.data.len()));
            bytes.extend([0, 0]);
            6
        };
        bytes.extend(&self.data);
        let mut covered = [octets(self.source), octets(self.destination)].concat();
        covered.extend([0, self.protocol]);
        covered.extend(length(bytes.len()));
        covered.extend(&bytes);
        let mut sum = match checksum(&covered) {
            0 if self.protocol == UDP => 0xffff,
            sum => sum,
        };
        if self.bad_checksum {
            sum ^= 0x5555;
        }
        bytes[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// From the IP header on.
    pub fn ip(&self) -> Vec<u8> {
        self.ip_around(self.protocol(), &self.segment())
    }

    /// The IP header of this packet around another payload.
    pub fn ip_around(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        if self.source.is_ipv6() {
            let mut bytes = vec![6 << 4, 0, 0, 0];
            bytes.extend(length(payload.len()));
            bytes.extend([protocol, self.ttl]);
            bytes.extend(octets(self.source));
            bytes.extend(octets(self.destination));
            bytes.extend(payload);
            return bytes;
        }
        let words = u8::try_from(5 + self.ip_options.len() / 4).expect("at most 15 words");
        let mut header = vec![4 << 4 | words, 0];
        header.extend(length(usize::from(words) * 4 + payload.len()));
        header.extend([0x12, 0x34]);
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.ttl, protocol, 0, 0]);
        header.extend(octets(self.source));
        header.extend(octets(self.destination));
        header.extend(&self.ip_options);
        let sum = checksum(&header).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        [header, payload.to_vec()].concat()
    }

    /// From the Ethernet header on.
    pub fn frame(&self) -> Vec<u8> {
        self.frame_around(&self.ip())
    }

    /// The Ethernet header of this packet around other bytes.
    pub fn frame_around(&self, ip: &[u8]) -> Vec<u8> {
        let mut bytes = [self.to_mac, CLIENT_MAC].concat();
        if let Some(number) = self.vlan {
            bytes.extend([0x81, 0x00]);
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(if self.source.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] });
        bytes.extend(ip);
        bytes
    }
}

/// A packet that was seen on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// "tcp" or "udp".
    pub protocol: &'static str,
    pub source_port: u16,
    pub port: u16,
    /// TCP's control bits; 0 for UDP.
    pub flags: u8,
    pub data: Vec<u8>,
    pub frame: Vec<u8>,
}

/// Reads an Ethernet frame; None unless it is a whole TCP or UDP packet.
pub fn decode(frame: &[u8]) -> Option<Seen> {
    let ip = frame.get(14..)?;
    let (source, destination, protocol, segment) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let start = usize::from(ip.first()? & 15) * 4;
            let end = usize::from(word(ip, 2)?);
            let place = |at| Some(IpAddr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
            (place(12)?, place(16)?, *ip.get(9)?, ip.get(start..end)?)
        }
        [0x86, 0xdd] => {
            let end = 40 + usize::from(word(ip, 4)?);
            let place = |at| Some(IpAddr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?));
            (place(8)?, place(24)?, *ip.get(6)?, ip.get(40..end)?)
        }
        _ => return None,
    };
    let (protocol, flags, data) = match protocol {
        TCP => ("tcp", *segment.get(13)?, segment.get(usize::from(segment.get(12)? >> 4) * 4..)?),
        UDP => ("udp", 0, segment.get(8..)?),
        _ => return None,
    };
    let (source_port, port) = (word(segment, 0)?, word(segment, 2)?);
    let (data, frame) = (data.to_vec(), frame.to_vec());
    Some(Seen { source, destination, protocol, source_port, port, flags, data, frame })
}

/// The Internet checksum; 0 over bytes that include their correct checksum.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).expect("a packet of less than 64 kB").to_be_bytes()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}
