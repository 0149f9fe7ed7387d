//! The kernel's filter: it passes all packets of interest, no others if the budget allows an exact program, and
//! the kernel accepts it.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use knocking::config::{Config, Reading};
use knocking::door::Door;
use knocking::door::knock::{Knock, Protocol};
use knocking::door::lock::Lock;
use knocking::filter::bpf::Instruction;
use knocking::filter::interest::Interest;
use knocking::filter::interfaces::CountOnce;
use knocking::filter::{HostProperties, MAX_INSTRUCTIONS, SNAPSHOT, WHOLE_SNAPSHOT, program};
use knocking::packet::{parse, payload};

use crate::filter::bpf::{Kernel, load};
use crate::random::Random;
use crate::support::interpreter::{Around, check, passes, run};
use crate::support::packet::{CLIENT, CLIENT6, Packet, SERVER, SERVER6, ping, tcp, udp};

trials![
    interest_matches_the_doors,
    everything_of_interest_passes,
    nothing_else_passes_within_the_budget,
    single_packets_pass_by_length_and_first_byte,
    the_kernel_agrees,
    a_small_budget_merges_ports,
    five_thousand_doors_fit,
    flag_rules_of_many_kinds,
    many_addresses_are_not_checked,
    tagged_frames_do_not_pass,
    other_link_protocols_do_not_pass,
    on_loopback_packets_pass_once,
    with_several_interfaces_each_packet_passes_once,
    only_ipv4_means_only_ipv4,
    interest_can_include_later_lines,
    without_doors_no_packet_passes,
    programs_are_short,
];

/// Prefixes to allow or deny.
const PREFIXES: [&str; 4] =
    ["", "10.77.0.0/24, fd77::/64", "10.77.0.64/26, 192.0.2.1, 2001:db8::/29", "0.0.0.0/0"];

/// Random doors, addresses of this host, and packets that are related to them.
struct World {
    doors: Vec<Door>,
    here: Vec<IpAddr>,
    ports: Vec<u16>,
    places: Vec<IpAddr>,
    random: Random,
}

impl World {
    fn new(random: Random) -> World {
        let here: Vec<IpAddr> =
            (0..random.below(5)).map(|_| if random.once_in(2) { random.v4() } else { random.v6() }).collect();
        let base = random.port();
        let spread = *random.pick(&[4, 30, 1000, 65536]);
        let ports: Vec<u16> = (0..=random.below(60))
            .map(|_| base.wrapping_add(u16::try_from(random.below(spread)).unwrap()))
            .collect();
        let mut places = here.clone();
        places.extend([random.v4(), random.v6(), random.v4(), random.v6()]);
        let mut text = String::new();
        // Rules that all or some doors share.
        let everywhere = random.once_in(2);
        let shared = [random.pick(&PREFIXES), random.pick(&PREFIXES)];
        for _ in 0..=random.below(12) {
            let stage = |_| match random.below(5) {
                0 => format!("{}:icmp", random.below(24)),
                1 | 2 => format!("{}:udp", random.pick(&ports)),
                _ => format!("{}:tcp", random.pick(&ports)),
            };
            let stages: Vec<String> = (0..=random.below(5)).map(stage).collect();
            let kind = if random.once_in(6) {
                format!(
                    "otp = seed,30,{},on,{}",
                    random.pick(&ports),
                    random.pick(&["tcp", "udp", "udp,tcp"])
                )
            } else {
                format!("sequence = {}", stages.join(","))
            };
            text.extend(["[door]\n", &kind, "\n"]);
            for flag in ["fin", "syn", "rst", "psh", "ack", "urg"].iter().filter(|_| random.once_in(5)) {
                text.extend(["tcpflags = ", *random.pick(&["", "!"]), *flag, "\n"]);
            }
            if random.once_in(3) {
                text.extend(["target = ", &random.pick(&places).to_string(), "\n"]);
            }
            for (name, prefixes) in ["allow", "deny"].iter().zip(&shared) {
                if everywhere && !prefixes.is_empty() {
                    text.extend([*name, " = ", **prefixes, "\n"]);
                } else if random.once_in(6) {
                    text.extend([*name, " = 10.77.0.2, fd77::2\n"]);
                }
            }
            if random.once_in(5) {
                let least = random.below(20);
                text.extend(["udp_length = ", &format!("{least}-{}", least + random.below(20)), "\n"]);
            }
            if random.once_in(12) {
                let services = (random.pick(&ports), random.pick(&ports));
                let services = format!("tcp/{}, udp/{}, icmp/{}", services.0, services.1, random.below(24));
                text.extend([
                    "strict = yes
strict_except = ",
                    &services,
                    "
",
                ]);
            }
        }
        World { doors: doors(&text), here, ports, places, random }
    }

