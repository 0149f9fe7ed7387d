//! `knockd --status` and SIGUSR1: what a running daemon tells of itself, and what it never tells.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use knocking::status::keys::{DOORKEEPER_KEYS, Key, ValueType, WATCHER_KEYS};
use nix::sys::signal::Signal;
use tinyjson::JsonValue;

use crate::support::daemon::{RunningDaemon, program};
use crate::support::packet::{CLIENT, tcp, udp};
use crate::support::process::{self, Finished};
use crate::support::world::{World, run};
use crate::support::{holds_within, seconds};
use crate::wire::attempts::{DOOR, KNOCKS};

trials![
    the_numbers_are_those_of_the_log,
    single_packets_that_are_forged_are_counted,
    counts_outlive_a_reload,
    a_reload_with_a_mistake_is_told,
    the_json_form_has_the_documented_keys,
    the_table_says_who_is_in,
    five_hundred_knockers_are_told_of_three_hundred_doors,
    metrics_are_of_a_known_form_and_name_no_address,
    no_form_tells_a_secret,
    sockets_are_private_and_removed,
    a_dead_socket_is_replaced_and_a_living_one_is_not,
    without_a_daemon_or_a_socket_the_code_is_3,
    who_may_not_ask_is_told_so,
    a_halted_watcher_is_null,
    a_killed_watcher_is_replaced_at_the_same_socket,
    readers_that_never_read_cost_nothing,
    usr1_writes_what_is_known_to_the_log,
];

/// Asks with these words, by the configuration of the daemon.
pub fn ask(world: &World, daemon: &RunningDaemon, words: &[&str]) -> Finished {
    let (config, pid_file) = (daemon.config.display().to_string(), daemon.folder.join("pid"));
    let pid_file = pid_file.display().to_string();
    let all = [&["--status", "-c", &config, "-p", &pid_file], words].concat();
    run(&world.server, &program().to_string_lossy(), &all)
}

#[track_caller]
fn json(world: &World, daemon: &RunningDaemon) -> JsonValue {
    let finished = ask(world, daemon, &["--json"]);
    assert_eq!((finished.code(), finished.stderr.as_str()), (Some(0), ""), "{}", daemon.said());
    finished.stdout.parse().expect("JSON")
}

fn member<'a>(value: &'a JsonValue, name: &str) -> &'a JsonValue {
    let object: &HashMap<String, JsonValue> = value.get().expect("an object");
    object.get(name).unwrap_or_else(|| panic!("no {name} in {object:?}"))
}

fn number(value: &JsonValue, name: &str) -> u64 {
    let number: &f64 = member(value, name).get().unwrap_or_else(|| panic!("{name} is no number: {value:?}"));
    format!("{number:.0}").parse().expect("a whole number")
}

fn text<'a>(value: &'a JsonValue, name: &str) -> &'a str {
    member(value, name).get::<String>().unwrap_or_else(|| panic!("{name} is no text: {value:?}"))
}

fn list<'a>(value: &'a JsonValue, name: &str) -> &'a Vec<JsonValue> {
    member(value, name).get().expect("a list")
}

/// What a half tells of the first door with this name.
fn door<'a>(half: &'a JsonValue, name: &str) -> &'a JsonValue {
    let doors = list(half, "doors").iter();
    doors.clone().find(|door| text(door, "name") == name).unwrap_or_else(|| panic!("no door {name}"))
}

fn counts(status: &JsonValue, name: &str, keys: [&str; 5]) -> [u64; 5] {
    let door = door(member(status, "watcher"), name);
    keys.map(|key| number(door, key))
}

