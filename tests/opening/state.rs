//! What is remembered over the end of a process: text and values, clocks that are set, damage.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use knocking::config::{Config, Reading};
use knocking::door::knock::Protocol;
use knocking::door::lock::{Lock, Turn};
use knocking::door::ports::Ports;
use knocking::door::sequence::Stage;
use knocking::door::spa::replay::Used;
use knocking::door::spa::sealed::PacketId;
use knocking::door::{Door, spend_at_namesakes};
use knocking::opening::admission_id::{AdmissionId, ByAdmission, in_order};
use knocking::opening::admit::Where;
use knocking::opening::record::Record;
use knocking::opening::state::{self, Admitted, Moment, State, inherit_spent};
use knocking::opening::text::{Text, write};
use knocking::opening::{Access, Key, Openings, Phase, Process, Stop};
use knocking::time::Now;

trials![
    doors_of_the_kernel_are_remembered,
    what_is_written_is_read,
    any_bytes_of_a_command_are_kept,
    within_a_boot_uptime_counts,
    after_a_boot_the_wall_clock_counts,
    a_clock_that_was_set_back_keeps_no_door_open_longer,
    an_end_beyond_all_clocks_is_kept,
    an_overdue_door_is_due,
    a_stop_command_that_runs_is_waited_for,
    a_stop_command_that_is_gone_is_run_again,
    a_start_command_that_runs_is_waited_for,
    a_process_of_another_boot_is_not_taken_for_it,
    damage_is_found_and_never_executed,
    a_damaged_line_costs_that_line_only,
    a_text_that_is_cut_is_not_whole,
    a_later_line_replaces_an_earlier_one,
    a_whole_new_file_counts_alone,
    a_cut_new_file_counts_with_the_old_one,
    an_opening_in_two_places_is_one,
    keys_stay_unique_when_two_processes_draw_the_same_number,
    the_first_version_is_still_read,
    many_damaged_lines_are_summed_up,
    random_bytes_are_no_command,
    sections_of_one_name_share_what_is_used,
    spent_lists_stay_spent,
    tries_are_remembered,
    single_packets_are_remembered,
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
        access: None,
        key: Key { origin: 0x0123_4567_89ab_cdef, number: due + 1 },
        door: Arc::from("front door %1"),
        knocker: "2001:db8::7".parse().unwrap(),
        command: command.to_vec(),
        after: Duration::from_mins(1),
        limit: Some(Duration::from_millis(1500)),
        due: Duration::from_secs(due),
    }
}

fn written(standing: &[(Phase, &Stop)]) -> Vec<u8> {
    write(standing, &[], &ByAdmission::new(), &[], &Used::default(), at(NOW, "a"))
}

/// What is read at another moment of what was written at NOW in boot "a".
fn read_again(standing: &[(Phase, &Stop)], moment: Moment<'_>) -> State {
    let text = Text::read(&written(standing), moment);
    assert!(text.is_whole && text.damage.is_none(), "{text:?}");
    State::of(Some(text), None)
}

fn state_of(text: &[u8]) -> State {
    State::of(Some(Text::read(text, at(NOW, "a"))), None)
}

fn stops(state: &State) -> Vec<Stop> {
    state.openings.values().map(|(_, stop)| stop.clone()).collect()
}

/// The one opening of a state, as the next daemon takes it over.
fn taken_over(state: &State, now: Now, runs: bool) -> (Phase, Stop) {
    assert_eq!(state.openings.len(), 1);
    let (phase, stop) = state.openings.values().next().unwrap().clone();
    state::taken_over(phase, stop, now, |_| runs, |_| None)
}

const PROCESS: Process = Process { pid: 4711, start: 123_456 };

fn what_is_written_is_read() {
    let stops = [stop(b"iptables -D INPUT -s 1.2.3.4 -j ACCEPT", 5_010), stop(b"true", 5_020)];
    for phases in [
        [Phase::Open, Phase::Opening(None)],
        [Phase::Opening(Some(PROCESS)), Phase::Closing(Some(PROCESS))],
        [Phase::Closing(None), Phase::Open],
    ] {
        let standing = [(phases[0], &stops[0]), (phases[1], &stops[1])];
        let state = read_again(&standing, at(later(3), "a"));
        let read: Vec<(Phase, &Stop)> = state.openings.values().map(|(phase, stop)| (*phase, stop)).collect();
        assert_eq!(read, standing);
    }
}