    fn host(&self) -> HostProperties<'_> {
        HostProperties { here: &self.here, loopback: None, only_v4: false, count_once: None }
    }

    fn packet(&self) -> Packet {
        let random = &self.random;
        let port =
            random.pick(&self.ports).wrapping_add(*random.pick(&[0, 0, 0, 0, 1, u16::MAX, 7, 100, 255, 256]));
        let to = random.pick(&self.places);
        let clients = if to.is_ipv4() {
            [CLIENT, "10.77.0.99", "192.0.2.1"]
        } else {
            [CLIENT6, "fd77::99", "2001:db8::1"]
        };
        let from = *random.pick(&clients);
        let packet = match random.below(5) {
            0 => ping(0),
            1 | 2 => udp(port),
            _ => tcp(port),
        };
        let options = if to.is_ipv4() { vec![1; 4 * random.below(11)] } else { Vec::new() };
        let flags = if random.once_in(2) { 2 } else { random.byte() };
        let packet = packet.from(from).to(&to.to_string()).flags(flags).ip_options(&options);
        packet.data(&random.bytes(random.below(24)))
    }

    /// Whether a packet fails attempts on a strict door: a second, simpler implementation.
    fn is_hit(&self, knock: &Knock, at: impl Fn(&Door) -> bool) -> bool {
        let begins = |door: &Door| match knock.protocol {
            Protocol::Tcp => {
                knock.flags.is_some_and(|flags| flags.0 & 0x12 == 0x02) || door.packet_rule().allows(knock)
            }
            Protocol::Udp => true,
            // Pings are nothing to doors that have none in their sequence.
            Protocol::Icmp => {
                matches!(&door.lock, Lock::Fixed(sequence) if sequence.to_string().contains(":icmp"))
            }
        };
        let is_excepted = |door: &Door| {
            let services = &door.rules.strict_except;
            services.iter().any(|it| (it.protocol, it.port) == (knock.protocol, knock.port))
        };
        let is_strict = |door: &Door| door.rules.is_strict && begins(door) && !is_excepted(door);
        self.doors.iter().any(|door| at(door) && is_strict(door))
    }

    /// Whether all doors reject this knocker in a way that the filter can check.
    fn is_shut_out(&self, knock: &Knock) -> bool {
        let is_in = |prefix: &IpNet| prefix.contains(&knock.source);
        let allows = |door: &Door| door.rules.allow.as_ref().is_none_or(|it| it.prefixes().iter().any(is_in));
        let denied = self.doors.iter().flat_map(|door| door.rules.deny.prefixes()).any(|prefix| {
            is_in(prefix) && self.doors.iter().all(|door| door.rules.deny.prefixes().contains(prefix))
        });
        denied || !self.doors.iter().any(allows)
    }

    fn is_own(&self, knock: &Knock) -> bool {
        self.here.contains(&knock.destination)
    }

    /// Whether a packet is a knock: a second implementation, without data structures.
    fn is_wanted(&self, knock: &Knock, at: impl Fn(&Door) -> bool) -> bool {
        let has_port = |door: &Door| match &door.lock {
            Lock::Fixed(sequence) => {
                sequence.stages().iter().any(|it| (it.protocol, it.port) == (knock.protocol, knock.port))
            }
            Lock::OneTime(_) | Lock::Spa(_) => false,
            Lock::Otp(lock) => lock.otp.ranges().into_iter().any(|(protocol, low, high)| {
                protocol == knock.protocol && (low..=high).contains(&knock.port)
            }),
        };
        self.doors.iter().any(|door| at(door) && has_port(door) && door.packet_rule().allows(knock))
    }
}

