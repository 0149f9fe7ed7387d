//! The client around the knock: its command line, waiting, commands, proxying.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::packet::{CLIENT, SERVER, SERVER_MAC, SERVER6, SYN};
use crate::support::process::Finished;
use crate::support::world::{CLIENT_LINK, World, run};
use crate::support::{holds_within, seconds};

trials![
    an_open_port_ends_the_wait_at_once,
    a_port_that_opens_late_is_found,
    what_a_port_did_instead_of_opening_is_said,
    the_usage_fits_a_terminal,
    a_port_that_stays_closed_is_an_error,
    retries_knock_again,
    a_udp_port_answers_with_a_datagram,
    knocking_and_connecting_in_one_command,
    a_command_gets_its_arguments_and_gives_the_exit_code,
    a_command_that_cannot_run_is_an_error,
    a_client_leaves_no_core_dump_and_its_command_may,
    a_proxy_copies_both_directions,
    a_proxy_copies_each_line_at_once,
    errors_have_the_words_of_getopt,
    abbreviations_of_0_8_still_work,
    a_closed_pipe_is_not_an_error,
    the_manual_has_every_option,
];

pub const KNOCK: &str = env!("CARGO_BIN_EXE_knock");

#[track_caller]
pub fn ends(finished: &Finished, code: i32, stderr: &str) {
    assert_eq!((finished.code(), finished.stderr.as_str()), (Some(code), stderr));
}

fn an_open_port_ends_the_wait_at_once() {
    let world = World::new();
    for address in [SERVER, SERVER6] {
        let _listener = world.server.run(|| TcpListener::bind((address, 2222)).unwrap());
        let begin = Instant::now();
        ends(&world.knock(&["--wait", "2222", address, "1"]), 0, "");
        assert!(begin.elapsed() < seconds(4.0));
    }
}

fn a_port_that_opens_late_is_found() {
    let world = World::new();
    let _listener = thread::scope(|scope| {
        let late = scope.spawn(|| {
            thread::sleep(seconds(0.6));
            world.server.run(|| TcpListener::bind((SERVER, 2222)).unwrap())
        });
        ends(&world.knock(&["--wait", "2222/tcp", "--timeout", "5", SERVER, "1"]), 0, "");
        late.join().unwrap()
    });
}

/// The line about a port of the server.
fn shut(words: &str) -> String {
    format!("error: {SERVER}: {words}\n")
}

fn what_a_port_did_instead_of_opening_is_said() {
    let world = World::new();
    world.client.add_neighbour(CLIENT_LINK, "10.77.0.50", SERVER_MAC);
    let knock = |words: &[&str]| {
        let finished = world.knock(&[&["--wait", "2222", "--timeout", "0.4"], words].concat());
        assert_eq!(finished.code(), Some(3), "{}", finished.stderr);
        finished.stderr
    };
    let silent = knock(&["10.77.0.50", "1"]);
    let wanted = "error: 10.77.0.50: tcp port 2222 did not open; knocked once; \
                  no answer: are these the ports of the door, and do they get through?\n";
    assert_eq!(silent, wanted);
    let otp = knock(&["--otp", "secret,60,20000,on,tcp", "--source-ip", "10.77.0.2", "10.77.0.50"]);
    let words = "no answer: is it the seed, the address that the server sees, or a clock? \
                 A list opens once; this is period ";
    assert!(otp.contains(words) && otp.ends_with(" s\n") && !otp.contains("secret"), "{otp}");
    // Without a route, at once.
    let begin = Instant::now();
    let words = ["--wait", "2222", "--timeout", "20", "192.0.2.1", "1"];
    let cut_off = world.knock(&words);
    assert_eq!(cut_off.code(), Some(3));
    let wanted = "error: 192.0.2.1: tcp port 2222 did not open; knocked once; Network is unreachable\n";
    assert_eq!(cut_off.stderr, wanted);
    assert!(begin.elapsed() < seconds(10.0), "{:?}", begin.elapsed());
}

