//! One-time passwords at the real daemon, with real packets.

use std::collections::HashSet;
use std::fs;
use std::thread;
use std::time::Duration;

use knocking::door::knock::Protocol;
use knocking::door::otp::Otp;
use knocking::door::sequence::Stage;
use nix::sys::signal::Signal;

use crate::client::otp::{HOUR, not_soon, unix};
use crate::door::otp::{ip, otp};
use crate::packet::craft::numbers;
use crate::plan::password::MARK;
use crate::support::daemon::RunningDaemon;
use crate::support::folder::Folder;
use crate::support::packet::{CLIENT, CLIENT6, Packet, tcp, udp};
use crate::support::world::World;
use crate::support::{holds_within, pause, seconds};
use crate::wire::state::{kill_all, with_state};

trials![
    a_list_opens_once_for_its_address,
    a_list_without_protection_opens_once_for_all,
    reuse_gives_the_old_behaviour,
    a_list_is_used_up_though_the_door_opens_too_often,
    two_knockers_at_once,
    the_window_is_as_wide_as_it_is_said_to_be,
    a_period_may_end_in_the_middle,
    ports_change_in_the_background_too,
    a_reload_with_the_same_seed_forgets_nothing,
    a_reload_with_a_new_seed_takes_it,
    a_reload_of_thousands_of_doors_holds_up_nobody,
    a_thousand_random_scans_open_nothing,
    a_source_that_guesses_is_out_for_the_list,
    nothing_says_the_seed,
];

/// Somebody else.
const OTHER: &str = "10.77.0.3";

/// These stages as packets from this address.
fn packets(stages: &[Stage], source: &str) -> Vec<Packet> {
    let packet = |stage: &Stage| match stage.protocol {
        Protocol::Tcp => tcp(stage.port),
        Protocol::Udp => udp(stage.port),
        Protocol::Icmp => panic!("a list with a ping"),
    };
    let packet = |stage| if source.contains(':') { packet(stage).v6() } else { packet(stage) };
    stages.iter().map(|stage| packet(stage).from(source)).collect()
}

/// The list of this period for this address.
pub fn list(otp: &Otp, period: u64, source: &str) -> Vec<Packet> {
    packets(&otp.list(period, ip(source)), source)
}

/// The list of now.
fn of_now(text: &str, source: &str) -> Vec<Packet> {
    let otp = otp(text);
    list(&otp, otp.period(unix()), source)
}

/// Who opened doors so far, in order.
#[track_caller]
fn openers(daemon: &RunningDaemon) -> Vec<String> {
    daemon.sync();
    let lines = daemon.lines();
    let opener = |line: &String| line.strip_suffix(": d: OPEN SESAME").map(str::to_owned);
    lines.iter().filter_map(opener).collect()
}

fn a_list_opens_once_for_its_address() {
    not_soon();
    let world = World::new();
    let text = format!("once for one,{HOUR},65500,on,tcp,udp,tcp");
    let daemon = world.knockd(&format!("[d]\notp = {text}\n")).start();
    for source in [CLIENT, CLIENT, OTHER, CLIENT6, CLIENT6] {
        world.send(of_now(&text, source));
    }
    assert_eq!(openers(&daemon), [CLIENT, OTHER, CLIENT6]);
    // What was overheard is of no use to anybody else.
    let stolen = packets(&otp(&text).list(otp(&text).period(unix()), ip("10.77.0.4")), "10.77.0.5");
    world.send(stolen);
    assert_eq!(openers(&daemon).len(), 3);
}

fn a_list_without_protection_opens_once_for_all() {
    not_soon();
    let world = World::new();
    let text = format!("once for all,{HOUR},20000,off,udp,tcp,tcp");
    let daemon = world.knockd(&format!("[d]\notp = {text}\notp_digest = sha1\n")).start();
    for source in [OTHER, CLIENT, OTHER, CLIENT6] {
        world.send(of_now(&text, source));
    }
    assert_eq!(openers(&daemon), [OTHER]);
}

fn reuse_gives_the_old_behaviour() {
    not_soon();
    let world = World::new();
    let text = format!("again,{HOUR},20000,off,tcp,udp");
    let daemon = world.knockd(&format!("[d]\notp = {text}\notp_reuse = yes\n")).start();
    for source in [CLIENT, CLIENT, CLIENT6] {
        world.send(of_now(&text, source));
    }
    assert_eq!(openers(&daemon), [CLIENT, CLIENT, CLIENT6]);
}