fn interest_matches_the_doors() {
    for _ in 0..200 {
        let world = World::new(Random::new());
        let interest = Interest::of(&world.doors, 0);
        for _ in 0..200 {
            let knock = parse(&world.packet().ip()).unwrap();
            let own = world.is_own(&knock);
            let wanted = world.is_wanted(&knock, |door| door.accepts_destination(knock.destination, own));
            assert_eq!(interest.includes(&knock, own), wanted, "{knock:?} {:#?}", world.doors);
            let hit = world.is_hit(&knock, |door| door.accepts_destination(knock.destination, own));
            assert_eq!(interest.includes_hit(&knock, own), hit, "{knock:?} {:#?}", world.doors);
        }
    }
}

/// Also truncated packets, packets with options, and with any budget.
fn everything_of_interest_passes() {
    let mut passed = 0;
    for _ in 0..200 {
        let world = World::new(Random::new());
        let interest = Interest::of(&world.doors, 0);
        let budget = *world.random.pick(&[0, 10, 100, 300, MAX_INSTRUCTIONS]);
        let program = program(&interest, world.host(), budget);
        check(&program);
        for _ in 0..100 {
            let ip = world.packet().ip();
            let Some(knock) = parse(&ip) else { continue };
            let own = world.is_own(&knock);
            let is_of_interest = interest.includes(&knock, own) || interest.includes_hit(&knock, own);
            if !is_of_interest || !world.doors.iter().any(|door| door.rules.admit(knock.source)) {
                continue;
            }
            assert!(passes(&program, &ip, Around::of(&ip)), "{knock:?} {:#?}", world.doors);
            passed += 1;
        }
    }
    assert!(passed > 1000, "only {passed} packets were of interest");
}

/// But for one thing: the filter does not check which of the addresses a port belongs to.
fn nothing_else_passes_within_the_budget() {
    let mut passed = 0;
    for _ in 0..200 {
        let world = World::new(Random::new());
        let interest = Interest::of(&world.doors, 0);
        let program = program(&interest, world.host(), MAX_INSTRUCTIONS);
        let has_own_door = world.doors.iter().any(|door| door.target.is_none());
        for _ in 0..200 {
            let mut ip = world.packet().ip();
            // Then it is shorter than it claims.
            let is_cut = world.random.once_in(4);
            if is_cut {
                ip.truncate(world.random.below(ip.len()));
            }
            let wanted = parse(&ip).is_some_and(|knock| {
                let to = knock.destination;
                let is_watched = (has_own_door && world.is_own(&knock))
                    || world.doors.iter().any(|door| door.target == Some(to));
                let is_of_interest = world.is_wanted(&knock, |_| true) || world.is_hit(&knock, |_| true);
                is_watched && is_of_interest && !world.is_shut_out(&knock) && !is_cut
            });
            assert_eq!(passes(&program, &ip, Around::of(&ip)), wanted, "{ip:x?} {:#?}", world.doors);
            passed += usize::from(wanted);
        }
        for (place, more) in [(1, true), (0x1fff, false), (8, true)] {
            let ip = world.packet().fragment(place, more).ip();
            assert!(ip[0] >> 4 == 6 || !passes(&program, &ip, Around::of(&ip)), "a later fragment");
        }
    }
    assert!(passed > 1000, "only {passed} packets passed");
}

