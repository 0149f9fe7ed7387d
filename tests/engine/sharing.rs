//! Sequences whose knocks arrive at different gateways, as values: three engines that tell each other.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use knocking::config::{Config, Reading};
use knocking::door::Door;
use knocking::door::knock::{Flags, Knock, Protocol};
use knocking::door::lock::Turn;
use knocking::engine::Engine;
use knocking::engine::sharing::MOST_EXAMINED;
use knocking::opening::event::Event;
use knocking::time::Now;

use crate::random::Random;

trials![
    a_sequence_opens_wherever_its_knocks_arrive,
    a_sequence_opens_wherever_its_knocks_arrive_that_has_a_port_twice,
    a_sequence_at_one_gateway_is_not_shared,
    first_knocks_are_not_shared,
    a_flood_of_first_knocks_hides_no_knock,
    knocks_that_fit_nothing_elsewhere_are_not_shared,
    the_tokens_bound_what_is_shared,
    the_tokens_bound_what_is_looked_for,
    a_list_of_one_time_ports_opens_once,
    a_wrong_knock_ends_the_attempt_everywhere,
    another_try_begins_anew,
    wrong_knocks_of_a_known_source_are_shared,
    whom_a_gateway_refuses_is_not_shared,
    two_beginnings_open_at_least_once,
    what_came_before_the_beginning_opens_nothing,
    what_is_told_begins_nothing,
    without_a_fleet_each_is_alone,
];

const DOORS: &str = "[four]\nsequence = 7001,7002,7003,7004\ntcpflags = syn,!ack\ncommand = x\n\
    [mixed]\nsequence = 7001,8002:udp,8003:udp\nudp_length = 4-9\ntcpflags = syn\ncommand = x\n\
    [otp]\notp = a seed of some length,3600,20000,off,udp,udp,udp\ncommand = x\n\
    [lines]\nsequence = 9001:udp,9002:udp\ncommand = x\n\
    [twice]\nsequence = 9101,9102,9101,9103\ncommand = x\n\
    [strict]\nsequence = 9201,9202,9203\ntcpflags = syn\nstrict = yes\ncommand = x\n\
    [target]\ntarget = 10.99.0.9\nsequence = 9401,9402\ncommand = x\n\
    [denied]\nsequence = 9301,9302\ndeny = 10.0.0.66\ncommand = x\n";
const HERE: &str = "10.99.0.1";
const START: Now = Now { uptime: Duration::from_secs(1000), unix: Duration::from_secs(1_700_000_000) };

fn doors() -> Vec<Door> {
    let reading = Reading {
        file: &mut |_| Err(io::ErrorKind::NotFound.into()),
        note: &mut |_| {},
        interface_is_given: false,
    };
    Config::parse(DOORS.as_bytes(), reading).unwrap().doors
}

fn after(milliseconds: u64) -> Now {
    let time = Duration::from_millis(milliseconds);
    Now { uptime: START.uptime + time, unix: START.unix + time }
}

fn packet(source: IpAddr, protocol: Protocol, port: u16) -> Knock {
    Knock {
        source,
        source_port: 0,
        destination: HERE.parse().unwrap(),
        protocol,
        port,
        flags: (protocol == Protocol::Tcp).then_some(Flags::SYN),
        udp_length: (protocol == Protocol::Udp).then_some(5),
        length: 0,
    }
}

fn tcp(source: &str, port: u16) -> Knock {
    packet(source.parse().unwrap(), Protocol::Tcp, port)
}

/// First knocks that come again and again, and end what they began, keep nobody else from being heard.
fn a_flood_of_first_knocks_hides_no_knock() {
    let mut fleet = Fleet::new(true);
    for place in 0..3 {
        for number in 0..20_000_u32 {
            let source = IpAddr::from((0x0b00_0000 + number % 5_000).to_be_bytes());
            fleet.arrive(place, &packet(source, Protocol::Tcp, 7001), START);
        }
    }
    for (place, port) in [0, 1, 2, 1].into_iter().zip(7001..) {
        fleet.arrive(place, &tcp("10.0.0.2", port), START);
    }
    assert_eq!(fleet.openings(), 1);
}

/// A gateway, and what happened there.
struct Gateway {
    engine: Engine,
    events: Vec<Event>,
}

impl Gateway {
    fn new(is_on: bool) -> Gateway {
        let here: IpAddr = HERE.parse().unwrap();
        let mut engine = Engine::new(doors(), [here]);
        engine.share_knocks(is_on);
        Gateway { engine, events: Vec::new() }
    }

