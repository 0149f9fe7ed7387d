//! What the daemon says: log file, standard output, syslog, names.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;

use crate::support::daemon::{Knockd, RunningDaemon};
use crate::support::folder::read;
use crate::support::packet::{ACK, CLIENT, tcp, udp};
use crate::support::process;
use crate::support::world::World;
use crate::support::{holds_within, pause, seconds};
use crate::wire::attempts::{DOOR, KNOCKS, opened};

trials![
    the_log_byte_for_byte,
    the_log_of_a_timeout_byte_for_byte,
    bytes_are_logged_and_run_as_they_are,
    times_are_local,
    the_log_is_appended_to,
    a_log_that_cannot_be_opened_is_a_warning,
    no_log_file_is_no_error,
    doors_that_are_weaker_than_they_read_are_named_once,
    nothing_is_printed_unasked,
    verbose_byte_for_byte,
    debug_shows_the_packets,
    debug_shows_what_is_listened_for,
    addresses_look_as_they_always_did,
    syslog_gets_the_same_lines,
    syslog_stays_when_a_reload_does_not_name_it,
    syslog_can_be_gone,
    names_come_from_the_hosts_file,
    names_that_come_late_leave_the_order,
    names_that_never_come_leave_the_order,
    the_last_line_of_a_one_time_file_is_told_behind_its_opening,
    names_that_never_come_delay_nothing,
    a_resolver_that_was_killed_is_replaced,
    an_empty_path_is_no_log_file,
    syslog_is_told_of_a_reopened_log,
    syslog_may_be_a_stream,
    the_end_waits_for_no_name,
    a_name_that_is_known_delays_nothing,
];

/// The text with each timestamp as `[]`.
fn unstamped(log: &str) -> String {
    let lines = log.lines().map(|line| {
        let stamp = line.get(..18).unwrap_or_default();
        let shape: String = stamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        if shape == "[0000-00-00 00:00]" { format!("[]{}\n", &line[18..]) } else { format!("{line}\n") }
    });
    lines.collect()
}

fn the_log_byte_for_byte() {
    let world = World::new();
    let doors = "[d]\nsequence = 1000,2000:udp\nstart_command = exit 2\ncmd_timeout = 1\nstop_command = true";
    let mut daemon = world.knockd(doors).without_sync().start();
    world.send([tcp(1000), udp(2000)]);
    daemon.wait_for("running command: true");
    daemon.stop();
    assert_eq!(
        unstamped(&daemon.raw_log()),
        "[] starting up, listening on knk0\n\
         [] 10.77.0.2: d: Stage 1\n\
         [] 10.77.0.2: d: Stage 2\n\
         [] 10.77.0.2: d: OPEN SESAME\n\
         [] d: running command: exit 2\n\n\
         [] d: command returned non-zero status code (2)\n\
         [] 10.77.0.2: d: command timeout\n\
         [] d: running command: true\n\n\
         [] shutting down\n"
    );
}

/// Latin-1, a character that is cut, and what a terminal would act on.
fn bytes_are_logged_and_run_as_they_are() {
    let world = World::new();
    let folder = world.knockd("");
    let path = folder.folder().path().to_owned();
    let config = path.join("bytes.conf");
    let log = path.join("log.bytes");
    let mut text = format!("[options]\nlogfile = {}\n", log.display()).into_bytes();
    text.extend(b"[T\xfcr\xe2\x82\x1b]\nsequence = 1000\n");
    text.extend(format!("command = cd {}; ", path.display()).into_bytes());
    text.extend(b"printf '\xfc\x01\t\xef\xbe\x80' >ran; printf %s \"$KNOCKD_DOOR\" >door\n");
    fs::write(&config, text).unwrap();
    let words = ["-D", "-v", "-c", config.to_str().unwrap()];
    let mut daemon = folder.arguments(&words).without_log().without_sync().launch();
    assert!(holds_within(seconds(30.0), || daemon.stdout().contains("listening on")), "{}", daemon.said());
    world.send([tcp(1000)]);
    let door = b"T\xfcr\xe2\x82\x1b";
    assert!(holds_within(seconds(30.0), || fs::read(path.join("door")).is_ok_and(|it| it == door)));
    assert_eq!(fs::read(path.join("ran")).unwrap(), b"\xfc\x01\t\xef\xbe\x80");
    assert_eq!(daemon.stop(), Some(0));
    let contains = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|window| window == part);
    let shown: [&[u8]; 2] =
        [b": T\xfcr\xe2\x82\\x1b: OPEN SESAME\n", b"; printf '\xfc\\x01\t\xef\xbe\x80' >ran; "];
    let printed = fs::read(path.join("stdout")).unwrap();
    for text in [fs::read(&log).unwrap(), printed.clone()] {
        for part in shown {
            assert!(
                contains(&text, part),
                "{:?}\n{}",
                String::from_utf8_lossy(part),
                String::from_utf8_lossy(&text)
            );
        }
    }
    for part in [&b"config: new section: 'T\xfcr\xe2\x82\\x1b'\n"[..], b"for door 'T\xfcr\xe2\x82\\x1b':"] {
        assert!(contains(&printed, part), "{}", String::from_utf8_lossy(&printed));
    }
}