/// Single packets pass as a whole, by port, length and first byte; what else is wanted at their port passes too.
fn single_packets_pass_by_length_and_first_byte() {
    let spa = "SPA_Key = a\nSPA_HMAC_Key = b\nSPA_Open = any\n";
    for (text, others) in [
        (format!("[a]\n{spa}"), false),
        (format!("[a]\n{spa}[b]\nsequence = 62201:udp\n"), true),
        (format!("[a]\n{spa}target = {SERVER}\n[b]\nsequence = 62201:udp\nudp_length = 1\n"), false),
        (format!("[a]\n{spa}[b]\nsequence = 62201:udp\nudp_length = 0-2000\ntarget = {SERVER}\n"), true),
    ] {
        let doors = crate::config::file::accepted(&text).doors;
        let interest = Interest::of(&doors, 0);
        let here = [SERVER.parse().unwrap(), SERVER6.parse().unwrap()];
        let host = HostProperties { here: &here, loopback: None, only_v4: false, count_once: None };
        let program = program(&interest, host, MAX_INSTRUCTIONS);
        check(&program);
        assert!(load(&program));
        for first in 0..=255_u8 {
            for (length, fits) in [(139, false), (140, true), (204, true), (1100, true), (1101, false)] {
                let mut data = vec![b'A'; length];
                data[0] = first;
                let packet = udp(62201).data(&data);
                let bytes = run(&program, &packet.ip(), Around::of(&packet.ip()));
                let is_whole = fits && b"+/89".contains(&first);
                let wanted = if is_whole { WHOLE_SNAPSHOT } else { u32::from(others) * SNAPSHOT };
                assert_eq!(bytes, wanted, "{first} {length} {text}");
                let knock = parse(&packet.ip()).unwrap();
                assert_eq!(interest.includes_single_packet(&knock, true), fits, "{length}");
                assert!(!fits || payload(&packet.ip()) == Some(&data[..]));
            }
        }
        let elsewhere = udp(62202).data(&[b'+'; 204]).ip();
        assert_eq!(run(&program, &elsewhere, Around::of(&elsewhere)), 0);
        let part = udp(62201).data(&[b'+'; 204]).fragment(0, true).ip();
        assert_eq!(payload(&part), None, "a part of one");
        let cut = &udp(62201).data(&[b'+'; 204]).ip()[..100];
        assert_eq!(payload(cut), None, "cut");
    }
}

fn the_kernel_agrees() {
    for _ in 0..60 {
        let world = World::new(Random::new());
        let budget = *world.random.pick(&[60, MAX_INSTRUCTIONS]);
        let program = program(&Interest::of(&world.doors, 0), world.host(), budget);
        assert!(load(&program), "no memory for {} instructions", program.len());
        let kernels = [0x0800, 0x86dd].map(|ether_type| (ether_type, Kernel::with(&program, ether_type)));
        for _ in 0..60 {
            let mut ip = world.packet().ip();
            if world.random.once_in(3) {
                ip.truncate(1 + world.random.below(ip.len()));
            }
            for (ether_type, kernel) in &kernels {
                let host = Around { ether_type: *ether_type, ..Around::of(&ip) };
                assert_eq!(kernel.passes(&ip), passes(&program, &ip, host), "{ip:x?}");
            }
        }
    }
}

fn a_small_budget_merges_ports() {
    let (doors, knocks) = many_doors(400, "tcpflags = syn");
    let interest = Interest::of(&doors, 0);
    let here: [IpAddr; 2] = [SERVER.parse().unwrap(), SERVER6.parse().unwrap()];
    let host = HostProperties { here: &here, loopback: None, only_v4: false, count_once: None };
    let mut passed_before = usize::MAX;
    for budget in [0, 1, 50, 64, 100, 128, 200, 500, 1000, 2000, 4000, usize::MAX] {
        let program = program(&interest, host, budget);
        check(&program);
        assert!(program.len() <= budget.max(80), "{} instructions for {budget}", program.len());
        assert!(load(&program), "the kernel has no memory for {} instructions", program.len());
        assert!(knocks.iter().all(|&port| passes(&program, &tcp(port).ip(), Around::of(&tcp(port).ip()))));
        // The larger the budget, the fewer other packets pass; with a large enough one, none.
        let ports = (0..=u16::MAX).step_by(16);
        let passed = ports.filter(|&port| passes(&program, &tcp(port).ip(), Around::of(&[]))).count();
        assert!(passed <= passed_before, "{passed} pass with {budget}, {passed_before} with less");
        passed_before = passed;
    }
    let wanted = knocks.iter().filter(|&&port| port % 16 == 0).count();
    assert!(passed_before <= wanted, "{passed_before} pass in the end");
}

