//! Single packets at the real daemon.

use std::fs;
use std::time::Duration;

use knocking::door::digest::Digest;
use knocking::door::spa::fields::{Fields, Kind, ports};
use knocking::door::spa::sealed::Keys;
use nix::sys::signal::Signal;

use crate::client::otp::unix;
use crate::door::spa::{fields, spellings};
use crate::firewall::tools::{connect, connects, listen, load, serve};
use crate::random::Random;
use crate::support::daemon::RunningDaemon;
use crate::support::folder::Folder;
use crate::support::packet::{CLIENT, CLIENT6, Packet, udp};
use crate::support::world::World;
use crate::support::{holds_within, seconds};
use crate::wire::crash::reboot;
use crate::wire::otp::reload;
use crate::wire::state::{kill_all, with_state};

trials![
    a_packet_opens_what_it_asks_for,
    our_client_opens_our_door,
    a_packet_opens_once_whatever_ends_between,
    a_packet_is_used_up_though_the_door_opens_too_often,
    a_refused_packet_is_used_up,
    refusals_say_why,
    failures_are_logged_where_that_is_wanted,
    doors_at_one_port_are_tried_in_their_order,
    a_file_of_fwknop_is_a_lock,
    the_kernel_opens_what_it_asks_for,
    the_next_daemon_goes_on_with_what_was_asked_for,
    a_packet_that_was_forgotten_is_not_good_again,
    it_hears_packets_in_a_flood,
    the_watcher_has_no_encryption_key,
];

pub const SPA: &str = "SPA_Key = 4711secret\nSPA_HMAC_Key = 0815secret\n";
const COMMANDS: &str = "Start_Command = echo $KNOCKD_EVENT $KNOCKD_IP $KNOCKD_USER $KNOCKD_PROTO/$KNOCKD_PORT $KNOCKD_TIMEOUT %IP% >>@/out-$KNOCKD_PORT\n\
    Stop_Command = echo $KNOCKD_EVENT $KNOCKD_IP $KNOCKD_USER $KNOCKD_PROTO/$KNOCKD_PORT $KNOCKD_TIMEOUT >>@/out-$KNOCKD_PORT\n";

fn keys() -> Keys {
    Keys::new(b"4711secret", b"0815secret", Digest::Sha256).unwrap()
}

/// The fields of a packet of now.
pub fn asked(address: &str, list: &str) -> Fields {
    Fields { time: unix().as_secs(), random: digits(), ..fields(address, ports(list).unwrap()) }
}

fn digits() -> String {
    let random = Random::new();
    (0..16).map(|_| char::from(b'0' + u8::try_from(random.below(10)).unwrap())).collect()
}

pub fn sealed(fields: &Fields) -> String {
    let random = Random::new();
    keys().seal(fields, [0; 8].map(|_: u8| u8::try_from(random.below(256)).unwrap()))
}

pub fn sent(packet: &str) -> Packet {
    udp(62201).data(packet.as_bytes())
}

/// How often the door `d` opened so far.
#[track_caller]
fn openings(daemon: &RunningDaemon) -> usize {
    daemon.sync();
    daemon.lines().iter().filter(|line| line.ends_with(": d: OPEN SESAME")).count()
}

