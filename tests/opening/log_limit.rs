//! Lines of the log that come too fast.

use std::path::Path;
use std::time::Duration;

use knocking::opening::log_limit::{BURST, LINES, RateLimit, left_out};

use crate::support::folder::read;

trials![
    few_lines_pass,
    many_lines_are_summed_up,
    each_second_begins_anew,
    what_is_promised_stays_whole,
    numbers_are_grouped,
    the_texts_know_the_numbers,
];

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(1_000_000 + milliseconds)
}

/// So many lines at one time; how many of them are written.
fn offer(limit: &mut RateLimit, lines: u64, time: u64) -> u64 {
    (0..lines).map(|_| u64::from(limit.admits(at(time)))).sum()
}

fn few_lines_pass() {
    let mut limit = RateLimit::default();
    for second in 0..5 {
        assert_eq!(offer(&mut limit, LINES.into(), second * 1_000), LINES.into());
        assert_eq!(
            (limit.next_deadline(), limit.take_suppressed_if_due(at(second * 1_000 + 999))),
            (None, None)
        );
    }
}

fn many_lines_are_summed_up() {
    let mut limit = RateLimit::default();
    assert_eq!(offer(&mut limit, 12_845, 0), 500);
    assert_eq!(limit.next_deadline(), Some(at(1_000)));
    assert_eq!(limit.take_suppressed_if_due(at(999)), None);
    assert_eq!(limit.take_suppressed_if_due(at(1_000)), Some(12_345));
    assert_eq!((limit.next_deadline(), limit.take_suppressed_if_due(at(1_001))), (None, None));
}

fn each_second_begins_anew() {
    let mut limit = RateLimit::default();
    // The burst is used up first, and comes again when it was quiet.
    assert_eq!(offer(&mut limit, BURST.into(), 0), BURST.into());
    for second in 1..4 {
        assert_eq!(offer(&mut limit, 130, second * 1_000), 100);
        assert_eq!(offer(&mut limit, 30, second * 1_000 + 500), 0);
        assert_eq!(limit.take_suppressed_if_due(at(second * 1_000 + 1_000)), Some(60));
    }
    assert_eq!(offer(&mut limit, 101, 6_000), 101);
    assert_eq!(offer(&mut limit, 501, 20_000), 500);
    assert_eq!(limit.take_suppressed(), Some(1));
}

/// However the lines fall into the seconds, and for as long as it lasts.
fn what_is_promised_stays_whole() {
    let mut limit = RateLimit::default();
    assert_eq!(offer(&mut limit, 500, 0), 500);
    for tenth in 10..6_000 {
        assert_eq!(offer(&mut limit, 10, tenth * 100 + 37), 10, "{tenth}");
    }
    assert_eq!(limit.take_suppressed(), None);
}

fn numbers_are_grouped() {
    for (number, shown) in [(1, "1"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(left_out(number), format!("... and {shown} more in the last second"));
    }
}

fn the_texts_know_the_numbers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (page, readme) = (read(&root.join("man/knockd.1")), read(&root.join("README.md")));
    for words in [
        format!("at most {LINES} of these lines a second, and up to {BURST} at once"),
        format!("Beyond {BURST} at once, or {LINES} a second"),
    ] {
        assert!(page.replace('\n', " ").contains(&words), "{words}");
    }
    let words = format!("beyond {LINES} a second ({BURST} after a quiet time)");
    assert!(readme.replace("\n  ", " ").contains(&words), "{words}");
}