fn the_log_of_a_timeout_byte_for_byte() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1,2\nseq_timeout = 1").without_sync().start();
    world.send([tcp(1)]);
    pause(1.2);
    world.send([tcp(2)]);
    daemon.wait_for("sequence timeout");
    assert_eq!(
        unstamped(&daemon.raw_log()),
        "[] starting up, listening on knk0\n\
         [] 10.77.0.2: d: Stage 1\n\
         [] 10.77.0.2: d: sequence timeout (stage 1)\n\n"
    );
}

/// Without its ports, which open the door.
fn doors_that_are_weaker_than_they_read_are_named_once() {
    let world = World::new();
    let weak = "[weak]\nsequence = 7000 8000 9000\n[fine]\nsequence = 1,2 # three\n";
    let daemon = world.knockd(weak).start();
    let of_weak = "warning: The sequence of door 'weak' is read as 1 of its 3 ports";
    daemon.wait_for(of_weak);
    let more = "[open]\nsequence = 3,4\nstart_command = true\nstop_command = true\ncmd_timeout = 1h\n";
    fs::write(&daemon.config, read(&daemon.config) + more).unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("warning: The cmd_timeout of door 'open' means 1 second");
    let log = daemon.raw_log();
    assert_eq!(log.matches("warning: ").count(), 2, "{log}");
    assert!(!log.contains("7000") && daemon.stderr().is_empty(), "{}", daemon.said());
}

/// With a zone seven and a half hours ahead of Greenwich the clock shows another hour and another half hour.
fn times_are_local() {
    let world = World::new();
    let daemon = world.knockd(DOOR).variable("TZ", "XXX-7:30").start();
    let clock = |ago: u64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - ago;
        let minutes = (now / 60 + 450) % 1440;
        format!(" {:02}:{:02}] starting up", minutes / 60, minutes % 60)
    };
    let log = daemon.raw_log();
    assert!([0, 60].iter().any(|ago| log.contains(&clock(*ago))), "{log:?}, not {}", clock(0));
}

fn the_log_is_appended_to() {
    let world = World::new();
    let knockd = world.knockd(DOOR);
    knockd.folder().write("knockd.log", "[2020-01-01 00:00] old\n");
    let daemon = knockd.start();
    assert!(unstamped(&daemon.raw_log()).starts_with("[] old\n[] starting up, listening on knk0\n"));
    assert!(daemon.raw_log().starts_with("[2020-01-01 00:00] old\n"));
}

fn a_log_that_cannot_be_opened_is_a_warning() {
    let world = World::new();
    let knockd =
        world.knockd(&format!("{DOOR}command = echo x > @/out")).without_log().options("logfile = @/no/log");
    let daemon = knockd.arguments(&["-v"]).start();
    let warning = "warning: cannot open logfile: No such file or directory\n";
    assert!(holds_within(seconds(30.0), || daemon.stderr() == warning), "{}", daemon.said());
    world.send(KNOCKS.map(tcp));
    daemon.wait_for_file("out", "x\n");
}

fn no_log_file_is_no_error() {
    let world = World::new();
    let daemon = world.knockd(DOOR).without_log().arguments(&["-v"]).start();
    world.send(KNOCKS.map(tcp));
    assert!(holds_within(seconds(30.0), || daemon.stdout().contains("OPEN SESAME")), "{}", daemon.said());
    assert!(!daemon.log.exists());
    assert_eq!(daemon.stderr(), "");
}