fn a_packet_opens_what_it_asks_for() {
    let world = World::new();
    let daemon = world
        .knockd(&format!("[d]\n{SPA}SPA_Open = tcp/22, udp/5000-5010\nCmd_Timeout = 1\n{COMMANDS}"))
        .start();
    world.send([sent(&sealed(&asked("0.0.0.0", "tcp/22,udp/5001,tcp/22")))]);
    daemon.wait_for_file(
        "out-22",
        &format!("start {CLIENT} alice tcp/22 1 {CLIENT}\nstop {CLIENT} alice tcp/22 1\n"),
    );
    daemon.wait_for_file(
        "out-5001",
        &format!("start {CLIENT} alice udp/5001 1 {CLIENT}\nstop {CLIENT} alice udp/5001 1\n"),
    );
    daemon.wait_for_times(2, "d: command timeout");
    assert_eq!(openings(&daemon), 1);
    // For somebody else, over IPv6, and a packet over IPv6.
    world.send([sent(&sealed(&asked("192.0.2.7", "tcp/22")))]);
    daemon.wait_for("192.0.2.7: d: OPEN SESAME");
    world.send([sent(&sealed(&asked("2001:db8::7", "tcp/22")))]);
    daemon.wait_for("2001:db8::7: d: OPEN SESAME");
    world.send([sent(&sealed(&asked("::", "tcp/22"))).v6()]);
    daemon.wait_for(&format!("{CLIENT6}: d: OPEN SESAME"));
    // The packet may ask for less time than the door has, not for more.
    fs::remove_file(daemon.folder.join("out-5001")).unwrap();
    let timed = Fields { kind: Kind::TimedAccess, timeout: Some(60), ..asked("192.0.2.8", "udp/5001") };
    world.send([sent(&sealed(&timed))]);
    daemon.wait_for_file(
        "out-5001",
        "start 192.0.2.8 alice udp/5001 1 192.0.2.8\nstop 192.0.2.8 alice udp/5001 1\n",
    );
}

fn our_client_opens_our_door() {
    let world = World::new();
    let daemon = world
        .knockd(&format!("[d]\n{SPA}SPA_HMAC_Digest = sha512\nSPA_Port = 4000\nSPA_Open = any\nSPA_Max_Timeout = 90\n{COMMANDS}"))
        .start();
    let rc = "[door]\nSPA_SERVER 10.77.0.1\nSPA_SERVER_PORT 4000\nKEY 4711secret\nHMAC_KEY 0815secret\n\
              HMAC_DIGEST_TYPE SHA512\nACCESS tcp/443\nFW_TIMEOUT 77\nSPOOF_USER bob\n";
    let rc = crate::client::otp::private(&daemon.folder, "rc", rc);
    let knocked = world.knock(&["-n", "door", "--fwknoprc", &rc]);
    assert_eq!(knocked.code(), Some(0), "{}", knocked.stderr);
    daemon.wait_for_file("out-443", &format!("start {CLIENT} bob tcp/443 77 {CLIENT}\n"));
    let knocked = world.knock(&["-n", "door", "--fwknoprc", &rc, "--both", "--spa", "udp/53", "fd77::1"]);
    assert_eq!(knocked.code(), Some(0), "{}", knocked.stderr);
    daemon.wait_for_file("out-53", &format!("start {CLIENT6} bob udp/53 77 {CLIENT6}\n"));
    // With another key it is a stranger's packet.
    let text = fs::read_to_string(&rc).unwrap().replace("0815secret", "0816secret");
    fs::write(&rc, text).unwrap();
    world.knock(&["-n", "door", "--fwknoprc", &rc, "--spa", "tcp/444"]);
    assert_eq!(openings(&daemon), 2);
}