fn five_thousand_doors_fit() {
    let (doors, knocks) = many_doors(5000, "tcpflags = syn");
    let here: [IpAddr; 2] = [SERVER.parse().unwrap(), SERVER6.parse().unwrap()];
    let host = HostProperties { here: &here, loopback: Some(1), only_v4: false, count_once: None };
    let program = program(&Interest::of(&doors, 0), host, MAX_INSTRUCTIONS);
    check(&program);
    assert!(program.len() > MAX_INSTRUCTIONS / 2, "{} of {MAX_INSTRUCTIONS} used", program.len());
    for &port in &knocks {
        for packet in [tcp(port), tcp(port).v6()] {
            assert!(passes(&program, &packet.ip(), Around::of(&packet.ip())), "port {port}");
        }
    }
    assert!(!passes(&program, &udp(knocks[0]).ip(), Around::of(&[])));
    // If the kernel lacks memory for a filter, the daemon halves the budget until the filter fits.
    let interest = Interest::of(&doors, 0);
    let mut budgets = std::iter::successors(Some(MAX_INSTRUCTIONS), |budget| Some(budget / 2)).take(5);
    assert!(budgets.any(|budget| load(&knocking::filter::program(&interest, host, budget))));
}

fn flag_rules_of_many_kinds() {
    let mut text = String::new();
    let rules = [
        "syn",
        "syn,!ack",
        "ack",
        "!rst",
        "fin,psh,urg",
        "!fin,!syn,!rst,!psh,!ack,!urg",
        "!urg",
        "rst,!psh",
    ];
    for (i, rule) in rules.iter().enumerate() {
        for port in i..=rules.len() {
            text.extend([format!("[d]\nsequence = {}\ntcpflags = {rule}\n", 100 + port)]);
        }
    }
    let doors = doors(&text);
    let (interest, here) = (Interest::of(&doors, 0), [SERVER.parse().unwrap()]);
    let program = program(
        &interest,
        HostProperties { here: &here, loopback: None, only_v4: false, count_once: None },
        4096,
    );
    assert!(load(&program));
    for port in 99..=110 {
        for flags in 0..=255 {
            let ip = tcp(port).flags(flags).ip();
            let wanted = interest.includes(&parse(&ip).unwrap(), true);
            assert_eq!(passes(&program, &ip, Around::of(&ip)), wanted, "port {port}, flags {flags:#x}");
        }
    }
}

/// An interface with hundreds of addresses must not need a longer program than one with a few.
fn many_addresses_are_not_checked() {
    let doors = doors("[d]\nsequence = 7000,8000:udp\ntcpflags = syn\n");
    for count in [1, 16, 17, 64, 65, 1000] {
        let v4 = (0..count).map(|i| IpAddr::from((0x0a00_0000_u32 + i).to_be_bytes()));
        let v6 = (0..count).map(|i| IpAddr::from((0xfd00 << 112_u32 | u128::from(i)).to_be_bytes()));
        let here: Vec<IpAddr> = v4.chain(v6).collect();
        let host = HostProperties { here: &here, loopback: None, only_v4: false, count_once: None };
        let program = program(&Interest::of(&doors, 0), host, MAX_INSTRUCTIONS);
        check(&program);
        assert!(program.len() < 700, "{} instructions for {count} addresses", program.len());
        for (address, from, most) in [("10.9.9.9", CLIENT, 64), ("fd00::9:9", CLIENT6, 16)] {
            let ip = tcp(7000).from(from).to(address).ip();
            assert_eq!(passes(&program, &ip, Around::of(&ip)), count > most, "{count}: {address}");
        }
        for address in &here {
            let from = if address.is_ipv4() { CLIENT } else { CLIENT6 };
            let ip = tcp(7000).from(from).to(&address.to_string()).ip();
            assert!(passes(&program, &ip, Around::of(&ip)), "{count}: {address}");
        }
    }
}