fn nothing_is_printed_unasked() {
    let world = World::new();
    let mut daemon = world.knockd(&format!("{DOOR}command = true")).start();
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("running command");
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!((daemon.stdout(), daemon.stderr()), (String::new(), String::new()));
}

fn verbose_byte_for_byte() {
    let world = World::new();
    let doors = "[d]\nsequence = 1000,2000\nstart_command = true\ncmd_timeout = 1\nstop_command = exit 3";
    let mut daemon = world.knockd(doors).without_sync().arguments(&["-v"]).start();
    world.send([1000, 2000].map(tcp));
    daemon.wait_for("status code");
    daemon.stop();
    assert_eq!(
        daemon.stdout_but_for_confinement(),
        "listening on knk0...\n\
         10.77.0.2: d: Stage 1\n\
         10.77.0.2: d: Stage 2\n\
         10.77.0.2: d: OPEN SESAME\n\
         d: running command: true\n\
         10.77.0.2: d: command timeout\n\
         d: running command: exit 3\n\
         waiting for child processes...\n\
         closing...\n"
    );
    assert_eq!(daemon.stderr(), "d: command returned non-zero status code (3)\n");
}

fn debug_shows_the_packets() {
    let world = World::new();
    // Through the second door's eyes packets with other flags are seen at all.
    let doors = format!("{DOOR}tcpflags = syn,!ack\n[e]\nsequence = 2000,9");
    let daemon = world.knockd(&doors).variable("TZ", "UTC0").arguments(&["-D"]).start();
    world.send([tcp(1000), tcp(4444), tcp(2000).flags(0), tcp(2000).flags(ACK | 2), tcp(1000)]);
    world.send(KNOCKS.map(|port| tcp(port).v6()));
    daemon.sync();
    // What a packet ended is removed with the next one.
    daemon.sync();
    let said = daemon.stdout();
    for line in ["packet is not SYN, ignoring...", "packet is not !ACK, ignoring..."] {
        assert_eq!(said.matches(line).count(), 1, "{line} in {said}");
    }
    for line in ["removing failed knock attempt (10.77.0.2)", "removing successful knock attempt (fd77::2)"] {
        assert!(said.contains(line), "{line} not in {said}");
    }
    let packets: Vec<&str> = said.lines().filter(|line| line.contains(" -> ")).collect();
    let stamp: String =
        packets[0].chars().take(21).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(stamp, "0000-00-00 00:00:00: ");
    assert_eq!(packets[0][19..], *": tcp: 10.77.0.2:40001 -> 10.77.0.1:1000 54 bytes");
    assert!(
        packets.iter().any(|line| line.ends_with(": tcp: fd77::2:40001 -> fd77::1:3000 74 bytes")),
        "{packets:?}"
    );
    assert!(packets.iter().any(|line| line.contains(": udp: 10.77.0.99:")), "{packets:?}");
    assert!(!said.contains("4444"), "a packet that does not count is shown: {said}");
    // The month is the calendar's, not one less.
    let day = |ago: u64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - ago;
        calendar_day(now / 86400)
    };
    assert!([0, 60].iter().any(|ago| packets[0].starts_with(&day(*ago))), "{} is not {}", packets[0], day(0));
}

/// The names of flags are those of libpcap there.
fn debug_shows_what_is_listened_for() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1\ntcpflags = psh,!urg").arguments(&["-D"]).start();
    let wanted = "((tcp dst port 1) and tcp[tcpflags] & tcp-push != 0 and tcp[tcpflags] & tcp-urg == 0)";
    assert!(daemon.stdout().contains(wanted), "{}", daemon.stdout());
}

/// The date of a day counted from 1 January 1970.
fn calendar_day(mut days: u64) -> String {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, days + 1)
}

fn addresses_look_as_they_always_did() {
    let world = World::new();
    let daemon = world.knockd("[d]\nsequence = 1\ncommand = echo %IP% >> @/out").start();
    let mut wanted = String::new();
    for source in ["fd77:0:0:1::2", "fe80::1", "fd00:0:1::", "2001:db8:0:1:1:1:1:1"] {
        world.send([tcp(1).from(source)]);
        wanted += &(source.to_owned() + "\n");
        daemon.wait_for(&format!("{source}: d: OPEN SESAME"));
        daemon.wait_for_file("out", &wanted);
    }
}