fn the_numbers_are_those_of_the_log() {
    let world = World::new();
    let doors = format!(
        "{DOOR}log_failures = yes\ncooldown = 100\ncommand = false\n[slow]\nsequence = 5000,5001\nseq_timeout = 1\n\
         [denied]\nsequence = 6000\ndeny = 10.77.0.0/24\n"
    );
    let daemon = world.knockd(&doors).start();
    for _ in 0..3 {
        // Once opened, then ignored; each second knock belongs to no attempt.
        world.send(KNOCKS.map(tcp));
    }
    for number in 20..25 {
        let source = format!("10.77.0.{number}");
        world.send([tcp(1000).from(&source), tcp(3000).from(&source)]);
    }
    world.send([tcp(5000).from("10.77.0.30"), tcp(6000).from("10.77.0.31")]);
    daemon.wait_for("slow: sequence timeout");
    daemon.wait_for("non-zero");
    daemon.sync();
    let status = json(&world, &daemon);
    let keys = ["begun", "failed", "expired", "ignored", "opened"];
    assert_eq!(counts(&status, "d", keys), [6, 5, 0, 2, 1]);
    assert_eq!(counts(&status, "slow", keys), [1, 0, 1, 0, 0]);
    assert_eq!(counts(&status, "denied", keys), [0, 0, 0, 1, 0]);
    let lines = daemon.lines();
    let said = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
    assert_eq!((said("d: Stage 1"), said("d: wrong knock"), said("d: OPEN SESAME")), (6, 5, 1));
    let doorkeeper = member(&status, "doorkeeper");
    assert_eq!((number(doorkeeper, "commands_run"), number(doorkeeper, "commands_failed")), (1, 1));
    let watcher = member(&status, "watcher");
    // 9 + 10 + 2, and the one for the door `sync`.
    assert_eq!(number(watcher, "packets"), 22);
    assert_eq!((number(watcher, "attempts"), number(watcher, "attempts_most")), (0, 1));
}

fn single_packets_that_are_forged_are_counted() {
    let world = World::new();
    let door = "[s]\nspa_key = k\nspa_hmac_key = h\nspa_open = tcp/22\ncommand = true\n";
    let daemon = world.knockd(door).start();
    world.send([[b'+'; 204], [b'8'; 204]].map(|packet| udp(62201).data(&packet)));
    daemon.sync();
    let status = json(&world, &daemon);
    let keys = ["forged", "repeated_packets", "begun", "failed", "opened"];
    assert_eq!(counts(&status, "s", keys), [2, 0, 0, 0, 0]);
}

fn counts_outlive_a_reload() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    world.send(KNOCKS.map(tcp));
    daemon.sync();
    let file = fs::read_to_string(&daemon.config).unwrap();
    let other = file.replace("[d]", "[new]\nsequence = 9000\n[d]").replace("2000", "2001");
    fs::write(&daemon.config, other).unwrap();
    daemon.kill(Signal::SIGHUP);
    let keys = ["begun", "failed", "expired", "ignored", "opened"];
    let has_new = || {
        let status = json(&world, &daemon);
        list(member(&status, "watcher"), "doors").len() == 3
    };
    assert!(holds_within(seconds(30.0), has_new), "{}", daemon.said());
    world.send([tcp(1000)]);
    daemon.sync();
    let status = json(&world, &daemon);
    assert_eq!(counts(&status, "d", keys), [2, 0, 0, 0, 1]);
    assert_eq!(counts(&status, "new", keys), [0; 5]);
    assert!(member(member(&status, "doorkeeper"), "last_reload_ok").get::<bool>() == Some(&true));
}

fn a_reload_with_a_mistake_is_told() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    let file = fs::read_to_string(&daemon.config).unwrap();
    for (mistake, sentence) in [
        ("[d]\nsequnce = 1", "'sequnce' is not a directive"),
        ("[d]\nsequence = 777777", "config: section d: its sequence is wrong (line "),
    ] {
        fs::write(&daemon.config, file.replace("[d]", mistake)).unwrap();
        daemon.kill(Signal::SIGHUP);
        let is_told = || {
            let status = json(&world, &daemon);
            let doorkeeper = member(&status, "doorkeeper");
            let error = member(doorkeeper, "last_reload_error").get::<String>().cloned().unwrap_or_default();
            assert!(!error.contains("777777"), "{error}");
            member(doorkeeper, "last_reload_ok").get() == Some(&false) && error.contains(sentence)
        };
        assert!(holds_within(seconds(30.0), is_told), "{sentence}; {}", daemon.said());
        let table = ask(&world, &daemon, &[]);
        assert!(table.stdout.contains("; refused ") && table.stdout.contains(sentence), "{}", table.stdout);
    }
    fs::write(&daemon.config, file).unwrap();
    daemon.kill(Signal::SIGHUP);
    let is_ok = || {
        let status = json(&world, &daemon);
        let doorkeeper = member(&status, "doorkeeper");
        member(doorkeeper, "last_reload_ok").get() == Some(&true)
            && member(doorkeeper, "last_reload_error").is_null()
    };
    assert!(holds_within(seconds(30.0), is_ok), "{}", daemon.said());
}