fn any_bytes_of_a_command_are_kept() {
    let all: Vec<u8> = (0..=255).collect();
    for command in [&all[..], b"", b"%", b" ", "ä\n%41 €".as_bytes()] {
        let stop = stop(command, 5_010);
        assert_eq!(stops(&read_again(&[(Phase::Open, &stop)], at(NOW, "a"))), [stop]);
    }
}

/// The clock was set a year ahead or back: the door closes in its time.
fn within_a_boot_uptime_counts() {
    let year = Duration::from_hours(8_760);
    for unix in [NOW.unix + year, NOW.unix.saturating_sub(year), Duration::ZERO] {
        let now = Now { uptime: later(4).uptime, unix };
        let state = read_again(&[(Phase::Open, &stop(b"true", 5_010))], at(now, "a"));
        assert_eq!(stops(&state)[0].due, Duration::from_secs(5_010));
    }
}

fn after_a_boot_the_wall_clock_counts() {
    let now = Now { uptime: Duration::from_secs(20), unix: later(4).unix };
    for boot in ["b", ""] {
        let state = read_again(&[(Phase::Open, &stop(b"true", 5_010))], at(now, boot));
        assert_eq!(stops(&state)[0].due, Duration::from_secs(26));
    }
}

fn a_clock_that_was_set_back_keeps_no_door_open_longer() {
    let now = Now { uptime: Duration::from_secs(20), unix: Duration::ZERO };
    let state = read_again(&[(Phase::Open, &stop(b"true", 5_010))], at(now, "b"));
    assert_eq!(stops(&state)[0].due, Duration::from_secs(80));
}

/// The wall clock then would show more milliseconds than there are.
fn an_end_beyond_all_clocks_is_kept() {
    let longest = Duration::from_millis(u64::MAX);
    let stop = Stop { after: longest, due: longest, ..stop(b"true", 0) };
    let state = read_again(&[(Phase::Open, &stop)], at(NOW, "a"));
    assert_eq!(stops(&state), [stop]);
}

fn an_overdue_door_is_due() {
    for (now, boot) in
        [(later(1_000), "a"), (Now { uptime: Duration::from_secs(5), unix: later(1_000).unix }, "b")]
    {
        let state = read_again(&[(Phase::Open, &stop(b"true", 5_010))], at(now, boot));
        assert!(stops(&state)[0].due <= now.uptime, "{boot}");
    }
}

fn a_stop_command_that_runs_is_waited_for() {
    let stop = stop(b"true", 5_000);
    let state = read_again(&[(Phase::Closing(Some(PROCESS)), &stop)], at(later(1), "a"));
    assert_eq!(taken_over(&state, later(1), true), (Phase::Closing(Some(PROCESS)), stop));
}

/// Nobody saw how it ended.
fn a_stop_command_that_is_gone_is_run_again() {
    let stop = stop(b"true", 5_000);
    for (process, runs) in [(Some(PROCESS), false), (None, true)] {
        let state = read_again(&[(Phase::Closing(process), &stop)], at(later(1), "a"));
        let again = Stop { due: later(1).uptime, ..stop.clone() };
        assert_eq!(taken_over(&state, later(1), runs), (Phase::Open, again));
    }
}

/// Or it would open a door that is closed already.
fn a_start_command_that_runs_is_waited_for() {
    let stop = stop(b"true", 5_010);
    let state = read_again(&[(Phase::Opening(Some(PROCESS)), &stop)], at(later(1), "a"));
    assert_eq!(taken_over(&state, later(1), true), (Phase::Opening(Some(PROCESS)), stop.clone()));
    assert_eq!(taken_over(&state, later(1), false), (Phase::Open, stop));
}

fn a_process_of_another_boot_is_not_taken_for_it() {
    for phase in [Phase::Closing(Some(PROCESS)), Phase::Opening(Some(PROCESS))] {
        let now = Now { uptime: Duration::from_secs(9), unix: later(100).unix };
        let state = read_again(&[(phase, &stop(b"true", 5_000))], at(now, "b"));
        let (phase, stop) = taken_over(&state, now, true);
        assert_eq!((phase, stop.due), (Phase::Open, now.uptime));
    }
}