/// Others may have overheard it. Neither another watcher nor another daemon takes the list.
fn a_list_is_used_up_though_the_door_opens_too_often() {
    not_soon();
    let world = World::new();
    let text = format!("too often,{HOUR},20000,on,tcp,udp,tcp");
    let place = Folder::new();
    let door = format!("[d]\notp = {text}\n");
    let mut daemon = with_state(&world, &place, &format!("{door}open_rate = 1/3600\n")).start();
    world.send(of_now(&text, CLIENT));
    world.send(of_now(&text, OTHER));
    daemon.wait_for("d: 1 opening was dropped: more than its open_rate allows");
    assert_eq!(openers(&daemon), [CLIENT]);
    let file = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, file.replace("open_rate = 1/3600\n", "")).unwrap();
    reload(&daemon);
    daemon.replace_watcher();
    world.send(of_now(&text, OTHER));
    world.send(of_now(&text, CLIENT6));
    assert_eq!(openers(&daemon), [CLIENT, CLIENT6]);
    // In one go: nothing is written at the end.
    kill_all(&mut daemon);
    let daemon = with_state(&world, &place, &door).start();
    world.send(of_now(&text, OTHER));
    world.send(of_now(&text, "10.77.0.8"));
    assert_eq!(openers(&daemon), ["10.77.0.8"]);
}

fn two_knockers_at_once() {
    not_soon();
    let world = World::new();
    let text = format!("two,{HOUR},20000,on,tcp,udp,tcp");
    let daemon = world.knockd(&format!("[d]\notp = {text}\n")).start();
    let lists = [CLIENT, OTHER, CLIENT6].map(|source| of_now(&text, source));
    for index in 0..6 {
        world.send(lists.iter().map(|list| list[index].clone()));
    }
    assert_eq!(openers(&daemon), [CLIENT, OTHER, CLIENT6]);
}

fn the_window_is_as_wide_as_it_is_said_to_be() {
    not_soon();
    for window in [0, 1, 2] {
        let world = World::v4_only();
        let text = format!("window {window},{HOUR},20000,off,tcp,udp,tcp");
        let otp = otp(&text);
        let now = otp.period(unix());
        let daemon = world.knockd(&format!("[d]\notp = {text}\notp_window = {window}\n")).start();
        let periods = now - 4..=now + 4;
        let listed: HashSet<u16> =
            periods.clone().flat_map(|period| otp.list(period, ip(CLIENT))).map(|stage| stage.port).collect();
        let unlisted = (20_000..20_256).find(|port| !listed.contains(port)).unwrap();
        let mut opened = Vec::new();
        for period in periods {
            let before = openers(&daemon).len();
            world.send(list(&otp, period, CLIENT));
            // Ends what a list that is not accepted may have begun by chance.
            world.send([tcp(unlisted)]);
            if openers(&daemon).len() > before {
                opened.push(period);
            }
        }
        assert_eq!(opened, (now - window..=now + window).collect::<Vec<u64>>(), "otp_window = {window}");
    }
}

/// Waits until so many milliseconds of a period of three seconds are over.
fn into_period(milliseconds: u64) {
    let now = u64::try_from(unix().as_millis() % 3000).unwrap();
    thread::sleep(Duration::from_millis((3000 + milliseconds - now) % 3000));
}

fn a_period_may_end_in_the_middle() {
    let world = World::v4_only();
    let text = "the middle,3,20000,on,tcp,udp,tcp";
    let daemon = world.knockd(&format!("[d]\notp = {text}\notp_window = 0\n")).start();
    let otp = otp(text);
    into_period(1500);
    let period = otp.period(unix());
    let list = list(&otp, period, CLIENT);
    world.send(list[..2].iter().cloned());
    into_period(300);
    assert!(otp.period(unix()) > period);
    world.send(list[2..].iter().cloned());
    assert_eq!(openers(&daemon), [CLIENT]);
}

fn ports_change_in_the_background_too() {
    let world = World::v4_only();
    let text = "background,3,20000,off,tcp,udp,tcp";
    let daemon = world.knockd(&format!("[d]\notp = {text}\notp_window = 0\n")).start_in_background();
    for count in 1..=3 {
        into_period(300);
        world.send(of_now(text, CLIENT));
        daemon.wait_for_times(count, "d: OPEN SESAME");
        into_period(2500);
    }
}

pub fn reload(daemon: &RunningDaemon) {
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("re-reading config file");
    // In force: nothing says so in the log, and both processes read.
    pause(0.5);
}

fn a_reload_with_the_same_seed_forgets_nothing() {
    not_soon();
    let world = World::v4_only();
    let text = format!("the same,{HOUR},20000,on,tcp,udp");
    let daemon = world.knockd(&format!("[d]\notp = {text}\n")).start();
    world.send(of_now(&text, CLIENT));
    assert_eq!(openers(&daemon), [CLIENT]);
    for _ in 0..2 {
        reload(&daemon);
        world.send(of_now(&text, CLIENT));
        assert_eq!(openers(&daemon), [CLIENT]);
    }
    world.send(of_now(&text, OTHER));
    assert_eq!(openers(&daemon), [CLIENT, OTHER]);
}

