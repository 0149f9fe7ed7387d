//! When packets are batched, and when a ring pays.

use std::time::Duration;

use knocking::filter::bursts::{BATCH_TIME, BurstDetector, RING_HOLD_TIME};

trials![
    a_knock_is_never_delayed,
    close_packets_are_batched,
    batching_lasts_while_batches_are_large,
    a_queue_that_was_not_emptied_is_read_at_once,
    a_ring_pays_from_ten_thousand_packets_a_second,
    a_short_burst_pays_no_ring,
    a_ring_is_given_up_after_a_calm_minute,
];

fn micros(micros: u64) -> Duration {
    Duration::from_secs(1000) + Duration::from_micros(micros)
}

/// Records `count` reads of one packet each, `apart` microseconds apart; returns the time of the last.
fn reads(bursts: &mut BurstDetector, count: u64, apart: u64) -> Duration {
    for read in 0..count {
        bursts.record(1, true, micros(read * apart));
    }
    micros((count - 1) * apart)
}

/// Records one second of packets at this rate, read in batches; returns its end.
fn second_of(bursts: &mut BurstDetector, per_second: u64, begin: Duration) -> Duration {
    let batches = Duration::from_secs(1).as_micros() / BATCH_TIME.as_micros();
    let each = usize::try_from(per_second / u64::try_from(batches).unwrap()).unwrap();
    let mut uptime = begin;
    for _ in 0..batches {
        uptime += BATCH_TIME;
        bursts.record(each, true, uptime);
    }
    uptime
}

fn a_knock_is_never_delayed() {
    for apart in [501, 1000, 50_000] {
        let mut bursts = BurstDetector::default();
        reads(&mut bursts, 1000, apart);
        assert_eq!(bursts.batch_end(), None, "{apart} us apart");
    }
    // A whole sequence at once.
    let mut bursts = BurstDetector::default();
    reads(&mut bursts, 7, 10);
    assert_eq!(bursts.batch_end(), None);
}

fn close_packets_are_batched() {
    let mut bursts = BurstDetector::default();
    let last = reads(&mut bursts, 9, 50);
    assert_eq!(bursts.batch_end(), Some(last + BATCH_TIME));
}

fn batching_lasts_while_batches_are_large() {
    let mut bursts = BurstDetector::default();
    let last = reads(&mut bursts, 9, 50);
    bursts.record(40, true, last + BATCH_TIME);
    assert_eq!(bursts.batch_end(), Some(last + 2 * BATCH_TIME));
    bursts.record(3, true, last + 2 * BATCH_TIME);
    assert_eq!(bursts.batch_end(), None);
    // Then it takes as many close reads as before to start the next burst.
    for read in 1..8 {
        bursts.record(1, true, last + 2 * BATCH_TIME + Duration::from_micros(read * 10));
        assert_eq!(bursts.batch_end(), None, "{read}");
    }
}

fn a_queue_that_was_not_emptied_is_read_at_once() {
    let mut bursts = BurstDetector::default();
    let last = reads(&mut bursts, 9, 50);
    bursts.record(256, false, last + BATCH_TIME);
    assert!(bursts.batch_end().is_none_or(|end| end <= last + BATCH_TIME), "{bursts:?}");
}

fn a_ring_pays_from_ten_thousand_packets_a_second() {
    for (per_second, pays) in [(1_000, false), (9_000, false), (11_000, true), (150_000, true)] {
        let mut bursts = BurstDetector::default();
        let end = second_of(&mut bursts, per_second, micros(0));
        assert_eq!(bursts.wants_ring(end), pays, "{per_second}");
    }
}

fn a_short_burst_pays_no_ring() {
    let mut bursts = BurstDetector::default();
    bursts.record(900, true, micros(0));
    assert!(!bursts.wants_ring(micros(0)));
    assert_eq!(bursts.ring_end(), None);
}

fn a_ring_is_given_up_after_a_calm_minute() {
    let mut bursts = BurstDetector::default();
    let busy = second_of(&mut bursts, 20_000, micros(0));
    assert_eq!(bursts.ring_end(), Some(busy + RING_HOLD_TIME));
    let nearly = busy + Duration::from_secs(59);
    assert!(bursts.wants_ring(nearly));
    assert!(!bursts.wants_ring(busy + RING_HOLD_TIME));
    // More than 1,000 packets a second postpone that, fewer do not.
    bursts.record(100, true, nearly);
    assert_eq!(bursts.ring_end(), Some(busy + RING_HOLD_TIME));
    let nearly = nearly + Duration::from_millis(500);
    bursts.record(101, true, nearly);
    assert_eq!(bursts.ring_end(), Some(nearly + RING_HOLD_TIME));
    // Once given up, a ring pays again only from 10,000 a second on.
    let later = nearly + 2 * RING_HOLD_TIME;
    bursts.record(200, true, later);
    assert!(!bursts.wants_ring(later));
}
