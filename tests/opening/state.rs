//! What is remembered over the end of a process: text and values, clocks that are set, damage.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use knocking::config::{Config, Reading};
use knocking::door::Door;
use knocking::door::lock::{Lock, Turn};
use knocking::opening::state::{Moment, State, write};
use knocking::opening::{Phase, Stop};
use knocking::time::Now;

trials![
    what_is_written_is_read,
    any_bytes_of_a_command_are_kept,
    within_a_boot_uptime_counts,
    after_a_boot_the_wall_clock_counts,
    a_clock_that_was_set_back_keeps_no_door_open_longer,
    an_end_beyond_all_clocks_is_kept,
    an_overdue_door_is_due,
    a_stop_command_that_runs_is_not_run_again,
    a_stop_command_that_a_reboot_broke_off_is_run_again,
    damage_is_found_and_never_executed,
    a_text_that_is_cut_is_not_whole,
    random_bytes_are_no_command,
    spent_lists_stay_spent,
    old_spent_lists_become_one_line,
    no_seed_is_written,
];

const NOW: Now = Now { uptime: Duration::from_secs(5_000), unix: Duration::from_secs(1_790_000_000) };

fn at(now: Now, boot: &str) -> Moment<'_> {
    Moment { now, boot }
}

fn later(seconds: u64) -> Now {
    let passed = Duration::from_secs(seconds);
    Now { uptime: NOW.uptime + passed, unix: NOW.unix + passed }
}

fn stop(command: &[u8], due: u64) -> Stop {
    Stop {
        door: Arc::from("front door %1"),
        knocker: "2001:db8::7".parse().unwrap(),
        command: command.to_vec(),
        after: Duration::from_mins(1),
        limit: Some(Duration::from_millis(1500)),
        due: Duration::from_secs(due),
    }
}

/// What is read at another moment of what was written at NOW in boot "a".
fn read_again(standing: &[(Phase, &Stop)], moment: Moment<'_>) -> State {
    State::read(&write(standing, &[], &[], at(NOW, "a")), moment)
}

fn what_is_written_is_read() {
    let stops = [stop(b"iptables -D INPUT -s 1.2.3.4 -j ACCEPT", 5_010), stop(b"true", 5_020)];
    let standing = [(Phase::Open, &stops[0]), (Phase::Opening, &stops[1])];
    let state = read_again(&standing, at(later(3), "a"));
    assert_eq!((state.stops.as_slice(), state.is_whole), (stops.as_slice(), true));
    assert_eq!(state.left_out, []);
}

fn any_bytes_of_a_command_are_kept() {
    let all: Vec<u8> = (0..=255).collect();
    for command in [&all[..], b"", b"%", b" ", "ä\n%41 €".as_bytes()] {
        let stop = stop(command, 5_010);
        assert_eq!(read_again(&[(Phase::Open, &stop)], at(NOW, "a")).stops, [stop]);
    }
}

/// The clock was set a year ahead or back: the door closes in its time.
fn within_a_boot_uptime_counts() {
    let year = Duration::from_hours(8_760);
    for unix in [NOW.unix + year, NOW.unix.saturating_sub(year), Duration::ZERO] {
        let now = Now { uptime: later(4).uptime, unix };
        let state = read_again(&[(Phase::Open, &stop(b"true", 5_010))], at(now, "a"));
        assert_eq!(state.stops[0].due, Duration::from_secs(5_010));
    }
}

fn after_a_boot_the_wall_clock_counts() {
    let now = Now { uptime: Duration::from_secs(20), unix: later(4).unix };
    for boot in ["b", ""] {
        let state = read_again(&[(Phase::Open, &stop(b"true", 5_010))], at(now, boot));
        assert_eq!(state.stops[0].due, Duration::from_secs(26));
    }
}

fn a_clock_that_was_set_back_keeps_no_door_open_longer() {
    let now = Now { uptime: Duration::from_secs(20), unix: Duration::ZERO };
    let state = read_again(&[(Phase::Open, &stop(b"true", 5_010))], at(now, "b"));
    assert_eq!(state.stops[0].due, Duration::from_secs(80));
}

/// The wall clock then would show more milliseconds than there are.
fn an_end_beyond_all_clocks_is_kept() {
    let longest = Duration::from_millis(u64::MAX);
    let stop = Stop { after: longest, due: longest, ..stop(b"true", 0) };
    let state = read_again(&[(Phase::Open, &stop)], at(NOW, "a"));
    assert_eq!((state.stops, state.left_out), (vec![stop], vec![]));
}

fn an_overdue_door_is_due() {
    for (now, boot) in
        [(later(1_000), "a"), (Now { uptime: Duration::from_secs(5), unix: later(1_000).unix }, "b")]
    {
        let state = read_again(&[(Phase::Open, &stop(b"true", 5_010))], at(now, boot));
        assert!(state.stops[0].due <= now.uptime, "{boot}");
    }
}

fn a_stop_command_that_runs_is_not_run_again() {
    let state = read_again(&[(Phase::Closing, &stop(b"true", 5_000))], at(later(1), "a"));
    assert_eq!((state.stops, state.left_out, state.is_whole), (vec![], vec![], true));
}