/// More than a thousand spellings and re-sendings of one packet, before and after each kind of end: one opening.
fn a_packet_opens_once_whatever_ends_between() {
    let world = World::v4_only();
    let place = Folder::new();
    let (state, out) = (place.join("state").display().to_string(), place.join("out").display().to_string());
    let text = format!("[d]\n{SPA}SPA_Open = tcp/22\nSPA_Max_Age = 600\nStart_Command = echo >>{out}\n");
    let start = || world.knockd(&text).options(&format!("StateFile = {state}\n")).start();
    let mut daemon = start();
    let packet = sealed(&asked("0.0.0.0", "tcp/22"));
    let others: Vec<String> = spellings(&packet).into_iter().filter(|it| it.len() <= 1400).collect();
    assert!(others.len() > 1000);
    let send_all = || {
        for chunk in others.chunks(50) {
            world.send(chunk.iter().map(|other| sent(other)));
            world.send([sent(&packet), sent(&packet).from("10.77.0.3")]);
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    world.send([sent(&packet)]);
    daemon.wait_for("d: OPEN SESAME");
    send_all();
    assert_eq!(openings(&daemon), 1);
    daemon.wait_for("d: refused, it came before");
    // The watcher is killed: the next one has not seen the packet.
    daemon.replace_watcher();
    send_all();
    assert_eq!(openings(&daemon), 1);
    daemon.wait_for("d: refused, it was used before");
    // SIGHUP, and another order of doors.
    reload(&daemon);
    send_all();
    assert_eq!(openings(&daemon), 1);
    // The daemon ends, or is killed; the next one has its state file.
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        daemon.kill(signal);
        let _ = daemon.wait();
        daemon = start();
        send_all();
        assert_eq!(openings(&daemon), 0, "after {signal}");
        daemon.wait_for("d: refused, it was used before");
    }
    // A new packet opens.
    world.send([sent(&sealed(&asked("0.0.0.0", "tcp/22")))]);
    assert!(holds_within(seconds(30.0), || openings(&daemon) == 1));
    assert!(holds_within(seconds(30.0), || place.read("out") == "\n\n"), "{:?}", place.read("out"));
}

/// Others may have overheard it.
fn a_packet_is_used_up_though_the_door_opens_too_often() {
    let (world, place) = (World::v4_only(), Folder::new());
    let door = format!("[d]\n{SPA}SPA_Open = tcp/22\nSPA_Max_Age = 600\n");
    let mut daemon = with_state(&world, &place, &format!("{door}Open_Rate = 1/3600\n")).start();
    let packets = [0; 3].map(|_| sealed(&asked("0.0.0.0", "tcp/22")));
    world.send([sent(&packets[0]), sent(&packets[1])]);
    daemon.wait_for("d: 1 opening was dropped: more than its open_rate allows");
    assert_eq!(openings(&daemon), 1);
    kill_all(&mut daemon);
    let daemon = with_state(&world, &place, &door).start();
    world.send([sent(&packets[1]).from("10.77.0.3")]);
    daemon.wait_for("10.77.0.3: d: refused, it was used before");
    world.send([sent(&packets[2])]);
    assert_eq!(openings(&daemon), 1);
}

/// An eavesdropper could send it from another address, later, or to a door that grants more.
fn a_refused_packet_is_used_up() {
    const MAX_AGE: u64 = 600;
    let (world, place) = (World::v4_only(), Folder::new());
    let doors = format!(
        "[d]\n{SPA}SPA_Open = tcp/22\nSPA_Max_Age = {MAX_AGE}\nDeny = 192.0.2.0/24\nCooldown = 600\n"
    );
    let mut daemon = with_state(&world, &place, &doors).start();
    let good = asked("0.0.0.0", "tcp/22");
    let ahead = Fields { time: good.time + MAX_AGE + 5, ..good.clone() };
    let [first, second, denied] = [0; 3].map(|_| sealed(&good));
    let [other_port, early] = [&asked("0.0.0.0", "tcp/23"), &ahead].map(sealed);
    world.send([&first, &second, &other_port, &early].map(|packet| sent(packet)));
    world.send([sent(&denied).from("192.0.2.1")]);
    daemon.wait_for(&format!("{CLIENT}: d: OPEN SESAME"));
    for (who, why) in [
        (CLIENT, "its address opened the door a moment ago"),
        (CLIENT, "it asks for a port that is not granted"),
        (CLIENT, "its time is too far from the time here"),
        ("192.0.2.1", "its address may not open the door"),
    ] {
        daemon.wait_for(&format!("{who}: d: refused, {why}"));
    }
    kill_all(&mut daemon);
    let daemon = with_state(&world, &place, &doors).start();
    while unix().as_secs() + MAX_AGE < ahead.time {
        std::thread::sleep(Duration::from_millis(100));
    }
    for (packet, who) in [(&second, 3), (&other_port, 4), (&early, 5), (&denied, 6)] {
        let who = format!("10.77.0.{who}");
        world.send([sent(packet).from(&who)]);
        daemon.wait_for(&format!("{who}: d: refused, it was used before"));
    }
    world.send([sent(&sealed(&good)).from("10.77.0.7")]);
    daemon.wait_for("10.77.0.7: d: OPEN SESAME");
    assert_eq!(openings(&daemon), 1);
}

fn refusals_say_why() {
    let world = World::v4_only();
    let daemon = world
        .knockd(&format!(
            "[d]\n{SPA}SPA_Open = tcp/22\nSPA_User = alice, carol\nSPA_Require_Source = yes\nDeny = 192.0.2.0/24\nCooldown = 600\n"
        ))
        .start();
    let good = asked(CLIENT, "tcp/22");
    let now = good.time;
    for (fields, why) in [
        (Fields { time: now - 125, ..good.clone() }, "its time is too far from the time here"),
        (Fields { time: now + 125, ..good.clone() }, "its time is too far from the time here"),
        (asked(CLIENT, "tcp/22,tcp/23"), "it asks for a port that is not granted"),
        (asked("0.0.0.0", "tcp/22"), "it names no address"),
        (asked("192.0.2.7", "tcp/22"), "its address may not open the door"),
        (Fields { user: "bob".to_owned(), ..good.clone() }, "its user may not open the door"),
        (
            Fields { kind: Kind::Nat, nat: Some("10.0.0.1,22".to_owned()), ..good.clone() },
            "it asks for address translation",
        ),
    ] {
        world.send([sent(&sealed(&fields))]);
        daemon.wait_for(&format!("{CLIENT}: d: refused, {why}"));
    }
    assert_eq!(openings(&daemon), 0);
    // The door rests for whom it opened for.
    let packet = sealed(&good);
    world.send([sent(&packet)]);
    daemon.wait_for("d: OPEN SESAME");
    world.send([sent(&sealed(&asked(CLIENT, "tcp/22")))]);
    daemon.wait_for("d: refused, its address opened the door a moment ago");
    world.send([sent(&sealed(&asked("10.77.0.9", "tcp/22"))).from("192.0.2.1")]);
    assert_eq!(openings(&daemon), 1);
    assert!(!daemon.said().contains("secret"), "{}", daemon.said());
}

fn failures_are_logged_where_that_is_wanted() {
    let world = World::v4_only();
    let door = |name: &str, port: u16, more: &str| {
        format!("[{name}]\nSPA_Port = {port}\nSPA_Key = a\nSPA_HMAC_Key = other\nSPA_Open = any\n{more}")
    };
    let sections = door("quiet", 4000, "") + &door("d", 4001, "Log_Failures = yes\n");
    let daemon = world.knockd(&sections).start();
    let packet = sealed(&asked("0.0.0.0", "tcp/22"));
    world.send([4000, 4001].map(|port| udp(port).data(packet.as_bytes())));
    // What does not look like a packet is not one.
    world.send([udp(4001).data(b"hello"), udp(4001).data(&[b'A'; 204])]);
    daemon.expect(&format!("{CLIENT}: d: wrong packet"));
}

fn doors_at_one_port_are_tried_in_their_order() {
    let world = World::v4_only();
    let door = |name: &str, lines: &str| format!("[{name}]\n{lines}SPA_Open = tcp/22\n");
    let sections = door("other", "SPA_Key = x\nSPA_HMAC_Key = y\n")
        + &door("web", SPA).replace("tcp/22", "tcp/80")
        + &door("d", SPA)
        + &door("later", SPA);
    let daemon = world.knockd(&sections).start();
    let packet = sealed(&asked("0.0.0.0", "tcp/22"));
    world.send([sent(&packet), sent(&sealed(&asked("0.0.0.0", "tcp/80")))]);
    world.send([sent(&sealed(&asked("0.0.0.0", "tcp/81")))]);
    daemon.expect(&format!(
        "{CLIENT}: d: OPEN SESAME
        {CLIENT}: web: OPEN SESAME
        {CLIENT}: web: refused, it asks for a port that is not granted"
    ));
}

fn a_file_of_fwknop_is_a_lock() {
    let world = World::v4_only();
    let access = "SOURCE 10.77.0.9\nKEY elsewhere\nHMAC_KEY elsewhere too\n\
                  SOURCE ANY\nOPEN_PORTS tcp/22, tcp/80\nKEY 4711secret\nHMAC_KEY 0815secret\nFW_ACCESS_TIMEOUT 1\n";
    let knockd = world.knockd(&format!("[d]\nSPA = @/access.conf\nCmd_Timeout = 500\n{COMMANDS}"));
    let path = knockd.folder().write("access.conf", access);
    let daemon = knockd.start();
    world.send([sent(&sealed(&asked("0.0.0.0", "tcp/80")))]);
    daemon.wait_for_file(
        "out-80",
        &format!("start {CLIENT} alice tcp/80 1 {CLIENT}\nstop {CLIENT} alice tcp/80 1\n"),
    );
    world.send([sent(&sealed(&asked("0.0.0.0", "tcp/81")))]);
    daemon.wait_for("refused, it asks for a port that is not granted");
    // What SIGHUP brings counts from then on.
    fs::write(&path, access.replace("tcp/80", "tcp/81")).unwrap();
    reload(&daemon);
    world.send([sent(&sealed(&asked("0.0.0.0", "tcp/81")))]);
    daemon.wait_for_file(
        "out-81",
        &format!("start {CLIENT} alice tcp/81 1 {CLIENT}\nstop {CLIENT} alice tcp/81 1\n"),
    );
}

/// `Open = request`: the kernel opens what the packet asks for, and closes it.
fn the_kernel_opens_what_it_asks_for() {
    let world = World::v4_only();
    load(&world.server, include_str!("../../contrib/nftables.conf"));
    let _served = [serve(&world.server, 22), serve(&world.server, 80)];
    let daemon = world
        .knockd(&format!(
            "[d]\n{SPA}SPA_Open = tcp/22, tcp/80\nOpen = request\nSPA_Max_Timeout = 60\nCmd_Timeout = 1\n"
        ))
        .options("Nft_Set = inet filter knockd4 knockd6")
        .start();
    assert!(!connects(&world, 22) && !connects(&world, 80));
    let timed = Fields { kind: Kind::TimedAccess, timeout: Some(50), ..asked("0.0.0.0", "tcp/80") };
    world.send([sent(&sealed(&timed)), sent(&sealed(&asked("0.0.0.0", "tcp/22")))]);
    daemon.wait_for(&format!("{CLIENT}: d: opened tcp/80 for 50 s"));
    daemon.wait_for(&format!("{CLIENT}: d: opened tcp/22 for 1 s"));
    assert!(connects(&world, 80));
    daemon.wait_for(&format!("{CLIENT}: d: closed"));
    assert!(connects(&world, 80) && !connects(&world, 22));
}

/// What a packet asked for stays open over a restart, and closes when its last connection has ended.
fn the_next_daemon_goes_on_with_what_was_asked_for() {
    let world = World::v4_only();
    load(&world.server, include_str!("../../contrib/nftables.conf"));
    let ssh = listen(&world.server, 22);
    let place = Folder::new();
    let doors = format!(
        "[d]\n{SPA}SPA_Open = tcp/22\nOpen = request\nCmd_Timeout = 600\nClose_On_Disconnect = yes\n"
    );
    let start =
        || with_state(&world, &place, &doors).options("Nft_Set = inet filter knockd4 knockd6").start();
    let mut daemon = start();
    world.send([sent(&sealed(&asked("0.0.0.0", "tcp/22")))]);
    daemon.wait_for(&format!("{CLIENT}: d: opened tcp/22 for 600 s"));
    let session = connect(&world, 22).expect("the door is open");
    let session = (session, ssh.accept().unwrap());
    daemon.kill(Signal::SIGTERM);
    let _ = daemon.wait();
    let daemon = start();
    daemon.wait_for(&format!("{CLIENT}: d: still open, for "));
    drop(session);
    daemon.wait_for(&format!("{CLIENT}: d: closed"));
    assert!(!connects(&world, 22));
}

/// A packet that was used and forgotten gets a good age again, as when the clock is set back, after a reboot and a crash.
/// The clock of this machine is not ours to set, so `SPA_Max_Age` is made longer instead.
fn a_packet_that_was_forgotten_is_not_good_again() {
    let world = World::v4_only();
    let place = Folder::new();
    let start = |max_age: u64| {
        let doors = format!("[d]\n{SPA}SPA_Open = tcp/22\nSPA_Max_Age = {max_age}\n");
        with_state(&world, &place, &doors).start()
    };
    let end_and_reboot = |daemon: &mut RunningDaemon| {
        kill_all(daemon);
        reboot(&place);
    };
    let early = Fields { time: unix().as_secs() - 10, ..asked("0.0.0.0", "tcp/22") };
    let packet = sealed(&early);
    let mut daemon = start(20);
    world.send([sent(&packet)]);
    daemon.wait_for("d: OPEN SESAME");
    end_and_reboot(&mut daemon);
    let mut daemon = start(20);
    world.send([sent(&packet)]);
    assert!(holds_within(seconds(30.0), || daemon.raw_log().contains("d: refused, ")));
    assert_eq!(openings(&daemon), 0);
    assert!(holds_within(seconds(60.0), || unix().as_secs() > early.time + 21));
    // The next packet pushes the one out that is too old.
    let late = Fields { time: unix().as_secs() + 10, ..asked("0.0.0.0", "tcp/22") };
    world.send([sent(&sealed(&late))]);
    daemon.wait_for("d: OPEN SESAME");
    end_and_reboot(&mut daemon);
    let daemon = start(6000);
    world.send([sent(&packet)]);
    daemon.wait_for("d: refused, it was used before");
    assert_eq!(openings(&daemon), 0);
    world.send([sent(&sealed(&asked("0.0.0.0", "tcp/22")))]);
    daemon.wait_for("d: OPEN SESAME");
}

/// Forged packets that only the HMAC tells from good ones, until a ring takes over; every good one opens.
fn it_hears_packets_in_a_flood() {
    let world = World::v4_only();
    let daemon = world.knockd(&format!("[d]\n{SPA}SPA_Open = tcp/22\n")).start();
    let forged = sent(&"+".repeat(204)).frame();
    for count in 1..=20 {
        for _ in 0..400 {
            world.send_frame(&forged);
        }
        world.send([sent(&sealed(&asked(&format!("192.0.2.{count}"), "tcp/22")))]);
        for _ in 0..400 {
            world.send_frame(&forged);
        }
        daemon.wait_for(&format!("192.0.2.{count}: d: OPEN SESAME"));
    }
    assert_eq!(openings(&daemon), 20);
}

/// The memory file that the watcher gets has the HMAC keys, and no encryption key.
fn the_watcher_has_no_encryption_key() {
    let world = World::v4_only();
    let access = "SOURCE ANY\nKEY 4713secret\nHMAC_KEY 0813secret\nSOURCE ANY\nKEY_BASE64: NDcxNHNlY3JldA==;\nHMAC_KEY b\n";
    let knockd = world.knockd(
        "[d]\nspa_key=4711secret\nSPA_HMAC_Key = 0815secret\nSPA_Open = tcp/22\n\
         [e]\nSPA_KEY_BASE64 = NDcxMnNlY3JldA==\nSPA_HMAC_Key = 1\nSPA_Open = tcp/22\nSPA_Port = 2\n\
         [f]\nSPA = @/access.conf\nSPA_Port = 3\n",
    );
    knockd.folder().write("access.conf", access);
    let daemon = knockd.start();
    let watcher = daemon.watcher().expect("a watcher");
    let maps = fs::read_to_string(format!("/proc/{watcher}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{watcher}/mem")).unwrap();
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" rw-p ") || line.contains(" rw-s ")) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        let mut part = vec![0; usize::try_from(to - from).unwrap()];
        if std::os::unix::fs::FileExt::read_exact_at(&memory, &mut part, from).is_ok() {
            all.extend(part);
        }
    }
    let has = |text: &str| all.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(all.len() > 10_000);
    for key in ["4711secret", "4712secret", "4713secret", "4714secret", "NDcxMnNlY3JldA", "NDcxNHNlY3JldA"] {
        assert!(!has(key), "{key} is in the watcher's memory");
    }
    world.send([sent(&sealed(&asked("0.0.0.0", "tcp/22")))]);
    assert_eq!(openings(&daemon), 1);
}