/// Whatever byte is changed: a command is either the one that was written or none.
fn damage_is_found_and_never_executed() {
    let whole = [stop(b"iptables -D INPUT -s 1.2.3.4 -j ACCEPT", 5_010), stop(b"true", 5_020)];
    let text = written(&[(Phase::Open, &whole[0]), (Phase::Open, &whole[1])]);
    for place in 0..text.len() {
        for change in [1, 0x20, 0x80, text[place]] {
            let mut damaged = text.clone();
            damaged[place] ^= change;
            let read = Text::read(&damaged, at(NOW, "a"));
            assert!(!read.damage.is_none(), "byte {place} ^ {change}: {read:?}");
            let left = stops(&state_of(&damaged));
            assert!(left.iter().all(|stop| whole.iter().any(|it| it.command == stop.command)));
            // The newline between two lines belongs to both.
            let newline = text[place] == b'\n';
            assert!(newline || !left.is_empty(), "byte {place} ^ {change}: {damaged:?}");
        }
    }
}

/// Not those around it, wherever it stands: the first, the last, or one behind the end.
fn a_damaged_line_costs_that_line_only() {
    let whole = [stop(b"a", 5_010), stop(b"b", 5_020), stop(b"c", 5_030)];
    let standing: Vec<(Phase, &Stop)> = whole.iter().map(|stop| (Phase::Open, stop)).collect();
    let mut text = written(&standing[..2]);
    text.extend(Record::Open(Phase::Open, whole[2].clone()).line(NOW).bytes());
    let lines: Vec<&str> = std::str::from_utf8(&text).unwrap().lines().collect();
    for (damaged, wanted) in [(0, "abc"), (1, "bc"), (2, "ac"), (3, "abc"), (4, "ab")] {
        let mut lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        lines[damaged].replace_range(5..6, "!");
        let read = Text::read((lines.join("\n") + "\n").as_bytes(), at(NOW, "a"));
        assert_eq!(read.damage.lines, [damaged + 1]);
        // Without the end nobody knows whether it is all.
        assert_eq!(read.is_whole, damaged != 3);
        let commands: Vec<u8> = stops(&State::of(None, Some(read))).iter().map(|it| it.command[0]).collect();
        assert_eq!(String::from_utf8(commands).unwrap(), wanted);
    }
}

fn a_text_that_is_cut_is_not_whole() {
    let stop = stop(b"true", 5_010);
    let text = written(&[(Phase::Open, &stop)]);
    for length in 0..text.len() {
        let read = Text::read(&text[..length], at(NOW, "a"));
        assert!(!read.is_whole, "{length} of {} bytes", text.len());
    }
}

fn a_later_line_replaces_an_earlier_one() {
    let whole = [stop(b"a", 5_010), stop(b"b", 5_020)];
    let mut text = written(&[(Phase::Opening(None), &whole[0]), (Phase::Open, &whole[1])]);
    text.extend(Record::Open(Phase::Closing(Some(PROCESS)), whole[0].clone()).line(NOW).bytes());
    text.extend(Record::Closed(whole[1].key).line(NOW).bytes());
    let state = state_of(&text);
    assert_eq!(
        state.openings.values().collect::<Vec<_>>(),
        [&(Phase::Closing(Some(PROCESS)), whole[0].clone())]
    );
}

fn a_whole_new_file_counts_alone() {
    let whole = [stop(b"a", 5_010), stop(b"b", 5_020)];
    let read = |text: &[u8]| Some(Text::read(text, at(NOW, "a")));
    let (old, new) = (written(&[(Phase::Open, &whole[0])]), written(&[(Phase::Open, &whole[1])]));
    assert_eq!(stops(&State::of(read(&old), read(&new))), [whole[1].clone()]);
}

/// What it closed it may have closed, what it does not tell it may not have known.
fn a_cut_new_file_counts_with_the_old_one() {
    let whole = [stop(b"a", 5_010), stop(b"b", 5_020)];
    let read = |text: &[u8]| Some(Text::read(text, at(NOW, "a")));
    let (old, new) = (written(&[(Phase::Open, &whole[0])]), written(&[(Phase::Open, &whole[1])]));
    let end = new.windows(4).position(|it| it == b"\nend").unwrap() + 1;
    assert_eq!(stops(&State::of(read(&old), read(&new[..end]))), whole);
    assert_eq!(stops(&State::of(read(&old), read(&[]))), [whole[0].clone()]);
    assert_eq!(stops(&State::of(None, read(&new[..end]))), [whole[1].clone()]);
}

