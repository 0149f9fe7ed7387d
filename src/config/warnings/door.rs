//! Checks of one door.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::warnings::warning::Warning;
use crate::door::Door;
use crate::door::knock::{Flags, Protocol};
use crate::door::lock::Lock;
use crate::door::seed::MIN_SEED_BITS;
use crate::door::sequence::{Sequence, Stage};
use crate::octets;

/// A one-time file with fewer lines than this gets a warning.
const FEW_LINES: usize = 5;

/// A check of one door.
type Check = fn(&Door) -> Option<Warning>;

/// All checks of one door.
pub(super) const CHECKS: &[Check] = &[
    stop_without_start,
    port_zero,
    no_time,
    few_lines,
    flags_of_no_syn,
    address_not_replaced,
    disconnect_of_udp,
    time_of_for_ever,
    guessable_seed,
    otp_for_everybody,
];

/// The door's stages, if they depend on neither the time nor the knocker.
fn written(door: &Door) -> &[Stage] {
    door.lock.current_sequence().map(Sequence::stages).unwrap_or_default()
}

fn stop_without_start(door: &Door) -> Option<Warning> {
    let has_start = [&door.start, &door.start6].into_iter().flatten().any(|command| !command.is_empty());
    (!has_start && (door.stop.is_some() || door.stop6.is_some())).then(|| {
        Warning::new(format!(
            "Door '{}' has a stop command but no start command: neither will ever be run",
            door.name
        ))
    })
}

/// Only for one-time files; [`written`](super::written) checks sequences of the configuration.
fn port_zero(door: &Door) -> Option<Warning> {
    let has_zero = written(door).iter().any(|stage| stage.port == 0 && stage.protocol != Protocol::Icmp);
    (matches!(door.lock, Lock::OneTime(_)) && has_zero).then(|| {
        Warning::grave(format!(
            "The next one-time sequence of door '{}' has port 0, which most programs cannot knock at",
            door.name
        ))
    })
}

fn no_time(door: &Door) -> Option<Warning> {
    let length = match &door.lock {
        Lock::Otp(lock) => lock.otp.stages(),
        Lock::Fixed(_) | Lock::OneTime(_) | Lock::Spa(_) => written(door).len(),
    };
    (length > 1 && door.seq_timeout <= 0).then(|| {
        Warning::new(format!(
            "Door '{}' can never open: its seq_timeout leaves no time for a second knock",
            door.name
        ))
    })
}

fn few_lines(door: &Door) -> Option<Warning> {
    let Lock::OneTime(lines) = &door.lock else { return None };
    let left = lines.lines().len();
    (left < FEW_LINES).then(|| {
        Warning::new(format!(
            "The one-time file of door '{}' has {left} usable {} left ({})",
            door.name,
            if left == 1 { "line" } else { "lines" },
            octets::path(&lines.path)
        ))
    })
}

/// A client that opens a connection sends SYN without other flags.
fn flags_of_no_syn(door: &Door) -> Option<Warning> {
    let stages = match &door.lock {
        Lock::Otp(lock) => lock.otp.list(0, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        Lock::Fixed(_) | Lock::OneTime(_) | Lock::Spa(_) => written(door).to_vec(),
    };
    let has_tcp = stages.iter().any(|stage| stage.protocol == Protocol::Tcp);
    if !has_tcp || door.flags.allows(Some(Flags::SYN)) {
        return None;
    }
    let wanted: Vec<&str> = Flags::NAMES
        .into_iter()
        .filter_map(|(name, flag)| door.flags.set.contains(flag).then_some(name))
        .collect();
    let what =
        format!("No client that opens a connection sends what the tcpflags of door '{}' ask for", door.name);
    // The author took the list of flags for alternatives.
    let warning = if wanted.contains(&"syn") { Warning::grave(what) } else { Warning::new(what) };
    let flags = if wanted.is_empty() { "none".to_owned() } else { wanted.join(",") };
    Some(warning.instead(format!("write tcpflags = syn, or knock with --flags {flags}")))
}

/// `%ip%`, `%IP` and similar misspellings of `%IP%`, which are not replaced.
fn address_not_replaced(door: &Door) -> Option<Warning> {
    const MARK: &[u8] = b"%IP%";
    let is_odd = |command: &[u8]| {
        let like_a_mark = command.windows(MARK.len()).any(|found| found.eq_ignore_ascii_case(MARK));
        let is_cut = |(at, found): (usize, &[u8])| {
            found == b"%IP" && !command.get(at + found.len()).is_some_and(u8::is_ascii_alphanumeric)
        };
        let has_mark = command.windows(MARK.len()).any(|found| found == MARK);
        !has_mark && (like_a_mark || command.windows(3).enumerate().any(is_cut))
    };
    let commands = [
        ("start_command", &door.start),
        ("start_command_6", &door.start6),
        ("stop_command", &door.stop),
        ("stop_command_6", &door.stop6),
    ];
    let (name, _) = commands
        .into_iter()
        .find(|(_, command)| command.as_ref().is_some_and(|command| is_odd(command.bytes())))?;
    let what = format!("The {name} of door '{}' does not get the knocker's address", door.name);
    Some(Warning::grave(what).instead("write %IP% in upper case, with % on both sides"))
}

fn disconnect_of_udp(door: &Door) -> Option<Warning> {
    let ports = door.open.as_ref()?.ports();
    let has_none = !ports.is_empty() && ports.iter().all(|it| it.protocol != Protocol::Tcp);
    (door.rules.open.closes_on_disconnect && has_none).then(|| {
        Warning::new(format!(
            "Door '{}' has close_on_disconnect, but opens no TCP port: only its cmd_timeout closes it",
            door.name
        ))
    })
}

fn time_of_for_ever(door: &Door) -> Option<Warning> {
    let open = door.open.as_ref()?;
    (open.says_for_ever && !open.is_for_ever).then(|| {
        Warning::new(format!(
            "Door '{}' has open_forever, but its cmd_timeout of {} s closes it",
            door.name, door.cmd_timeout
        ))
        .instead("write cmd_timeout = 0, or remove open_forever")
    })
}

/// An eavesdropper with one list can test guesses of the seed offline.
fn guessable_seed(door: &Door) -> Option<Warning> {
    let Lock::Otp(lock) = &door.lock else { return None };
    (lock.otp.seed().bits() < MIN_SEED_BITS).then(|| {
        Warning::new(format!("Whoever overhears one list of door '{}' can guess its seed", door.name))
            .instead("take the output of `knock --new-seed` for it")
    })
}

fn otp_for_everybody(door: &Door) -> Option<Warning> {
    let Lock::Otp(lock) = &door.lock else { return None };
    (!lock.otp.is_protected()).then(|| {
        Warning::new(format!(
            "The OTP of door '{}' is weak, as it has off: a list that is overheard opens it from other addresses",
            door.name
        ))
        .instead("write on, if the clients know their addresses")
    })
}