    fn openings(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Opened { .. })).count()
    }

    fn lines(&self) -> Vec<String> {
        self.events.iter().filter_map(|event| event.line(None)).collect()
    }
}

/// Gateways, and the knocks that they shared.
struct Fleet {
    gateways: Vec<Gateway>,
    log: Vec<Knock>,
}

impl Fleet {
    fn new(is_on: bool) -> Fleet {
        Fleet { gateways: (0..3).map(|_| Gateway::new(is_on)).collect(), log: Vec::new() }
    }

    /// A knock arrives at a gateway, and the others hear of it.
    fn arrive(&mut self, place: usize, knock: &Knock, now: Now) {
        let Gateway { engine, events } = &mut self.gateways[place];
        let is_left_over = engine.observe(knock, now, events);
        if is_left_over && engine.may_share(knock, now) {
            self.log.push(*knock);
            for (_, Gateway { engine, events }) in
                self.gateways.iter_mut().enumerate().filter(|(other, _)| *other != place)
            {
                engine.observe_elsewhere(knock, now, events);
            }
        }
    }

    /// How many openings the doorkeepers let through: a list that was used elsewhere opens nothing more.
    fn openings(&self) -> usize {
        let opened = self.gateways.iter().flat_map(|it| &it.events).filter_map(|event| match event {
            Event::Opened { opening, .. } => Some((opening.door, opening.turn)),
            _ => None,
        });
        let (of_lists, others): (Vec<_>, Vec<_>) = opened.partition(|(_, turn)| *turn != Turn::default());
        of_lists.into_iter().collect::<HashSet<_>>().len() + others.len()
    }

    fn count(&self, line: &str) -> usize {
        self.gateways.iter().flat_map(Gateway::lines).filter(|it| it == line).count()
    }
}

fn a_sequence_opens_wherever_its_knocks_arrive() {
    // All 81 ways of four knocks over three gateways.
    for way in 0..81_usize {
        let mut fleet = Fleet::new(true);
        let places = [way % 3, way / 3 % 3, way / 9 % 3, way / 27];
        for (number, place) in (0..).zip(places) {
            fleet.arrive(place, &tcp("10.0.0.2", 7001 + number), after(20 * u64::from(number)));
        }
        assert_eq!(fleet.openings(), 1, "{places:?}");
        let first = &fleet.gateways[places[0]];
        assert_eq!(first.openings(), 1, "{places:?}: it opens where the first one arrived");
        assert!(fleet.log.len() <= 3, "{places:?}: {:?}", fleet.log);
        for stage in 1..=4 {
            let line = format!("10.0.0.2: four: Stage {stage}");
            assert_eq!(fleet.count(&line), 1, "{places:?}: {line}");
            assert!(first.lines().contains(&line), "{places:?}: {line}");
        }
        // After a while, the next knock begins anew everywhere.
        let before = fleet.log.len();
        fleet.arrive(0, &tcp("10.0.0.2", 7001), after(32_000));
        assert_eq!(fleet.log.len(), before);
    }
}

fn a_sequence_opens_wherever_its_knocks_arrive_that_has_a_port_twice() {
    for way in 0..81_usize {
        let mut fleet = Fleet::new(true);
        let places = [way % 3, way / 3 % 3, way / 9 % 3, way / 27];
        for (place, port) in places.into_iter().zip([9101, 9102, 9101, 9103]) {
            fleet.arrive(place, &tcp("10.0.0.2", port), START);
        }
        // A first knock of somebody of whom the fleet has not heard is not shared: then the third is not.
        let is_seen = places[1] != places[0] || places[2] == places[0];
        assert_eq!(fleet.openings(), usize::from(is_seen), "{places:?}");
    }
}

fn a_sequence_at_one_gateway_is_not_shared() {
    let mut fleet = Fleet::new(true);
    for number in 0..4 {
        fleet.arrive(1, &tcp("10.0.0.2", 7001 + number), after(u64::from(number)));
    }
    assert_eq!((fleet.openings(), fleet.log.len()), (1, 0));
}

fn first_knocks_are_not_shared() {
    let mut fleet = Fleet::new(true);
    for number in 0..50_000_u32 {
        let source = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        fleet.arrive(
            (number % 3) as usize,
            &packet(source, Protocol::Tcp, 7001),
            after(u64::from(number / 100)),
        );
    }
    assert_eq!(fleet.log.len(), 0);
}

