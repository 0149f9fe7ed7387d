//! Parses numeric options.

use std::time::Duration;

use crate::client::failure::Failure;
use crate::client::profiles::CompletedArguments;
use crate::plan::parse_decimal;

/// The largest value in seconds (a day), and in milliseconds.
const MAX_AMOUNT: u32 = 86_400;

/// The integer value of an option within bounds, decimal or hexadecimal with `0x`; `None` if the option is
/// absent.
///
/// # Errors
/// The value is not such a number.
pub fn number<N>(input: &CompletedArguments, option: &str, least: N, most: N) -> Result<Option<N>, Failure>
where
    N: TryFrom<u64> + Into<u64>,
{
    Ok(bounded(input, option, least.into(), most.into())?.and_then(|number| N::try_from(number).ok()))
}

fn bounded(input: &CompletedArguments, option: &str, least: u64, most: u64) -> Result<Option<u64>, Failure> {
    let Some(text) = input.arguments.text(option) else { return Ok(None) };
    let digits = text.strip_prefix("0x").map(|hex| u64::from_str_radix(hex, 16));
    match digits.unwrap_or_else(|| text.parse()) {
        Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
        _ => {
            let name = input.option_name(option);
            Err(Failure::refused(format_args!("{name}: '{text}' is not between {least} and {most}")))
        }
    }
}

/// The value of an option in milliseconds, which may have a fraction.
///
/// # Errors
/// The value is not a number, or exceeds [`MAX_AMOUNT`].
pub fn milliseconds(input: &CompletedArguments, option: &str) -> Result<Option<Duration>, Failure> {
    duration(input, option, "milliseconds", Duration::from_millis(1))
}

/// The value of an option in seconds, which may have a fraction.
///
/// # Errors
/// The value is not a number, or exceeds [`MAX_AMOUNT`].
pub fn seconds(input: &CompletedArguments, option: &str) -> Result<Option<Duration>, Failure> {
    duration(input, option, "seconds", Duration::from_secs(1))
}

fn duration(
    input: &CompletedArguments,
    option: &str,
    units: &str,
    unit: Duration,
) -> Result<Option<Duration>, Failure> {
    let Some(text) = input.arguments.text(option) else { return Ok(None) };
    let duration = parse_decimal(&text, unit).filter(|&duration| duration <= unit * MAX_AMOUNT);
    duration.map(Some).ok_or_else(|| {
        let name = input.option_name(option);
        Failure::refused(format_args!("{name}: '{text}' is not between 0 and {MAX_AMOUNT} {units}"))
    })
}