/// The usage does not push the message away: no more than 80 columns, and the message once more on a terminal.
fn the_usage_fits_a_terminal() {
    let world = World::new();
    let usage = world.knock(&["-h"]).stdout;
    for line in usage.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

fn a_port_that_stays_closed_is_an_error() {
    let world = World::new();
    let begin = Instant::now();
    let finished = world.knock(&["--wait", "2222", "--timeout", "0.4", SERVER, "1", "--", "echo", "in"]);
    ends(
        &finished,
        3,
        &shut(
            "tcp port 2222 did not open; knocked once; refused: nothing listens there, or the firewall rejects",
        ),
    );
    assert_eq!(finished.stdout, "", "the command ran");
    assert!((0.4..2.0).contains(&begin.elapsed().as_secs_f64()), "{:?}", begin.elapsed());
}

fn retries_knock_again() {
    let world = World::new();
    let mut capture = world.capture();
    let words = ["-v", "--wait", "2222", "--timeout", "0.2", "--retries", "2", SERVER, "1000"];
    let finished = world.knock(&words);
    ends(
        &finished,
        3,
        &shut(
            "tcp port 2222 did not open; knocked 3 times; refused: nothing listens there, or the firewall rejects",
        ),
    );
    assert_eq!(finished.stdout.lines().count(), 3);
    let mut knocks = || {
        let seen = capture.read_for(Duration::from_millis(20));
        seen.iter().filter(|seen| seen.port == 1000 && seen.flags == SYN).count()
    };
    assert!(holds_within(seconds(30.0), || knocks() == 3));
}

fn a_udp_port_answers_with_a_datagram() {
    let world = World::new();
    let socket = world.server.run(|| UdpSocket::bind((SERVER, 5353)).unwrap());
    socket.set_read_timeout(Some(seconds(1.0))).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            // A client that got no answer in time asks again.
            let mut data = [9; 8];
            while let Ok((length, from)) = socket.recv_from(&mut data) {
                assert_eq!(&data[..length], &[0]);
                socket.send_to(b"yes", from).unwrap();
            }
        });
        ends(&world.knock(&["--wait", "5353/udp", SERVER, "1"]), 0, "");
    });
    let silent = world.knock(&["--wait", "5354/udp", "--timeout", "0.3", SERVER, "1"]);
    ends(
        &silent,
        3,
        &shut(
            "udp port 5354 did not open; knocked once; refused: nothing listens there, or the firewall rejects",
        ),
    );
}

/// The daemon's command opens the listener that the client waits for.
fn knocking_and_connecting_in_one_command() {
    let world = World::new();
    let daemon = world
        .knockd("[d]\nsequence = 1000,2000:udp\ncmd_timeout = 0\nstart_command = echo %IP% > @/open\n")
        .start();
    let opened = daemon.folder.join("open");
    let _listener = thread::scope(|scope| {
        let door = scope.spawn(|| {
            assert!(holds_within(seconds(30.0), || opened.exists()), "never opened");
            world.server.run(|| TcpListener::bind((SERVER, 2222)).unwrap())
        });
        let words = ["--wait", "2222", SERVER, "1000", "2000:udp", "--", "echo", "I am in"];
        let finished = world.knock(&words);
        ends(&finished, 0, "");
        assert_eq!(finished.stdout, "I am in\n");
        door.join().unwrap()
    });
    daemon.wait_for_file("open", &format!("{CLIENT}\n"));
}

fn a_command_gets_its_arguments_and_gives_the_exit_code() {
    let world = World::new();
    let script = r#"echo "$0|$1|$2"; exit 7"#;
    let finished = world.knock(&[SERVER, "1", "--", "sh", "-c", script, "a", "-v", "b c"]);
    ends(&finished, 7, "");
    assert_eq!(finished.stdout, "a|-v|b c\n");
    // Programs expect SIGPIPE to end them, so it must not be ignored.
    let finished = world.knock(&[SERVER, "1", "--", "sh", "-c", "kill -PIPE $$; echo ignored"]);
    assert_eq!((finished.code(), finished.stdout.as_str()), (None, ""));
    // Before the first word, `--` only ends the options.
    let finished = world.knock(&["-v", "--", SERVER, "1"]);
    assert_eq!(finished.stdout, format!("hitting tcp {SERVER}:1\n"));
}

fn a_command_that_cannot_run_is_an_error() {
    let world = World::new();
    let missing = world.knock(&[SERVER, "1", "--", "/no/such/program"]);
    ends(&missing, 127, "error: cannot run '/no/such/program': No such file or directory\n");
    let folder = world.knock(&[SERVER, "1", "--", "/"]);
    ends(&folder, 126, "error: cannot run '/': Permission denied\n");
}