/// A daemon was killed while it took over what another one had left.
fn an_opening_in_two_places_is_one() {
    let stop = stop(b"a", 5_010);
    let mut state = state_of(&written(&[(Phase::Closing(Some(PROCESS)), &stop)]));
    state.add(state_of(&written(&[(Phase::Open, &stop)])));
    assert_eq!(state.openings.values().collect::<Vec<_>>(), [&(Phase::Closing(Some(PROCESS)), stop)]);
}

/// A line that closes one opening would otherwise close another one, too.
fn keys_stay_unique_when_two_processes_draw_the_same_number() {
    let stop = stop(b"a", 5_001);
    let mut openings = Openings::new(stop.key.origin);
    assert_eq!(openings.resume(Phase::Open, stop.clone(), NOW), None);
    let door = doors("[d]\nsequence = 1\nstart_command = start\nstop_command = stop").remove(0);
    // As many as it takes to reach the number of the one that was taken over.
    for _ in 0..=stop.key.number {
        openings.open(&door, stop.knocker, &[None], (None, Where::Here), NOW);
    }
    let keys: Vec<Key> = openings.standing().iter().map(|(_, stop)| stop.key).collect();
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
}

/// As the daemon of November 2026 wrote it: two openings of one knocker, a third one that is being closed, and a
/// line that is damaged.
fn the_first_version_is_still_read() {
    let text = "knockd-state 1 a\n\
        open open 1790000010000 5010000 60000 - 10.0.0.1 d echo%20A 6ab3b8a0a8cf7e19\n\
        open open 1790000010000 5010000 60000 - 10.0.0.1 d echo%20a bebc3ec8f406d8e7\n\
        open open 1790000011000 5011000 60000 1500 10.0.0.1 d echo%20a 43e704cbcb85a944\n\
        open closing 1790000011000 5011000 60000 - 10.0.0.2 d true 821029ec5f949e0c\n\
        end 4 33d044befdc1291e\n";
    let text = Text::read(text.as_bytes(), at(NOW, "a"));
    assert_eq!((&*text.damage.lines, text.is_whole), (&[2][..], true));
    let state = State::of(None, Some(text));
    let mut known: Vec<(Phase, String, u64)> = state
        .openings
        .values()
        .map(|(phase, stop)| (*phase, String::from_utf8(stop.command.clone()).unwrap(), stop.due.as_secs()))
        .collect();
    known.sort_by_key(|(_, command, due)| (command.clone(), *due));
    let echo = |due| (Phase::Open, "echo a".to_owned(), due);
    assert_eq!(known, [echo(5_010), echo(5_011), (Phase::Closing(None), "true".to_owned(), 5_011)]);
    // Written anew they have keys.
    let standing: Vec<(Phase, &Stop)> = state.openings.values().map(|(phase, stop)| (*phase, stop)).collect();
    assert_eq!(state_of(&written(&standing)).openings, state.openings);
}

fn many_damaged_lines_are_summed_up() {
    let text = "knockd-state 1 a\n".to_owned() + &"nonsense\n".repeat(40_000);
    let damage = Text::read(text.as_bytes(), at(NOW, "a")).damage;
    let sentences: Vec<String> = damage.sentences().collect();
    assert_eq!(sentences.len(), 6);
    assert_eq!(sentences[0], "line 2 is not in order and is left out");
    assert_eq!(sentences[5], "39995 more lines are not in order and are left out");
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
        assert!(state_of(&text).is_empty());
    }
}

pub fn doors(text: &str) -> Vec<Door> {
    let reading = Reading { file: &mut |_| Ok(Vec::new()), note: &mut |_| {}, interface_is_given: false };
    Config::parse(text.as_bytes(), reading).unwrap_or_else(|error| panic!("{error}")).doors
}

const OTP: &str = "[a]\notp = sesame,60,20000,on,tcp,tcp\n[b]\notp = sesame 2,60,20000,off,tcp,udp";

