//! State files, from text and from values. The target adds the checksums of the lines, which a fuzzer would
//! not guess, unless the input begins with `!`. What is read and written again must read as the same, and
//! damaged lines must never be executed.
#![no_main]

use std::time::Duration;

use knocking::door::Door;
use knocking::opening::state::{Moment, State};
use knocking::opening::text::{Text, write};
use knocking::time::Now;
use libfuzzer_sys::fuzz_target;

const NOW: Now = Now { uptime: Duration::from_secs(5_000), unix: Duration::from_secs(1_790_000_000) };
const OTP: &str = "[a]\notp = sesame,60,20000,on,tcp,tcp\n[b]\notp = sesame 2,60,20000,off,tcp,udp";

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

fn written_again(state: &State, doors: &mut [Door], moment: Moment<'_>) -> Vec<u8> {
    state.restore_spent(doors);
    let standing: Vec<_> = state.openings.values().map(|(phase, stop)| (*phase, stop)).collect();
    write(&standing, &state.cooldowns, &state.admitted, doors, &state.used, moment)
}

fn state_of(text: &Text) -> State {
    State::of(Some(text.clone()), None)
}

fuzz_target!(|input: &[u8]| {
    let text = input.strip_prefix(b"!").map_or_else(|| summed(input), <[u8]>::to_vec);
    let mut doors = fuzzing::doors(OTP, &[]);
    for boot in ["a", "b", ""] {
        let moment = Moment { now: NOW, boot };
        let read = Text::read(&text, moment);
        let lines = text.split_inclusive(|&byte| byte == b'\n').count();
        assert!(read.damage.lines.iter().all(|line| (1..=lines).contains(line)), "{:?}", read.damage);
        let state = state_of(&read);
        let damaged = read.damage.lines.len() + read.damage.more;
        assert!(state.openings.len() + state.cooldowns.len() + damaged <= lines);
        for (_, stop) in state.openings.values() {
            assert!(stop.due <= NOW.uptime.saturating_add(stop.after), "open for longer than its own time");
        }

        let once = written_again(&state, &mut doors, moment);
        let again = Text::read(&once, moment);
        assert!(again.is_whole && again.damage.is_none(), "{}", String::from_utf8_lossy(&once));
        let again = state_of(&again);
        if !boot.is_empty() {
            assert_eq!((&again.openings, &again.cooldowns), (&state.openings, &state.cooldowns));
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
    let read = Text::read(&damaged, moment);
    assert!(!read.damage.is_none(), "damage is not seen");
    let before: Vec<_> = whole.openings.values().map(|(_, stop)| &stop.command).collect();
    let state = state_of(&read);
    assert!(state.openings.values().all(|(_, stop)| before.contains(&&stop.command)), "damage is executed");
    // A newline belongs to the lines on both sides.
    let lost = if text[place] == b'\n' || damaged[place] == b'\n' { 2 } else { 1 };
    assert!(state.openings.len() + lost >= whole.openings.len(), "one line cost more than itself");
}
