//! Sequences whose knocks arrive at different gateways, as values: three engines, one log.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use knocking::config::{Config, Reading};
use knocking::door::Door;
use knocking::door::knock::{Flags, Knock, Protocol};
use knocking::engine::Engine;
use knocking::engine::sharing::{MOST_KEPT, MOST_SHARED, Part, SharedKnock, Sharing};
use knocking::opening::event::Event;
use knocking::time::Now;

use crate::random::Random;

trials![
    a_sequence_opens_wherever_its_knocks_arrive,
    a_sequence_at_one_gateway_is_not_shared,
    first_knocks_are_not_shared,
    a_flood_of_first_knocks_hides_no_knock,
    knocks_that_fit_nothing_elsewhere_are_not_shared,
    the_tokens_bound_what_is_shared,
    a_list_of_one_time_ports_opens_once,
    a_wrong_knock_ends_the_attempt_everywhere,
    another_try_begins_anew,
    without_a_fleet_each_is_alone,
    the_same_log_gives_the_same_events,
    old_knocks_are_not_repeated,
    what_is_told_elsewhere_takes_no_room_in_the_log,
];

const DOORS: &str = "[four]\nsequence = 7001,7002,7003,7004\ntcpflags = syn,!ack\ncommand = x\n\
    [mixed]\nsequence = 7001,8002:udp,8003:udp\nudp_length = 4-9\ntcpflags = syn\ncommand = x\n\
    [otp]\notp = a seed of some length,3600,20000,off,udp,udp,udp\ncommand = x\n\
    [lines]\nsequence = 9001:udp,9002:udp\ncommand = x\n";
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

/// Knocks of a source that was not known are repeated behind the stages that it reached elsewhere, but no older ones than
/// an attempt may take.
fn old_knocks_are_not_repeated() {
    for (pause, openings) in [(1_000, 1), (26_000, 0)] {
        let mut gateway = Gateway::new(true);
        let mut hear = |port, part, time| {
            let shared = SharedKnock { knock: tcp("10.0.0.2", port), part, is_own: true };
            gateway.hear(&shared, after(time));
        };
        hear(7002, Part::Now, 0);
        hear(7003, Part::Now, pause / 2);
        hear(7004, Part::Now, pause - 1);
        hear(7001, Part::Before { is_first: true, is_last: true }, pause);
        assert_eq!(gateway.openings(), openings, "after {pause} ms");
    }
}

fn what_is_told_elsewhere_takes_no_room_in_the_log() {
    let mut gateway = Gateway::new(true);
    gateway.engine.limit_steps(Some(1));
    let mut hear = |port, part, is_own| {
        let knock = tcp("10.0.0.2", port);
        gateway.hear(&SharedKnock { knock, part, is_own }, after(0));
    };
    hear(7001, Part::Before { is_first: true, is_last: true }, false);
    hear(7002, Part::Now, false);
    hear(7003, Part::Now, true);
    assert_eq!(gateway.engine.take_suppressed_steps(), 0);
    assert_eq!(gateway.lines(), ["10.0.0.2: four: Stage 3"]);
}

/// A gateway, and what happened there.
struct Gateway {
    engine: Engine,
    sharing: Sharing,
    events: Vec<Event>,
}

impl Gateway {
    fn new(is_on: bool) -> Gateway {
        let mut sharing = Sharing::default();
        sharing.set_enabled(is_on);
        let here: IpAddr = HERE.parse().unwrap();
        Gateway { engine: Engine::new(doors(), [here]), sharing, events: Vec::new() }
    }

    fn openings(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Opened { .. })).count()
    }

    fn lines(&self) -> Vec<String> {
        self.events.iter().filter_map(|event| event.line(None)).collect()
    }

    fn hear(&mut self, knock: &SharedKnock, now: Now) -> Vec<SharedKnock> {
        self.sharing.observe_shared(&mut self.engine, knock, now, &mut self.events)
    }
}

/// Gateways and the log that they share.
struct Fleet {
    gateways: Vec<Gateway>,
    log: Vec<(Now, SharedKnock)>,
}

