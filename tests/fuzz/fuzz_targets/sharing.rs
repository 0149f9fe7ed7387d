//! Knocks that three gateways share: whatever arrives where, and whatever else stands in the log, members that read the
//! same log report the same, and what is shared is bounded.
#![no_main]

use std::net::IpAddr;
use std::time::Duration;

use arbitrary::Arbitrary;
use knocking::door::knock::{Flags, Knock, Protocol};
use knocking::engine::Engine;
use knocking::engine::sharing::{Part, SharedKnock, Sharing};
use knocking::opening::event::Event;
use knocking::time::Now;
use libfuzzer_sys::fuzz_target;

const DOORS: &str = "[four]\nsequence = 7001,7002,7003,7004\ntcpflags = syn,!ack\ncommand = x\n\
    [short]\nsequence = 7001,7003:udp\nseq_timeout = 2\nallow_duplicates = yes\ncommand = x\n\
    [strict]\nsequence = 7002,7005\nstrict = yes\ncooldown = 3\ncommand = x\n\
    [otp]\notp = a seed of some length,60,7000,on,udp,tcp\nlog_failures = yes\ncommand = x\n";
const HERE: &str = "10.99.0.1";
/// More steps would be slow and find nothing new.
const MOST_STEPS: usize = 60;

#[derive(Arbitrary, Debug)]
enum Step {
    /// A packet arrives at a gateway.
    Packet { place: u8, source: u8, port: u8, is_tcp: bool },
    /// A packet that a member made up.
    Forged { source: u8, port: u8, is_tcp: bool, before: Option<(bool, bool)> },
    /// Time passes, in milliseconds.
    Pass(u16),
}

struct Gateway {
    engine: Engine,
    sharing: Sharing,
    events: Vec<Event>,
}

impl Gateway {
    fn new() -> Gateway {
        let here: IpAddr = HERE.parse().expect("an address");
        let mut sharing = Sharing::default();
        sharing.set_enabled(true);
        Gateway { engine: Engine::new(fuzzing::doors(DOORS, &[]), [here]), sharing, events: Vec::new() }
    }

    fn hear(&mut self, knock: SharedKnock, now: Now) -> Vec<SharedKnock> {
        self.sharing.observe_shared(&mut self.engine, &knock, now, &mut self.events)
    }
}

fn packet(source: u8, port: u8, is_tcp: bool) -> Knock {
    Knock {
        source: IpAddr::from([10, 0, 0, source % 8]),
        source_port: 0,
        destination: HERE.parse().expect("an address"),
        protocol: if is_tcp { Protocol::Tcp } else { Protocol::Udp },
        port: 7000 + u16::from(port),
        flags: is_tcp.then_some(Flags::SYN),
        udp_length: (!is_tcp).then_some(1),
        length: 0,
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let mut gateways = [Gateway::new(), Gateway::new(), Gateway::new()];
    let mut log: Vec<(Now, SharedKnock)> = Vec::new();
    let mut now = Now { uptime: Duration::from_secs(1000), unix: Duration::from_secs(1_700_000_000) };
    for step in steps.iter().take(MOST_STEPS) {
        let mut waiting: Vec<(usize, SharedKnock)> = Vec::new();
        match *step {
            Step::Pass(milliseconds) => {
                let time = Duration::from_millis(milliseconds.into());
                now = Now { uptime: now.uptime + time, unix: now.unix + time };
            }
            Step::Packet { place, source, port, is_tcp } => {
                let place = usize::from(place) % gateways.len();
                let Gateway { engine, sharing, events } = &mut gateways[place];
                let knock = packet(source, port, is_tcp);
                let is_shared = sharing.admits(engine, &knock, now);
                if !is_shared {
                    engine.observe(&knock, now, events);
                }
                let new = SharedKnock { knock, part: Part::Now, is_own: false };
                waiting.extend(is_shared.then_some((place, new)));
            }
            Step::Forged { source, port, is_tcp, before } => {
                let part = before.map_or(Part::Now, |(is_first, is_last)| Part::Before { is_first, is_last });
                waiting.push((9, SharedKnock { knock: packet(source, port, is_tcp), part, is_own: false }));
            }
        }
        let before = log.len();
        while !waiting.is_empty() {
            let (from, knock) = waiting.remove(0);
            log.push((now, knock));
            for (place, gateway) in gateways.iter_mut().enumerate() {
                let more = gateway.hear(SharedKnock { is_own: place == from, ..knock }, now);
                waiting.extend(more.into_iter().map(|it| (place, it)));
            }
        }
        // One knock, and the stages of an attempt at each gateway.
        assert!(log.len() - before <= 1 + 3 * 4, "{} records of one step", log.len() - before);
    }
    // Members that were not there read the same log.
    let [mut one, mut two] = [Gateway::new(), Gateway::new()];
    for (now, knock) in log {
        let knock = SharedKnock { is_own: true, ..knock };
        assert_eq!(one.hear(knock, now), two.hear(knock, now));
    }
    let lines = |it: &Gateway| it.events.iter().filter_map(|event| event.line(None)).collect::<Vec<_>>();
    assert_eq!(lines(&one), lines(&two));
});
