//! Parses text as knockd.conf. What follows a line `---` is a second file: the one that it includes, and the
//! file of every `One_Time_Sequences`. An invalid configuration must give an error with its line; a valid
//! one must give an engine, and a filter within its limits.
#![no_main]

use std::io;
use std::path::Path;

use fuzzing::interpreter::check;
use knocking::config::{Config, ConfigError, Note, Reading, includes};
use knocking::engine::Engine;
use knocking::filter::interest::Interest;
use knocking::filter::{HostProperties, MAX_INSTRUCTIONS, program};
use knocking::plan::profile;
use knocking::time::Now;
use libfuzzer_sys::fuzz_target;

/// More addresses than the filter checks would make no difference.
const HERE: [&str; 2] = ["10.0.0.1", "fd00::1"];

fn read(files: &[(Option<&Path>, &[u8])], once: &[u8], given: bool) -> Result<Config, ConfigError> {
    let mut file = |path: &Path| {
        if path.as_os_str().is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(once.to_vec()) }
    };
    let mut note = |note| {
        let (Note::Understood(text) | Note::Explained(text) | Note::LeftOut(text)) = note;
        assert!(!text.is_empty());
    };
    let reading = Reading { file: &mut file, note: &mut note, interface_is_given: given };
    Config::parse_all(files, reading)
}

/// The result of parsing a configuration, as text.
fn digest(result: &Result<Config, ConfigError>) -> String {
    match result {
        Ok(config) => format!("{config:?}"),
        Err(error) => error.to_string(),
    }
}

fn use_it(config: Config) {
    let _ = config.warnings();
    let here = HERE.map(|text| text.parse().expect("an address"));
    for (ahead, only_v4, budget) in
        [(0, false, MAX_INSTRUCTIONS), (2, true, 300), (usize::MAX - 1, false, usize::MAX)]
    {
        let interest = Interest::of(&config.doors, ahead);
        let host = HostProperties { here: &here, loopback: Some(1), only_v4, count_once: None };
        check(&program(&interest, host, budget));
    }
    let _ = config.options.state_files(Path::new("/pid"));
    let mut engine = Engine::new(config.doors, here);
    for unix in [0, 1_700_000_000, u64::MAX] {
        let now = Now { uptime: std::time::Duration::ZERO, unix: std::time::Duration::from_secs(unix) };
        let mut events = Vec::new();
        engine.expire(now, &mut events);
        assert!(events.is_empty() && engine.next_deadline().is_none());
    }
}

fuzz_target!(|text: &[u8]| {
    let cut = text.windows(5).position(|five| five == b"\n---\n");
    let (first, second) = cut.map_or((text, &[][..]), |at| (&text[..at], &text[at + 5..]));
    assert!(includes(first).all(|(line, _)| line > 0));
    let _ = profile::parse(first);

    let one = read(&[(None, first)], second, false);
    // Neither a comment at the end nor another end of line changes anything.
    let commented = [first, b"\n# the end"].concat();
    assert_eq!(digest(&one), digest(&read(&[(None, &commented)], second, false)), "with a comment");
    if let Err(error) = &one {
        assert!(error.line <= first.split(|&byte| byte == b'\n').count(), "line {}", error.line);
        assert!(!error.to_string().is_empty());
    }
    if let Ok(config) = one {
        use_it(config);
    }
    let files = [(None, first), (Some(Path::new("/etc/knockd.d/a.conf")), second)];
    if let Ok(config) = read(&files, second, true) {
        assert!(config.options.interface.is_none(), "the one on the command line counts");
        use_it(config);
    }
});