fn syslog_gets_the_same_lines() {
    let world = World::new();
    let knockd = world.knockd(&format!("{DOOR}command = true")).options("UseSyslog");
    let place = knockd.folder().join("log-socket");
    let syslog = UnixDatagram::bind(&place).unwrap();
    syslog.set_read_timeout(Some(seconds(3.0))).unwrap();
    let mut daemon = knockd.without_sync().replacing("/dev", "log", &place).start();
    world.send(KNOCKS.map(tcp));
    daemon.wait_for("running command");
    daemon.stop();
    let opened = opened("d", CLIENT, 3);
    let wanted = ["starting up, listening on knk0"].into_iter().chain(opened.lines());
    for line in wanted.chain(["d: running command: true", "shutting down"]) {
        let mut buffer = [0; 1024];
        let length = syslog.recv(&mut buffer).unwrap_or_else(|e| panic!("instead of {line:?}: {e}"));
        let message = String::from_utf8_lossy(&buffer[..length]);
        let message = message.trim_end_matches(['\n', '\0']);
        // Priority notice, facility daemon; the time as `Nov 22 13:05:59`; the name, without a number.
        let (head, text) =
            message.split_at(message.find("knockd: ").unwrap_or_else(|| panic!("{message:?}")));
        assert!(head.starts_with("<29>") && head.len() == 20, "{message:?}");
        assert_eq!(text, format!("knockd: {line}"));
    }
}

fn syslog_stays_when_a_reload_does_not_name_it() {
    let world = World::new();
    let knockd = world.knockd("[d]\nsequence = 1\ncommand = true").options("UseSyslog");
    let place = knockd.folder().join("log-socket");
    let syslog = UnixDatagram::bind(&place).unwrap();
    syslog.set_read_timeout(Some(seconds(3.0))).unwrap();
    let mut daemon = knockd.replacing("/dev", "log", &place).start();
    let text = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, text.replace("UseSyslog", "")).unwrap();
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("re-reading config file");
    daemon.sync();
    world.send([tcp(1)]);
    daemon.wait_for("d: running command: true");
    daemon.stop();
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !seen.last().is_some_and(|line: &String| line.contains("shutting down")) {
        let length = syslog.recv(&mut buffer).unwrap_or_else(|e| panic!("{e} behind {seen:?}"));
        seen.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    for line in ["d: OPEN SESAME", "d: running command: true"] {
        assert!(seen.iter().any(|it| it.contains(line)), "{seen:?}");
    }
}

/// Nobody listens, then somebody does, then nobody again: doors open all the while.
fn syslog_can_be_gone() {
    let world = World::new();
    let knockd = world.knockd("[d]\nsequence = 1").options("UseSyslog");
    let place = knockd.folder().join("log-socket");
    let mut daemon = knockd.replacing("/dev", "log", &place).start();
    world.send([tcp(1)]);
    let gone = "could not write to syslog: No such file or directory\n";
    daemon.expect(&format!("{gone}{}", opened("d", CLIENT, 1)));
    let syslog = UnixDatagram::bind(&place).unwrap();
    syslog.set_read_timeout(Some(seconds(3.0))).unwrap();
    world.send([tcp(1)]);
    // Both lines, so that it does not go between them.
    for _ in 0..2 {
        assert!(syslog.recv(&mut [0; 1024]).is_ok(), "syslog came back and is not used");
    }
    drop(syslog);
    world.send([tcp(1)]);
    let stage = |after: &str| opened("d", CLIENT, 1).replacen('\n', &format!("\n{after}\n"), 1);
    let refused = "could not write to syslog: Connection refused";
    daemon.expect(&format!("{gone}{}{}{}", opened("d", CLIENT, 1), stage("syslog is back"), stage(refused)));
    // Each time once.
    assert_eq!(daemon.stderr().lines().count(), 3, "{}", daemon.said());
    assert_eq!(daemon.stop(), Some(0));
}

