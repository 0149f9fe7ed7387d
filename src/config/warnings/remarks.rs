//! Checks of one door for `--check` only: many doors in use fail them, so the log omits them.

use crate::config::warnings::warning::Warning;
use crate::door::knock::{FlagRule, Protocol};
use crate::door::lock::Lock;
use crate::door::sequence::Stage;
use crate::door::{Door, Template};

/// A check of one door.
type Check = fn(&Door) -> Option<Warning>;

/// All remarks.
pub(super) const CHECKS: &[Check] =
    &[one_knock, in_order, well_known_ports, any_flags, nobodys_command, otp_of_one_port];

/// The first port that needs no privilege to listen on.
const FIRST_FREE_PORT: u16 = 1024;

/// The ports of a fixed sequence, in order. Pings are left out, as they have no port.
fn ports(door: &Door) -> Vec<u16> {
    let Lock::Fixed(sequence) = &door.lock else { return Vec::new() };
    let has_port = |stage: &&Stage| stage.protocol != Protocol::Icmp;
    sequence.stages().iter().filter(has_port).map(|stage| stage.port).collect()
}

fn commands(door: &Door) -> impl Iterator<Item = (&'static str, &Template)> {
    let all = [
        ("start_command", &door.start),
        ("start_command_6", &door.start6),
        ("stop_command", &door.stop),
        ("stop_command_6", &door.stop6),
    ];
    all.into_iter().filter_map(|(name, command)| Some((name, command.as_ref()?)))
}

fn one_knock(door: &Door) -> Option<Warning> {
    let does_something = door.open.is_some() || commands(door).next().is_some();
    // An OTP of one port has a remark of its own.
    (does_something && door.opens_with_one_knock() && !matches!(door.lock, Lock::Otp(_))).then(|| {
        Warning::new(format!(
            "One packet opens door '{}': every scan does, and a forged packet does for any address",
            door.name
        ))
        .instead("give it more knocks, unless it only wakes something up")
    })
}

fn in_order(door: &Door) -> Option<Warning> {
    let ports = ports(door);
    let all =
        |is_next: fn(u16, u16) -> bool| ports.iter().zip(ports.iter().skip(1)).all(|(a, b)| is_next(*a, *b));
    let how = match () {
        () if ports.len() < 3 => return None,
        () if all(|a, b| a < b) => "rise",
        () if all(|a, b| a > b) => "fall",
        () => return None,
    };
    Some(
        Warning::new(format!(
            "The ports of door '{}' {how}, so that a scan in that order opens it",
            door.name
        ))
        .instead("put them out of order"),
    )
}

fn well_known_ports(door: &Door) -> Option<Warning> {
    let ports = ports(door);
    (ports.len() > 1 && ports.iter().all(|port| *port < FIRST_FREE_PORT)).then(|| {
        Warning::new(format!("All ports of door '{}' are below 1024, which scans try first", door.name))
            .instead("take ports from 1024 to 65535")
    })
}

fn any_flags(door: &Door) -> Option<Warning> {
    let has_tcp = match &door.lock {
        Lock::Otp(lock) => lock.otp.ranges().iter().any(|(protocol, ..)| *protocol == Protocol::Tcp),
        Lock::Fixed(_) | Lock::OneTime(_) => door
            .lock
            .current_sequence()
            .is_some_and(|sequence| sequence.stages().iter().any(|stage| stage.protocol == Protocol::Tcp)),
        Lock::Spa(_) => false,
    };
    (has_tcp && door.flags == FlagRule::default() && !door.rules.is_strict).then(|| {
        Warning::new(format!(
            "Every TCP segment is a knock at door '{}', those of connections in use too, as it has no tcpflags",
            door.name
        ))
        .instead("write tcpflags = syn")
    })
}

/// A command that opens a port needs the knocker's address.
fn nobodys_command(door: &Door) -> Option<Warning> {
    let knows = |command: &Template| {
        let has = |mark: &[u8]| command.bytes().windows(mark.len()).any(|found| found == mark);
        has(b"%IP%") || has(b"KNOCKD_IP")
    };
    let (name, _) = commands(door).find(|(_, command)| !command.is_empty() && !knows(command))?;
    Some(
        Warning::new(format!(
            "The {name} of door '{}' has neither %IP% nor KNOCKD_IP: what it does, it does for everybody",
            door.name
        ))
        .instead("open for %IP% only, unless a script that it calls does that"),
    )
}

fn otp_of_one_port(door: &Door) -> Option<Warning> {
    let Lock::Otp(lock) = &door.lock else { return None };
    (lock.otp.stages() == 1).then(|| {
        Warning::new(format!("A scan of 256 ports opens the OTP of door '{}', which has one port", door.name))
            .instead("name more protocols, and on")
    })
}