fn spent_lists_stay_spent() {
    let mut before = doors(OTP);
    let knockers: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let turn = Turn(NOW.unix.as_secs() / 60);
    before[0].lock.spend(turn, knockers[0], NOW);
    before[1].lock.spend(turn, knockers[0], NOW);
    let text = write(&[], &[], &ByAdmission::new(), &before, &Used::default(), at(NOW, "a"));
    // Whatever the clock says now, in whatever order the doors stand.
    let mut after = doors(OTP);
    after.reverse();
    let read = Text::read(&text, at(Now { uptime: Duration::ZERO, unix: Duration::ZERO }, "b"));
    State::of(Some(read), None).restore_spent(&mut after);
    let length = |door: &Door, knocker: usize| door.lock.length(turn, knockers[knocker]);
    assert_eq!([length(&after[1], 0), length(&after[1], 1)], [None, Some(4)]);
    assert_eq!([length(&after[0], 0), length(&after[0], 1)], [None, None]);
    // Another seed is another lock.
    let mut other = doors(&OTP.replace("sesame", "sesam"));
    state_of(&text).restore_spent(&mut other);
    assert_eq!(length(&other[0], 0), Some(4));
}

/// Sections of one name may have the same lists: what opened one of them opens none again, nor after a reload.
fn sections_of_one_name_share_what_is_used() {
    let text =
        "[a]\notp = sesame,60,20000,off,tcp,tcp\nallow = 10.0.0.9\n[a]\notp = sesame,60,20000,off,tcp,tcp";
    let other = "\n[a]\notp = sesame 2,60,20000,off,tcp,tcp";
    let knocker: IpAddr = "10.0.0.1".parse().unwrap();
    let turn = Turn(NOW.unix.as_secs() / 60);
    let lengths =
        |doors: &[Door]| doors.iter().map(|door| door.lock.length(turn, knocker)).collect::<Vec<_>>();
    let mut before = doors(&format!("{text}{other}"));
    before[1].lock.spend(turn, knocker, NOW);
    spend_at_namesakes(&mut before, 1, turn, knocker, NOW);
    assert_eq!(lengths(&before), [None, None, Some(2)]);
    // Also where only one of them knows it.
    let mut before = doors(text);
    before[1].lock.spend(turn, knocker, NOW);
    let mut after = doors(&format!("{text}{other}"));
    inherit_spent(&before, &mut after);
    assert_eq!(lengths(&after), [None, None, Some(2)]);
    // What the new ones know stays.
    inherit_spent(&doors(text), &mut after);
    assert_eq!(lengths(&after), [None, None, Some(2)]);
}

/// Who tried to guess a list is out after a restart too, at locks with the same seed only.
fn tries_are_remembered() {
    let mut before = doors(OTP);
    let knocker: IpAddr = "2001:db8::1".parse().unwrap();
    let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
    let other: IpAddr = "2001:db8:0:1::1".parse().unwrap();
    let turn = Turn(NOW.unix.as_secs() / 60);
    let old = Turn(turn.0 - 5);
    for count in 1..=2 {
        assert_eq!(before[0].lock.record_failed_attempt(old, knocker, 2, NOW), Some((count, false)));
        assert_eq!(before[0].lock.record_failed_attempt(turn, knocker, 2, NOW), Some((count, false)));
    }
    let text = |doors: &[Door]| write(&[], &[], &ByAdmission::new(), doors, &Used::default(), at(NOW, "a"));
    let mut after = doors(OTP);
    let state = state_of(&text(&before));
    assert!(!state.is_empty());
    state.restore_spent(&mut after);
    // One more, from its network.
    assert_eq!(after[0].lock.record_failed_attempt(turn, neighbour, 3, NOW), Some((3, true)));
    let mut again = doors(OTP);
    let mut joined = State::default();
    joined.add(state);
    joined.add(state_of(&text(&after)));
    joined.restore_spent(&mut again);
    let length = |knocker, turn| again[0].lock.length(turn, knocker);
    assert_eq!([length(knocker, turn), length(neighbour, turn), length(other, turn)], [None, None, Some(4)]);
    assert_eq!(length(knocker, Turn(turn.0 + 1)), Some(4));
    // What is too old to be accepted is not written.
    assert_eq!(String::from_utf8(text(&before)).unwrap().matches("\ntried ").count(), 1);
    // Lists that all share have no second half.
    assert_eq!(again[1].lock.record_failed_attempt(turn, knocker, 1, NOW), None);
}

