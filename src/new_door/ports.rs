//! Chooses random ports for knocks.

use std::ops::RangeInclusive;

use zeroize::Zeroizing;

use crate::config::Config;
use crate::door::lock::Lock;
use crate::door::otp::MAX_PORT_OFFSET;

/// Fills a buffer with unpredictable bytes, or returns why it cannot.
pub type RandomSource<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<(), String>;

/// How many knocks open a generated door.
const STAGES: usize = 5;
/// The ports for knocks: above the reserved ones, below the range for outgoing connections.
const PORTS: RangeInclusive<u16> = 1024..=32_767;
/// The base ports for one-time lists, which use this port and the 255 above it.
const OTP_BASES: RangeInclusive<u16> = 20_000..=60_000;
/// Give up after this many attempts: too few ports are free.
const MAX_ATTEMPTS: usize = 10_000;

/// The ports above 1023 that browsers do not connect to ("bad ports" of the Fetch standard).
const BLOCKED_BY_BROWSERS: [u16; 19] = [
    1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679,
    6697, 10_080,
];

/// The ports that the doors of a configuration listen to or open.
#[must_use]
pub fn in_config(config: &Config) -> Vec<u16> {
    let mut ports = Vec::new();
    for door in &config.doors {
        match &door.lock {
            Lock::Fixed(sequence) => ports.extend(sequence.stages().iter().map(|stage| stage.port)),
            Lock::OneTime(lines) => {
                ports.extend(lines.lines().flat_map(|line| line.stages().iter().map(|stage| stage.port)));
            }
            Lock::Otp(lock) => lock.otp.ranges().iter().for_each(|(_, low, high)| ports.extend(*low..=*high)),
            Lock::Spa(lock) => ports.push(lock.port),
        }
        let open = door.open.iter().flat_map(|open| open.ports());
        ports.extend(open.flat_map(|ports| ports.first..=ports.last));
    }
    ports
}

/// The ports that have a name in `/etc/services`, given its text.
#[must_use]
pub fn in_services(text: &str) -> Vec<u16> {
    let port = |line: &str| line.split_whitespace().nth(1)?.split('/').next()?.parse().ok();
    text.lines().filter(|line| !line.starts_with('#')).filter_map(port).collect()
}

/// Generates a sequence `PORT[:udp],...`. The ports are neither ascending nor descending, unlike those of a
/// scan.
pub(super) fn sequence(
    is_for_browsers: bool,
    taken: &[u16],
    random: RandomSource<'_>,
) -> Result<Zeroizing<String>, String> {
    let is_free =
        |port: &u16| PORTS.contains(port) && !taken.contains(port) && !BLOCKED_BY_BROWSERS.contains(port);
    let mut ports: Zeroizing<Vec<u16>> = Zeroizing::new(Vec::with_capacity(STAGES));
    for _ in 0..MAX_ATTEMPTS {
        let port = random_u16(random)?;
        if is_free(&port) && !ports.contains(&port) {
            ports.push(port);
        }
        if ports.len() == STAGES {
            if !ports.is_sorted() && !ports.iter().rev().is_sorted() {
                return with_protocols(&ports, is_for_browsers, random);
            }
            ports.clear();
        }
    }
    Err("too few ports are free".to_owned())
}

/// Adds protocols to the ports: at least one stage each of TCP and UDP, or TCP only for browsers.
fn with_protocols(
    ports: &[u16],
    is_for_browsers: bool,
    random: RandomSource<'_>,
) -> Result<Zeroizing<String>, String> {
    let all = (1 << ports.len()) - 1;
    let mut udp = 0;
    while !is_for_browsers && (udp == 0 || udp == all) {
        udp = random_u16(random)? & all;
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

/// Chooses a base whose one-time lists use none of the ports in `taken`.
pub(super) fn otp_base(taken: &[u16], random: RandomSource<'_>) -> Result<u16, String> {
    for _ in 0..MAX_ATTEMPTS {
        let base = random_u16(random)?;
        let lists = base..=base.saturating_add(MAX_PORT_OFFSET);
        if OTP_BASES.contains(&base) && !taken.iter().any(|port| lists.contains(port)) {
            return Ok(base);
        }
    }
    Err("too few ports are free".to_owned())
}

fn random_u16(random: RandomSource<'_>) -> Result<u16, String> {
    let mut bytes = [0; 2];
    random(&mut bytes)?;
    Ok(u16::from_ne_bytes(bytes))
}