fn a_reload_with_a_new_seed_takes_it() {
    not_soon();
    let world = World::v4_only();
    let (old, new) = (format!("old,{HOUR},20000,on,tcp,udp"), format!("new,{HOUR},20000,on,tcp,udp"));
    let daemon = world.knockd(&format!("[d]\notp = {old}\n")).start();
    world.send(of_now(&old, CLIENT));
    let text = fs::read_to_string(&daemon.config).unwrap();
    fs::write(&daemon.config, text.replace(&old, &new)).unwrap();
    reload(&daemon);
    world.send(of_now(&old, OTHER));
    assert_eq!(openers(&daemon), [CLIENT]);
    world.send(of_now(&new, CLIENT));
    assert_eq!(openers(&daemon), [CLIENT, CLIENT]);
}

/// What is spent is looked for by door; each door with each other one would take a minute.
fn a_reload_of_thousands_of_doors_holds_up_nobody() {
    let world = World::v4_only();
    let door = |n: u32| format!("[d{n}]\notp = seed {n},{HOUR},{},on,tcp\n", 1000 + n);
    let doors: String = (0..4000).map(door).collect();
    let plain = "[plain]\nsequence = 900\ncommand = echo %IP% > @/out\n";
    let daemon = world.knockd(&(doors + plain)).arguments(&["-v"]).start();
    daemon.kill(Signal::SIGHUP);
    assert!(
        holds_within(seconds(50.0), || daemon.stdout().contains("closing log file")),
        "{}",
        daemon.said()
    );
    world.send([tcp(900)]);
    daemon.wait_for_file("out", &format!("{CLIENT}\n"));
}

/// Chance that this fails although all is well: 1,000 scans, 3 lists of 4 ports each, 1 in 5,000.
fn a_thousand_random_scans_open_nothing() {
    not_soon();
    let world = World::v4_only();
    let text = format!("scanned,{HOUR},65400,off,tcp,tcp,tcp,tcp");
    let daemon = world.knockd(&format!("[d]\notp = {text}\n")).start();
    let mut random = numbers();
    let mut frames: Vec<Vec<u8>> = (0..256_u16).map(|n| tcp(65_400_u16.wrapping_add(n)).frame()).collect();
    for _ in 0..1000 {
        for last in (1..frames.len()).rev() {
            let other = usize::try_from(random() >> 34).unwrap() % (last + 1);
            frames.swap(last, other);
        }
        for frame in &frames {
            world.send_frame(frame);
        }
        let is_read = holds_within(seconds(20.0), || world.queued() == 0);
        assert!(is_read, "the daemon does not read any more");
    }
    let lines = daemon.lines();
    let count = |text: &str| lines.iter().filter(|line| line.ends_with(text)).count();
    // Lines that come too fast are summed up.
    let summed = |line: &String| -> Option<usize> {
        let (_, rest) = line.split_once("and ")?;
        rest.split_once(" more")?.0.replace(',', "").parse().ok()
    };
    let seen = count("Stage 1") + lines.iter().filter_map(summed).sum::<usize>();
    assert!(seen > 900, "the daemon saw {seen} first stages");
    assert_eq!(count("OPEN SESAME"), 0);
    world.send(of_now(&text, OTHER));
    assert_eq!(openers(&daemon), [OTHER]);
}