fn a_stop_command_that_a_reboot_broke_off_is_run_again() {
    let state = read_again(&[(Phase::Closing, &stop(b"true", 5_000))], at(later(1), "b"));
    assert_eq!(state.stops[0].due, later(1).uptime);
}

/// Whatever byte is changed: a command is either the one that was written or none.
fn damage_is_found_and_never_executed() {
    let stops = [stop(b"iptables -D INPUT -s 1.2.3.4 -j ACCEPT", 5_010), stop(b"true", 5_020)];
    let standing = [(Phase::Open, &stops[0]), (Phase::Open, &stops[1])];
    let text = write(&standing, &[], &[], at(NOW, "a"));
    for place in 0..text.len() {
        for change in [1, 0x20, 0x80, text[place]] {
            let mut damaged = text.clone();
            damaged[place] ^= change;
            let state = State::read(&damaged, at(NOW, "a"));
            assert!(state.stops.iter().all(|stop| stops.iter().any(|it| it.command == stop.command)));
            assert!(place <= "knockd-state 1 a".len() || !state.is_whole, "byte {place} ^ {change}");
            let whole_lines = state.stops.len() + state.left_out.len();
            assert!(whole_lines >= 1, "byte {place} ^ {change}: {state:?}");
        }
    }
}

fn a_text_that_is_cut_is_not_whole() {
    let stop = stop(b"true", 5_010);
    let text = write(&[(Phase::Open, &stop)], &[], &[], at(NOW, "a"));
    for length in 0..text.len() {
        assert!(!State::read(&text[..length], at(NOW, "a")).is_whole, "{length} of {} bytes", text.len());
    }
}

/// A million bytes, in lines that look as if they were ours.
fn random_bytes_are_no_command() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..2_000 {
        let mut text = b"knockd-state 1 a\n".to_vec();
        for _ in 0..10 {
            text.extend(b"open open 0 0 0 - 10.0.0.1 d rm ");
            text.extend((0..random() % 40).map(|_| u8::try_from(random() % 256).unwrap()));
            text.push(b'\n');
        }
        assert_eq!(State::read(&text, at(NOW, "a")).stops, []);
    }
}

fn doors(text: &str) -> Vec<Door> {
    let reading = Reading { file: &mut |_| Ok(Vec::new()), note: &mut |_| {}, interface_is_given: false };
    Config::parse(text.as_bytes(), reading).unwrap_or_else(|error| panic!("{error}")).doors
}

const OTP: &str = "[a]\notp = sesame,60,20000,on,tcp,tcp\n[b]\notp = sesame,60,20000,off,tcp,udp";

fn spent_lists_stay_spent() {
    let mut before = doors(OTP);
    let knockers: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let turn = Turn(NOW.unix.as_secs() / 60);
    before[0].lock.spend(turn, knockers[0], NOW);
    before[1].lock.spend(turn, knockers[0], NOW);
    let text = write(&[], &[], &before, at(NOW, "a"));
    // Whatever the clock says now, in whatever order the doors stand.
    let mut after = doors(OTP);
    after.reverse();
    State::read(&text, at(Now { uptime: Duration::ZERO, unix: Duration::ZERO }, "b"))
        .restore_spent(&mut after);
    let length = |door: &Door, knocker: usize| door.lock.length(turn, knockers[knocker]);
    assert_eq!([length(&after[1], 0), length(&after[1], 1)], [None, Some(4)]);
    assert_eq!([length(&after[0], 0), length(&after[0], 1)], [None, None]);
    // Another seed is another lock.
    let mut other = doors(&OTP.replace("sesame", "sesam"));
    State::read(&text, at(NOW, "a")).restore_spent(&mut other);
    assert_eq!(length(&other[0], 0), Some(4));
}

fn old_spent_lists_become_one_line() {
    let mut before = doors(OTP);
    let knocker = "10.0.0.1".parse().unwrap();
    let period = NOW.unix.as_secs() / 60;
    for age in (1..=200).rev() {
        before[0].lock.spend(Turn(period - age), knocker, NOW);
    }
    let text = write(&[], &[], &before, at(NOW, "a"));
    assert!(text.split(|&byte| byte == b'\n').count() < 25);
    let mut after = doors(OTP);
    State::read(&text, at(NOW, "a")).restore_spent(&mut after);
    for age in 1..=200 {
        assert_eq!(after[0].lock.length(Turn(period - age), knocker), None, "{age}");
    }
    assert_eq!(after[0].lock.length(Turn(period), knocker), Some(4));
}

fn no_seed_is_written() {
    let mut doors = doors(OTP);
    doors[0].lock.spend(Turn(7), "10.0.0.1".parse().unwrap(), NOW);
    assert!(matches!(doors[0].lock, Lock::Otp(_)));
    let text = String::from_utf8(write(&[], &[], &doors, at(NOW, "a"))).unwrap();
    assert!(text.contains("spent ") && !text.contains("sesame") && !text.contains("736573616d65"), "{text}");
}