/// Every key of the table, and no other, with values of its type.
fn the_json_form_has_the_documented_keys() {
    let world = World::new();
    let doors = format!(
        "{DOOR}start_command = true\nstop_command = true\ncmd_timeout = 100\n[o]\nsequence = 1,2\n\
         [p]\notp = seed, 60, 20000, off, tcp, udp\n"
    );
    let daemon = world.knockd(&doors).start();
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("d: running command");
    let is_open = || {
        let status = json(&world, &daemon);
        let open = list(member(&status, "doorkeeper"), "open");
        open.iter().any(|it| text(it, "phase") == "open")
    };
    assert!(holds_within(seconds(30.0), is_open), "{}", daemon.said());
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("re-reading");
    let status = json(&world, &daemon);
    for (half, keys) in [("watcher", WATCHER_KEYS), ("doorkeeper", DOORKEEPER_KEYS)] {
        let half = member(&status, half);
        let mut names: Vec<&str> = keys.iter().filter(|key| key.list.is_none()).map(|key| key.name).collect();
        names.extend(keys.iter().filter_map(|key| key.list));
        expect_members(half, &names);
        let lists: Vec<&str> = keys.iter().filter_map(|key| key.list).collect();
        for key in keys.iter().filter(|key| key.list.is_none()) {
            expect_kind(half, key);
        }
        for name in lists {
            let of_list: Vec<&Key> = keys.iter().filter(|key| key.list == Some(name)).collect();
            let items = list(half, name);
            assert!(!items.is_empty(), "{name}");
            for item in items {
                expect_members(item, &of_list.iter().map(|key| key.name).collect::<Vec<_>>());
                for key in &of_list {
                    expect_kind(item, key);
                }
            }
        }
    }
    let open = &list(member(&status, "doorkeeper"), "open")[0];
    assert_eq!((text(open, "door"), text(open, "ip"), text(open, "by")), ("d", CLIENT, "command"));
    let (since, until) = (number(open, "since"), number(open, "until"));
    assert!((99..=101).contains(&(until - since)), "{open:?}");
    assert!((1..=100).contains(&number(open, "seconds_left")), "{open:?}");
    assert_eq!(number(door(member(&status, "watcher"), "p"), "period_seconds"), 60);
}

#[track_caller]
fn expect_members(value: &JsonValue, names: &[&str]) {
    let mut names: Vec<&str> = names.to_vec();
    names.sort_unstable();
    names.dedup();
    let object: &HashMap<String, JsonValue> = value.get().expect("an object");
    let mut there: Vec<&str> = object.keys().map(String::as_str).collect();
    there.sort_unstable();
    assert_eq!(there, names);
}

#[track_caller]
fn expect_kind(value: &JsonValue, key: &Key) {
    let value = member(value, key.name);
    let fits = match key.value_type {
        ValueType::Text => value.is_string(),
        ValueType::Number => value.is_number(),
        ValueType::Flag => value.is_bool(),
    };
    assert!(fits || value.is_null(), "{}: {value:?}", key.name);
}

