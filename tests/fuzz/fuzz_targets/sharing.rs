//! Knocks that three gateways share: whatever arrives where, and whatever members tell, what is told begins nothing, a
//! step shares no more than its knock, and a sequence that nothing disturbs opens its door once.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use arbitrary::Arbitrary;
use knocking::door::knock::{Flags, Knock, Protocol};
use knocking::engine::Engine;
use knocking::opening::event::Event;
use knocking::time::Now;
use libfuzzer_sys::fuzz_target;

const DOORS: &str = "[four]\nsequence = 7001,7002,7003,7004\ntcpflags = syn,!ack\ncommand = x\n\
    [short]\nsequence = 7001,7003:udp\nseq_timeout = 2\nallow_duplicates = yes\ncommand = x\n\
    [strict]\nsequence = 7002,7005\nstrict = yes\ncooldown = 3\ncommand = x\n\
    [last]\nsequence = 7101,7102,7103,7104\ncommand = x\n\
    [otp]\notp = a seed of some length,60,7000,on,udp,tcp\nlog_failures = yes\ncommand = x\n";
const HERE: &str = "10.99.0.1";
/// The last byte of the address of somebody who knocks at the end.
const NEW_NUMBER: u8 = 99;
const NEW: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, NEW_NUMBER));
/// More steps would be slow and find nothing new.
const MOST_STEPS: usize = 60;

#[derive(Arbitrary, Debug)]
enum Step {
    /// A packet arrives at a gateway.
    Packet { place: u8, source: u8, port: u8, is_tcp: bool },
    /// A packet that a member made up.
    Forged { source: u8, port: u8, is_tcp: bool },
    /// Time passes, in milliseconds.
    Pass(u16),
}

struct Gateway {
    engine: Engine,
    events: Vec<Event>,
}

impl Gateway {
    fn new() -> Gateway {
        let here: IpAddr = HERE.parse().expect("an address");
        let mut engine = Engine::new(fuzzing::doors(DOORS, &[]), [here]);
        engine.share_knocks(true);
        Gateway { engine, events: Vec::new() }
    }
}

fn packet(source: u8, port: u8, is_tcp: bool) -> Knock {
    Knock {
        source: IpAddr::from([10, 0, 0, source]),
        source_port: 0,
        destination: HERE.parse().expect("an address"),
        protocol: if is_tcp { Protocol::Tcp } else { Protocol::Udp },
        port: 7000 + u16::from(port),
        flags: is_tcp.then_some(Flags::SYN),
        udp_length: (!is_tcp).then_some(1),
        length: 0,
    }
}

/// A knock arrives at one of the gateways, or at none of them; the others hear of it if it is shared.
fn arrive(gateways: &mut [Gateway], place: usize, knock: &Knock, now: Now) {
    let is_shared = gateways.get_mut(place).is_none_or(|Gateway { engine, events }| {
        let is_left_over = engine.observe(knock, now, events);
        is_left_over && engine.may_share(knock, now)
    });
    let others = gateways.iter_mut().enumerate().filter(|(other, _)| is_shared && *other != place);
    for (_, Gateway { engine, events }) in others {
        let before = engine.attempts();
        engine.observe_elsewhere(knock, now, events);
        assert!(engine.attempts() <= before, "a knock that was told began an attempt");
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let mut gateways = [Gateway::new(), Gateway::new(), Gateway::new()];
    let mut now = Now { uptime: Duration::from_secs(1000), unix: Duration::from_secs(1_700_000_000) };
    for step in steps.iter().take(MOST_STEPS) {
        match *step {
            Step::Pass(milliseconds) => {
                let time = Duration::from_millis(milliseconds.into());
                now = Now { uptime: now.uptime + time, unix: now.unix + time };
            }
            Step::Packet { place, source, port, is_tcp } => {
                arrive(&mut gateways, usize::from(place) % 3, &packet(source % 8, port, is_tcp), now);
            }
            Step::Forged { source, port, is_tcp } => {
                arrive(&mut gateways, 9, &packet(source % 8, port, is_tcp), now);
            }
        }
    }
    // Somebody new, while all that is still going on; it does not matter where the knocks arrive.
    let place = |number: usize| match steps.get(number) {
        Some(Step::Packet { place, .. }) => usize::from(*place) % 3,
        _ => number % 3,
    };
    let opened = |it: &Gateway| {
        let is_opened =
            |event: &&Event| matches!(event, Event::Opened { opening, .. } if opening.knocker == NEW);
        it.events.iter().filter(is_opened).count()
    };
    for (number, port) in (101..=104).enumerate() {
        arrive(&mut gateways, place(number), &packet(NEW_NUMBER, port, true), now);
    }
    assert_eq!(gateways.iter().map(opened).sum::<usize>(), 1);
});
