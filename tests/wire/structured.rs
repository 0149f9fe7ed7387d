//! The log for programs: JSON lines, and fields for the journal.

use std::collections::HashMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::signal::Signal;
use tinyjson::JsonValue;

use crate::support::daemon::RunningDaemon;
use crate::support::packet::{CLIENT, tcp};
use crate::support::world::World;
use crate::support::{holds_within, seconds};
use crate::wire::attempts::{DOOR, KNOCKS};

trials![
    json_lines_have_the_text_of_the_classic_ones,
    json_names_what_happened,
    verbose_is_json_too,
    odd_bytes_stay_inside_their_strings,
    the_journal_gets_fields,
    without_a_journal_syslog_gets_the_lines,
    debug_tells_which_knock_was_waited_for,
];

type Object = HashMap<String, JsonValue>;

fn objects(log: &str) -> Vec<Object> {
    let parse = |line: &str| match line.parse() {
        Ok(JsonValue::Object(object)) => object,
        other => panic!("{line}: {other:?}"),
    };
    log.lines().map(parse).collect()
}

fn text<'a>(object: &'a Object, name: &str) -> &'a str {
    object.get(name).and_then(|value| value.get::<String>()).map_or("", String::as_str)
}

/// Waits for a line about this.
#[track_caller]
fn wait_for(daemon: &RunningDaemon, event: &str) {
    wait_until(daemon, &format!("\"event\":\"{event}\""));
}

/// Waits until the log has this; its lines may be of either form.
#[track_caller]
fn wait_until(daemon: &RunningDaemon, text: &str) {
    let is_there = || daemon.raw_log().lines().any(|line| line.contains(text));
    assert!(holds_within(seconds(30.0), is_there), "no {text}; {}", daemon.said());
}

fn json_lines_have_the_text_of_the_classic_ones() {
    let doors = format!(
        "{DOOR}log_failures = yes\nstart_command = true\nstop_command = false\ncmd_timeout = 1\n\
         [slow]\nsequence = 5000,5001\nseq_timeout = 1\n"
    );
    let log_of = |options: &str| {
        let world = World::new();
        let mut daemon = world.knockd(&doors).options(options).start();
        world.send([tcp(1000).from("10.77.0.9"), tcp(3000).from("10.77.0.9"), tcp(5000).from("10.77.0.8")]);
        wait_until(&daemon, "sequence timeout");
        world.send(KNOCKS.map(tcp));
        wait_until(&daemon, "non-zero");
        daemon.stop();
        daemon.raw_log()
    };
    let classic = log_of("");
    let classic: Vec<&str> =
        classic.lines().filter(|line| !line.is_empty()).map(|line| &line[19..]).collect();
    let json = objects(&log_of("log_format = json"));
    assert_eq!(json.iter().map(|object| text(object, "text")).collect::<Vec<_>>(), classic);
    for object in &json {
        let time = text(object, "time");
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    }
    let words: Vec<&str> = json.iter().map(|object| text(object, "event")).collect();
    for word in
        ["start", "stage", "failed", "timeout", "opened", "command", "time_is_up", "command_failed", "stop"]
    {
        assert!(words.contains(&word), "{word} is not in {words:?}");
    }
}

fn json_names_what_happened() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}command = true")).options("log_format = json").start();
    world.send(KNOCKS.map(tcp));
    wait_for(&daemon, "command");
    let json = objects(&daemon.raw_log());
    let opened = json.iter().find(|object| text(object, "event") == "opened").expect("an opening");
    assert_eq!((text(opened, "door"), text(opened, "ip")), ("d", CLIENT));
    assert_eq!(text(opened, "text"), format!("{CLIENT}: d: OPEN SESAME"));
    let stages: Vec<f64> = json.iter().filter_map(|object| object.get("stage")?.get().copied()).collect();
    assert_eq!(format!("{stages:?}"), "[1.0, 2.0, 3.0]");
    let file = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, file.replace("[d]", "nonsense\n[d]")).unwrap();
    daemon.kill(Signal::SIGHUP);
    wait_for(&daemon, "reload_failed");
    wait_for(&daemon, "reload");
}