fn the_table_says_who_is_in() {
    let world = World::new();
    let doors = "[ssh]\nsequence = 1000,2000\nstart_command = true\nstop_command = true\ncmd_timeout = 300\n\
                 [vpn]\notp = seed, 60, 20000, off, tcp, udp\n";
    let daemon = world.knockd(doors).start();
    for source in ["10.77.0.7", "10.77.0.8"] {
        world.send([1000, 2000].map(|port| tcp(port).from(source)));
    }
    daemon.wait_for_times(2, "ssh: running command");
    let is_open = || ask(&world, &daemon, &[]).stdout.matches(" s left)").count() == 2;
    assert!(holds_within(seconds(30.0), is_open), "{}", ask(&world, &daemon, &[]).stdout);
    let shown = ask(&world, &daemon, &[]);
    assert_eq!((shown.code(), shown.stderr.as_str()), (Some(0), ""));
    let table = shown.stdout;
    let row = |start: &str| {
        let line = table.lines().find(|line| line.trim_start().starts_with(start));
        line.unwrap_or_else(|| panic!("no {start} in {table}")).split_whitespace().collect::<Vec<_>>()
    };
    assert!(table.starts_with(concat!("knockd ", env!("CARGO_PKG_VERSION"), ", up 0:00:")), "{table}");
    assert!(table.contains(&format!(", pid {} (watcher {})", daemon.pid, daemon.watcher().unwrap())));
    assert!(table.contains("  confined   watcher: user "), "{table}");
    assert!(table.contains("  listening  knk0; 4 packets, 0 dropped; "), "{table}");
    assert!(table.contains("  commands   2 run, 0 failed, 0 killed, 0 running\n"), "{table}");
    assert_eq!(row("ssh ")[..7], ["ssh", "sequence", "2", "0", "0", "0", "2"]);
    assert!(row("ssh ").contains(&"10.77.0.7"), "{table}");
    assert_eq!(row("10.77.0.8")[2..], ["s", "left)"]);
    assert_eq!(row("vpn")[..9], ["vpn", "otp", "60", "s", "0", "0", "0", "0", "0"]);
}

/// The text format 0.0.4: a help and a type before the samples of each name, no sample twice.
fn five_hundred_knockers_are_told_of_three_hundred_doors() {
    let world = World::new();
    let other = |n: u32| format!("[other {n}]\nsequence = {},{}\n", 10_000 + n, 20_000 + n);
    let others: Vec<String> = (0..300).map(other).collect();
    let doors =
        format!("{DOOR}start_command = true\nstop_command = true\ncmd_timeout = 1000\n{}", others.concat());
    let daemon = world.knockd(&doors).start();
    let knockers: Vec<String> = (0..500).map(|n| format!("10.78.{}.{}", n / 250, n % 250 + 1)).collect();
    for some in knockers.chunks(50) {
        world.send(some.iter().flat_map(|knocker| KNOCKS.map(|port| tcp(port).from(knocker))));
        daemon.sync();
    }
    let status = json(&world, &daemon);
    assert_eq!(
        counts(&status, "d", ["begun", "failed", "expired", "ignored", "opened"]),
        [500, 0, 0, 0, 500]
    );
    assert_eq!(list(member(&status, "watcher"), "doors").len(), 302);
    let open = list(member(&status, "doorkeeper"), "open");
    let told: BTreeSet<&str> = open.iter().map(|it| text(it, "ip")).collect();
    let wanted: BTreeSet<&str> = knockers.iter().map(String::as_str).collect();
    assert!(open.len() == 500 && told == wanted, "{} openings of {} knockers", open.len(), told.len());
}

