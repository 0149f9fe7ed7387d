//! The configuration file: each `corpus/config/NAME.conf` is read, and the result is compared with
//! `NAME.expected`: the output of -D, the options and doors, the warnings of `--check`; or the error.
//!
//! Paths in such a file are looked up in `corpus/config/files/`.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use knocking::config::{Config, ConfigError, Note, Reading, Warning};
use knocking::door::knock::{FlagRule, Flags};
use knocking::door::lock::Lock;
use knocking::door::{Door, Template};
use libtest_mimic::Trial;

use crate::support::folder::read;
use crate::support::golden::golden;

trials![
    the_shipped_file_is_valid,
    the_examples_of_the_manual_are_valid,
    the_interface_of_the_command_line_wins,
    errors_have_the_line,
    every_door_counts_as_a_secret,
    max_attempts_has_bounds,
    a_syntax_error_says_why,
    directives_of_patched_versions_are_understood,
];

const CORPUS: &str = "tests/corpus/config";

/// One test for each file of the corpus.
pub fn corpus_tests() -> Vec<Trial> {
    let mut names: Vec<String> = top(CORPUS)
        .read_dir()
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".conf").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() > 20, "where is {CORPUS}?");
    let trial = |name: String| {
        Trial::test(format!("config::file::corpus::{name}"), move || {
            let text = std::fs::read(top(CORPUS).join(&name).with_extension("conf")).unwrap();
            golden(&format!("{CORPUS}/{name}.expected"), &digest(&text));
            Ok(())
        })
    };
    names.into_iter().map(trial).collect()
}

fn the_shipped_file_is_valid() {
    let text = read(&top("knockd.conf"));
    let config = accepted(&text);
    assert_eq!(names(&config)[..3], ["ssh", "open", "close"]);
    assert_eq!(config.warnings(), []);
    // What is commented out must be valid too.
    let is_offered = |rest: &str| {
        rest.starts_with(['[', '\t'])
            || (rest.contains(" = ") && !rest.starts_with(' '))
            || rest == "UseSyslog"
    };
    let offered: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| is_offered(rest)).unwrap_or(line))
        .collect();
    let all = accepted(&offered.join("\n").replace("/etc/knockd/once", "/plenty"));
    assert!(all.doors.len() >= config.doors.len() + 2, "{:?}", names(&all));
    assert_eq!(all.warnings(), []);
    assert!(all.options.log_file.is_some() && all.options.pid_file.is_some());
    assert!(all.options.interface.is_some() && all.options.use_syslog);
}

fn the_examples_of_the_manual_are_valid() {
    let page = read(&top("man/knockd.1"));
    let (_, examples) = page.split_once(".Sh EXAMPLES\n").expect("the section EXAMPLES");
    let (examples, _) = examples.split_once("\n.Sh ").expect("a section after EXAMPLES");
    let blocks = examples.split(".Bd -literal").skip(1).map(|block| {
        let (text, _) = block.split_once(".Ed").expect("the end of an example");
        text.split_once('\n').expect("a line").1.replace("\\&", "").replace("\\-", "-")
    });
    let (mut files, mut lists) = (Vec::new(), Vec::new());
    for block in blocks {
        match block.trim_start() {
            text if text.starts_with('[') => files.push(block),
            text if text.starts_with(|first: char| first.is_ascii_digit()) => lists.push(block),
            text => assert!(text.starts_with("knock "), "an example of what?\n{text}"),
        }
    }
    assert!(files.len() >= 5 && lists.len() == 1, "{} files, {} lists", files.len(), lists.len());
    let mut all_names = Vec::new();
    for text in files {
        let mut list = |path: &Path| {
            assert_eq!(path, Path::new("/etc/knockd/once"));
            Ok(lists[0].clone().into_bytes())
        };
        let reading = Reading { file: &mut list, note: &mut no_complaint, interface_is_given: false };
        let config =
            Config::parse(text.as_bytes(), reading).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let few = |warning: &Warning| !warning.to_string().contains("usable lines left");
        assert_eq!(config.warnings().into_iter().filter(few).collect::<Vec<_>>(), [], "{text}");
        all_names.extend(names(&config));
    }
    for name in ["ssh", "open", "close", "web", "nas", "once"] {
        assert!(all_names.iter().any(|it| it == name), "no door '{name}' in {all_names:?}");
    }
}

fn the_interface_of_the_command_line_wins() {
    let mut notes = Vec::new();
    let mut note = |note| notes.push(note);
    let reading = Reading { file: &mut file, note: &mut note, interface_is_given: true };
    let config = Config::parse(b"[options]\ninterface = eth7\nlogfile = /l\n", reading).unwrap();
    assert_eq!(config.options.interface, None);
    let understood = |text: &str| Note::Understood(text.to_owned());
    assert_eq!(notes, [understood("config: new section: 'options'"), understood("config: log file: /l")]);
}