fn verbose_is_json_too() {
    let world = World::new();
    let knockd = world.knockd(DOOR).options("log_format = json").arguments(&["-v"]);
    let daemon = knockd.start();
    world.send(KNOCKS.map(tcp));
    let is_there = || daemon.stdout().contains("OPEN SESAME");
    assert!(holds_within(seconds(30.0), is_there), "{}", daemon.said());
    // The line before the configuration counts stays.
    let output = daemon.stdout_but_for_confinement();
    let lines: Vec<&str> = output.lines().filter(|line| !line.starts_with("listening on ")).collect();
    let texts: Vec<String> =
        objects(&lines.join("\n")).iter().map(|object| text(object, "text").to_owned()).collect();
    assert!(texts.contains(&format!("{CLIENT}: d: OPEN SESAME")), "{texts:?}");
}

fn odd_bytes_stay_inside_their_strings() {
    let world = World::new();
    let name = "a \"quoted\\\" {door}";
    let knockd = world.knockd(&format!("[{name}]\nsequence = 1000\ncommand = : ODD"));
    let daemon = knockd.options("log_format = json").start();
    // Not UTF-8, and a control character.
    let file = fs::read(&daemon.config).unwrap();
    let at = file.windows(3).position(|it| it == b"ODD").unwrap();
    let odd = [&file[..at], b"\xff\x01\t\"", &file[at + 3..]].concat();
    fs::write(&daemon.config, odd).unwrap();
    daemon.kill(Signal::SIGHUP);
    wait_for(&daemon, "reload");
    let is_new = || {
        world.send([tcp(1000)]);
        objects(&daemon.raw_log()).iter().any(|it| text(it, "text").ends_with(": \u{fffd}\u{1}\t\""))
    };
    assert!(holds_within(seconds(30.0), is_new), "{}", daemon.said());
    assert!(objects(&daemon.raw_log()).iter().any(|object| text(object, "door") == name));
}

/// The journal's socket has one place, so this is one test.
fn the_journal_gets_fields() {
    let world = World::new();
    let knockd = world.knockd(&format!("{DOOR}command = true")).options("UseJournal");
    let place = knockd.folder().join("journal");
    let journal = UnixDatagram::bind(&place).unwrap();
    journal.set_read_timeout(Some(seconds(30.0))).unwrap();
    fs::create_dir_all("/run/systemd/journal").unwrap();
    let mut daemon = knockd.without_sync().replacing("/run/systemd/journal", "socket", &place).start();
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("running command");
    daemon.stop();
    let mut entries = Vec::new();
    while entries.last().is_none_or(|entry: &String| !entry.contains("KNOCKD_EVENT=stop")) {
        let mut buffer = [0; 4096];
        let length = journal.recv(&mut buffer).unwrap_or_else(|e| panic!("{e} behind {entries:?}"));
        entries.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    let opened = format!(
        "MESSAGE={CLIENT}: d: OPEN SESAME\nPRIORITY=5\nSYSLOG_IDENTIFIER=knockd\nSYSLOG_FACILITY=3\n\
         KNOCKD_EVENT=opened\nKNOCKD_DOOR=d\nKNOCKD_IP={CLIENT}\n"
    );
    assert!(entries.contains(&opened), "{entries:#?}");
    assert!(entries[0].starts_with("MESSAGE=starting up, listening on knk0\n"), "{entries:#?}");
    assert_eq!(daemon.stderr(), "");
}

fn without_a_journal_syslog_gets_the_lines() {
    let world = World::new();
    let knockd = world.knockd(DOOR).options("UseJournal");
    let place = knockd.folder().join("log-socket");
    let syslog = UnixDatagram::bind(&place).unwrap();
    syslog.set_read_timeout(Some(seconds(30.0))).unwrap();
    fs::create_dir_all("/run/systemd/journal").unwrap();
    let nowhere = Path::new("/no/such/socket");
    let knockd = knockd.without_sync().replacing("/run/systemd/journal", "socket", nowhere);
    let _daemon = knockd.replacing("/dev", "log", &place).start();
    let mut buffer = [0; 1024];
    let length = syslog.recv(&mut buffer).expect("a line");
    let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(message.contains("knockd: starting up, listening on knk0"), "{message}");
}

fn debug_tells_which_knock_was_waited_for() {
    let world = World::new();
    let daemon = world.knockd(&format!("{DOOR}log_failures = yes")).arguments(&["-D"]).start();
    world.send([1000, 3000].map(tcp));
    daemon.expect(&format!("{CLIENT}: d: Stage 1\n{CLIENT}: d: wrong knock (stage 1)"));
    let line = "d: stage 2 is 2000:tcp, but 3000:tcp came\n";
    assert!(holds_within(seconds(30.0), || daemon.stdout().contains(line)), "{}", daemon.stdout());
}