fn names_come_from_the_hosts_file() {
    let world = World::new();
    let doors = "[d]\nsequence = 1\nstart_command = true\ncmd_timeout = 1\nstop_command = echo %IP% >> @/out";
    let knockd = world.knockd(doors);
    let knockd = with_hosts(knockd, &format!("{CLIENT} friend.test other.test\nfd77::2 six.test\n"));
    let daemon = knockd.arguments(&["-l"]).start();
    world.send([tcp(1), tcp(1).v6(), tcp(1).from("10.77.0.12")]);
    daemon.wait_for_times(3, "command timeout");
    daemon.wait_for_times(6, "running command");
    let mut lines = daemon.lines();
    lines.retain(|line| !line.starts_with("d: running command"));
    for name in ["10.77.0.2 (friend.test)", "fd77::2 (six.test)", "10.77.0.12"] {
        let own = lines.iter().filter(|line| line.starts_with(&format!("{name}: d: "))).collect::<Vec<_>>();
        let wanted = ["Stage 1", "OPEN SESAME", "command timeout"].map(|text| format!("{name}: d: {text}"));
        assert_eq!(own, wanted.iter().collect::<Vec<_>>(), "{lines:?}");
    }
    assert_eq!(lines.len(), 9, "{lines:?}");
    // Commands get addresses, never names.
    assert!(holds_within(seconds(30.0), || daemon.read("out").lines().count() == 3), "{}", daemon.said());
    let mut closed: Vec<_> = daemon.read("out").lines().map(str::to_owned).collect();
    closed.sort();
    assert_eq!(closed, ["10.77.0.12", CLIENT, "fd77::2"]);
}

/// Names are those of this text, for `/etc/hosts`.
fn with_hosts<'w>(knockd: Knockd<'w>, hosts: &str) -> Knockd<'w> {
    let hosts = knockd.folder().write("hosts", hosts);
    let order = knockd.folder().write("nsswitch.conf", "hosts: files\n");
    knockd.replacing("/etc", "hosts", &hosts).replacing("/etc", "nsswitch.conf", &order)
}

