//! State files, from text and from values. The target adds the checksums of the lines, which a fuzzer would
//! not guess, unless the input begins with `!`. What is read and written again must read as the same, and
//! damaged lines must never be executed.
#![no_main]

use std::time::Duration;

use knocking::door::Door;
use knocking::opening::state::{Moment, State, write};
use knocking::opening::{Phase, Stop};
use knocking::time::Now;
use libfuzzer_sys::fuzz_target;

const NOW: Now = Now { uptime: Duration::from_secs(5_000), unix: Duration::from_secs(1_790_000_000) };
const OTP: &str = "[a]\notp = sesame,60,20000,on,tcp,tcp\n[b]\notp = sesame,60,20000,off,tcp,udp";

/// FNV-1a, as in the format.
fn sum(line: &[u8]) -> u64 {
    line.iter().fold(0xcbf2_9ce4_8422_2325, |sum: u64, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The text with a checksum behind each line but the first.
fn summed(text: &[u8]) -> Vec<u8> {
    let mut with_sums = Vec::new();
    for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
        with_sums.extend_from_slice(line);
        if number > 0 {
            with_sums.extend_from_slice(format!(" {:016x}", sum(line)).as_bytes());
        }
        with_sums.push(b'\n');
    }
    with_sums
}

fn standing(stops: &[Stop]) -> Vec<(Phase, &Stop)> {
    stops.iter().map(|stop| (Phase::Open, stop)).collect()
}

fn written_again(state: &State, doors: &mut [Door], moment: Moment<'_>) -> Vec<u8> {
    state.restore_spent(doors);
    write(&standing(&state.stops), &state.cooldowns, doors, moment)
}

fuzz_target!(|input: &[u8]| {
    let text = input.strip_prefix(b"!").map_or_else(|| summed(input), <[u8]>::to_vec);
    let mut doors = fuzzing::doors(OTP, &[]);
    for boot in ["a", "b", ""] {
        let moment = Moment { now: NOW, boot };
        let state = State::read(&text, moment);
        let lines = text.split_inclusive(|&byte| byte == b'\n').count();
        assert!(state.left_out.iter().all(|line| (1..=lines).contains(line)), "{:?}", state.left_out);
        assert!(state.left_out.is_empty() || !state.is_whole);
        assert!(state.stops.len() + state.cooldowns.len() + state.left_out.len() <= lines);
        for stop in &state.stops {
            assert!(stop.due <= NOW.uptime.saturating_add(stop.after), "open for longer than its own time");
        }

        let once = written_again(&state, &mut doors, moment);
        let again = State::read(&once, moment);
        assert!(again.is_whole && again.left_out.is_empty(), "{}", String::from_utf8_lossy(&once));
        if !boot.is_empty() {
            assert_eq!((&again.stops, &again.cooldowns), (&state.stops, &state.cooldowns));
        }
        let twice = written_again(&again, &mut doors, moment);
        assert_eq!(String::from_utf8_lossy(&once), String::from_utf8_lossy(&twice));
        damage(&once, input, &again, moment);
    }
});

/// Changes one byte, chosen by the input, of a valid text.
fn damage(text: &[u8], input: &[u8], whole: &State, moment: Moment<'_>) {
    let [.., high, low, change] = *input else { return };
    let mut damaged = text.to_vec();
    let place = usize::from(u16::from_be_bytes([high, low])) % damaged.len();
    damaged[place] ^= change.max(1);
    let state = State::read(&damaged, moment);
    let first_line = text.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    if place > first_line {
        assert!(!state.is_whole, "damage is not seen");
        assert!(state.stops.iter().all(|stop| whole.stops.contains(stop)), "damage is executed");
    } else {
        let commands = |state: &State| state.stops.iter().map(|it| it.command.clone()).collect::<Vec<_>>();
        let before = commands(whole);
        assert!(commands(&state).iter().all(|command| before.contains(command)), "damage is executed");
    }
}