impl Fleet {
    fn new(is_on: bool) -> Fleet {
        Fleet { gateways: (0..3).map(|_| Gateway::new(is_on)).collect(), log: Vec::new() }
    }

    /// A knock arrives at a gateway, and what comes of it is heard everywhere.
    fn arrive(&mut self, place: usize, knock: &Knock, now: Now) {
        let Gateway { engine, sharing, events } = &mut self.gateways[place];
        let is_shared = sharing.admits(engine, knock, now);
        if !is_shared {
            engine.observe(knock, now, events);
        }
        let new = SharedKnock { knock: *knock, part: Part::Now, is_own: false };
        let mut waiting: Vec<(usize, SharedKnock)> = is_shared.then_some((place, new)).into_iter().collect();
        while !waiting.is_empty() {
            let (from, knock) = waiting.remove(0);
            self.log.push((now, knock));
            for (place, gateway) in self.gateways.iter_mut().enumerate() {
                let more = gateway.hear(&SharedKnock { is_own: place == from, ..knock }, now);
                waiting.extend(more.into_iter().map(|it| (place, it)));
            }
        }
    }

    fn openings(&self) -> usize {
        self.gateways.iter().map(Gateway::openings).sum()
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
        assert_eq!(
            fleet.gateways[places[3]].openings(),
            1,
            "{places:?}: it opens where the last one arrived"
        );
        assert!(fleet.log.len() <= 4, "{places:?}: {:?}", fleet.log);
        for stage in 1..=4 {
            let line = format!("10.0.0.2: four: Stage {stage}");
            assert_eq!(fleet.count(&line), 1, "{places:?}: {line}");
        }
        // The next knock begins anew everywhere.
        let before = fleet.log.len();
        fleet.arrive(0, &tcp("10.0.0.2", 7001), after(100));
        assert_eq!(fleet.log.len(), before);
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
    assert_eq!(fleet.log.len(), MOST_SHARED as usize);
    // The sources that are kept are bounded too: a later one is among them.
    assert!(fleet.log.len() <= MOST_KEPT);
    for (number, second) in (7001..=7004).zip(2..) {
        fleet.arrive(usize::from(number) % 3, &tcp("10.0.0.2", number), after(second * 1000));
    }
    assert_eq!(fleet.openings(), 1);
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
    fleet.gateways.iter_mut().for_each(|it| it.sharing.set_enabled(false));
    for port in 7001..=7004 {
        fleet.arrive(0, &tcp("10.0.0.2", port), after(10));
    }
    assert_eq!((fleet.openings(), fleet.log.len()), (1, 1));
}

/// 10,000 random knocks of a few sources, one log, three members that read it.
fn the_same_log_gives_the_same_events() {
    let random = Random::new();
    let sources: Vec<IpAddr> = (2..12).map(|last| IpAddr::from([10, 0, 0, last])).collect();
    let ports = [7001, 7002, 7003, 7004, 8002, 8003, 9001, 9002];
    let mut members: Vec<Gateway> = (0..3).map(|_| Gateway::new(true)).collect();
    let mut now = START;
    for _ in 0..10_000 {
        let protocol = *random.pick(&[Protocol::Tcp, Protocol::Udp]);
        let knock = packet(*random.pick(&sources), protocol, *random.pick(&ports));
        let part = if random.once_in(4) {
            Part::Before { is_first: random.once_in(2), is_last: random.once_in(2) }
        } else {
            Part::Now
        };
        let pause = Duration::from_millis(random.number() % if random.once_in(50) { 30_000 } else { 50 });
        now = Now { uptime: now.uptime + pause, unix: now.unix + pause };
        let shared = SharedKnock { knock, part, is_own: true };
        let answers = members.iter_mut().map(|member| member.hear(&shared, now));
        let answers: Vec<_> = answers.collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
    let lines = members[0].lines();
    assert!(members[0].openings() > 10, "{}", members[0].openings());
    assert!(members.iter().all(|member| member.lines() == lines));
    for source in sources {
        let progress = |it: &Gateway| it.engine.progress(source).collect::<Vec<_>>();
        assert!(members.iter().all(|member| progress(member) == progress(&members[0])));
    }
}