/// Used packets, and what a packet asked for, outlive the process; a line that is damaged costs itself.
fn single_packets_are_remembered() {
    let id = |byte| PacketId([byte; 16]);
    let mut used = Used::default();
    used.insert(100, id(1), 60, 100).unwrap();
    used.insert(200, id(2), 60, 200).unwrap();
    used.insert(210, id(3), 60, 200).unwrap();
    let access = Access {
        user: "al ice".to_owned(),
        port: Stage { protocol: Protocol::Udp, port: 51820 },
        seconds: 90,
    };
    let asked = Stop { access: Some(Box::new(access)), ..stop(b"close", 90) };
    let text = write(&[(Phase::Open, &asked)], &[], &ByAdmission::new(), &[], &used, at(NOW, "a"));
    let state = state_of(&text);
    assert_eq!(state.used, used);
    assert_eq!(state.used.floor(), Some(100));
    assert_eq!(state.openings.into_iter().map(|(_, (_, stop))| stop).collect::<Vec<_>>(), [asked]);
    let mut other = State::of(Some(Text::read(&text, at(NOW, "b"))), None);
    other.add(state_of(&write(&[], &[], &ByAdmission::new(), &[], &Used::default(), at(NOW, "a"))));
    assert_eq!(other.used, used);
    let damaged = String::from_utf8(text).unwrap().replace("packet 200", "packet 201");
    let state = state_of(damaged.as_bytes());
    assert!(!state.used.contains(200, id(2)) && state.used.contains(210, id(3)));
}

fn old_spent_lists_become_one_line() {
    let mut before = doors(OTP);
    let knocker = "10.0.0.1".parse().unwrap();
    let period = NOW.unix.as_secs() / 60;
    for age in (1..=200).rev() {
        before[0].lock.spend(Turn(period - age), knocker, NOW);
    }
    let text = write(&[], &[], &ByAdmission::new(), &before, &Used::default(), at(NOW, "a"));
    assert!(text.split(|&byte| byte == b'\n').count() < 25);
    let mut after = doors(OTP);
    state_of(&text).restore_spent(&mut after);
    for age in 1..=200 {
        assert_eq!(after[0].lock.length(Turn(period - age), knocker), None, "{age}");
    }
    assert_eq!(after[0].lock.length(Turn(period), knocker), Some(4));
}

fn no_seed_is_written() {
    let mut doors = doors(OTP);
    doors[0].lock.spend(Turn(7), "10.0.0.1".parse().unwrap(), NOW);
    assert!(matches!(doors[0].lock, Lock::Otp(_)));
    let text =
        String::from_utf8(write(&[], &[], &ByAdmission::new(), &doors, &Used::default(), at(NOW, "a")))
            .unwrap();
    assert!(text.contains("spent ") && !text.contains("sesame") && !text.contains("736573616d65"), "{text}");
}

fn doors_of_the_kernel_are_remembered() {
    let admitted = |door: &str, knocker: &str, until: Option<u64>, set| Admitted {
        id: AdmissionId {
            door: Arc::from(door),
            knocker: knocker.parse().unwrap(),
            ports: Arc::from(["tcp/22", "udp/1-5"].map(|ports| Ports::parse(ports).unwrap())),
        },
        after: until.map(|_| Duration::from_mins(1)),
        until: until.map(|seconds| NOW.uptime + Duration::from_secs(seconds)),
        set,
    };
    let all = [
        admitted("a door", "192.0.2.7", Some(30), Some((3, 9))),
        admitted("ever", "2001:db8::1", None, None),
        admitted("gone", "192.0.2.8", Some(30), None),
    ];
    let whole: ByAdmission<Admitted> = all.iter().map(|it| (it.id.clone(), Box::new(it.clone()))).collect();
    let mut text = write(&[], &[], &whole, &[], &Used::default(), at(NOW, "a"));
    text.extend(Record::Dismissed(all[2].id.clone()).line(NOW).bytes());
    let read = |boot| State::of(None, Some(Text::read(&text, at(NOW, boot))));
    let same: Vec<Admitted> = in_order(&read("a").admitted).into_iter().cloned().collect();
    assert_eq!(same, all[..2]);
    // The kernel forgot them with the boot: none has any time left.
    assert!(read("b").admitted.values().all(|it| it.until == Some(Duration::ZERO)));
}