fn knocks_that_fit_nothing_elsewhere_are_not_shared() {
    let mut fleet = Fleet::new(true);
    // A port of no door, a stage with other flags, a datagram of another length, another destination, a first stage
    // where another one was expected.
    fleet.arrive(0, &tcp("10.0.0.2", 22), START);
    fleet.arrive(0, &Knock { flags: Some(Flags::ACK), ..tcp("10.0.0.2", 7002) }, START);
    fleet.arrive(0, &Knock { flags: Some(Flags::ACK), ..tcp("10.0.0.2", 9202) }, START);
    fleet.arrive(
        0,
        &Knock { udp_length: Some(99), ..packet("10.0.0.2".parse().unwrap(), Protocol::Udp, 8002) },
        START,
    );
    fleet.arrive(0, &Knock { destination: "10.99.0.2".parse().unwrap(), ..tcp("10.0.0.2", 7002) }, START);
    fleet.arrive(0, &tcp("10.0.0.3", 7001), START);
    fleet.arrive(0, &tcp("10.0.0.3", 7001), START);
    assert_eq!(fleet.log, []);
}

fn the_tokens_bound_what_is_shared() {
    let mut fleet = Fleet::new(true);
    // Somebody who knows the second port; all at one gateway, within a second.
    for number in 0..20_000_u32 {
        let source = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        fleet.arrive(0, &packet(source, Protocol::Tcp, 7002), START);
    }
    assert_eq!(fleet.log.len(), MOST_EXAMINED as usize);
    for (number, second) in (7001..=7004).zip(2..) {
        fleet.arrive(usize::from(number) % 3, &tcp("10.0.0.2", number), after(second * 1000));
    }
    assert_eq!(fleet.openings(), 1);
}

/// A flood that must be looked for among the stages of all doors is not looked for without end.
fn the_tokens_bound_what_is_looked_for() {
    let mut fleet = Fleet::new(true);
    let range = |number: u32| {
        let source = IpAddr::from((0x0b00_0000 + number).to_be_bytes());
        packet(source, Protocol::Udp, 20_000 + u16::try_from(number % 256).unwrap())
    };
    for number in 0..20_000 {
        fleet.arrive(0, &range(number), START);
    }
    let shared = fleet.log.len();
    assert!((1..MOST_EXAMINED as usize).contains(&shared), "{shared}");
    fleet.arrive(0, &tcp("10.0.0.2", 7002), START);
    assert_eq!(fleet.log.len(), shared, "no packet is looked for any more");
    fleet.arrive(0, &tcp("10.0.0.2", 7002), after(2_000));
    assert_eq!(fleet.log.len(), shared + 1);
}

fn a_list_of_one_time_ports_opens_once() {
    for way in 0..27_usize {
        let mut fleet = Fleet::new(true);
        let knocker: IpAddr = "10.0.0.2".parse().unwrap();
        let knocking::door::lock::Lock::Otp(lock) = &doors()[2].lock else { panic!("no list") };
        let list = lock.otp.list(lock.otp.period(START.unix), knocker);
        for round in 0..3_usize {
            for (index, stage) in list.iter().enumerate() {
                let place = [way % 3, way / 3 % 3, way / 9][(index + round) % 3];
                let knock = packet(knocker, stage.protocol, stage.port);
                fleet.arrive(place, &knock, after(u64::try_from(1000 * round + 20 * index).unwrap()));
            }
        }
        assert_eq!(fleet.openings(), 1, "way {way}");
    }
}

fn a_wrong_knock_ends_the_attempt_everywhere() {
    let mut fleet = Fleet::new(true);
    for (place, port) in [(0, 7001), (1, 7002), (2, 7004), (0, 7003), (1, 7004)] {
        fleet.arrive(place, &tcp("10.0.0.2", port), START);
    }
    assert_eq!(fleet.openings(), 0);
    // From the beginning it opens.
    for (place, port) in [(1, 7001), (1, 7002), (2, 7003), (0, 7004)] {
        fleet.arrive(place, &tcp("10.0.0.2", port), after(50));
    }
    assert_eq!(fleet.openings(), 1);
}

fn another_try_begins_anew() {
    let mut fleet = Fleet::new(true);
    // Two knocks at g3 that came to nothing, and are not over when the next try is made.
    for (place, port) in [(2, 7001), (2, 7002), (0, 7001), (1, 7002), (2, 7003), (1, 7004)] {
        fleet.arrive(place, &tcp("10.0.0.2", port), START);
    }
    assert_eq!(fleet.openings(), 1);
}

