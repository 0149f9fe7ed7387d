//! Random ports to knock at.

use std::ops::RangeInclusive;

use zeroize::Zeroizing;

use crate::config::Config;
use crate::door::lock::Lock;
use crate::door::otp::SPREAD;

/// Fills bytes with numbers that nobody can guess, or says why there are none.
pub type Source<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<(), String>;

/// How many knocks open the door.
const STAGES: usize = 5;
/// Ports that are knocked at: above the reserved ones, below those that connections of this host begin from.
const PORTS: RangeInclusive<u16> = 1024..=32_767;
/// The bases of one-time lists, which use this port and the 255 above it.
const BASES: RangeInclusive<u16> = 20_000..=60_000;
/// After so many attempts, too few ports are free.
const ATTEMPTS: usize = 10_000;

/// The ports above 1023 that browsers refuse to connect to ("bad ports" of the Fetch standard).
const BLOCKED_BY_BROWSERS: [u16; 19] = [
    1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679,
    6697, 10_080,
];

/// The ports that the doors of a configuration are knocked at or open.
#[must_use]
pub fn of_config(config: &Config) -> Vec<u16> {
    let mut ports = Vec::new();
    for door in &config.doors {
        match &door.lock {
            Lock::Fixed(sequence) => ports.extend(sequence.stages().iter().map(|stage| stage.port)),
            Lock::OneTime(lines) => {
                ports.extend(lines.lines().flat_map(|line| line.stages().iter().map(|stage| stage.port)));
            }
            Lock::Otp(lock) => ports.extend(lock.otp.ranges().flat_map(|(_, low, high)| low..=high)),
            Lock::Spa(lock) => ports.push(lock.port),
        }
        let open = door.open.iter().flat_map(|open| open.ports());
        ports.extend(open.flat_map(|ports| ports.first..=ports.last));
    }
    ports
}

/// The ports that have a name in the text of `/etc/services`.
#[must_use]
pub fn of_services(text: &str) -> Vec<u16> {
    let port = |line: &str| line.split_whitespace().nth(1)?.split('/').next()?.parse().ok();
    text.lines().filter(|line| !line.starts_with('#')).filter_map(port).collect()
}

/// A sequence as it is written: `PORT[:udp],...`. The ports neither rise nor fall, as those of a scan do.
pub(super) fn sequence(
    is_for_browsers: bool,
    taken: &[u16],
    random: Source<'_>,
) -> Result<Zeroizing<String>, String> {
    let is_free =
        |port: &u16| PORTS.contains(port) && !taken.contains(port) && !BLOCKED_BY_BROWSERS.contains(port);
    let mut ports: Zeroizing<Vec<u16>> = Zeroizing::new(Vec::with_capacity(STAGES));
    for _ in 0..ATTEMPTS {
        let port = number(random)?;
        if is_free(&port) && !ports.contains(&port) {
            ports.push(port);
        }
        if ports.len() == STAGES {
            if !ports.is_sorted() && !ports.iter().rev().is_sorted() {
                return written(&ports, is_for_browsers, random);
            }
            ports.clear();
        }
    }
    Err("too few ports are free".to_owned())
}

/// Adds the protocols: at least one stage of each, or TCP alone for browsers.
fn written(ports: &[u16], is_for_browsers: bool, random: Source<'_>) -> Result<Zeroizing<String>, String> {
    let all = (1 << ports.len()) - 1;
    let mut udp = 0;
    while !is_for_browsers && (udp == 0 || udp == all) {
        udp = number(random)? & all;
    }
    let mut text = Zeroizing::new(String::with_capacity(ports.len() * "65535:udp,".len()));
    for (index, port) in ports.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&port.to_string());
        if udp >> index & 1 == 1 {
            text.push_str(":udp");
        }
    }
    Ok(text)
}

/// A base for one-time lists that have none of the ports taken.
pub(super) fn base(taken: &[u16], random: Source<'_>) -> Result<u16, String> {
    for _ in 0..ATTEMPTS {
        let base = number(random)?;
        let lists = base..=base.saturating_add(SPREAD);
        if BASES.contains(&base) && !taken.iter().any(|port| lists.contains(port)) {
            return Ok(base);
        }
    }
    Err("too few ports are free".to_owned())
}

fn number(random: Source<'_>) -> Result<u16, String> {
    let mut bytes = [0; 2];
    random(&mut bytes)?;
    Ok(u16::from_ne_bytes(bytes))
}