fn metrics_are_of_a_known_form_and_name_no_address() {
    let world = World::new();
    let doors = format!(
        "{DOOR}start_command = true\nstop_command = true\ncmd_timeout = 100\n[d]\nsequence = 7\n[quiet]\nsequence = 8,9\n"
    );
    let daemon = world.knockd(&doors).start();
    world.send(KNOCKS.map(tcp));
    world.send([tcp(7).from("10.77.0.9")]);
    daemon.wait_for("running command");
    daemon.sync();
    let metrics = ask(&world, &daemon, &["--metrics"]).stdout;
    let (mut names, mut seen): (Vec<&str>, Vec<&str>) = Default::default();
    let mut name = "";
    for line in metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            name = rest.split(' ').next().unwrap();
            assert!(!names.contains(&name), "{name} twice");
            names.push(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            assert_eq!(rest, format!("{name} {kind}"));
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            assert!(series.starts_with(name) && value.parse::<u64>().is_ok(), "{line}");
            assert!(!seen.contains(&series), "{series} twice");
            seen.push(series);
        }
    }
    for sample in [
        "knockd_up{process=\"watcher\"} 1\n",
        concat!("knockd_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n"),
        "knockd_interface_up{interface=\"knk0\"} 1\n",
        "knockd_packets_dropped_total{interface=\"knk0\"} 0\n",
        // Two doors of one name are one series.
        "knockd_attempts_begun_total{door=\"d\"} 2\n",
        "knockd_attempts_ended_total{door=\"d\",how=\"opened\"} 2\n",
        "knockd_doors_open{door=\"d\"} 1\n",
        "knockd_commands_total{door=\"d\"} 1\n",
        "knockd_last_reload_successful 1\n",
    ] {
        assert!(metrics.contains(sample), "{sample} is not in {metrics}");
    }
    assert!(!metrics.contains("quiet"), "a door where nothing happened has no series: {metrics}");
    assert!(!metrics.contains("10.77."), "{metrics}");
}

fn no_form_tells_a_secret() {
    let world = World::new();
    let knockd = world.knockd(
        "[seq]\nsequence = 1111,2222:udp,3333\nstart_command = echo SECRETSTART; sleep 100\nstop_command = echo SECRETSTOP\n\
         [otp]\notp = SECRETSEED, 60, 20000, off, tcp, udp\n[once]\none_time_sequences = @/list\n\
         [spa]\nspa_key = SECRETKEY\nspa_hmac_key = SECRETHMAC\nspa_open = tcp/22\ncommand = true\n",
    );
    knockd.folder().write("list", " 4444,5555\n 6666,7777\n");
    let daemon = knockd.start();
    world.send([tcp(1111), udp(2222), tcp(3333), tcp(4444), tcp(5555)]);
    daemon.wait_for("once: OPEN SESAME");
    daemon.sync();
    let before = daemon.raw_log().len();
    daemon.kill(Signal::SIGUSR1);
    daemon.wait_for("status: door once: ");
    let log = daemon.raw_log()[before..].to_owned();
    let raw: Vec<String> =
        ["pid.status", "pid.status.doors"].map(|name| raw(&daemon.folder.join(name))).into();
    let forms = [&[][..], &["--json"], &["--metrics"]].map(|words| ask(&world, &daemon, words).stdout);
    let config = fs::read_to_string(&daemon.config).unwrap();
    for told in forms.iter().chain(&raw).chain([&log]) {
        assert!(told.contains("seq"), "{told}");
        for secret in ["SECRET", "1111", "2222", "3333", "4444", "5555", "6666", "7777", "62201", "20000"] {
            assert!(!told.contains(secret), "{secret} in {told}");
        }
    }
    assert!(config.contains("SECRET"));
}