fn without_a_fleet_each_is_alone() {
    let mut fleet = Fleet::new(false);
    for (place, port) in [(0, 7001), (1, 7002), (2, 7003), (0, 7004)] {
        fleet.arrive(place, &tcp("10.0.0.2", port), START);
    }
    assert_eq!((fleet.openings(), fleet.log.len()), (0, 0));
    // Switched off in the middle of an attempt: what one gateway sees counts again.
    let mut fleet = Fleet::new(true);
    fleet.arrive(0, &tcp("10.0.0.2", 7002), START);
    fleet.gateways.iter_mut().for_each(|it| it.engine.share_knocks(false));
    for port in 7001..=7004 {
        fleet.arrive(0, &tcp("10.0.0.2", port), after(10));
    }
    assert_eq!((fleet.openings(), fleet.log.len()), (1, 1));
}

fn wrong_knocks_of_a_known_source_are_shared() {
    for (wrong, is_fatal) in
        [(tcp("10.0.0.2", 7001), true), (tcp("10.0.0.2", 22), true), (tcp("10.0.0.3", 22), false)]
    {
        let mut fleet = Fleet::new(true);
        fleet.arrive(0, &tcp("10.0.0.2", 9201), START);
        fleet.arrive(1, &tcp("10.0.0.2", 9202), START);
        fleet.arrive(2, &wrong, START);
        fleet.arrive(1, &tcp("10.0.0.2", 9203), START);
        assert_eq!(fleet.openings(), usize::from(!is_fatal), "{wrong:?}");
    }
}

fn whom_a_gateway_refuses_is_not_shared() {
    let mut fleet = Fleet::new(true);
    fleet.arrive(0, &tcp("10.0.0.66", 9302), START);
    assert_eq!(fleet.log, []);
    fleet.arrive(0, &tcp("10.0.0.67", 9302), START);
    assert_eq!(fleet.log.len(), 1);
}

/// An attempt that came to nothing and is not over elsewhere does not keep the next one from opening the door.
fn two_beginnings_open_at_least_once() {
    for way in 0..243_usize {
        let mut fleet = Fleet::new(true);
        let places = [way % 3, way / 3 % 3, way / 9 % 3, way / 27 % 3, way / 81];
        fleet.arrive(places[4], &tcp("10.0.0.2", 7001), START);
        // Where it began before, the first knock is a wrong one, as at a gateway that is alone.
        if places[0] == places[4] {
            continue;
        }
        for (number, place) in (0..).zip(&places[..4]) {
            fleet.arrive(*place, &tcp("10.0.0.2", 7001 + number), after(20 * u64::from(number)));
        }
        assert!((1..=2).contains(&fleet.openings()), "{places:?}: {}", fleet.openings());
    }
}

fn what_came_before_the_beginning_opens_nothing() {
    let mut fleet = Fleet::new(true);
    for (place, port) in [(1, 7002), (2, 7003), (1, 7004), (0, 7001)] {
        fleet.arrive(place, &tcp("10.0.0.2", port), START);
    }
    assert_eq!((fleet.openings(), fleet.log.len()), (0, 4));
}

fn what_is_told_begins_nothing() {
    let mut gateway = Gateway::new(true);
    let random = Random::new();
    for _ in 0..10_000 {
        let protocol = *random.pick(&[Protocol::Tcp, Protocol::Udp]);
        let port = *random.pick(&[7001, 7002, 7003, 7004, 8002, 8003, 9001, 9002, 9101, 9102, 9103]);
        let source = IpAddr::from([10, 0, random.byte(), random.byte()]);
        gateway.engine.observe_elsewhere(&packet(source, protocol, port), START, &mut gateway.events);
    }
    assert_eq!((gateway.engine.attempts(), gateway.lines()), (0, Vec::new()));
    // Nor for a source that has begun something else, for which this knock is not meant.
    let began = Knock { destination: "10.99.0.9".parse().unwrap(), ..tcp("10.0.0.2", 9401) };
    gateway.engine.observe(&began, START, &mut gateway.events);
    gateway.engine.observe_elsewhere(&tcp("10.0.0.2", 7001), START, &mut gateway.events);
    assert_eq!((gateway.engine.attempts(), gateway.lines().len()), (1, 1));
}