fn tagged_frames_do_not_pass() {
    let (program, ip) = (simple(None, false), tcp(7000).ip());
    assert!(passes(&program, &ip, Around::of(&ip)));
    assert!(!passes(&program, &ip, Around { is_tagged: true, ..Around::of(&ip) }));
}

fn other_link_protocols_do_not_pass() {
    let (program, ip) = (simple(None, false), tcp(7000).ip());
    for ether_type in [0, 0x0806, 0x8100, 0x86dd, 0x8864, 0x88cc] {
        assert!(!passes(&program, &ip, Around { ether_type, ..Around::of(&ip) }), "{ether_type:#x}");
    }
}

fn on_loopback_packets_pass_once() {
    let ip = tcp(7000).ip();
    let leaving = |interface| Around { packet_type: 4, interface, ..Around::of(&ip) };
    let on_lo = simple(Some(1), false);
    assert!(!passes(&on_lo, &ip, leaving(1)), "outgoing on lo");
    assert!(passes(&on_lo, &ip, Around { interface: 1, ..Around::of(&ip) }), "incoming on lo");
    assert!(passes(&on_lo, &ip, leaving(2)), "outgoing elsewhere");
    assert!(passes(&simple(None, false), &ip, leaving(2)), "lo is not listened on");
}

fn with_several_interfaces_each_packet_passes_once() {
    let here: Vec<IpAddr> = [SERVER, SERVER6].map(|address| address.parse().unwrap()).to_vec();
    let (target, target6) = ("198.51.100.7", "2001:db8::7");
    let text = format!(
        "[d]\nsequence = 7000\n[t]\nsequence = 7000\ntarget = {target}\n[u]\nsequence = 7000\ntarget = {target6}\n"
    );
    let interest = Interest::of(&doors(&text), 0);
    for hidden in [0, 1, 5, 300] {
        let hidden: Vec<u32> = (0..hidden).map(|index| 100 + 3 * index).collect();
        let count_once = CountOnce {
            own: here.clone(),
            counted_elsewhere: hidden.clone(),
            outgoing_counted_elsewhere: vec![1, 9],
        };
        let host =
            HostProperties { here: &here, loopback: None, only_v4: false, count_once: Some(&count_once) };
        let program = program(&interest, host, MAX_INSTRUCTIONS);
        check(&program);
        assert!(load(&program));
        let pass = |packet: &Packet, packet_type: u32, interface: u32| {
            let ip = packet.ip();
            passes(&program, &ip, Around { packet_type, interface, ..Around::of(&ip) })
        };
        for (to_us, to_target, from_us, own) in [
            (tcp(7000), tcp(7000).to(target), tcp(7000).from(SERVER).to(target), tcp(7000).from(SERVER)),
            (
                tcp(7000).v6(),
                tcp(7000).v6().to(target6),
                tcp(7000).v6().from(SERVER6).to(target6),
                tcp(7000).v6().from(SERVER6),
            ),
        ] {
            // Incoming: to this host, broadcast, multicast, to other hosts.
            for packet_type in 0..=3 {
                assert_eq!(pass(&to_us, packet_type, 7), packet_type == 0, "{packet_type}");
                assert_eq!(pass(&to_target, packet_type, 9), packet_type != 3, "{packet_type}");
            }
            // Outgoing: from this host to others, forwarded, from this host to itself.
            assert!(pass(&from_us, 4, 7));
            assert!(!pass(&to_target, 4, 7) && !pass(&own, 4, 7) && !pass(&to_us, 4, 7));
            assert!(!pass(&from_us, 4, 1) && !pass(&from_us, 4, 9));
            for &index in &hidden {
                assert!(!pass(&to_us, 0, index) && !pass(&from_us, 4, index), "{index}");
                assert!(pass(&to_us, 0, index + 1) && pass(&from_us, 4, index + 1), "{index}");
            }
        }
    }
}