fn a_client_leaves_no_core_dump_and_its_command_may() {
    let world = World::new();
    let limits = |words: &[&str]| {
        let words = [&["--core=1000:2000", KNOCK][..], words].concat();
        run(&world.client, "prlimit", &words)
    };
    let finished = limits(&[SERVER, "1", "--", "grep", "core", "/proc/self/limits"]);
    let words: Vec<&str> = finished.stdout.split_whitespace().collect();
    assert_eq!(words, ["Max", "core", "file", "size", "1000", "2000", "bytes"]);
    let mut client = world.client.run(|| {
        Command::new(KNOCK).args(["--wait", "2222", "--timeout", "60", SERVER, "1"]).spawn().unwrap()
    });
    let path = format!("/proc/{}/limits", client.id());
    let is_forbidden = holds_within(seconds(30.0), || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.lines().any(|line| line.starts_with("Max core file size        0 "))
    });
    client.kill().unwrap();
    client.wait().unwrap();
    assert!(is_forbidden);
}

fn a_proxy_copies_both_directions() {
    let world = World::new();
    let listener = world.server.run(|| TcpListener::bind((SERVER, 2222)).unwrap());
    thread::scope(|scope| {
        let echo = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            heard.reverse();
            stream.write_all(&heard).unwrap();
            heard.len()
        });
        let mut command = Command::new(KNOCK);
        command.args(["-v", "--proxy", "2222", SERVER, "1"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = world.client.spawn(&mut command);
        let said: Vec<u8> = (0..300_000_u32).map(|n| n.to_be_bytes()[3] ^ n.to_be_bytes()[2]).collect();
        let mut input = child.stdin.take().unwrap();
        let sent = said.clone();
        scope.spawn(move || input.write_all(&sent));
        let output = child.wait_with_output().unwrap();
        let backwards: Vec<u8> = said.iter().rev().copied().collect();
        assert!(output.stdout == backwards, "{} bytes came back", output.stdout.len());
        assert_eq!(echo.join().unwrap(), said.len());
        assert!(output.status.success());
        // The lines of -v are not mixed into the connection.
        assert_eq!(String::from_utf8_lossy(&output.stderr), format!("hitting tcp {SERVER}:1\n"));
    });
    let closed = world.knock(&["--proxy", "2223", "--timeout", "0.3", SERVER, "1"]);
    ends(
        &closed,
        3,
        &shut(
            "tcp port 2223 did not open; knocked once; refused: nothing listens there, or the firewall rejects",
        ),
    );
}

fn errors_have_the_words_of_getopt() {
    let world = World::new();
    for (words, wanted) in [
        (&["-x", SERVER, "5"][..], "invalid option -- 'x'"),
        (&["-vxu", SERVER, "5"], "invalid option -- 'x'"),
        (&[SERVER, "-5"], "invalid option -- '5'"),
        (&[SERVER, "-u=1"], "invalid option -- '='"),
        (&["--bogus", SERVER, "5"], "unrecognized option '--bogus'"),
        (&["--bogus=1", SERVER, "5"], "unrecognized option '--bogus'"),
        (&["--ver", SERVER, "5"], "option '--ver' is ambiguous; possibilities: '--verbose' '--version'"),
        (&["--udp=1", SERVER, "5"], "option '--udp' doesn't allow an argument"),
        (&[SERVER, "5", "-d"], "option requires an argument -- 'd'"),
        (&[SERVER, "5", "-vd"], "option requires an argument -- 'd'"),
        (&[SERVER, "5", "--delay"], "option '--delay' requires an argument"),
        (&[SERVER, "5", "--del"], "option '--delay' requires an argument"),
    ] {
        let refused = world.knock(words);
        ends(&refused, 1, &format!("knock: {wanted}\n"));
        assert!(refused.stdout.starts_with("usage: knock [options] <host>"), "{words:?}");
    }
    // The usage would push the reason off the screen: it follows where knock 0.8 printed it.
    for (words, wanted) in [
        (&[SERVER, "5", "--ttl"][..], "option '--ttl' requires an argument"),
        (&[SERVER, "5", "--wai"], "option '--wait' requires an argument"),
        (&["-n"], "option requires an argument -- 'n'"),
        (&["--list=1"], "option '--list' doesn't allow an argument"),
    ] {
        let refused = world.knock(words);
        ends(&refused, 1, &format!("knock: {wanted}\n"));
        assert_eq!(refused.stdout, "", "{words:?}");
    }
    ends(&world.knock(&["-d", "-5", SERVER, "5"]), 1, "error: delay cannot be negative\n");
    for words in [&["-h"][..], &["--help", "-V"], &[], &["-v"]] {
        ends(&world.knock(words), 1, "");
    }
    let version = world.knock(&["-V", "-h"]);
    ends(&version, 0, "");
    assert!(version.stdout.starts_with("knock 0."), "{}", version.stdout);
}