/// Also errors whose message does not show the line.
fn errors_have_the_line() {
    let line = |text: &str| refused(text).line;
    assert_eq!(line("# 1\r\n\n[a]\nsequence = 1\nnonsense"), 5);
    assert_eq!(line("[a]\nsequence = 1\n\n[b]\nsequence = 70000"), 5);
    assert_eq!(line("[a]\nsequence = 1\n[b]\n[c]\nsequence = 1\n[d]\n"), 3);
}

fn every_door_counts_as_a_secret() {
    assert!(accepted("[a]\nsequence = 1\n").holds_secrets());
    assert!(!accepted("[options]\nlogfile = /l\n").holds_secrets());
}

/// The result of reading a file, as text.
fn digest(text: &[u8]) -> String {
    let mut lines = Vec::new();
    let mut note = |note| {
        lines.push(match note {
            Note::Understood(text) | Note::Explained(text) => text,
            Note::LeftOut(text) => format!("left out: {text}"),
        });
    };
    let reading = Reading { file: &mut file, note: &mut note, interface_is_given: false };
    match Config::parse(text, reading) {
        Err(error) => lines.push(format!("refused: {error}")),
        Ok(config) => {
            let options = &config.options;
            let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
            let named = [("log", path(&options.log_file)), ("pid", path(&options.pid_file))];
            for (name, value) in
                named.into_iter().chain([("interface", options.interface.as_ref().map(ToString::to_string))])
            {
                lines.extend(value.map(|value| format!("= {name} '{value}'")));
            }
            lines.extend(options.use_syslog.then(|| "= syslog".to_owned()));
            lines.extend(config.doors.iter().map(|door| format!("= {}", summary(door))));
            lines.extend(config.warnings().into_iter().map(|warning| format!("warning: {warning}")));
        }
    }
    lines.into_iter().flat_map(|line| [line.trim_end().to_owned(), "\n".to_owned()]).collect()
}

fn summary(door: &Door) -> String {
    let sequences: Vec<String> = match &door.lock {
        Lock::Fixed(sequence) => vec![sequence.to_string()],
        Lock::OneTime(list) => list.lines().map(ToString::to_string).collect(),
        Lock::Spa(lock) => vec![format!("single packets to port {}", lock.port)],
        Lock::Otp(lock) => vec![format!(
            "otp {}, {:?}, {} periods around, {}",
            lock.otp,
            lock.otp.digest,
            lock.otp.window,
            if lock.is_reusable { "many times" } else { "once" }
        )],
    };
    let mut parts = vec![format!("'{}': {} in {} s", door.name, sequences.join(" then "), door.seq_timeout)];
    if door.flags != FlagRule::default() {
        parts.push(format!("flags {} not {}", flags(door.flags.set), flags(door.flags.clear)));
    }
    parts.extend(door.target.map(|target| format!("at {target}")));
    let commands =
        [("start", &door.start), ("start6", &door.start6), ("stop", &door.stop), ("stop6", &door.stop6)];
    for (name, command) in commands {
        parts.extend(command.as_ref().map(|command| format!("{name} '{}'", shown(command))));
    }
    parts.push(format!("for {} s", door.cmd_timeout));
    parts.join(", ")
}

fn flags(flags: Flags) -> String {
    let names = Flags::NAMES.into_iter().filter(|(_, flag)| flags.contains(*flag)).map(|(name, _)| name);
    names.collect::<Vec<_>>().join("+")
}

fn shown(command: &Template) -> String {
    let text = command.fill(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).expect("a short command");
    String::from_utf8_lossy(&text).into_owned()
}