/// Names are looked up at the client's address.
fn with_name_server(knockd: Knockd<'_>) -> Knockd<'_> {
    let resolver = knockd.folder().write("resolv.conf", format!("nameserver {CLIENT}\n"));
    let order = knockd.folder().write("nsswitch.conf", "hosts: dns\n");
    knockd.replacing("/etc", "resolv.conf", &resolver).replacing("/etc", "nsswitch.conf", &order)
}

/// Whichever line waits for a name: the log is in the order of knockd 0.8, and so is
/// standard output. Commands are not kept.
fn names_that_come_late_leave_the_order() {
    let world = World::new();
    let server = world.client.run(|| UdpSocket::bind((CLIENT, 53))).unwrap();
    server.set_read_timeout(Some(seconds(15.0))).unwrap();
    let server = thread::spawn(move || call_friend(&server, 1.0));
    let doors = "[d]\nsequence = 1000\nstart_command = echo up >> @/out; exit 2\ncmd_timeout = 1\nstop_command = exit 3";
    let knockd = world.knockd(doors);
    let mut daemon = with_name_server(knockd).without_sync().arguments(&["-l", "-v"]).start();
    world.send([tcp(1000)]);
    daemon.wait_for_file("out", "up\n");
    assert_eq!(daemon.lines(), Vec::<String>::new(), "the command waited, or a line did not");
    daemon.wait_for("status code (3)");
    let folder = daemon.folder.path().display().to_string();
    let start = format!("echo up >> {folder}/out; exit 2");
    let lines = [
        "10.77.0.2 (friend.test): d: Stage 1",
        "10.77.0.2 (friend.test): d: OPEN SESAME",
        &format!("d: running command: {start}"),
        "d: command returned non-zero status code (2)",
        "10.77.0.2 (friend.test): d: command timeout",
        "d: running command: exit 3",
        "d: command returned non-zero status code (3)",
    ];
    assert_eq!(daemon.lines(), lines);
    daemon.stop();
    let said = daemon.stdout_but_for_confinement();
    let said: Vec<&str> = said.lines().collect();
    // These two go to standard error.
    let lines = lines.into_iter().filter(|line| !line.contains("status code"));
    let end = ["waiting for child processes...", "closing..."];
    assert_eq!(said, ["listening on knk0..."].into_iter().chain(lines).chain(end).collect::<Vec<_>>());
    server.join().unwrap();
}

fn the_last_line_of_a_one_time_file_is_told_behind_its_opening() {
    for look_up in [&[][..], &["-l"]] {
        let world = World::new();
        let knockd = world.knockd("[o]\none_time_sequences = @/seqs\ncommand = true\n");
        knockd.folder().write("seqs", " 1000,2000\n");
        let daemon = knockd.without_sync().arguments(look_up).start();
        world.send([1000, 2000].map(tcp));
        let exhausted =
            "no more sequences left in the one time sequences file for door o --> disabling the door";
        daemon.wait_for(exhausted);
        daemon.expect_log(&format!("{}o: running command: true\n{exhausted}", opened("o", CLIENT, 2)));
    }
}

fn names_that_never_come_leave_the_order() {
    let world = World::new();
    let _server = world.client.run(|| UdpSocket::bind((CLIENT, 53))).unwrap();
    let knockd = world.knockd("[d]\nsequence = 1000\ncommand = true");
    let daemon = with_name_server(knockd).without_sync().arguments(&["-l"]).start();
    world.send([tcp(1000)]);
    daemon.wait_for("running command");
    let lines = ["10.77.0.2: d: Stage 1", "10.77.0.2: d: OPEN SESAME", "d: running command: true"];
    assert_eq!(daemon.lines(), lines);
}

/// Answers the next question for a name, after a while, with `friend.test`.
fn call_friend(server: &UdpSocket, after: f64) {
    let mut message = [0; 512];
    let (length, whom) = server.recv_from(&mut message).expect("a question for a name");
    pause(after);
    // It is an answer, it has one record: the name that was asked for (at 12), PTR, IN, a minute.
    message[2..4].copy_from_slice(&[0x81, 0x80]);
    message[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
    let record = b"\xc0\x0c\0\x0c\0\x01\0\0\0\x3c\0\x0d\x06friend\x04test\0";
    let answer = [&message[..length], record.as_slice()].concat();
    server.send_to(&answer, whom).expect("answering");
}

/// The name server takes the questions and answers none.
fn names_that_never_come_delay_nothing() {
    let world = World::new();
    let server = world.client.run(|| UdpSocket::bind((CLIENT, 53))).unwrap();
    server.set_read_timeout(Some(seconds(5.0))).unwrap();
    let knockd = world.knockd("[d]\nsequence = 1,2\ncommand = echo %IP% >> @/out");
    let mut daemon = with_name_server(knockd).without_sync().arguments(&["-l"]).start();
    let mut wanted = String::new();
    for source in [CLIENT, "10.77.0.12", "10.77.0.13"] {
        let start = Instant::now();
        world.send([1, 2].map(|port| tcp(port).from(source)));
        wanted += &(source.to_owned() + "\n");
        daemon.wait_for_file("out", &wanted);
        assert!(start.elapsed() < seconds(2.5), "the command for {source} came after {:?}", start.elapsed());
    }
    assert!(server.recv(&mut [0; 512]).is_ok(), "no name was asked for");
    assert!(process::alive(daemon.pid));
    // The end does not wait for names either, and the lines come all the same.
    let start = Instant::now();
    assert_eq!(daemon.stop(), Some(0));
    assert!(start.elapsed() < seconds(4.5), "the end took {:?}", start.elapsed());
    let lines = daemon.lines();
    for source in [CLIENT, "10.77.0.12", "10.77.0.13"] {
        assert!(lines.contains(&format!("{source}: d: OPEN SESAME")), "{lines:?}");
    }
    assert_eq!(lines.last().unwrap(), "shutting down");
}

/// Nobody is busy with its end.
fn a_resolver_that_was_killed_is_replaced() {
    let world = World::new();
    let knockd = world.knockd("[d]\nsequence = 1\ncommand = true");
    let knockd = with_hosts(knockd, &format!("{CLIENT} friend.test\n"));
    let mut daemon = knockd.arguments(&["-l"]).start();
    let resolvers = || -> Vec<i32> {
        let is_one = |pid: &i32| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|it| it.starts_with(b"knockd: resolver\0"))
        };
        daemon.descendants().iter().map(|it| it.pid).filter(is_one).collect()
    };
    world.send([tcp(1)]);
    daemon.wait_for("friend.test): d: OPEN SESAME");
    let before = resolvers();
    assert_eq!(before.len(), 1);
    before.into_iter().for_each(process::end);
    daemon.wait_for("the resolver ended unexpectedly");
    let ticks = |daemon: &RunningDaemon| -> u64 {
        let of_ours = daemon.descendants().into_iter().map(|it| it.pid).chain([daemon.pid]);
        of_ours.map(process::ticks).sum()
    };
    let used = ticks(&daemon);
    pause(1.2);
    assert!(ticks(&daemon) - used < 20, "{} hundredths of a second for nothing", ticks(&daemon) - used);
    world.send([tcp(1)]);
    daemon.wait_for_times(2, "friend.test): d: OPEN SESAME");
    assert_eq!(resolvers().len(), 1);
    assert_eq!(daemon.stop(), Some(0));
}

