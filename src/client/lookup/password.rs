//! Computes the lists of a one-time password for each source address and the current period.

use std::net::{IpAddr, SocketAddr};
use std::thread;

use crate::client::failure::Failure;
use crate::client::lookup::source;
use crate::client::options::Options;
use crate::client::options::password::Password;
use crate::client::{clock, output};
use crate::door::otp::Otp;
use crate::door::sequence::Stage;
use crate::plan::password::{ClockOffset, KnockTime};

/// How often to wait for the next period before knocking regardless; the clock may be set meanwhile.
const MAX_WAITS: u32 = 3;

/// The list for each address, all of the same period. May wait for the next period.
///
/// # Errors
/// The source address that the server sees cannot be determined.
pub fn lists(
    password: &Password,
    options: &Options,
    addresses: &[SocketAddr],
) -> Result<Vec<Vec<Stage>>, Failure> {
    let otp = &password.otp;
    let sources: Vec<Option<IpAddr>> = if otp.is_protected() {
        addresses
            .iter()
            .map(|&address| {
                source::seen_from(address, &password.source_lookup, options, "--source-ip").map(Some)
            })
            .collect::<Result<_, _>>()?
    } else {
        addresses.iter().map(|_| None).collect()
    };
    let period = await_period(otp, options.clock_offset);
    let list = |(address, source): (&SocketAddr, Option<IpAddr>)| {
        if options.verbose {
            let seen = source.map_or("any address".to_owned(), |source| source.to_string());
            let left = otp
                .begins(period.saturating_add(1))
                .saturating_sub(clock::unix(options.clock_offset))
                .as_secs();
            let line = format_args!("one-time password for {seen}, period {period} ({left} s left)");
            output::print_info(options.takes_stdout(), line);
        }
        // Without IP protection, the list does not depend on the address.
        otp.list(period, source.unwrap_or(address.ip()))
    };
    Ok(addresses.iter().zip(sources).map(list).collect())
}

/// Possible reasons why a list opened nothing.
pub fn advice(otp: &Otp, offset: ClockOffset) -> String {
    let now = clock::unix(offset);
    let period = otp.period(now);
    let left = otp.begins(period.saturating_add(1)).saturating_sub(now).as_secs();
    let address = if otp.is_protected() { "the address that the server sees, " } else { "" };
    format!(
        "is it the seed, {address}or a clock? A list opens once; this is period {period}, the next begins in {left} s"
    )
}

/// Waits until it is time to knock, and returns the period.
fn await_period(otp: &Otp, offset: ClockOffset) -> u64 {
    let mut knock_time = KnockTime::next(otp, clock::unix(offset));
    for _ in 0..MAX_WAITS {
        if knock_time.wait.is_zero() {
            break;
        }
        let is_shown = output::stderr_is_terminal();
        if is_shown {
            output::print_progress("\rwaiting for the next period ");
        }
        thread::sleep(knock_time.wait);
        if is_shown {
            output::print_progress("\r\x1b[K");
        }
        let now = clock::unix(offset);
        if knock_time.has_begun(otp, now) {
            break;
        }
        knock_time = KnockTime::next(otp, now);
    }
    knock_time.period
}