fn only_ipv4_means_only_ipv4() {
    let (v4, v6) = (tcp(7000).ip(), tcp(7000).v6().ip());
    for only_v4 in [false, true] {
        let program = simple(None, only_v4);
        assert!(passes(&program, &v4, Around::of(&v4)));
        assert_eq!(passes(&program, &v6, Around::of(&v6)), !only_v4);
    }
}

fn interest_can_include_later_lines() {
    let doors = doors("[d]\none_time_sequences = /once\n");
    let own = |ahead| {
        let interest = Interest::of(&doors, ahead);
        [1, 2, 3].map(|port| interest.includes(&parse(&tcp(port).ip()).unwrap(), true))
    };
    assert_eq!((own(0), own(1), own(9)), ([true, false, false], [true, true, false], [true; 3]));
}

fn without_doors_no_packet_passes() {
    let here = [SERVER.parse().unwrap()];
    for budget in [0, 100, MAX_INSTRUCTIONS] {
        let host = HostProperties { here: &here, loopback: Some(1), only_v4: false, count_once: None };
        let program = program(&Interest::of(&[], 0), host, budget);
        check(&program);
        assert!(load(&program));
        assert!((0..1000).all(|port| !passes(&program, &tcp(port).ip(), Around::of(&[]))));
    }
}

/// The kernel runs the program for every packet of the interface.
fn programs_are_short() {
    let here: [IpAddr; 2] = [SERVER.parse().unwrap(), SERVER6.parse().unwrap()];
    let host = HostProperties { here: &here, loopback: None, only_v4: false, count_once: None };
    for (doors, most) in [(1, 80), (16, 170), (250, 1500)] {
        let length = program(&Interest::of(&many_doors(doors, "").0, 0), host, MAX_INSTRUCTIONS).len();
        assert!(length <= most, "{length} instructions for {} ports", doors * 4);
    }
}

/// Doors of four TCP ports each, spread over all ports, and all the ports.
fn many_doors(count: usize, rules: &str) -> (Vec<Door>, Vec<u16>) {
    let port = |i: usize| u16::try_from((i * 40_503 + 7) % 65_536).unwrap();
    let ports: Vec<u16> = (0..count * 4).map(port).collect();
    let section =
        |four: &[u16]| format!("[d]\nsequence = {},{},{},{}\n{rules}\n", four[0], four[1], four[2], four[3]);
    (doors(&ports.chunks(4).map(section).collect::<Vec<_>>().concat()), ports)
}

fn simple(loopback: Option<u32>, only_v4: bool) -> Vec<Instruction> {
    let here: [IpAddr; 2] = [SERVER.parse().unwrap(), SERVER6.parse().unwrap()];
    let interest = Interest::of(&doors("[d]\nsequence = 7000,8000:udp\ntcpflags = syn\n"), 0);
    let program = program(
        &interest,
        HostProperties { here: &here, loopback, only_v4, count_once: None },
        MAX_INSTRUCTIONS,
    );
    check(&program);
    assert!(load(&program));
    program
}

fn doors(text: &str) -> Vec<Door> {
    let mut file = |_: &std::path::Path| -> io::Result<Vec<u8>> { Ok(b"1\n2\n3\n".to_vec()) };
    let reading = Reading { file: &mut file, note: &mut |_| {}, interface_is_given: false };
    Config::parse(text.as_bytes(), reading).unwrap_or_else(|error| panic!("{error}\n{text}")).doors
}