fn a_name_that_is_known_delays_nothing() {
    let world = World::new();
    let knockd = world.knockd("[d]\nsequence = 1\ncommand = true");
    let knockd = with_hosts(knockd, &format!("{CLIENT} friend.test\n"));
    let daemon = knockd.without_sync().arguments(&["-l"]).start();
    let began = Instant::now();
    world.send([tcp(1)]);
    daemon.wait_for("running command");
    assert!(began.elapsed() < seconds(2.5), "{:?}", began.elapsed());
}

/// All that waits is written, in its order.
fn the_end_waits_for_no_name() {
    let world = World::new();
    let _server = world.client.run(|| UdpSocket::bind((CLIENT, 53))).unwrap();
    let knockd = world.knockd("[d]\nsequence = 1000\ncommand = echo up >> @/out");
    let mut daemon = with_name_server(knockd).without_sync().arguments(&["-l", "-v"]).start();
    world.send([tcp(1000)]);
    daemon.wait_for_file("out", "up\n");
    let began = Instant::now();
    daemon.stop();
    assert!(began.elapsed() < seconds(2.5), "{:?}", began.elapsed());
    let said = daemon.stdout();
    let at = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text}: {said}"));
    assert!(at("OPEN SESAME") < at("waiting for child"), "{said}");
    let lines = daemon.lines();
    assert!(lines[lines.len() - 2].starts_with("d: running command"), "{lines:?}");
    assert_eq!(lines.last().unwrap(), "shutting down");
}

/// As some daemons have it: then lines are sent otherwise.
fn syslog_may_be_a_stream() {
    let world = World::new();
    let knockd = world.knockd("[d]\nsequence = 1").options("UseSyslog");
    let place = knockd.folder().join("log-socket");
    let _syslog = UnixListener::bind(&place).unwrap();
    let daemon = knockd.replacing("/dev", "log", &place).start();
    world.send([tcp(1)]);
    daemon.expect(&opened("d", CLIENT, 1));
    assert_eq!(daemon.stderr(), "");
}

fn syslog_is_told_of_a_reopened_log() {
    let world = World::new();
    let knockd = world.knockd("[d]\nsequence = 1").options("UseSyslog");
    let place = knockd.folder().join("log-socket");
    let syslog = UnixDatagram::bind(&place).unwrap();
    syslog.set_read_timeout(Some(seconds(3.0))).unwrap();
    let daemon = knockd.without_sync().replacing("/dev", "log", &place).start();
    daemon.kill(Signal::SIGHUP);
    let mut told = String::new();
    let mut buffer = [0; 1024];
    while !told.contains("re-opening log file") {
        let length = syslog.recv(&mut buffer).unwrap_or_else(|e| panic!("{e}: {told}"));
        told += &String::from_utf8_lossy(&buffer[..length]);
    }
}

fn an_empty_path_is_no_log_file() {
    let world = World::new();
    for options in ["logfile =", ""] {
        let knockd = world.knockd("[d]\nsequence = 1\ncommand = touch @/up");
        let daemon =
            knockd.without_log().without_sync().options(options).arguments(&["-v", "-g", ""]).start();
        world.send([tcp(1)]);
        assert!(holds_within(seconds(30.0), || daemon.folder.join("up").exists()), "{}", daemon.said());
        assert_eq!(daemon.stderr(), "");
    }
}