/// What stands at a socket.
fn raw(path: &std::path::Path) -> String {
    let mut told = String::new();
    let mut stream = UnixStream::connect(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    stream.set_read_timeout(Some(seconds(30.0))).unwrap();
    stream.read_to_string(&mut told).expect("an answer");
    told
}

fn sockets(daemon: &RunningDaemon) -> [PathBuf; 2] {
    ["pid.status", "pid.status.doors"].map(|name| daemon.folder.join(name))
}

fn sockets_are_private_and_removed() {
    let world = World::new();
    let mut daemon = world.knockd(DOOR).start_in_background();
    for path in sockets(&daemon) {
        let metadata = fs::metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(raw(&path).ends_with("\nend\n"));
    }
    let pid_file = daemon.folder.join("pid").display().to_string();
    let by_pid_file = run(&world.server, &program().to_string_lossy(), &["--status", "-p", &pid_file]);
    assert_eq!(by_pid_file.code(), Some(0), "{by_pid_file:?}");
    let paths = sockets(&daemon);
    daemon.kill(Signal::SIGTERM);
    assert!(holds_within(seconds(30.0), || !process::alive(daemon.pid)), "{}", daemon.said());
    assert!(paths.iter().all(|path| !path.exists()), "a socket is left");
    let _ = daemon.runs();
}

fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
    let world = World::new();
    let knockd = world.knockd(DOOR).options("statussocket = @/asked");
    let dead = knockd.folder().join("asked");
    drop(UnixListener::bind(&dead).unwrap());
    let daemon = knockd.start();
    assert!(raw(&dead).starts_with("version "));
    assert!(raw(&daemon.folder.join("asked.doors")).contains("\nconfig "));
    assert_eq!(ask(&world, &daemon, &[]).code(), Some(0));
    drop(daemon);
    // That of somebody else stays, and the daemon says so.
    let knockd = world.knockd(DOOR).options("statussocket = @/asked");
    let place = knockd.folder().join("asked");
    let living = UnixListener::bind(&place).unwrap();
    let daemon = knockd.start();
    let said = || daemon.raw_log().contains("could not make the status socket");
    assert!(holds_within(seconds(40.0), said), "{}", daemon.said());
    assert!(place.exists() && UnixStream::connect(&place).is_ok());
    drop(living);
}

fn without_a_daemon_or_a_socket_the_code_is_3() {
    let world = World::new();
    let mut daemon = world.knockd(DOOR).start();
    assert_eq!(daemon.stop(), Some(0));
    for words in [&[][..], &["--json"], &["--metrics"]] {
        let asked = ask(&world, &daemon, words);
        assert_eq!((asked.code(), asked.stdout.as_str()), (Some(3), ""));
        assert!(asked.stderr.starts_with("knockd is not running: nobody answers at "), "{}", asked.stderr);
    }
    let daemon = world.knockd(DOOR).options("statussocket = none").start();
    assert!(sockets(&daemon).iter().all(|path| !path.exists()));
    let asked = ask(&world, &daemon, &[]);
    assert_eq!((asked.code(), asked.stdout.as_str()), (Some(3), ""));
    assert!(asked.stderr.contains("says StatusSocket = none"), "{}", asked.stderr);
}

fn who_may_not_ask_is_told_so() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    let pid_file = daemon.folder.join("pid").display().to_string();
    let program = program().to_string_lossy().into_owned();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let words = [&nobody[..], &[&*program, "--status", "-p", &pid_file]].concat();
    if run(&world.server, "setpriv", &[&nobody[..], &["true"]].concat()).code() != Some(0) {
        // As an ordinary user's root there is no other user; the kernel refuses nothing then.
        return;
    }
    let asked = run(&world.server, "setpriv", &words);
    assert_eq!((asked.code(), asked.stdout.as_str()), (Some(1), ""), "{asked:?}");
    assert!(
        asked.stderr.contains("Permission denied; only root and the user of knockd may"),
        "{}",
        asked.stderr
    );
}

fn a_halted_watcher_is_null() {
    let world = World::new();
    let doors = format!("{DOOR}start_command = true\nstop_command = true\ncmd_timeout = 100\n");
    let daemon = world.knockd(&doors).start();
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("running command");
    let watcher = daemon.watcher().unwrap();
    assert!(process::signal(watcher, Signal::SIGSTOP));
    let asked = ask(&world, &daemon, &["--json"]);
    assert!(process::signal(watcher, Signal::SIGCONT));
    assert_eq!(asked.code(), Some(1));
    assert!(asked.stderr.starts_with("the watcher does not answer at "), "{}", asked.stderr);
    let status: JsonValue = asked.stdout.parse().unwrap();
    assert!(member(&status, "watcher").is_null());
    assert_eq!(text(&list(member(&status, "doorkeeper"), "open")[0], "door"), "d");
    json(&world, &daemon);
}

