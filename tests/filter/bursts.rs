//! When packets are let gather, and when a ring pays.

use std::time::Duration;

use knocking::filter::bursts::{CALM, Pace, REST};

trials![
    a_knock_is_never_made_to_wait,
    packets_that_follow_each_other_closely_are_let_gather,
    they_gather_for_as_long_as_they_are_many,
    what_is_left_behind_is_taken_at_once,
    a_ring_pays_from_ten_thousand_packets_a_second,
    a_short_burst_pays_no_ring,
    a_ring_is_given_back_when_it_was_calm_for_long,
];

fn micros(micros: u64) -> Duration {
    Duration::from_secs(1000) + Duration::from_micros(micros)
}

/// So many turns of one packet each, so many microseconds apart.
fn turns(pace: &mut Pace, count: u64, apart: u64) -> Duration {
    for turn in 0..count {
        pace.took(1, true, micros(turn * apart));
    }
    micros((count - 1) * apart)
}

/// Packets of a million microseconds, taken whenever they have gathered.
fn second_of(pace: &mut Pace, per_second: u64, begin: Duration) -> Duration {
    let rests = Duration::from_secs(1).as_micros() / REST.as_micros();
    let each = usize::try_from(per_second / u64::try_from(rests).unwrap()).unwrap();
    let mut uptime = begin;
    for _ in 0..rests {
        uptime += REST;
        pace.took(each, true, uptime);
    }
    uptime
}

fn a_knock_is_never_made_to_wait() {
    for apart in [501, 1000, 50_000] {
        let mut pace = Pace::default();
        turns(&mut pace, 1000, apart);
        assert_eq!(pace.rest(), None, "{apart} us apart");
    }
    // A whole sequence at once.
    let mut pace = Pace::default();
    turns(&mut pace, 7, 10);
    assert_eq!(pace.rest(), None);
}

fn packets_that_follow_each_other_closely_are_let_gather() {
    let mut pace = Pace::default();
    let last = turns(&mut pace, 9, 50);
    assert_eq!(pace.rest(), Some(last + REST));
}

fn they_gather_for_as_long_as_they_are_many() {
    let mut pace = Pace::default();
    let last = turns(&mut pace, 9, 50);
    pace.took(40, true, last + REST);
    assert_eq!(pace.rest(), Some(last + 2 * REST));
    pace.took(3, true, last + 2 * REST);
    assert_eq!(pace.rest(), None);
    // And it takes as many hurried turns as before until they gather again.
    for turn in 1..8 {
        pace.took(1, true, last + 2 * REST + Duration::from_micros(turn * 10));
        assert_eq!(pace.rest(), None, "{turn}");
    }
}

fn what_is_left_behind_is_taken_at_once() {
    let mut pace = Pace::default();
    let last = turns(&mut pace, 9, 50);
    pace.took(256, false, last + REST);
    assert!(pace.rest().is_none_or(|end| end <= last + REST), "{pace:?}");
}

fn a_ring_pays_from_ten_thousand_packets_a_second() {
    for (per_second, pays) in [(1_000, false), (9_000, false), (11_000, true), (150_000, true)] {
        let mut pace = Pace::default();
        let end = second_of(&mut pace, per_second, micros(0));
        assert_eq!(pace.pays_a_ring(end), pays, "{per_second}");
    }
}

fn a_short_burst_pays_no_ring() {
    let mut pace = Pace::default();
    pace.took(900, true, micros(0));
    assert!(!pace.pays_a_ring(micros(0)));
    assert_eq!(pace.ends_calm(), None);
}

fn a_ring_is_given_back_when_it_was_calm_for_long() {
    let mut pace = Pace::default();
    let busy = second_of(&mut pace, 20_000, micros(0));
    assert_eq!(pace.ends_calm(), Some(busy + CALM));
    let nearly = busy + Duration::from_secs(59);
    assert!(pace.pays_a_ring(nearly));
    assert!(!pace.pays_a_ring(busy + CALM));
    // Less than 1,000 a second do not put that off, more do.
    pace.took(100, true, nearly);
    assert_eq!(pace.ends_calm(), Some(busy + CALM));
    let nearly = nearly + Duration::from_millis(500);
    pace.took(101, true, nearly);
    assert_eq!(pace.ends_calm(), Some(nearly + CALM));
    // Later it takes as much as the first time.
    let later = nearly + 2 * CALM;
    pace.took(200, true, later);
    assert!(!pace.pays_a_ring(later));
}