pub fn accepted(text: &str) -> Config {
    let reading = Reading { file: &mut file, note: &mut no_complaint, interface_is_given: false };
    Config::parse(text.as_bytes(), reading).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn refused(text: &str) -> ConfigError {
    let reading = Reading { file: &mut file, note: &mut |_| {}, interface_is_given: false };
    Config::parse(text.as_bytes(), reading).expect_err(text)
}

fn no_complaint(note: Note) {
    if let Note::LeftOut(text) = note {
        panic!("{text}");
    }
}

fn names(config: &Config) -> Vec<String> {
    config.doors.iter().map(|door| door.name.to_string()).collect()
}

fn file(path: &Path) -> io::Result<Vec<u8>> {
    let name = path.strip_prefix("/").map_err(|_| io::ErrorKind::NotFound)?;
    std::fs::read(top(CORPUS).join("files").join(name))
}

fn top(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn max_attempts_has_bounds() {
    let options = |value: &str| format!("# 1\n[options]\nmax_attempts = {value}");
    assert_eq!(accepted("[options]").options.max_attempts(), 65_536);
    for number in [16, 17, 65_536, 1_000_000] {
        assert_eq!(accepted(&options(&number.to_string())).options.max_attempts(), number);
    }
    for value in
        ["15", "0", "-16", "1000001", "99999999999999999999", "", "many", "16k", "1e3", "65,536", "16 #"]
    {
        let error = refused(&options(value));
        assert_eq!(error.line, 3, "{value}");
        let text = error.to_string();
        assert!(text.contains("line 3") && text.contains("a number from 16 to 1000000"), "{text}");
    }
    // Not allowed in a door.
    assert_eq!(
        refused("[d]\nsequence = 1\nmax_attempts = 100").to_string(),
        "config: line 3: syntax error: Max_Attempts belongs in [options]"
    );
}

/// After the words of knockd 0.8.
fn a_syntax_error_says_why() {
    let refused = |text: &str| refused(text).to_string();
    for (line, why) in [
        ("sequense = 1,2", "'sequense' is not a directive; the nearest is Sequence"),
        ("sec_timeout = 5", "'sec_timeout' is not a directive; the nearest is Seq_Timeout"),
        ("start-command = x", "'start-command' is not a directive; the nearest is Start_Command"),
        ("StartCommand = x", "'StartCommand' is not a directive; the nearest is Start_Command"),
        ("tcp_flags = syn", "'tcp_flags' is not a directive; the nearest is TCPFlags"),
        ("wobble = 1", "'wobble' is not a directive"),
        ("logfile = /x", "LogFile belongs in [options]"),
        ("sequence 7000,8000", "'sequence ...' lacks its =: write Sequence = VALUE"),
        ("sequence: 7000,8000", "'sequence ...' lacks its =: write Sequence = VALUE"),
        ("[other] # mine", "a section is [NAME] alone in its line, without a comment"),
        ("// 7000", "a comment begins with #"),
        ("; 7000", "a comment begins with #"),
        ("= 7000", "there is nothing before the ="),
        ("UseSyslog = yes", "'UseSyslog' stands alone, without a value or a comment"),
        ("UseSyslog # mine", "'UseSyslog' stands alone, without a value or a comment"),
        (
            "Opens the secret door 7000",
            "'Opens ...' is neither a directive nor a comment, which begins with #",
        ),
        ("MYSECRETSEED,45,20000,on,tcp", "'...' is neither a directive nor a comment, which begins with #"),
        ("s3cret==", "'...' is not a directive"),
        ("s3cret 45", "'...' is neither a directive nor a comment, which begins with #"),
        ("ipset = x", "'IPSet' is not a directive here: write Start_Command = ipset -exist add SET %IP%"),
        (
            "include_dir = /x",
            "'Include_Dir' is not a directive here: write Include = DIR/*.conf in [options]",
        ),
        (
            "AllowDuplicates = yes",
            "'AllowDuplicates' stands alone here; with a value it is Allow_Duplicates = yes",
        ),
    ] {
        let text = format!("[d]\nsequence = 1\n{line}\n");
        assert_eq!(refused(&text), format!("config: line 3: syntax error: {why}"), "{line}");
    }
    let texts = [
        (
            "[options]\nsequence = 1\n",
            "config: line 2: syntax error: Sequence belongs in the section of a door",
        ),
        (
            "[Options]\nusesyslog\ninterface = x\n",
            "config: line 3: syntax error: Interface belongs in [options], written like that",
        ),
        (
            "[d]\nsequence = 1\ncommand = a \\\nb\n",
            "config: line 4: syntax error: the line before ends with \\, but a line cannot be continued",
        ),
        (
            "[OPTIONS]\n",
            "error: section 'OPTIONS' has an empty knock sequence (line 1): [options] is written in lower case and without blanks",
        ),
        (
            "\u{feff}[d]\n",
            "config: line 1: all directives must belong to a section: the file begins with a byte order mark (EF BB BF), which an editor put there",
        ),
    ];
    for (text, message) in texts {
        assert_eq!(refused(text), message, "{text}");
    }
}

/// Images and packages ship patched versions of knockd 0.8, whose files go on working.
fn directives_of_patched_versions_are_understood() {
    let config = accepted(
        "[options]\nAllowDuplicates\n[wake]\nsequence = 1\nseq_cooldown = 15\n[ours]\nsequence = 2\nallow_duplicates = no\n",
    );
    let [wake, ours] = config.doors.as_slice() else { panic!("{config:?}") };
    assert_eq!(wake.rules.cooldown.as_secs(), 15);
    assert!(wake.rules.allows_duplicates && !ours.rules.allows_duplicates);
}
