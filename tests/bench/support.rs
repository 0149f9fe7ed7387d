//! Configurations and knocks for the benches.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use divan::black_box;
use knocking::config::{Config, Reading};
use knocking::door::Door;
use knocking::door::digest::Digest;
use knocking::door::knock::{Flags, Knock, Protocol};
use knocking::door::lock::Lock;
use knocking::door::otp::Otp;
use knocking::door::sequence::Stage;
use knocking::door::spa::fields::{Fields, Kind, Message, RequestedAccess};
use knocking::door::spa::sealed::Keys;
use knocking::engine::Engine;
use knocking::opening::event::Event;
use knocking::time::Now;

/// The address of this host.
pub fn here() -> IpAddr {
    IpAddr::from([10, 0, 0, 1])
}

/// The address of the knocker with this number.
pub fn knocker(number: u32) -> IpAddr {
    IpAddr::from((0x0b00_0000 + number % 0x0100_0000).to_be_bytes())
}

pub fn knock(source: IpAddr, stage: Stage) -> Knock {
    Knock {
        source,
        source_port: 40_000,
        destination: here(),
        protocol: stage.protocol,
        port: stage.port,
        flags: (stage.protocol == Protocol::Tcp).then_some(Flags::SYN),
        length: 60,
        udp_length: None,
    }
}

pub fn tcp(port: u16) -> Stage {
    Stage { protocol: Protocol::Tcp, port }
}

pub fn udp(port: u16) -> Stage {
    Stage { protocol: Protocol::Udp, port }
}

/// A configuration of so many doors that one authenticated packet opens, all at one port.
pub fn single(doors: u32) -> String {
    let door =
        |number: u32| format!("[d{number}]\nspa_key = a\nspa_hmac_key = {number}\nspa_open = tcp/22\n");
    (0..doors).map(door).collect()
}

/// A packet for such a door, of which only the HMAC is wrong.
pub fn forged() -> Vec<u8> {
    let keys = Keys::new(b"a", b"no door's", Digest::Sha256).unwrap();
    let fields = Fields {
        random: "0123456789012345".to_owned(),
        user: "alice".to_owned(),
        time: noon().unix.as_secs(),
        version: "3.0.0".to_owned(),
        kind: Kind::Access,
        message: Message { address: knocker(1), access: RequestedAccess::Ports(vec![tcp(22)]) },
        nat: None,
        auth: None,
        timeout: None,
        digest: Digest::Sha256,
    };
    keys.seal(&fields, [7; 8]).into_bytes()
}

/// A time in the middle of a period.
pub fn noon() -> Now {
    Now { uptime: Duration::from_secs(1000), unix: Duration::from_secs(1_795_350_010) }
}

/// Processes a packet as the daemon does, after the events of the previous one were drained.
pub fn observe(engine: &mut Engine, knock: &Knock, now: Now, events: &mut Vec<Event>) -> bool {
    events.clear();
    engine.observe(knock, now, black_box(events))
}

/// A configuration of so many doors with a fixed sequence.
pub fn fixed(doors: u32) -> String {
    let door = |number: u32| {
        let port = |step: u32| 1000 + (number * 7 + step * 13_007) % 60_000;
        format!(
            "[door{number}]\nsequence = {},{}:udp,{}\nseq_timeout = 5\ntcpflags = syn\ncommand = /bin/true %IP%\n",
            port(0),
            port(1),
            port(2)
        )
    };
    (0..doors).map(door).collect()
}

/// A configuration of so many doors whose sequences begin with the same knock.
pub fn same_beginning(doors: u32) -> String {
    let door = |number: u32| {
        let second = 1001 + number % 60_000;
        format!("[door{number}]\nsequence = 1000,{second},1000\ntcpflags = syn\ncommand = /bin/true %IP%\n")
    };
    (0..doors).map(door).collect()
}

/// A configuration of so many doors with one-time passwords, whose periods end together.
pub fn otp(doors: u32) -> String {
    let door = |number: u32| {
        let base = 1000 + number * 60 % 60_000;
        format!(
            "[door{number}]\notp = seed {number}, 30, {base}, on, tcp, udp, tcp\ncommand = /bin/true %IP%\n"
        )
    };
    (0..doors).map(door).collect()
}

pub fn doors(text: &str) -> Vec<Door> {
    let mut file = |_: &std::path::Path| Err(io::ErrorKind::NotFound.into());
    let reading = Reading { file: &mut file, note: &mut |_| {}, interface_is_given: false };
    Config::parse(text.as_bytes(), reading).unwrap().doors
}

pub fn engine(text: &str) -> Engine {
    Engine::new(doors(text), [here()])
}

/// The password of the first door.
pub fn password(engine: &Engine) -> Otp {
    match engine.doors().first().map(|door| &door.lock) {
        Some(Lock::Otp(lock)) => lock.otp.clone(),
        _ => Otp::parse(b"none,1,1,off,tcp").unwrap().unwrap(),
    }
}