/// A source that overheard the first half of a list cannot try the second half for ever: not after a reload, with a new
/// watcher, or with a new daemon either. Others, and the list of the next period, are not affected.
fn a_source_that_guesses_is_out_for_the_list() {
    not_soon();
    let world = World::new();
    let text = format!("guess the rest,{HOUR},20000,on,tcp,udp,tcp");
    let otp = otp(&text);
    let period = otp.period(unix());
    let state = Folder::new();
    let knockd = || {
        let path = state.join("state");
        let knockd = world.knockd(&format!("[d]\notp = {text}\n")).arguments(&["-v"]);
        knockd.options(&format!("statefile = {}", path.display()))
    };
    let wrong = {
        let lists: Vec<Vec<Stage>> =
            (period - 1..=period + 1).map(|period| otp.list(period, ip(OTHER))).collect();
        let is_on_none = |port: &u16| lists.iter().flatten().all(|stage| stage.port != *port);
        let port = (20000..=20255).find(is_on_none).expect("a wrong port");
        Stage { protocol: Protocol::Tcp, port }
    };
    let guess = |right: usize| {
        let mut stages: Vec<Stage> = otp.list(period, ip(OTHER))[..right].to_vec();
        stages.push(wrong);
        world.send(packets(&stages, OTHER));
    };
    let mut daemon = knockd().start();
    guess(3);
    guess(5);
    // Within the first half it is nobody's guess.
    for _ in 0..5 {
        guess(2);
    }
    daemon.sync();
    daemon.replace_watcher();
    daemon.kill(Signal::SIGHUP);
    let is_in_force = || daemon.stdout().contains("re-opening log file");
    assert!(holds_within(seconds(30.0), is_in_force), "{}", daemon.said());
    guess(4);
    let out = format!("{OTHER}: d: 3 failed attempts after the first half: out for the list of this period");
    daemon.wait_for(&out);
    let stays_out = |daemon: &RunningDaemon| {
        world.send(of_now(&text, OTHER));
        assert_eq!(openers(daemon), [] as [&str; 0]);
    };
    stays_out(&daemon);
    daemon.replace_watcher();
    stays_out(&daemon);
    // In one go: nothing is written at the end.
    kill_all(&mut daemon);
    daemon = knockd().start();
    stays_out(&daemon);
    // By chance, the last port of a list may begin the list of another period; that attempt takes one more knock.
    world.send(packets(&[wrong], OTHER));
    world.send(list(&otp, period + 1, OTHER));
    world.send(of_now(&text, CLIENT));
    assert_eq!(openers(&daemon), [OTHER, CLIENT]);
}

fn nothing_says_the_seed() {
    not_soon();
    let world = World::new();
    let text = format!("{MARK},{HOUR},20000,on,tcp,udp");
    let sections = format!("[d]\notp = {text}\ncommand = cat /proc/$PPID/cmdline > @/parent\n");
    for arguments in [&["-v", "-D"][..], &["-v"], &["-D"], &["-l", "-v", "-D"]] {
        let mut daemon = world.knockd(&sections).arguments(arguments).start();
        world.send(of_now(&text, CLIENT));
        world.send(of_now(&text, CLIENT));
        daemon.wait_for("OPEN SESAME");
        daemon.kill(Signal::SIGHUP);
        pause(0.3);
        // A file that is refused.
        let good = fs::read_to_string(&daemon.config).unwrap();
        for broken in
            [good.replace(",on,", ",perhaps,"), good.replace(",tcp,", ",icmp,"), good.replace(",on", "")]
        {
            fs::write(&daemon.config, broken).unwrap();
            daemon.kill(Signal::SIGHUP);
            pause(0.3);
        }
        assert_eq!(daemon.stop(), Some(0));
        silent(&daemon);
    }
    for broken in [
        "",
        ",nonsense",
        ",45",
        ",45,2,maybe,tcp",
        // The fields in the wrong order.
        "\notp = 45,45,2,MARK,tcp",
        "\notp = 45,45,2,on,MARK",
        "\notp = 45,45,MARK,on,tcp",
        ",45,2,on,tcp\notp_digest = MARK",
        ",45,2,on,icmp",
        "0123456789012345678901234567890,45,2,on,tcp",
    ] {
        for arguments in [&["--check"][..], &["-v", "-D"]] {
            let broken = broken.replace("MARK", MARK);
            let text = format!("[d]\notp = {MARK}{broken}\n");
            let finished = world.knockd("").file(&text).arguments(arguments).finish();
            let said = (finished.stdout + &finished.stderr).to_lowercase();
            assert!(!said.is_empty() && !said.contains(&MARK.to_lowercase()), "{said}");
        }
    }
    let checked =
        world.knockd("").file(&format!("[d]\notp = {text}\n")).arguments(&["--check", "-v", "-D"]).finish();
    assert_eq!(checked.code(), Some(0));
    assert!(checked.stdout.contains("change_time 3600") && checked.stderr.contains("can be read by others"));
    assert!(!(checked.stdout + &checked.stderr).contains(MARK));
}

/// No file of the daemon, but its configuration, has the seed in it.
#[track_caller]
fn silent(daemon: &RunningDaemon) {
    let mut files = 0;
    for entry in fs::read_dir(daemon.folder.path()).unwrap().flatten() {
        let Ok(bytes) = fs::read(entry.path()) else { continue };
        if entry.path() != daemon.config {
            files += 1;
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            assert!(!text.contains(&MARK.to_lowercase()), "{}: {text}", entry.path().display());
        }
    }
    assert!(
        files >= 3 && daemon.stderr().contains("Invalid ip_protection value"),
        "{files} files; {}",
        daemon.said()
    );
}