fn a_killed_watcher_is_replaced_at_the_same_socket() {
    let world = World::new();
    let daemon = world.knockd(DOOR).start();
    for restarts in 1..=2 {
        daemon.replace_watcher();
        let status = json(&world, &daemon);
        assert_eq!(number(member(&status, "doorkeeper"), "watcher_restarts"), restarts);
        let pid = u64::from(daemon.watcher().unwrap().cast_unsigned());
        assert_eq!(number(member(&status, "watcher"), "pid"), pid);
        assert_eq!(number(member(&status, "doorkeeper"), "watcher_pid"), pid);
    }
}

/// The socket has room for about 200 kB, so with so many doors the rest waits in the daemon.
fn readers_that_never_read_cost_nothing() {
    let world = World::new();
    let door = |n: u32| format!("[door number {n}]\nsequence = 1,{},3\n", 10_000 + n);
    let many: Vec<String> = (0..2000).map(door).collect();
    let many = many.concat();
    let daemon = world.knockd(&format!("{many}{DOOR}")).start();
    let [watcher, doorkeeper] = sockets(&daemon);
    let descriptors = || {
        let count = |pid: i32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        (count(daemon.pid), count(daemon.watcher().unwrap_or_default()))
    };
    // With it comes the packet socket that the watcher keeps in reserve.
    daemon.sync();
    let before = descriptors();
    // Four are answered at a time, and some wait in the kernel; any more are refused there.
    let mut readers = Vec::new();
    for _ in 0..8 {
        for path in [&watcher, &doorkeeper] {
            readers.push(UnixStream::connect(path).expect("a reader that fits"));
        }
    }
    // What is written there goes nowhere.
    let mut writer = UnixStream::connect(&doorkeeper).unwrap();
    writer.set_write_timeout(Some(seconds(1.0))).unwrap();
    let _ = writer.write_all(&vec![b'x'; 1 << 20]);
    for _ in 0..3 {
        world.send(KNOCKS.map(tcp));
        daemon.sync();
    }
    daemon.wait_for_times(3, "d: OPEN SESAME");
    let (main, facing) = descriptors();
    // The doorkeeper serves both sockets, and has a file for what the watcher is to write.
    assert!(main <= before.0 + 10 && facing <= before.1 + 1, "{before:?} -> {main} {facing}");
    // A reader that is answered late is answered as a whole.
    let mut last = UnixStream::connect(&watcher).unwrap();
    drop((readers, writer));
    last.set_read_timeout(Some(seconds(30.0))).unwrap();
    let mut told = String::new();
    last.read_to_string(&mut told).unwrap();
    assert!(told.ends_with("\nend\n") && told.matches("\ndoor ").count() == 2002, "{}", told.len());
    drop(last);
    assert!(holds_within(seconds(30.0), || descriptors() == before), "{before:?} -> {:?}", descriptors());
}

fn usr1_writes_what_is_known_to_the_log() {
    let world = World::new();
    let doors = format!("{DOOR}start_command = true\nstop_command = true\ncmd_timeout = 100\n");
    let daemon = world.knockd(&doors).start();
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("running command");
    let is_open = || ask(&world, &daemon, &[]).stdout.contains(" s left)");
    assert!(holds_within(seconds(30.0), is_open), "{}", daemon.said());
    let watcher = daemon.watcher().unwrap();
    assert!(process::signal(watcher, Signal::SIGUSR1));
    daemon.wait_for("status: door d: 1 begun, 1 opened");
    assert!(!daemon.raw_log().contains("status: doorkeeper"), "{}", daemon.raw_log());
    daemon.kill(Signal::SIGUSR1);
    daemon.wait_for(&format!("status: doorkeeper {} up 0:00:", daemon.pid));
    daemon.wait_for(&format!("status: door d open for {CLIENT} ("));
    daemon.wait_for_times(2, &format!("status: watcher {watcher} up 0:00:"));
    daemon.wait_for_times(2, "status: door d: 1 begun, 1 opened");
}
