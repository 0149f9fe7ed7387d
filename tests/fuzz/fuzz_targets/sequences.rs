//! Sequences in all their forms: those of a configuration, the lines of one-time files, passwords and the
//! client's arguments. What is parsed and written again must parse to the same.
#![no_main]

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use knocking::door::lock::{Lock, OneTime, one_time_lines};
use knocking::door::otp::Otp;
use knocking::door::sequence::{MAX_STAGES, Sequence, atoi};
use knocking::plan::packet_template;
use knocking::plan::password::{self, KnockTime, SourceLookup, only_line, parse_printed_address};
use knocking::plan::{Pace, ParseOptions, RequestedStage, parse_delay};
use knocking::time::Now;
use libfuzzer_sys::fuzz_target;

fn sequence(text: &str) {
    let Ok(sequence) = Sequence::parse(text) else { return };
    assert!((1..=MAX_STAGES).contains(&sequence.stages().len()));
    let again = Sequence::parse(&sequence.to_string());
    assert_eq!(again.as_ref(), Ok(&sequence), "as it is written");
    assert_eq!(again.map(|again| again.turn()), Ok(sequence.turn()));
    let _ = atoi(text);
}

/// Every line is found at its offset, and spent once, in the order of the file.
fn one_time(text: &[u8]) {
    let lines: Vec<_> = one_time_lines(text).collect();
    for line in &lines {
        let at_line = text.get(line.offset..).expect("a line within the file");
        assert!(line.offset == 0 || text[line.offset - 1] == b'\n', "not where a line begins");
        let mut struck = text.to_vec();
        struck[line.offset] = b'#';
        assert!(!at_line.is_empty() && at_line[0] != b'#');
        assert_eq!(one_time_lines(&struck).count(), lines.len() - 1, "striking a line strikes that one");
    }
    let mut complaints = 0;
    let file = OneTime::read(PathBuf::from("/"), text, |_| complaints += 1);
    assert_eq!(file.lines().len() + complaints, lines.len());
    let mut left = file.lines().len();
    let mut lock = Lock::OneTime(Box::new(file));
    let now = Now { uptime: Duration::ZERO, unix: Duration::ZERO };
    let knocker = IpAddr::from([10, 0, 0, 1]);
    while let Some((stage, turn)) = lock.first_stages(now).first().copied() {
        assert_eq!(lock.stage(turn, knocker, 0), Some(stage));
        assert_eq!(lock.length(turn, knocker), lock.current_sequence().map(|line| line.stages().len()));
        lock.spend(turn, knocker, now);
        left -= 1;
    }
    assert_eq!(left, 0, "lines that were not used");
}

fn one_time_password(text: &[u8]) {
    let Ok(otp) = password::parse(text) else {
        assert!(!matches!(Otp::parse(text), Ok(Some(_))), "the daemon understands it");
        return;
    };
    let period = otp.period(Duration::from_secs(1_700_000_000));
    for knocker in ["10.0.0.1", "fd00::1"].map(|text| text.parse::<IpAddr>().expect("an address")) {
        let list = otp.list(period, knocker);
        assert_eq!(list.len(), otp.stages());
        for (index, stage) in list.iter().enumerate() {
            assert_eq!(otp.stage(period, knocker, index), Some(*stage), "stage {index}");
            let is_in =
                |(protocol, low, high)| protocol == stage.protocol && (low..=high).contains(&stage.port);
            assert!(otp.ranges().into_iter().any(is_in), "{stage} is not listened for");
        }
        assert_eq!(otp.stage(period, knocker, list.len()), None);
        assert_eq!(otp.first_stage(period), list.first().copied());
    }
    for unix in [Duration::ZERO, Duration::from_millis(1_700_000_039_500), Duration::MAX] {
        let knock_time = KnockTime::next(&otp, unix);
        assert!(knock_time.has_begun(&otp, unix.saturating_add(knock_time.wait)), "{knock_time:?}");
        assert!(otp.accepted(unix).contains(&knock_time.period) || otp.window == 0);
    }
    // The identity does not depend on the window.
    let mut other = otp.clone();
    other.window = 7;
    assert_eq!(other.identity(), otp.identity());
}

fn client(text: &str) {
    for bits in 0..8 {
        let options = ParseOptions { udp: bits & 1 != 0, raw: bits & 2 != 0, strict: bits & 4 != 0 };
        let one = RequestedStage::parse(text, options);
        match &one {
            Ok(asked) => assert!(text.starts_with(&asked.text)),
            Err(error) => assert!(!error.to_string().is_empty() && !error.redacted().is_empty()),
        }
        if let (Ok(list), false) = (RequestedStage::parse_list(text, options), text.contains(',')) {
            assert_eq!(list.len(), 1);
        }
    }
    if let Ok(delay) = parse_delay(text) {
        let pace = Pace { delay, jitter: delay };
        assert!([0, 7, u64::MAX].iter().all(|&random| pace.pause(random) >= delay));
    }
    let _ = SourceLookup::parse(text);
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    sequence(&text);
    client(&text);
    one_time(bytes);
    one_time_password(bytes);
    let _ = (packet_template::parse_payload(bytes), only_line(bytes), parse_printed_address(bytes));
});