fn abbreviations_of_0_8_still_work() {
    let world = World::new();
    for words in [
        &["--u", "--d", "1", "--verb", SERVER, "5:tcp"][..],
        &["-vu4d1", SERVER, "5"],
        &[SERVER, "-v", "5", "--ud", "--de=1"],
        &["-u", "-d", "-", "-v", SERVER, "5", "--ipv4", "-6", "-4"],
    ] {
        let finished = world.knock(words);
        ends(&finished, 0, "");
        assert_eq!(finished.stdout, format!("hitting udp {SERVER}:5\n"), "{words:?}");
    }
}

fn a_closed_pipe_is_not_an_error() {
    let world = World::new();
    let mut capture = world.capture();
    let script =
        format!("exec {KNOCK} -v -d 5 {SERVER} 1 2 3 2>&1 >&- | cat; exec {KNOCK} -v {SERVER} 4 > /dev/full");
    ends(&run(&world.client, "sh", &["-c", &script]), 0, "");
    let seen = capture.until(4, seconds(3.0));
    let ports: Vec<u16> = seen.iter().filter(|seen| seen.flags == SYN).map(|seen| seen.port).collect();
    assert_eq!(ports, [1, 2, 3, 4]);
}

/// Each side waits for the other's line: a proxy that buffers would hang.
fn a_proxy_copies_each_line_at_once() {
    let world = World::new();
    let listener = world.server.run(|| TcpListener::bind((SERVER, 2222)).unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(seconds(5.0))).unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            let (mut to_client, mut line) = (&stream, String::new());
            while lines.read_line(&mut line).unwrap() > 0 {
                to_client.write_all(line.to_uppercase().as_bytes()).unwrap();
                line.clear();
            }
        });
        let mut command = Command::new(KNOCK);
        command.args(["--proxy", "2222", SERVER, "1"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = world.client.spawn(&mut command);
        let mut to_proxy = child.stdin.take().unwrap();
        let mut from_proxy = BufReader::new(child.stdout.take().unwrap());
        for turn in 0..500 {
            writeln!(to_proxy, "line {turn}").unwrap();
            let mut line = String::new();
            from_proxy.read_line(&mut line).unwrap();
            assert_eq!(line, format!("LINE {turn}\n"));
        }
        drop(to_proxy);
        assert!(child.wait().unwrap().success());
    });
}

/// The long options in a text, each after `opening`.
fn options_in(text: &str, opening: &str) -> BTreeSet<String> {
    let name =
        |rest: &str| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().map(str::to_owned);
    text.lines()
        .flat_map(|line| line.split(opening).skip(1))
        .filter_map(name)
        .filter(|name| !name.is_empty())
        .collect()
}

fn the_manual_has_every_option() {
    let world = World::new();
    let usage = options_in(&world.knock(&["-h"]).stdout, " --");
    let manual = include_str!("../../man/knock.1");
    let entries: Vec<&str> = manual.lines().filter(|line| line.starts_with(".It Fl ")).collect();
    let described = entries.iter().flat_map(|line| line.split([' ', ',']));
    let described: BTreeSet<String> = described
        .filter_map(|word| word.strip_prefix('-'))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    assert_eq!(usage, described);
    // The program lists its options: a letter is an ambiguous abbreviation of all that begin with it.
    let mut taken = BTreeSet::new();
    for letter in 'a'..='z' {
        let stderr = world.knock(&[SERVER, "1", &format!("--{letter}")]).stderr;
        let named = stderr.contains("ambiguous") || stderr.contains("requires an argument");
        taken.extend(options_in(&stderr, "'--").into_iter().filter(|name| named && name.len() > 1));
    }
    assert!(taken.len() > 20 && taken.is_subset(&usage), "not in the usage: {:?}", taken.difference(&usage));
    for option in &usage {
        let refused = world.knock(&[&format!("--{option}")]);
        assert!(!refused.stderr.contains("unrecognized"), "{option} is not taken");
    }
    // The table that compares raw senders names only options that exist.
    let (_, table) = manual.split_once(".Sh RAW SENDERS").unwrap();
    let (table, _) = table.split_once(".Sh ").unwrap();
    let rows =
        table.lines().filter(|line| line.starts_with(".It ")).filter_map(|line| line.rsplit(" Ta ").next());
    let ours: String =
        rows.map(|cell| format!(" {}\n", cell.replace("\\-", "-"))).collect::<Vec<_>>().concat();
    let ours = options_in(&ours, " --");
    assert!(ours.len() > 20 && ours.is_subset(&usage), "{ours:?}");
}
