//! Bytes as delivered by the kernel. The parser returns the same for a packet and for the part of it that
//! the filter delivers; the filter passes all packets of interest and, if its program is exact, no others;
//! and every packet can be described.
#![no_main]

use std::net::IpAddr;
use std::sync::OnceLock;

use fuzzing::interpreter::{Around, check, passes};
use knocking::door::Door;
use knocking::door::knock::Knock;
use knocking::filter::bpf::Instruction;
use knocking::filter::interest::Interest;
use knocking::filter::{HostProperties, MAX_INSTRUCTIONS, SNAPSHOT, program};
use knocking::packet::checksum::checksum;
use knocking::packet::describe::Dissection;
use knocking::packet::{IPV4_HEADER, IPV6_HEADER, parse};
use libfuzzer_sys::fuzz_target;

const HERE: [&str; 4] = ["10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2"];
/// Doors that lead to different filters.
const CONFIGS: [&str; 7] = [
    "[a]\nsequence = 7,8:udp,9\n",
    "[a]\nsequence = 7,8:udp,9\ntcpflags = syn,!ack\n[b]\nsequence = 9,10,11\ntcpflags = fin\n",
    "[a]\nsequence = 7:udp\nudp_length = 1-9\n[b]\nsequence = 8:udp\nudp_length = 0\n",
    "[a]\nsequence = 7,8:udp\ntarget = 192.0.2.9\n[b]\nsequence = 9:udp,8\ntarget = fd00::9\n",
    "[a]\nsequence = 7,8:udp\nstrict = yes\nstrict_except = tcp/22, udp/53\n",
    "[options]\nallow = 10.1.0.0/16, fd01::/64\ndeny = 10.1.1.0/24\n[a]\nsequence = 7,8:udp\n[b]\nsequence = 9\ndeny = 10.1.1.0/24, fd01::1\n",
    "[a]\notp = seed,30,65500,on,udp,tcp\n[b]\nsequence = 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31\n",
];

struct World {
    doors: Vec<Door>,
    /// The interest of each single door.
    each: Vec<Interest>,
    here: Vec<IpAddr>,
    interest: Interest,
    exact: Vec<Instruction>,
    coarse: Vec<Instruction>,
}

impl World {
    fn new(text: &&str) -> World {
        let doors = fuzzing::doors(text, &[]);
        let here: Vec<IpAddr> = HERE.iter().map(|text| text.parse().expect("an address")).collect();
        let host = HostProperties { here: &here, loopback: None, only_v4: false, count_once: None };
        let interest = Interest::of(&doors, 0);
        let exact = program(&interest, host, MAX_INSTRUCTIONS);
        let coarse = program(&interest, host, 0);
        check(&exact);
        check(&coarse);
        let each = doors.iter().map(|door| Interest::of(std::slice::from_ref(door), 0)).collect();
        World { doors, each, here, interest, exact, coarse }
    }

    /// Checks that the filter and the parser agree on these bytes.
    fn try_on(&self, ip: &[u8], knock: Option<&Knock>) {
        let host = Around::of(ip);
        let (exact, coarse) = (passes(&self.exact, ip, host), passes(&self.coarse, ip, host));
        assert!(coarse || !exact, "the coarse filter passes less");
        if let Some(knock) = knock {
            let own = self.here.contains(&knock.destination);
            let is_forged = own && self.is_from_here(knock);
            let is_known = self.interest.includes(knock, own) || self.interest.includes_hit(knock, own);
            // The filter refuses a packet that claims more bytes than there are; the parser may see a cut one.
            let is_whole = usize::try_from(knock.length).is_ok_and(|length| length <= ip.len());
            if is_known
                && is_whole
                && !is_forged
                && self.doors.iter().any(|door| door.rules.admit(knock.source))
            {
                assert!(exact, "what is of interest does not pass: {knock:?}");
            }
        }
        if exact && is_header(ip) {
            // The parser checks more than the filter.
            let Some(knock) = &parse(&endless(ip)) else { return };
            let own = self.here.contains(&knock.destination);
            // But the filter does not check which of the addresses a port belongs to.
            let at = |door: &Door| Knock { destination: door.target.unwrap_or(self.here[0]), ..*knock };
            let wants = |(door, interest): (&Door, &Interest)| {
                interest.includes(&at(door), true) || interest.includes_hit(&at(door), true)
            };
            assert!(self.doors.iter().zip(&self.each).any(wants), "nobody wants {knock:?}");
            let is_place = |door: &Door| door.accepts_destination(knock.destination, own);
            assert!(self.doors.iter().any(is_place), "nobody listens there: {knock:?}");
            assert!(!own || !self.is_from_here(knock), "forged, since it came from a wire: {knock:?}");
        }
    }

    /// Whether the source is one of this host's addresses, which is impossible for a packet from a wire.
    fn is_from_here(&self, knock: &Knock) -> bool {
        knock.source.is_loopback() || self.here.contains(&knock.source)
    }
}

/// Whether the bytes begin like a packet; the filter relies on the link for that.
fn is_header(ip: &[u8]) -> bool {
    matches!(ip, [0x45..=0x4f | 0x60..=0x6f, ..])
}

/// The packet with the length and the IPv4 checksum that the parser wants; the filter looks at neither of
/// them beyond that.
fn endless(ip: &[u8]) -> Vec<u8> {
    let mut ip = ip.to_vec();
    let is_v6 = ip.first().is_some_and(|first| first >> 4 == 6);
    let (at, length) = if is_v6 { (4, ip.len().saturating_sub(IPV6_HEADER)) } else { (2, ip.len()) };
    if let Some(field) = ip.get_mut(at..at + 2) {
        field.copy_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    }
    let header = ip.first().map_or(0, |first| usize::from(first & 15) * 4);
    if !is_v6 && (IPV4_HEADER..=ip.len()).contains(&header) {
        ip[10..12].fill(0);
        let sum = checksum(&[&ip[..header]]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    ip
}

fuzz_target!(|ip: &[u8]| {
    static WORLDS: OnceLock<Vec<World>> = OnceLock::new();
    let worlds = WORLDS.get_or_init(|| CONFIGS.iter().map(World::new).collect());
    let knock = parse(ip);
    let snapshot = &ip[..ip.len().min(SNAPSHOT as usize)];
    let seen = parse(snapshot);
    assert_eq!(seen, knock, "the snapshot is parsed differently");
    for world in worlds {
        world.try_on(ip, knock.as_ref());
    }
    assert!(Dissection(ip).to_string().len() >= ip.len());
});
